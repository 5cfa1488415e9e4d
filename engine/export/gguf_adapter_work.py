"""Export a run's adapter alone as a GGUF, which llama.cpp puts on a GGUF of the base model (``--lora``).

Names, shapes and bytes are those of llama.cpp's own ``convert_lora_to_gguf.py``, but for the scale: that script leaves
rank stabilisation and alphas that differ between layers out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGML_QUANT_VERSION, GGMLQuantizationType, GGUFWriter, LlamaFileType
from torch import Tensor

from engine.export.gguf_adapter import adapter_refusal, refused
from engine.export.gguf_arch import Architecture
from engine.export.gguf_check import verify_gguf
from engine.export.gguf_types import F32
from engine.export.gguf_write import encoded, plan, put, write
from engine.export.ledger import Export, remember
from engine.export.parity import Parity, doubt
from engine.export.targets import GGUF_ADAPTER, quantisation
from engine.merge.delta import CONFIG, WEIGHTS, Adapter
from engine.merge.mapped import Mapped
from engine.merge.place import GGUF_KEY, check_gguf, check_space, writing_file
from engine.merge.reference import calm
from engine.merge.verify import Subject, watching
from engine.project.atomic import read_json
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Channel, telling
from engine.protocol.errors import UserError
from engine.protocol.events import Stage
from engine.protocol.text import say

BASE_TYPE = "F16"
"""Type of the base's GGUF that the check is made on."""
_TIED = ("embed_tokens.weight", "lm_head.weight")
_LAYER = ("lora_A.weight", "lora_B.weight")
_EMBEDDING = ("lora_embedding_A", "lora_embedding_B")


@dataclass(frozen=True, slots=True)
class Pair:
    """The two matrices that change one tensor of the GGUF.

    Attributes:
        name: of that tensor.
        a: (rank, inputs); of the token embedding (tokens, rank).
        b: (outputs, rank), rows in the order of llama.cpp.
        scale: what their product is multiplied by.
    """

    name: str
    a: Tensor
    b: Tensor
    scale: float

    @property
    def rank(self) -> int:
        """Columns of `b`, which llama.cpp divides alpha by."""
        return int(self.b.shape[-1])


def export_gguf_adapter(run: RunFolder, out: Path, channel: Channel) -> dict[str, Any]:
    """Write the adapter of ``run`` as one GGUF, then ask it in llama.cpp on a GGUF of the base.

    The base's GGUF is made beside ``out`` for the check and removed after it.

    Returns:
        ``{"file", "bytes", "parity": {"prompts", "agreement", "passed", …}}``.

    Raises:
        UserError: llama.cpp has no such adapters or does not know the architecture, ``out`` is occupied, disk full.
        Stopped: the user asked; nothing is left.
    """
    subject = Subject.of(run)
    base = subject.base
    refusal = adapter_refusal(read_json(run.adapter / CONFIG), base.config)
    if refusal is not None:
        raise refusal
    adapter = Adapter.open(run.adapter, base)
    architecture = Architecture.of(base.config)
    pairs = tuple(pairs_of(adapter, architecture))
    check_gguf(out)
    check_space(out, sum(4 * (pair.a.numel() + pair.b.numel()) for pair in pairs))
    channel.emit(Stage(name="gguf", text=say("Writing the adapter as GGUF", "正在把适配器写为 GGUF")))
    facts = run.read_facts()
    about = {"run": run.id, "title": str(facts.get("title") or run.id), "model": str(facts.get("model") or "")}
    with writing_file(out) as path:
        write_adapter(path, pairs, architecture, about)
        parity = checked(subject, adapter, path, about, channel)
    if note := doubt(parity):
        channel.emit(note)
    size = out.stat().st_size
    remember(run, Export(GGUF_ADAPTER.name, F32, str(out.absolute()), size, time.time(), parity.to_plain()))
    return {"file": str(out.absolute()), "bytes": size, "parity": parity.to_plain()}


