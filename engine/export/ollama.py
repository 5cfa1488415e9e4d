"""What Ollama needs of a GGUF: a Modelfile, and a name that it takes. Light.

Format: docs/modelfile.mdx and parser/parser.go of ollama/ollama. Names: types/model/name.go.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from engine.protocol.errors import EXIT_MACHINE, UserError
from engine.protocol.text import say

MODELFILE = "Modelfile"
WRITTEN = "# Written by Lorimer."
"""First line of a Modelfile of ours: only such a one is replaced."""
PROGRAM = "ollama"
MOST_CONTEXT = 8192
"""Ollama keeps memory for the whole context from the start; who wants more sets it by ``--context``."""
_QUOTES, _TWO_AND_A_HALF = '"' * 3, '""”'
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"
_NAME = re.compile(rf"(?:[A-Za-z0-9_][A-Za-z0-9_-]{{0,79}}/)?{_PART}(?::{_PART})?")


def checked_name(name: str) -> str:
    """A name as Ollama takes it: ``model``, ``model:tag`` or ``user/model:tag``. Raises `UserError` when it is none."""
    if _NAME.fullmatch(name):
        return name
    raise UserError(
        "ollama.name",
        say("“{name}” is no name for a model of Ollama.", "“{name}”不是有效的 Ollama 模型名称。", name=name[:80]),
        say(
            "Use letters, digits, dots, dashes and underscores, such as clinic-replies or clinic-replies:q4.",
            "请使用字母、数字、点、连字符和下划线，例如 clinic-replies 或 clinic-replies:q4。",
        ),
        where="--name",
    )


def proposed_name(title: str) -> str:
    """A name made of a title; "lorimer-model" where nothing of it can stand in one."""
    made = re.sub(r"[^a-z0-9_.-]+", "-", title.lower()).strip("-._")[:60].rstrip("-._")
    return made or "lorimer-model"


def program() -> Path | None:
    """Ollama on this machine; None where it is not on PATH."""
    found = shutil.which(PROGRAM)
    return Path(found) if found else None


def needed_program() -> Path:
    """Ollama on this machine. Raises `UserError` where it is not on PATH."""
    found = program()
    if found is not None:
        return found
    raise UserError(
        "ollama.missing",
        say("Ollama is not on this machine, or not on PATH.", "本机没有 Ollama，或不在 PATH 中。"),
        say(
            "Install it from ollama.com, or copy the folder to a machine that has it and run: ollama create NAME -f "
            "Modelfile",
            "请从 ollama.com 安装，或把文件夹复制到装有它的机器上运行：ollama create NAME -f Modelfile",
        ),
        exit_code=EXIT_MACHINE,
    )


def modelfile_of(gguf: Path) -> Path:
    """Where the Modelfile of a GGUF stands: beside it, by a name of its own, as others may lie there too."""
    return gguf.with_name(f"{gguf.stem}.{MODELFILE}")


def modelfile(
    gguf: str,
    *,
    template: str = "",
    stops: Sequence[str] = (),
    system: str = "",
    context: int = 0,
    licence: str = "",
    notes: Sequence[str] = (),
) -> str:
    """The Modelfile's text.

    Args:
        gguf: name of the file beside the Modelfile.
        template: Go's text; empty leaves the choice to Ollama.
        stops: texts that end an answer.
        system: the system prompt that training had; empty for none.
        context: tokens; 0 leaves it to Ollama.
        licence: its text or name.
        notes: comments.
    """
    lines = [WRITTEN, *(f"# {note}" for note in notes), f"FROM ./{gguf}"]
    if template:
        lines.append(f"TEMPLATE {_quoted(template)}")
    if system:
        lines.append(f"SYSTEM {_quoted(system)}")
    lines += [f"PARAMETER stop {_quoted(stop)}" for stop in stops]
    if context:
        lines.append(f"PARAMETER num_ctx {context}")
    if licence:
        lines.append(f"LICENSE {_quoted(licence)}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A value as Ollama's parser takes it. It knows no escapes: three quotes at a line's end would end the value, and
    what Go counts as not printable (a wide blank, say) would be left out."""
    plain = "".join(sign if sign.isprintable() or sign in "\n\t" else " " for sign in text.replace("\r\n", "\n"))
    return f'"""{plain.replace(_QUOTES, _TWO_AND_A_HALF)}"""'


def check_ours(path: Path) -> None:
    """See that a Modelfile may be written at ``path``. Raises `UserError` where another one stands."""
    if not path.exists() and not path.is_symlink():
        return
    if path.is_file() and not path.is_symlink():
        with path.open("rb") as file:
            if file.read(len(WRITTEN)) == WRITTEN.encode():
                return
    raise UserError(
        "export.occupied",
        say("{path} was not written by Lorimer.", "{path} 不是 Lorimer 写的。", path=path),
        say("Choose another folder, or move it away.", "请换一个文件夹，或将其移走。"),
        where=str(path),
    )
