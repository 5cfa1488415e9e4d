"""Write a GGUF from base weights and an adapter; weights stream from file to file, a piece at a time in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from gguf import GGML_QUANT_VERSION, GGMLQuantizationType, GGUFWriter
from torch import Tensor

from engine.data.rows import USER, Message
from engine.data.template import TOOL_USE
from engine.data.tokenizer import TextTokenizer
from engine.export.gguf_arch import Architecture, Place
from engine.export.gguf_quantise import quantise
from engine.export.gguf_tokenizer import Vocabulary
from engine.export.gguf_types import F32, tensor_bytes, tensor_type
from engine.export.targets import Quantisation
from engine.merge.changes import rows_at_once
from engine.merge.delta import Adapter
from engine.merge.place import GGUF_KEY
from engine.merge.prompts import Trained
from engine.merge.weights import BaseWeights
from engine.protocol.errors import UserError
from engine.protocol.text import Text, say

EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"
_HALVES = {"F16": torch.float16, "BF16": torch.bfloat16}
# Ends that llama.cpp knows by their text alone. Source: llama.cpp, src/llama-vocab.cpp ("special_eog_ids").
_KNOWN_ENDS = frozenset(
    {
        "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>",
        "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>",
        "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>", "<｜end▁of▁sentence｜>", "[e~[",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """A stored tensor that a tensor of the file is made of, or which of ``parts`` equal parts of its rows."""

    stored: str
    part: int = 0
    parts: int = 1


@dataclass(frozen=True, slots=True)
class Planned:
    """One tensor to write: its name, what it is made of in order (nothing for one that is computed), GGML type and
    shape, rows first."""

    name: str
    sources: tuple[Source, ...]
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

    architecture: Architecture
    vocabulary: Vocabulary
    tensors: tuple[Planned, ...]
    bytes: int


def plan(base: BaseWeights, adapter: Adapter, trained: Trained, quantisation: Quantisation) -> Plan:
    """What the file will hold.

    Args:
        adapter: opened for the base; the tokenizer that was trained lies in its folder.

    Raises:
        UserError: model or tokenizer cannot be a GGUF, or a tensor is missing or too many.
    """
    architecture = Architecture.of({**base.config, **adapter.changed_config})
    pieces = _gathered(architecture, adapter.names_and_shapes(), base.folder)
    rows = _rows(pieces)
    architecture = replace(architecture, config={**architecture.config, "vocab_size": rows})
    vocabulary = Vocabulary.read(
        adapter.folder, base.folder, rows, architecture.family, opens_special=opens_special(trained)
    )
    tensors = tuple(_planned(architecture, pieces, quantisation.name))
    texts = sum(len(text) + 32 for text in vocabulary.tokens) + sum(len(text) + 8 for text in vocabulary.merges)
    return Plan(architecture, vocabulary, tensors, sum(tensor.bytes + 128 for tensor in tensors) + texts)


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
        UserError: the adapter does not fit the base, a value is not a number or does not fit the type, or this machine
            cannot quantise.
        OSError: the disk does not take it.
    """
    writer = GGUFWriter(path, planned.architecture.family.gguf)
    try:
        describe(writer, planned, base, trained, quantisation, facts)
        for tensor in planned.tensors:
            writer.add_tensor_info(
                tensor.name, tensor.shape, np.dtype(np.float32), tensor.bytes, GGMLQuantizationType[tensor.kind]
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        done, total = 0, sum(tensor.bytes for tensor in planned.tensors)
        assert writer.fout is not None
        file = writer.fout[0]
        writer.write_padding(file, file.tell())
        for tensor in planned.tensors:
            for piece in _pieces(tensor, planned.architecture, adapter):
                done += put(file, encoded(piece, tensor.kind, tensor.name))
                progress(done, total)
            writer.write_padding(file, tensor.bytes)
        assert done == total, f"{done} bytes of {total}"
    finally:
        writer.close()


def put(file: IO[bytes], values: np.ndarray[Any, Any]) -> int:
    """Write values as they lie in memory; the number of bytes."""
    file.write(values.reshape(-1).view(np.uint8).data)
    return values.nbytes


def describe(
    writer: GGUFWriter,
    planned: Plan,
    base: BaseWeights,
    trained: Trained,
    quantisation: Quantisation,
    facts: dict[str, str],
) -> None:
    """Write all metadata: where from, dimensions, vocabulary, template and the stop tokens that training taught."""
    writer.add_string(GGUF_KEY, facts["run"])
    writer.add_type("model")
    writer.add_name(planned.vocabulary.name(facts["title"]))
    writer.add_finetune(facts["run"])
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, facts["model"])
    writer.add_file_type(quantisation.file_type)
    writer.add_quantization_version(GGML_QUANT_VERSION)
    planned.architecture.describe(writer)
    planned.vocabulary.describe(writer)
    for name, number in special_ids(trained.tokenizer, base.config).items():
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", number)
    for name, number in zip(("eos", "eot", "eom"), ends(trained), strict=False):
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", number)
    writer.add_add_bos_token(trained.starts_with_bos)
    writer.add_add_eos_token(False)
    template = trained.template
    writer.add_chat_template(template.source_without_marks)
    if template.tool_use is not None:
        writer.add_chat_template([{"name": TOOL_USE, "template": template.tool_use.source_without_marks}])