def pairs_of(adapter: Adapter, architecture: Architecture) -> Iterator[Pair]:
    """The adapter's matrices under GGUF's names.

    Raises:
        UserError: llama.cpp has no place for one of them, or the family has no such weight.
    """
    tied = architecture.tied or bool(adapter.changed_config)
    file = Mapped(adapter.folder / WEIGHTS)
    for key, parts in adapter.parts.items():
        if tied and key.endswith(_TIED):
            raise refused(say("a change of embeddings that are also the output", "对兼作输出层的词嵌入的修改"), key)
        places = _places(architecture, key)
        if set(parts) not in (set(_LAYER), set(_EMBEDDING)) or len(places) != 1 or places[0].expert is not None:
            raise refused(say("what was trained of {name}", "对 {name} 的训练结果", name=key), key)
        name = places[0].name
        embedding = _EMBEDDING[0] in parts
        a, b = (file.tensor(parts[part]).to(torch.float32) for part in (_EMBEDDING if embedding else _LAYER))
        yield Pair(name, a.T if embedding else a, architecture.arranged(name, b), adapter.scaling(key))


def write_adapter(path: Path, pairs: tuple[Pair, ...], architecture: Architecture, facts: dict[str, str]) -> None:
    """Write the file.

    llama.cpp multiplies each product by alpha over its rank, with one alpha for all: where that is not the layer's own
    scale, the rest goes into `Pair.b`.

    Args:
        facts: "title", "run" and "model" of the run.

    Raises:
        UserError: a value is not a number.
        OSError: the disk does not take it.
    """
    alpha = next((pair.scale * pair.rank for pair in pairs if pair.scale), 1.0)
    writer = GGUFWriter(path, architecture.family.gguf)
    try:
        writer.add_string(GGUF_KEY, facts["run"])
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_name(facts["title"])
        writer.add_finetune(facts["run"])
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, facts["model"])
        writer.add_float32("adapter.lora.alpha", alpha)
        writer.add_file_type(LlamaFileType.ALL_F32)
        writer.add_quantization_version(GGML_QUANT_VERSION)
        tensors = dict(_tensors(pairs, alpha))
        for name, tensor in tensors.items():
            size = 4 * tensor.numel()
            writer.add_tensor_info(name, tensor.shape, np.dtype(np.float32), size, GGMLQuantizationType.F32)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        assert writer.fout is not None
        file = writer.fout[0]
        writer.write_padding(file, file.tell())
        for name, tensor in tensors.items():
            writer.write_padding(file, put(file, encoded(tensor, F32, name)))
    finally:
        writer.close()


def _tensors(pairs: tuple[Pair, ...], alpha: float) -> Iterator[tuple[str, Tensor]]:
    for pair in pairs:
        rest = pair.scale * pair.rank / alpha
        yield f"{pair.name}.lora_a", pair.a
        # Most often 1; a product would then still be exact, but the same bytes are easier to trust.
        yield f"{pair.name}.lora_b", pair.b if abs(rest - 1.0) < 1e-9 else pair.b * rest


def _places(architecture: Architecture, key: str) -> tuple[Any, ...]:
    try:
        return architecture.places(key)
    except KeyError as error:
        raise refused(say("what was trained of {name}", "对 {name} 的训练结果", name=key), key) from error


def checked(subject: Subject, adapter: Adapter, path: Path, facts: dict[str, str], channel: Channel) -> Parity:
    """Make a GGUF of the base beside ``path``, ask llama.cpp with the adapter on it, and remove it."""
    kind = quantisation(BASE_TYPE)
    alone = _without_changes(adapter)
    planned = plan(subject.base, alone, subject.trained, kind)
    try:
        check_space(path, planned.bytes)
    except UserError as full:
        return Parity(type=BASE_TYPE, reason=full.problem.message)
    channel.emit(Stage(name="check", text=say("Asking it in llama.cpp", "正在用 llama.cpp 核对")))

    base = path.with_name(f"{path.name}.base")
    try:
        with calm(subject.base.elements):
            write(base, planned, subject.base, alone, subject.trained, kind, facts, telling(channel, "bytes"))
        return verify_gguf(subject, base, BASE_TYPE, watching(channel), lora=path)
    finally:
        base.unlink(missing_ok=True)


def _without_changes(adapter: Adapter) -> Adapter:
    """The same base with nothing learned."""
    untouched = {name: replace(target, key="") for name, target in adapter.targets.items()}
    return replace(adapter, parts={}, targets=untouched)
