"""Export a run as a GGUF, and hold it against the trained model before it is called done."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from engine.export.gguf_check import verify_gguf
from engine.export.gguf_quantise import check_types
from engine.export.gguf_write import plan, write
from engine.export.ledger import Export, remember
from engine.export.targets import GGUF, Quantisation, quantisation
from engine.merge.adapter import stop_if_asked
from engine.merge.delta import Adapter
from engine.merge.place import check_gguf, check_space, writing_file
from engine.merge.prompts import Trained, load_samples
from engine.merge.reference import calm
from engine.merge.verify import plain
from engine.merge.weights import BaseWeights
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Channel
from engine.protocol.errors import UserError
from engine.protocol.events import Note, Progress, Stage
from engine.protocol.text import as_text, say

PROMPTS = 12


def export_gguf(run: RunFolder, out: Path, quantize: str, channel: Channel) -> dict[str, Any]:
    """Write base weights with the adapter of ``run`` in them as one GGUF, then ask it in llama.cpp.

    Args:
        out: the file; replaced only when it is an earlier export.
        quantize: "F16", "Q8_0" or "Q4_K_M", in any case.

    Returns:
        ``{"file", "bytes", "parity": {"prompts", "agreement", "passed", …}}``. A file that does not agree is kept,
        ``passed`` is False, and a note says so.

    Raises:
        UserError: another architecture, a tokenizer llama.cpp does not know, ``out`` is occupied, disk full.
        Stopped: the user asked; nothing is left.
    """
    kind = quantisation(quantize)
    base = BaseWeights.open(run.trained_on())
    facts = run.read_facts()
    adapter = Adapter.open(run.adapter)
    adapter.check_against(base.shapes)
    trained = Trained.load(run.adapter)
    samples = load_samples(run, trained, limit=PROMPTS)
    planned = plan(base, run.adapter, kind)
    check_types({tensor.kind for tensor in planned.tensors})
    check_gguf(out)
    check_space(out, planned.bytes)
    channel.emit(Stage(name="gguf", text=say("Writing GGUF {type}", "正在写入 GGUF {type}", type=kind.name)))

    def progress(done: int, total: int) -> None:
        stop_if_asked(channel)
        channel.emit(Progress(done=done, total=total, unit="bytes"))

    about = {"run": run.id, "title": str(facts.get("title") or run.id), "model": str(facts.get("model") or "")}
    with writing_file(out) as path:
        with calm(base.elements):
            write(path, planned, base, adapter, trained, kind, about, progress)
        channel.emit(Stage(name="check", text=say("Asking it in llama.cpp", "正在用 llama.cpp 核对")))
        try:
            parity = verify_gguf(
                path, base, run.adapter, trained, planned.vocabulary, samples, kind, lambda: stop_if_asked(channel)
            )
        except UserError as error:
            reason = plain(error.problem.message)
            parity = {"prompts": 0, "agreement": None, "passed": False, "limit": kind.limit, "reason": reason}
    if parity["passed"] is not True:
        channel.emit(_doubt(parity, kind))
    size = out.stat().st_size
    remember(run, Export(GGUF.name, kind.name, str(out.absolute()), size, time.time(), parity))
    return {"file": str(out.absolute()), "bytes": size, "parity": parity}


def _doubt(parity: dict[str, Any], kind: Quantisation) -> Note:
    """What the user must read when the file is not known to be right."""
    if parity["passed"] is None:
        text = say("The GGUF was not checked: {reason}.", "未核对该 GGUF：{reason}。", reason=as_text(parity["reason"]))
        return Note(text=text, level="warning", code="export.unchecked")
    if "reason" in parity:
        text = say("Do not use this GGUF: {reason}", "请勿使用该 GGUF：{reason}", reason=as_text(parity["reason"]))
    elif not parity["tokenizer_equal"]:
        text = say(
            "Do not use this GGUF: llama.cpp cuts texts into other tokens than in training.",
            "请勿使用该 GGUF：llama.cpp 的分词与训练时不一致。",
        )
    elif not parity["template_equal"]:
        text = say(
            "Do not use this GGUF: llama.cpp renders the chat template otherwise than in training.",
            "请勿使用该 GGUF：llama.cpp 渲染的对话模板与训练时不一致。",
        )
    elif not parity["stops_equal"]:
        text = say(
            "Do not use this GGUF: answers do not end where they should.",
            "请勿使用该 GGUF：回答没有在应当结束处结束。",
        )
    else:
        text = say(
            "Do not use this GGUF: {share:.1%} of its next tokens agree with the trained model ({limit:.1%} needed).",
            "请勿使用该 GGUF：与训练后模型的下一词元一致率仅 {share:.1%}（要求 {limit:.1%}）。",
            share=parity["agreement"],
            limit=kind.limit,
        )
    return Note(text=text, level="warning", code="export.differs")
