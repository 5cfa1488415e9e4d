"""Give a GGUF to Ollama: write its Modelfile, and have Ollama make a model of it where it is installed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.data.rows import Message
from engine.export.card import base_licence
from engine.export.following import Ended, followed
from engine.export.ollama import (
    MOST_CONTEXT,
    check_ours,
    checked_name,
    modelfile,
    needed_program,
)
from engine.export.ollama_template import SYSTEM, Pieces, Turn, go_template, measured
from engine.merge.prompts import Trained
from engine.project.atomic import read_json, write_text
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Channel
from engine.protocol.errors import EXIT_MACHINE, UserError
from engine.protocol.events import Note, Progress, Stage
from engine.protocol.text import say

_PERCENT = re.compile(r"(\d{1,3})%")
_LICENCE_BYTES = 64 * 1024


def write_modelfile(run: RunFolder, gguf: Path, path: Path, channel: Channel, *, context: int = 0) -> dict[str, Any]:
    """Write the Modelfile of ``gguf``, which lies in the same folder, to ``path``.

    Args:
        context: tokens that Ollama is to keep room for; 0: what the model knows, `MOST_CONTEXT` at most.

    Returns:
        ``{"modelfile", "template": "translated|left_to_ollama", "stops", "system", "context"}``.

    Raises:
        UserError: another file stands there, or the disk does not take it.
    """
    check_ours(path)
    trained, facts = Trained.load(run.adapter), run.read_facts()
    pieces = pieces_of(trained)
    notes = ["ollama create NAME -f " + path.name]
    if pieces is None:
        channel.emit(Note(text=NOT_TRANSLATED, level="warning", code="ollama.template"))
        notes.append("No TEMPLATE: the chat template does more than Go templates can be measured to do.")
    system = common_system(run)
    known = context or min(model_context(run) or MOST_CONTEXT, MOST_CONTEXT)
    stops = trained.template.stop
    text = modelfile(
        gguf.name,
        template=go_template(pieces) if pieces is not None else "",
        stops=stops,
        system=system,
        context=known,
        licence=_licence(facts),
        notes=notes,
    )
    write_text(path, text)
    return {
        "modelfile": str(path.absolute()),
        "template": "translated" if pieces is not None else "left_to_ollama",
        "stops": list(stops),
        "system": system,
        "context": known,
    }


NOT_TRANSLATED = say(
    "The chat template cannot be written as Ollama's: newer versions of Ollama use the one inside the GGUF, older "
    "ones guess or send the bare question. Ask it something before you rely on it.",
    "该对话模板无法写成 Ollama 的模板：较新的 Ollama 会使用 GGUF 内的模板，旧版会自行猜测或只发送问题本身。"
    "使用前请先试问。",
)


def pieces_of(trained: Trained) -> Pieces | None:
    """The trained chat template as pieces, without the first-of-text token, which llama.cpp adds by itself."""
    bos = trained.tokenizer.bos if trained.starts_with_bos else None

    def render(turns: Sequence[Turn]) -> str:
        try:
            asked = [Message(role, content) for role, content in turns]
            return trained.template.render(asked, generation_prompt=True).text.removeprefix(bos or "")
        except UserError as error:
            raise ValueError(str(error)) from error

    return measured(render)


def common_system(run: RunFolder) -> str:
    """The system prompt that all held-out rows have; empty where they have none, or several."""
    found: set[str] = set()
    try:
        with run.held_out.open(encoding="utf-8") as lines:
            for line in lines:
                turns = json.loads(line).get("messages") or [{}]
                first = turns[0] if isinstance(turns[0], dict) else {}
                found.add(str(first.get("content", "")) if first.get("role") == SYSTEM else "")
                if len(found) > 1:
                    return ""
    except (OSError, ValueError, AttributeError, LookupError, TypeError):
        return ""
    return next(iter(found), "")


def model_context(run: RunFolder) -> int:
    """Positions that the base model knows; 0 where its configuration does not say."""
    config = read_json(run.trained_on() / "config.json")
    inner = config.get("text_config") or config
    value = inner.get("max_position_embeddings")
    return value if isinstance(value, int) and value > 0 else 0


def _licence(facts: dict[str, Any]) -> str:
    """The base model's licence: its text where it lies beside the weights, else its name."""
    folder = Path(str(facts.get("model_folder") or ""))
    for name in ("LICENSE", "LICENSE.txt", "LICENSE.md"):
        path = folder / name
        if path.is_file() and path.stat().st_size <= _LICENCE_BYTES:
            return path.read_text(encoding="utf-8", errors="replace").strip()
    return base_licence(facts)


# ------------------------------------------------------------------------------------------------------------- create
def create(path: Path, name: str, channel: Channel) -> None:
    """Have Ollama make the model ``name`` of the Modelfile at ``path``; what it says is told as it comes.

    Raises:
        UserError: Ollama is not there, the name is none, or Ollama fails (its words are the details).
        Stopped: the user asked; Ollama's process is ended.
    """
    program, name = needed_program(), checked_name(name)
    channel.emit(Stage(name="ollama", text=say("Ollama makes “{name}”", "Ollama 正在创建“{name}”", name=name)))
    command = [str(program), "create", name, "-f", path.name]
    ended = followed(command, path.parent, channel, lambda line: _tell(line, channel))
    if ended.code:
        raise _failed(name, ended)


def _tell(line: str, channel: Channel) -> None:
    found = _PERCENT.search(line)
    if found:
        channel.emit(Progress(done=min(100, int(found.group(1))), total=100, unit="%"))
    else:
        channel.emit(Stage(name="ollama", text=say("Ollama: {line}", "Ollama：{line}", line=line[:120])))


def _failed(name: str, ended: Ended) -> UserError:
    if re.search(r"connect|could not find|server.*(run|respond)", ended.words, re.IGNORECASE):
        hint = say("Is Ollama running? Start it with: ollama serve", "Ollama 是否在运行？请先启动：ollama serve")
    else:
        hint = say("Its words are in the details; the Modelfile is kept.", "其输出见详情；Modelfile 已保留。")
    return UserError(
        "ollama.failed",
        say("Ollama did not make “{name}”: {why}", "Ollama 未能创建“{name}”：{why}", name=name, why=ended.why),
        hint,
        where=name,
        exit_code=EXIT_MACHINE,
        details=ended.words,
    )
