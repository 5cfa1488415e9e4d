"""Write a GGUF from base weights and an adapter, one tensor in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_VERSION, GGMLQuantizationType, GGUFWriter
from numpy.typing import NDArray

from engine.data.template import TOOL_USE
from engine.export.gguf_arch import ROPE_FREQS, Llama
from engine.export.gguf_quantise import quantise
from engine.export.gguf_tokenizer import Vocabulary
from engine.export.gguf_types import F32, tensor_bytes, tensor_type
from engine.export.targets import Quantisation
from engine.merge.delta import Adapter
from engine.merge.place import GGUF_KEY
from engine.merge.prompts import Trained
from engine.merge.weights import BaseWeights
from engine.project.atomic import read_json
from engine.protocol.errors import UserError
from engine.protocol.text import say

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Planned:
    """One tensor to write: its names (``stored`` empty for one that is computed), GGML type and shape, rows first."""

    name: str
    stored: str
    kind: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Size in the file."""
        return tensor_bytes(self.shape, self.kind)


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole file, decided before a byte is written.

    Attributes:
        tensors: in the order of the file.
        bytes: near size of the file.
    """

    llama: Llama
    vocabulary: Vocabulary
    tensors: tuple[Planned, ...]
    bytes: int


def plan(base: BaseWeights, adapter: Path, quantisation: Quantisation) -> Plan:
    """What the file will hold. Raises `UserError` where model or tokenizer cannot be a GGUF."""
    llama = Llama.of(base.config)
    vocabulary = Vocabulary.of(read_json(adapter / "tokenizer.json"), llama.vocabulary)
    tensors = tuple(_planned(base, llama, quantisation.name))
    texts = sum(len(text) + 32 for text in vocabulary.tokens) + sum(len(text) + 8 for text in vocabulary.merges)
    return Plan(llama, vocabulary, tensors, sum(tensor.bytes + 128 for tensor in tensors) + texts)


def write(
    path: Path,
    planned: Plan,
    base: BaseWeights,
    adapter: Adapter,
    trained: Trained,
    quantisation: Quantisation,
    facts: dict[str, str],
    progress: Callable[[int, int], None],
) -> None:
    """Write the file of ``planned`` to ``path``.

    Args:
        facts: "title", "run" and "model" of the run, for the file's metadata.
        progress: told bytes done and bytes of all tensors.

    Raises:
        UserError: the adapter does not fit the base, a value does not fit the type, or this machine cannot quantise.
        OSError: the disk does not take it.
    """
    writer = GGUFWriter(path, "llama")
    try:
        describe(writer, planned, trained, quantisation, facts)
        for tensor in planned.tensors:
            writer.add_tensor_info(
                tensor.name, tensor.shape, np.dtype(np.float32), tensor.bytes, GGMLQuantizationType[tensor.kind]
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        done, total = 0, sum(tensor.bytes for tensor in planned.tensors)
        for tensor in planned.tensors:
            writer.write_tensor_data(quantise(_values(tensor, planned.llama, base, adapter), tensor.kind))
            done += tensor.bytes
            progress(done, total)
    finally:
        writer.close()


def describe(
    writer: GGUFWriter, planned: Plan, trained: Trained, quantisation: Quantisation, facts: dict[str, str]
) -> None:
    """Write all metadata: where from, dimensions, vocabulary, template and the stop token that training taught."""
    writer.add_string(GGUF_KEY, facts["run"])
    writer.add_type("model")
    writer.add_name(facts["title"])
    writer.add_finetune(facts["run"])
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, facts["model"])
    writer.add_file_type(quantisation.file_type)
    writer.add_quantization_version(GGML_QUANT_VERSION)
    planned.llama.describe(writer)
    planned.vocabulary.describe(writer)
    tokenizer = trained.tokenizer
    for number, add in (
        (tokenizer.bos_id, writer.add_bos_token_id),
        (tokenizer.unk_id, writer.add_unk_token_id),
        (tokenizer.pad_id, writer.add_pad_token_id),
    ):
        if number is not None:
            add(number)
    writer.add_eos_token_id(trained.stops[0])
    # The model's own end, where training taught another: llama.cpp stops at both.
    writer.add_eot_token_id(trained.stops[-1])
    writer.add_add_bos_token(trained.starts_with_bos)
    writer.add_add_eos_token(False)
    template = trained.template
    writer.add_chat_template(template.source_without_marks)
    if template.tool_use is not None:
        writer.add_chat_template([{"name": TOOL_USE, "template": template.tool_use.source_without_marks}])


def _planned(base: BaseWeights, llama: Llama, quantize: str) -> Iterator[Planned]:
    factors = llama.rope_factors()
    if factors is not None:
        yield Planned(ROPE_FREQS, "", F32, factors.shape)
    for stored, where in base.tensors.items():
        try:
            name = llama.name(stored)
        except KeyError as error:
            raise UserError(
                "export.tensor",
                say("GGUF has no place for the tensor {name}.", "GGUF 无法存放张量 {name}。", name=stored),
                say("Export the merged weights instead.", "请改为导出合并后的权重。"),
                where=where.file,
            ) from error
        if name is not None:
            yield Planned(name, stored, tensor_type(name, where.shape, quantize, llama.mix), where.shape)


def _values(tensor: Planned, llama: Llama, base: BaseWeights, adapter: Adapter) -> Array:
    if not tensor.stored:
        factors = llama.rope_factors()
        assert factors is not None
        return factors
    merged: Array = adapter.merged(tensor.stored, base.read(tensor.stored)).numpy()
    return llama.arranged(tensor.name, merged)