def special_ids(tokenizer: TextTokenizer, config: dict[str, Any]) -> dict[str, int]:
    """Ids of the special tokens but the ends, by GGUF's names: the tokenizer's, else those in ``config.json``."""
    names = {"bos": "bos", "unk": "unknown", "sep": "seperator", "pad": "padding", "cls": "cls", "mask": "mask"}
    found: dict[str, int] = {}
    for name, key in names.items():
        number = tokenizer.id_of(tokenizer.declared.get(f"{name}_token"))
        stated = config.get(f"{name}_token_id")
        number = stated if number is None and isinstance(stated, int) and stated >= 0 else number
        number = tokenizer.bos_id if number is None and name == "bos" else number
        if number is not None:
            found[key] = number
    return found


def ends(trained: Trained) -> tuple[int, ...]:
    """Ids that end an answer, at most three, for GGUF's eos, eot and eom: what training taught first; of the others
    first those that llama.cpp does not know by their text."""
    taught, *others = dict.fromkeys(trained.stops)
    known = {number for text in _KNOWN_ENDS if (number := trained.tokenizer.id_of(text)) is not None}
    rest = sorted(others, key=lambda number: number in known)
    return (taught, *(rest or [taught]))[:3]


def opens_special(trained: Trained) -> bool:
    """Whether what was trained begins with a special token."""
    first = trained.asked((Message(USER, "Q"),)).prompt[:1]
    return bool(trained.tokenizer.special_ids.intersection(first))


# ---------------------------------------------------------------------------------------------------- what to write
_Gathered = dict[str, list[tuple[Place, Source, tuple[int, ...]]]]


def _gathered(architecture: Architecture, shapes: Mapping[str, tuple[int, ...]], folder: Path) -> _Gathered:
    """Tensors of the file → what they are made of, in the order of experts."""
    found: _Gathered = {}
    for stored, shape in shapes.items():
        try:
            places = architecture.places(stored)
        except KeyError as error:
            raise _tensor(
                say("GGUF has no place for the tensor {name}.", "GGUF 无法存放张量 {name}。", name=stored),
                str(folder),
            ) from error
        for place in places:
            source = Source(stored, place.part, place.parts)
            found.setdefault(place.name, []).append((place, source, shape))
    for name in architecture.required():
        if name not in found:
            raise _missing(folder, name)
    for name, parts in found.items():
        parts.sort(key=lambda item: item[0].expert or 0)
        numbers = [place.expert for place, _, _ in parts]
        if numbers not in ([None], list(range(architecture.experts))):
            raise _missing(folder, name)
        if len({shape for _, _, shape in parts}) > 1:
            raise _tensor(say("The parts of {name} differ in shape.", "{name} 的各部分形状不一致。", name=name), name)
    return found


def _rows(pieces: _Gathered) -> int:
    """Rows of the token embedding; the output matrix must have as many."""
    rows = {name: pieces[name][0][2][0] for name in (EMBEDDING, OUTPUT) if name in pieces}
    if len(set(rows.values())) > 1:
        raise _tensor(
            say(
                "The token embedding has {first} rows, the output matrix {second}.",
                "词元嵌入有 {first} 行，输出矩阵有 {second} 行。",
                first=rows[EMBEDDING],
                second=rows[OUTPUT],
            ),
            "lm_head.weight",
        )
    return rows[EMBEDDING]


