"""One export, by what it is to be: the job's entry. `engine.export.targets` declares what can be made of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.export.card import write_card
from engine.export.handing_work import hand_to_lm_studio, hand_to_ollama
from engine.export.targets import gguf_refusal
from engine.project.atomic import read_json
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Channel


def export(run: RunFolder, arguments: Mapping[str, Any], channel: Channel) -> dict[str, Any]:
    """Make what ``arguments["to"]`` names ("gguf", "adapter", "gguf-adapter", "ollama", "lmstudio") of a run.

    Args:
        arguments: ``out`` (file or folder), ``quantize`` (of a GGUF), ``llama_cpp`` (a checkout, for architectures that
            Lorimer does not write; empty for none), ``also`` (more GGUFs in one go, each ``{"quantize", "out"}``), and
            what `engine.export.handing_work` takes.

    Returns:
        what the export of that kind gives; with ``also``, a list of theirs beside it.

    Raises:
        UserError, Stopped: as the export of that kind.
    """
    to = arguments["to"]
    if to == "adapter":
        from engine.export.adapter_work import export_adapter

        return export_adapter(run, Path(arguments["out"]), channel)
    if to == "gguf-adapter":
        from engine.export.gguf_adapter_work import export_gguf_adapter

        made = export_gguf_adapter(run, Path(arguments["out"]), channel)
        write_card(run, Path(made["file"]))
        return made

    def make(out: Path) -> dict[str, Any]:
        return _gguf(run, out, str(arguments["quantize"]), str(arguments.get("llama_cpp") or ""), channel)

    if to == "ollama":
        return hand_to_ollama(run, arguments, channel, make)
    if to == "lmstudio":
        return hand_to_lm_studio(run, arguments, channel, make)
    made = make(Path(arguments["out"]))
    more = [
        _gguf(run, Path(wish["out"]), wish["quantize"], str(arguments.get("llama_cpp") or ""), channel)
        for wish in arguments.get("also") or ()
    ]
    for each in (made, *more):
        write_card(run, Path(each["file"]))
    return {**made, "also": more} if more else made


def _gguf(run: RunFolder, out: Path, quantize: str, llama_cpp: str, channel: Channel) -> dict[str, Any]:
    """A GGUF: by our own writer where it knows the architecture, else by the converter in the user's checkout.

    Raises:
        UserError: neither knows it, or as either does.
    """
    refusal = gguf_refusal(read_json(run.trained_on() / "config.json"))
    if refusal is not None and not llama_cpp:
        raise refusal
    if refusal is None:
        from engine.export.gguf_work import export_gguf

        return export_gguf(run, out, quantize, channel)
    from engine.export.other_architectures import checked_checkout
    from engine.export.other_architectures_work import export_by_converter

    return export_by_converter(run, out, quantize, checked_checkout(Path(llama_cpp)), channel)
