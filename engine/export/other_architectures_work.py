"""Export a model that Lorimer itself writes no GGUF of, by llama.cpp's own converter in the user's checkout.

Merge to a temporary folder, have it converted, then write the file once more: in the wished type by our own tables and
llama.cpp's routine, with the template and the ends that were trained, and with the mark by which Lorimer knows its own.
The check against the trained model is the same as for every GGUF.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
from numpy.typing import NDArray

from engine.export.following import Ended, followed
from engine.export.gguf_check import verify_gguf
from engine.export.gguf_quantise import quantise
from engine.export.gguf_types import BF16, F16, F32, Mix, is_matrix, tensor_bytes, tensor_type
from engine.export.gguf_write import ends
from engine.export.ledger import Export, remember
from engine.export.other_architectures import Checkout, meaning
from engine.export.parity import doubt
from engine.export.targets import GGUF, Quantisation, quantisation
from engine.merge.adapter import copy_companions, merged_config
from engine.merge.delta import Adapter
from engine.merge.place import GGUF_KEY, check_gguf, check_space, writing_file
from engine.merge.prompts import Trained
from engine.merge.shards import write_weights
from engine.merge.verify import Subject, watching
from engine.project.atomic import disk_error, write_json
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Channel, stop_if_asked
from engine.protocol.errors import EXIT_MACHINE, UserError
from engine.protocol.events import Note, Progress, Stage
from engine.protocol.text import say

# What the converter itself writes; of everything else it is asked for 16 bit, from which our own routine goes on.
_AS_IT_IS = {"F32": "f32", "F16": "f16", "BF16": "bf16"}
# Matrices that llama.cpp never quantises, of architectures that Lorimer does not write itself (src/llama-quant.cpp).
_KEPT = re.compile(
    r"position_embd|token_types|ssm_|shortconv|time_mix_|attn_rel_b|altup|laurel|per_layer_model_proj|\.position"
)
_PERCENT = re.compile(r"(\d{1,3})%\|")
Told = Callable[[int, int], None]


def export_by_converter(
    run: RunFolder, out: Path, quantize: str, checkout: Checkout, channel: Channel
) -> dict[str, Any]:
    """Write base weights with the adapter of ``run`` in them as a GGUF, by the converter of ``checkout``.

    Returns:
        as `engine.export.gguf_work.export_gguf`, and ``"converter"``.

    Raises:
        UserError: the converter does not know the architecture or the tokenizer either, or fails (its words are the
            details); ``out`` is occupied; the disk is full.
        Stopped: the user asked; nothing is left.
    """
    kind = quantisation(quantize)
    subject = Subject.of(run)
    base, facts = subject.base, run.read_facts()
    adapter = Adapter.open(run.adapter, base)
    check_gguf(out)
    check_space(out, 3 * base.bytes)
    channel.emit(Note(text=meaning(checkout.folder), level="info", code="export.converter"))
    with _scratch(out) as scratch:
        merged = scratch / "merged"
        merged.mkdir()
        channel.emit(Stage(name="merge", text=say("Merging the adapter into the weights", "正在把适配器合并到权重中")))
        write_weights(base, adapter, merged, _telling(channel))
        copy_companions(base.folder, run.adapter, merged)
        if adapter.changed_config:
            write_json(merged / "config.json", merged_config(base.config, adapter))
        raw = scratch / "converted.gguf"
        _convert(merged, raw, _AS_IT_IS.get(kind.name, "bf16"), checkout, channel)
        with writing_file(out) as path:
            channel.emit(Stage(name="gguf", text=say("Writing GGUF {type}", "正在写入 GGUF {type}", type=kind.name)))
            own = own_values(run.id, str(facts.get("title") or run.id), subject.trained)
            rewrite(raw, path, kind, own, _telling(channel))
            channel.emit(Stage(name="check", text=say("Asking it in llama.cpp", "正在用 llama.cpp 核对")))
            parity = verify_gguf(subject, path, kind.name, watching(channel))
    if note := doubt(parity):
        channel.emit(note)
    size = out.stat().st_size
    remember(run, Export(GGUF.name, kind.name, str(out.absolute()), size, time.time(), parity.to_plain()))
    return {
        "file": str(out.absolute()),
        "bytes": size,
        "parity": parity.to_plain(),
        "converter": str(checkout.converter),
    }


@contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` that is gone when the block ends. Raises `UserError` where the disk does not take it."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        made = tempfile.TemporaryDirectory(prefix=f".{out.name[:40]}.", suffix=".part", dir=out.parent)
    except OSError as error:
        raise disk_error(error, out) from error
    with made as name:
        yield Path(name)


def _telling(channel: Channel) -> Told:
    def told(done: int, total: int) -> None:
        stop_if_asked(channel)
        channel.emit(Progress(done=done, total=total, unit="bytes"))

    return told


# ------------------------------------------------------------------------------------------------------------- convert
def _convert(merged: Path, raw: Path, kind: str, checkout: Checkout, channel: Channel) -> None:
    """Run the converter, with this Python and the checkout's own ``gguf`` package."""
    channel.emit(Stage(name="convert", text=say("llama.cpp's converter works", "llama.cpp 转换器运行中")))
    command = [sys.executable, str(checkout.converter), str(merged), "--outfile", str(raw), "--outtype", kind]
    environment = {**os.environ, "PYTHONPATH": str(checkout.library), "PYTHONUTF8": "1", "HF_HUB_OFFLINE": "1"}

    def tell(line: str) -> None:
        sys.stderr.write(line + "\n")  # the job's log
        if found := _PERCENT.search(line):
            channel.emit(Progress(done=min(100, int(found.group(1))), total=100, unit="%"))

    ended = followed(command, checkout.folder, channel, tell, environment)
    if ended.code or not raw.is_file():
        raise _failed(checkout, ended)


