"""Export a run as a GGUF, and hold it against the trained model before it is called done."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from engine.export.gguf_check import verify_gguf
from engine.export.gguf_quantise import check_types
from engine.export.gguf_write import plan, write
from engine.export.ledger import Export, remember
from engine.export.parity import doubt
from engine.export.targets import GGUF, quantisation
from engine.merge.delta import Adapter
from engine.merge.place import check_gguf, check_space, writing_file
from engine.merge.prompts import Trained, load_samples
from engine.merge.reference import calm
from engine.merge.verify import ROWS, Subject, watching
from engine.merge.weights import BaseWeights
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Channel, telling
from engine.protocol.events import Stage
from engine.protocol.text import say


def export_gguf(run: RunFolder, out: Path, quantize: str, channel: Channel) -> dict[str, Any]:
    """Write base weights with the adapter of ``run`` in them as one GGUF, then ask it in llama.cpp.

    Args:
        out: the file; replaced only when it is an earlier export.
        quantize: name of the type ("Q4_K_M"), in any case.

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
    adapter = Adapter.open(run.adapter, base)
    trained = Trained.load(run.adapter)
    samples = load_samples(run, trained, limit=ROWS)
    planned = plan(base, adapter, trained, kind)
    check_types({tensor.kind for tensor in planned.tensors})
    check_gguf(out)
    check_space(out, planned.bytes)
    channel.emit(Stage(name="gguf", text=say("Writing GGUF {type}", "正在写入 GGUF {type}", type=kind.name)))

    about = {"run": run.id, "title": str(facts.get("title") or run.id), "model": str(facts.get("model") or "")}
    with writing_file(out) as path:
        with calm(base.elements):
            write(path, planned, base, adapter, trained, kind, about, telling(channel, "bytes"))
        channel.emit(Stage(name="check", text=say("Asking it in llama.cpp", "正在用 llama.cpp 核对")))
        parity = verify_gguf(Subject(base, run.adapter, trained, tuple(samples)), path, kind.name, watching(channel))
    if note := doubt(parity):
        channel.emit(note)
    size = out.stat().st_size
    remember(run, Export(GGUF.name, kind.name, str(out.absolute()), size, time.time(), parity.to_plain()))
    return {"file": str(out.absolute()), "bytes": size, "parity": parity.to_plain()}
