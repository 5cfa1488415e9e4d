"""Check an export again: after it was copied or downloaded, or a GGUF that someone else made of the run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.export.gguf_adapter_work import checked
from engine.export.gguf_check import verify_gguf
from engine.export.gguf_head import head, is_adapter, type_of
from engine.export.ledger import listed, remember
from engine.export.parity import Parity, doubt
from engine.merge.delta import CONFIG, Adapter
from engine.merge.verify import Subject, verify_folder, watching
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Channel
from engine.protocol.errors import UserError
from engine.protocol.events import Stage
from engine.protocol.text import Text, say


def check_export(run: RunFolder, path: Path, channel: Channel, *, base: Path | None = None) -> dict[str, Any]:
    """Hold what lies at ``path`` against what ``run`` trained; where it is an export of the run, its record is renewed.

    Args:
        path: a GGUF, a folder that holds one, a merged model's folder or an adapter's.
        base: GGUF of the base model, to ask a GGUF of an adapter on; None to make one for the time of the check.

    Returns:
        ``{"file", "kind", "type", "parity": {"passed", …}}``; "kind" is "gguf", "gguf-adapter", "merged" or "adapter".

    Raises:
        UserError: there is nothing that can be checked, or the run's own files cannot be read.
        Stopped: the user asked.
    """
    found = _file_in(path)
    kind, type_name = kind_of(found)
    subject = Subject.of(run)
    channel.emit(Stage(name="check", text=say("Asking {name}", "正在核对 {name}", name=found.name)))
    parity = _checked(subject, run, found, kind, type_name, base, channel)
    if note := doubt(parity):
        channel.emit(note)
    known = next((item for item in listed(run) if Path(item.file) in (found.absolute(), path.absolute())), None)
    if known is not None:
        remember(run, replace(known, parity=parity.to_plain()))
    return {"file": str(found.absolute()), "kind": kind, "type": type_name, "parity": parity.to_plain()}


def _checked(
    subject: Subject, run: RunFolder, path: Path, kind: str, type_name: str, base: Path | None, channel: Channel
) -> Parity:
    if kind in ("merged", "adapter"):
        return verify_folder(subject, path, kind, watching(channel))
    if kind == "gguf":
        return verify_gguf(subject, path, type_name, watching(channel))
    if base is not None:
        return verify_gguf(subject, base, type_of(head(base) or {}), watching(channel), lora=path)
    about = {"run": run.id, "title": run.id, "model": ""}
    return checked(subject, Adapter.open(run.adapter, subject.base), path, about, channel)


def kind_of(path: Path) -> tuple[str, str]:
    """("gguf", "gguf-adapter", "merged" or "adapter", type of a GGUF). Raises `UserError` when it is none of these."""
    if path.is_file():
        facts = head(path)
        if facts is None:
            raise _nothing(path, say("the file is no GGUF", "该文件不是 GGUF"))
        return ("gguf-adapter", "") if is_adapter(facts) else ("gguf", type_of(facts))
    if (path / CONFIG).is_file():
        return "adapter", ""
    if (path / "config.json").is_file():
        return "merged", ""
    raise _nothing(path, say("there is no config.json", "其中没有 config.json"))


def _file_in(path: Path) -> Path:
    """The GGUF in a folder that holds just one, as LM Studio and Ollama keep it; else ``path`` itself."""
    if not path.exists():
        raise _nothing(path, say("there is nothing", "路径不存在"))
    if not path.is_dir() or (path / "config.json").is_file() or (path / CONFIG).is_file():
        return path
    files = sorted(path.glob("*.gguf"))
    return files[0] if len(files) == 1 else path


def _nothing(path: Path, why: Text) -> UserError:
    return UserError(
        "check.nothing",
        say("{path} cannot be checked: {why}.", "无法检查 {path}：{why}。", path=path, why=why),
        say(
            "Give a GGUF, or the folder of merged weights or of an adapter.",
            "请给出 GGUF 文件，或合并后权重、适配器的文件夹。",
        ),
        where=str(path),
    )