def _failed(checkout: Checkout, ended: Ended) -> UserError:
    if "pre-tokenizer was not recognized" in ended.words or "get_vocab_base_pre" in ended.words:
        hint = say(
            "It does not know this tokenizer. A newer checkout may; else export the merged weights.",
            "它不认识该分词器。可换用更新的版本；否则请导出合并后的权重。",
        )
    elif "is not supported" in ended.words:
        hint = say(
            "It does not know this architecture either. A newer checkout may; else export the merged weights.",
            "它也不支持该架构。可换用更新的版本；否则请导出合并后的权重。",
        )
    elif "ModuleNotFoundError" in ended.words:
        hint = say(
            "It needs a package that Lorimer does not bring; the details name it.",
            "它需要 Lorimer 未附带的软件包，名称见详情。",
        )
    else:
        hint = say("Its words are in the details.", "其输出见详情。")
    return UserError(
        "export.converter",
        say("llama.cpp's converter failed: {why}", "llama.cpp 转换器失败：{why}", why=ended.why[:300]),
        hint,
        where=str(checkout.converter),
        exit_code=EXIT_MACHINE,
        details=ended.words,
    )


# ------------------------------------------------------------------------------------------------------------- rewrite
def own_values(run: str, title: str, trained: Trained) -> dict[str, tuple[Any, GGUFValueType]]:
    """Keys that Lorimer sets whatever the converter says: whose file it is, and template and ends as trained."""
    values: dict[str, tuple[Any, GGUFValueType]] = {
        GGUF_KEY: (run, GGUFValueType.STRING),
        "general.name": (title, GGUFValueType.STRING),
        "tokenizer.chat_template": (trained.template.source_without_marks, GGUFValueType.STRING),
        "tokenizer.ggml.add_bos_token": (trained.starts_with_bos, GGUFValueType.BOOL),
    }
    for name, number in zip(("eos", "eot", "eom"), ends(trained), strict=False):
        values[f"tokenizer.ggml.{name}_token_id"] = (number, GGUFValueType.UINT32)
    return values


def rewrite(
    source: Path, target: Path, kind: Quantisation, own: dict[str, tuple[Any, GGUFValueType]], told: Told
) -> None:
    """Write a GGUF of floats once more, in type ``kind`` and with the keys of ``own``; a tensor at a time in memory.

    Raises:
        UserError: this machine cannot make the type, or a value does not fit it.
        OSError: the disk does not take it.
    """
    reader = GGUFReader(source)
    architecture = str(reader.fields["general.architecture"].contents())
    writer = GGUFWriter(target, architecture)
    try:
        _copy_values(reader, writer, {**own, "general.file_type": (kind.file_type, GGUFValueType.UINT32)})
        mix = _mix(reader, architecture)
        planned = [(tensor, *_wanted(tensor, kind, mix)) for tensor in reader.tensors]
        for tensor, shape, wanted, size in planned:
            writer.add_tensor_info(tensor.name, shape, np.dtype(np.float32), size, GGMLQuantizationType[wanted])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        assert writer.fout is not None
        file = writer.fout[0]
        writer.write_padding(file, file.tell())
        done, total = 0, sum(size for *_, size in planned)
        for tensor, shape, wanted, size in planned:
            file.write(_data(tensor, shape, wanted).reshape(-1).view(np.uint8).data)
            writer.write_padding(file, size)
            done += size
            told(done, total)
    finally:
        writer.close()


def _copy_values(reader: GGUFReader, writer: GGUFWriter, own: dict[str, tuple[Any, GGUFValueType]]) -> None:
    """All keys but those of ``own``, which come first: Lorimer knows its files by their head."""
    for name, (value, kind) in own.items():
        writer.add_key_value(name, value, kind)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture" or name in own:
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, sub_type=inner)


def _mix(reader: GGUFReader, architecture: str) -> Mix:
    def number(key: str) -> int:
        field = reader.fields.get(f"{architecture}.{key}")
        value = field.contents() if field is not None else 0
        return int(value if isinstance(value, int) else (value or [0])[0])

    heads = number("attention.head_count")
    names = {tensor.name for tensor in reader.tensors}
    return Mix(
        layers=number("block_count"),
        tied="output.weight" not in names,
        heads=heads,
        kv_heads=number("attention.head_count_kv") or heads,
        experts=number("expert_count"),
        architecture=architecture,
    )


def _wanted(tensor: Any, kind: Quantisation, mix: Mix) -> tuple[tuple[int, ...], str, int]:
    """Shape (rows first), type and bytes of a tensor in the new file."""
    shape = tuple(int(size) for size in reversed(tensor.shape))
    name = tensor.tensor_type.name
    if kind.name not in _AS_IT_IS and is_matrix(tensor.name, shape) and not _KEPT.search(tensor.name):
        name = tensor_type(tensor.name, shape, kind.name, mix)
    return shape, name, tensor_bytes(shape, name)


def _data(tensor: Any, shape: tuple[int, ...], wanted: str) -> NDArray[Any]:
    """A tensor's values in type ``wanted``."""
    held = tensor.tensor_type.name
    if held == wanted:
        return np.ascontiguousarray(tensor.data)
    return quantise(_floats(tensor, held).reshape(shape), wanted)


def _floats(tensor: Any, held: str) -> NDArray[Any]:
    if held in (F32, F16):
        return np.asarray(tensor.data)
    assert held == BF16, held
    bits: NDArray[np.uint16] = np.ascontiguousarray(tensor.data).reshape(-1).view(np.uint16)
    return (bits.astype(np.uint32) << 16).view(np.float32)
