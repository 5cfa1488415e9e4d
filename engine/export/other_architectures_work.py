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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.export.following import Ended, followed
from engine.export.gguf_check import verify_gguf
from engine.export.gguf_quantise import quantise
from engine.export.gguf_raw import RawFile, RawTensor, opened, pad, raw_value, write_head
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
from engine.protocol.channel import Channel, telling
from engine.protocol.errors import EXIT_MACHINE, UserError
from engine.protocol.events import Note, Progress, Stage
from engine.protocol.text import say

# What the converter itself writes; of everything else it is asked for the weights' own 16 bit, from which we go on.
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
        write_weights(base, adapter, merged, telling(channel, "bytes"))
        copy_companions(base.folder, run.adapter, merged)
        if adapter.changed_config:
            write_json(merged / "config.json", merged_config(base.config, adapter))
        raw = scratch / "converted.gguf"
        _convert(merged, raw, _AS_IT_IS.get(kind.name, "auto"), checkout, channel)
        with writing_file(out) as path:
            channel.emit(Stage(name="gguf", text=say("Writing GGUF {type}", "正在写入 GGUF {type}", type=kind.name)))
            own = own_values(run.id, str(facts.get("title") or run.id), subject.trained)
            rewrite(raw, path, kind, own, telling(channel, "bytes"))
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
def own_values(run: str, title: str, trained: Trained) -> dict[str, str | int | bool]:
    """Keys that Lorimer sets whatever the converter says: whose file it is, and template and ends as trained."""
    values: dict[str, str | int | bool] = {
        GGUF_KEY: run,
        "general.name": title,
        "tokenizer.chat_template": trained.template.source_without_marks,
        "tokenizer.ggml.add_bos_token": trained.starts_with_bos,
    }
    for name, number in zip(("eos", "eot", "eom"), ends(trained), strict=False):
        values[f"tokenizer.ggml.{name}_token_id"] = number
    return values


def rewrite(source: Path, target: Path, kind: Quantisation, own: Mapping[str, str | int | bool], told: Told) -> None:
    """Write a GGUF of floats once more, in type ``kind`` and with the keys of ``own``; a tensor at a time in memory.

    Raises:
        UserError: this machine cannot make the type, or a value does not fit it.
        OSError: the disk does not take it.
    """
    with opened(source) as held, target.open("wb") as file:
        mine = {name: raw_value(value) for name, value in {**own, "general.file_type": kind.file_type}.items()}
        first = "general.architecture"
        # Our own come first: Lorimer knows its files by their head. The alignment is our own, too.
        left = {name: raw for name, raw in held.values.items() if name not in mine and name != "general.alignment"}
        mix = _mix(held)
        planned = [(tensor, *_wanted(tensor, kind, mix)) for tensor in held.tensors]
        heads = [(tensor.name, tensor.shape, wanted, size) for tensor, wanted, size in planned]
        write_head(file, {first: held.values[first], **mine, **left}, heads)
        done, total = 0, sum(size for *_, size in planned)
        for tensor, wanted, size in planned:
            file.write(_data(held, tensor, wanted))
            pad(file)
            done += size
            told(done, total)


def _mix(held: RawFile) -> Mix:
    architecture = str(held.plain("general.architecture"))

    def number(key: str) -> int:
        return int(held.plain(f"{architecture}.{key}") or 0)

    heads = number("attention.head_count")
    return Mix(
        layers=number("block_count"),
        tied="output.weight" not in {tensor.name for tensor in held.tensors},
        heads=heads,
        kv_heads=number("attention.head_count_kv") or heads,
        experts=number("expert_count"),
        architecture=architecture,
    )


def _wanted(tensor: RawTensor, kind: Quantisation, mix: Mix) -> tuple[str, int]:
    """Type and bytes of a tensor in the new file."""
    name = tensor.kind
    if kind.name not in _AS_IT_IS and is_matrix(tensor.name, tensor.shape) and not _KEPT.search(tensor.name):
        name = tensor_type(tensor.name, tensor.shape, kind.name, mix)
    return name, tensor_bytes(tensor.shape, name)


def _data(held: RawFile, tensor: RawTensor, wanted: str) -> memoryview:
    """A tensor's values in type ``wanted``."""
    content = held.data[tensor.start : tensor.start + tensor_bytes(tensor.shape, tensor.kind)]
    if tensor.kind == wanted:
        return content
    return quantise(_floats(content, tensor.kind).reshape(tensor.shape), wanted).data


def _floats(content: memoryview, kind: str) -> NDArray[Any]:
    if kind == BF16:
        return (np.frombuffer(content, np.uint16).astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(content, {F32: np.float32, F16: np.float16}[kind])