def _planned(architecture: Architecture, pieces: _Gathered, quantize: str) -> Iterator[Planned]:
    for name, factors in architecture.extra().items():
        yield Planned(name, (), F32, factors.shape)
    for name, parts in pieces.items():
        place, _, shape = parts[0]
        if place.expert is not None:
            shape = (len(parts), *shape)
        if place.parts > 1:
            if len(shape) < 2 or shape[-2] % place.parts:
                raise _tensor(say("The tensor {name} cannot be divided.", "张量 {name} 无法拆分。", name=name), name)
            shape = (*shape[:-2], shape[-2] // place.parts, shape[-1])
        kind = tensor_type(name, shape, quantize, architecture.mix)
        yield Planned(name, tuple(source for _, source, _ in parts), kind, shape)


# ---------------------------------------------------------------------------------------------------------- values
def _pieces(tensor: Planned, architecture: Architecture, adapter: Adapter) -> Iterator[Tensor]:
    """The values of a tensor in order, some rows at a time."""
    if not tensor.sources:
        yield torch.from_numpy(architecture.extra()[tensor.name])
    for source in tensor.sources:
        for values in _merged_rows(source.stored, architecture.whole_rows(tensor.name), adapter):
            if values.dim() < 2:
                values = values.to(torch.float32)
            if source.parts > 1:
                rows = values.shape[-2] // source.parts
                values = values[..., source.part * rows : (source.part + 1) * rows, :]
            values = architecture.arranged(tensor.name, values)
            yield values.reshape(-1, values.shape[-1]) if values.dim() > 2 else values


def _merged_rows(name: str, together: int, adapter: Adapter) -> Iterator[Tensor]:
    """Rows of a tensor of the merged model, in float32, or as they lie in the base where the adapter leaves them be."""
    weight = adapter.source(name)
    step = max(together, rows_at_once(weight) // together * together)
    with adapter.fitting(name):
        change = adapter.change(name, weight)
        if change is not None:
            change.begin(weight)
    for start in range(0, len(weight), step):
        values = weight[start : start + step]
        if change is not None:
            with adapter.fitting(name):
                values = change.rows(start, values.to(torch.float32, copy=True))
        yield values


def encoded(values: Tensor, kind: str, name: str) -> np.ndarray[Any, Any]:
    """Values as the bytes of a GGML type; halves as their bit patterns.

    Raises:
        UserError: a value is no number, or too large for 16-bit floats.
    """
    half = _HALVES.get(kind)
    if half is None:
        whole = values.to(torch.float32).contiguous()
        _check(whole, whole, name)
        return quantise(whole.numpy(), kind)
    cast = values.to(half).contiguous()
    _check(cast, values, name)
    return cast.view(torch.int16).numpy()


def _check(written: Tensor, values: Tensor, name: str) -> None:
    """One pass: least and largest are no numbers where one of the values is none."""
    least, largest = torch.aminmax(written)
    if math.isfinite(float(least)) and math.isfinite(float(largest)):
        return
    if bool(torch.isfinite(values).all()):
        raise UserError(
            "export.range",
            say("A weight is too large for 16-bit floats.", "某个权重超出 16 位浮点数的范围。"),
            say("Export as Q8_0 or BF16, or merge into safetensors.", "请导出为 Q8_0 或 BF16，或合并为 safetensors。"),
            where=name,
        )
    raise UserError(
        "export.not_a_number",
        say("The weights of {name} hold values that are no numbers.", "{name} 的权重中含有非数值。", name=name),
        say(
            "Training came apart, or the base is damaged: export an earlier checkpoint, or train with a lower rate.",
            "训练已发散，或基础模型已损坏：请导出较早的检查点，或降低学习率重新训练。",
        ),
        where=name,
    )


def _missing(folder: Path, name: str) -> UserError:
    return UserError(
        "export.missing_tensor",
        say("The base model lacks weights: {name}.", "基础模型缺少权重：{name}。", name=name),
        say("Download the model again.", "请重新下载模型。"),
        where=str(folder),
    )


def _tensor(message: Text, where: str) -> UserError:
    return UserError(
        "export.tensor",
        message,
        say("Export the merged weights instead.", "请改为导出合并后的权重。"),
        where=where,
    )
