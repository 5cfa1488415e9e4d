"""Tiny models of every family that a GGUF is written of: the same weights, bit for bit, on every machine.

Weights come from the raw stream of PCG64, which numpy keeps; tokenizers are made of a list of words. So the SHA-256 of
each tensor of a GGUF can be kept as test data (`gguf_families.json`, recorded by ``tests/bench/bench_gguf_converter.py
--record``).
"""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

from engine.export.gguf_write import plan, write
from engine.export.targets import quantisation
from engine.merge.delta import Adapter
from engine.merge.prompts import Trained
from engine.merge.weights import BaseWeights
from engine.project.atomic import write_json, write_text

WORDS = "the cat sat on a mat and saw two red boats over there ; 你好 今天 是 晴天".split()
SPECIAL = ("<unk>", "<s>", "</s>")
PLAIN = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '</s>' }}{% endfor %}"
_SMALL: Mapping[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": None,
}  # fmt: skip
_LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
_YARN = {
    "rope_type": "yarn", "rope_theta": 1000000.0, "factor": 4.0, "original_max_position_embeddings": 64,
    "beta_fast": 32.0, "beta_slow": 1.0,
}  # fmt: skip
_LONG = {
    "rope_type": "longrope", "rope_theta": 10000.0, "long_factor": [1.0 + 0.125 * i for i in range(8)],
    "short_factor": [1.0 + 0.0625 * i for i in range(8)], "original_max_position_embeddings": 64,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tiny:
    """A tiny model.

    Attributes:
        model_type: transformers' name.
        tokenizer: "spm" (SentencePiece), "gemma" (the same without a space before texts) or "bpe" (byte-level).
        changes: settings other than those of all.
        dtype: of the weights on disk.
        more_rows: of the embedding, beyond the tokenizer.
        older: ``config.json`` as transformers 4 wrote it: these settings in the place of ``rope_parameters``.
        fused: experts of a layer in one tensor, as transformers 5 holds them.
    """

    model_type: str
    tokenizer: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "bfloat16"
    more_rows: int = 0
    older: Mapping[str, Any] | None = None
    fused: bool = False


_GEMMA: Mapping[str, Any] = {"head_dim": 32, "query_pre_attn_scalar": 32, "pad_token_id": 0}
_MOE: Mapping[str, Any] = {
    "head_dim": 32, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": True,
    "intermediate_size": 128,
}  # fmt: skip
TINY: dict[str, Tiny] = {
    "llama-2": Tiny("llama", "spm", {"num_key_value_heads": 4}, dtype="float16"),
    "llama-3": Tiny("llama", "bpe", {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}}),
    "llama-3.2": Tiny("llama", "bpe", {"rope_parameters": _LLAMA3, "tie_word_embeddings": True}, more_rows=13),
    "llama-3.1 older": Tiny(
        "llama", "bpe",
        older={"rope_theta": 5e5, "rope_scaling": {k: v for k, v in _LLAMA3.items() if k != "rope_theta"}},
    ),
    "llama biases": Tiny("llama", "spm", {"attention_bias": True, "mlp_bias": True}, dtype="float32"),
    "smollm": Tiny(
        "llama", "bpe",
        {"num_attention_heads": 3, "num_key_value_heads": 1, "hidden_size": 48, "tie_word_embeddings": True},
    ),
    "mistral": Tiny("mistral", "spm", {"head_dim": 32, "sliding_window": 64}),
    "mistral-nemo": Tiny("mistral", "bpe", {"head_dim": 8, "sliding_window": None}),
    "qwen2": Tiny("qwen2", "bpe", {"tie_word_embeddings": True}, more_rows=7),
    "qwen2.5 yarn": Tiny("qwen2", "bpe", {"rope_parameters": _YARN, "rms_norm_eps": 1e-5}, dtype="float32"),
    "qwen3": Tiny("qwen3", "bpe", {"head_dim": 32, "intermediate_size": 80}),
    "gemma-2": Tiny("gemma2", "gemma", {**_GEMMA, "sliding_window": 64}),
    "gemma-3": Tiny("gemma3_text", "gemma", {**_GEMMA, "num_hidden_layers": 7, "sliding_window": 32}, more_rows=5),
    "gemma-3 older": Tiny(
        "gemma3_text", "gemma", {**_GEMMA, "num_hidden_layers": 6, "sliding_window": 32}, dtype="float32",
        older={
            "rope_theta": 1e6, "rope_local_base_freq": 1e4, "sliding_window_pattern": 6,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
    ),
    "phi-3": Tiny("phi3", "spm", {"sliding_window": 128, "original_max_position_embeddings": 256}),
    "phi-3 long": Tiny("phi3", "spm", {"rope_parameters": _LONG, "original_max_position_embeddings": 64}),
    "qwen3-moe": Tiny("qwen3_moe", "bpe", _MOE),
    "qwen3-moe fused": Tiny("qwen3_moe", "bpe", _MOE, fused=True),
    "mixtral": Tiny("mixtral", "spm", {"num_local_experts": 4}),
    "mixtral fused": Tiny("mixtral", "spm", {"num_local_experts": 4}, fused=True),
}  # fmt: skip
# Two layouts on disk of the same model: their GGUF is the same.
SAME = {"qwen3-moe fused": "qwen3-moe", "mixtral fused": "mixtral"}


def make(folder: Path, tiny: Tiny, *, tokenizer: Path | None = None) -> Path:
    """The model's folder, an adapter that changes nothing in it, and the files of another ``tokenizer`` if given."""
    folder.mkdir(parents=True, exist_ok=True)
    if tokenizer is None:
        {"spm": spm, "gemma": gemma, "bpe": bpe}[tiny.tokenizer](folder)
    else:
        for path in tokenizer.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
    plain = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    rows = 1 + max([*plain["model"]["vocab"].values(), *(token["id"] for token in plain["added_tokens"])])
    values = {**_SMALL, **tiny.changes, "vocab_size": rows + tiny.more_rows}
    config = AutoConfig.for_model(tiny.model_type, **values)
    model = AutoModelForCausalLM.from_config(config).to(getattr(torch, tiny.dtype))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(numbers(name, tuple(weight.shape)))
    if tiny.fused:
        config.architectures = [type(model).__name__]
        config.save_pretrained(folder)
        weights = {name: weight.contiguous() for name, weight in model.state_dict().items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        model.save_pretrained(folder)
    if tiny.older is not None:
        written = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        for name in ("rope_parameters", "layer_types", "_sliding_window_pattern"):
            written.pop(name, None)
        write_json(folder / "config.json", {**written, **tiny.older})
    write_json(
        folder / "adapter_config.json", {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["q_proj"]}
    )
    save_file({}, folder / "adapter_model.safetensors")
    write_text(folder / "chat_template.jinja", PLAIN)
    return folder


def numbers(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Numbers of 24 bits between -1/4 and 1/4, float32: exact everywhere. Norms lie around 1."""
    raw = np.random.PCG64(zlib.crc32(name.encode())).random_raw(int(np.prod(shape)))
    whole = (raw >> np.uint64(40)).astype(np.int64) - (1 << 23)
    values = whole.astype(np.float32) * np.float32(2.0**-25)
    return torch.from_numpy(values.reshape(shape)) + (1.0 if "norm" in name else 0.0)


# -------------------------------------------------------------------------------------------------- tokenizers
def spm(folder: Path, *, prefix: bool = True) -> None:
    """A tokenizer of SentencePiece's kind: bytes as the last resort, spaces as ▁, one before every text."""
    pieces = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    texts = [f"▁{word}" for word in WORDS]
    merges, whole = _merged(texts)
    pieces += list(dict.fromkeys([*whole, *sorted(set("".join(texts)))]))
    added = [_token(at, text) for at, text in enumerate(SPECIAL)]
    prepend = [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ]
    decoder = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]
    model = {
        "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
        "vocab": {text: at for at, text in enumerate(pieces)}, "merges": merges,
    }  # fmt: skip
    normalizer = {"type": "Sequence", "normalizers": prepend} if prefix else prepend[1]
    split = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    decoders = {"type": "Sequence", "decoders": decoder if prefix else decoder[:-1]}
    _write(folder, model, added, normalizer, None if prefix else split, decoders)
    (folder / "tokenizer.model").write_bytes(sentencepiece_file(pieces))


def gemma(folder: Path) -> None:
    """The same as Gemma has it: no space before texts."""
    spm(folder, prefix=False)


def sentencepiece_file(pieces: Sequence[str]) -> bytes:
    """A SentencePiece file of these pieces: its scores fall from piece to piece, as the trainer's do."""
    messages: Any = importlib.import_module("sentencepiece.sentencepiece_model_pb2")
    kinds = messages.ModelProto.SentencePiece
    proto = messages.ModelProto()
    proto.trainer_spec.model_type = messages.TrainerSpec.BPE
    proto.trainer_spec.byte_fallback = True
    proto.normalizer_spec.name = "identity"
    for at, text in enumerate(pieces):
        kind = kinds.NORMAL if at >= 259 else kinds.BYTE if at >= 3 else kinds.CONTROL if at else kinds.UNKNOWN
        proto.pieces.add(piece=text, score=float(259 - at) if at >= 259 else 0.0, type=kind)
    content: bytes = proto.SerializeToString()
    return content


def bpe(folder: Path) -> None:
    """A byte-level tokenizer with Qwen2's split pattern."""
    letters = byte_letters()
    texts = ["".join(letters[byte] for byte in f" {word}".encode()) for word in WORDS]
    merges, whole = _merged(texts)
    pieces = list(dict.fromkeys([*letters.values(), *whole]))
    added = [
        _token(len(pieces) + at, text)
        for at, text in enumerate(("<unk>", "<s>", "</s>", "<|im_end|>", "<|endoftext|>"))
    ]
    added.append(_token(len(pieces) + 5, "<tool>", special=False))
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+"
    )
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    model = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
        "vocab": {text: at for at, text in enumerate(pieces)}, "merges": merges,
    }  # fmt: skip
    steps = {"type": "Sequence", "pretokenizers": [split, level]}
    _write(folder, model, added, {"type": "NFC"}, steps, {**level, "use_regex": True})


def byte_letters() -> dict[int, str]:
    """The letter that stands for each byte in byte-level vocabularies (GPT-2's ``bytes_to_unicode``)."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in shown]
    found = {byte: chr(byte) for byte in shown} | {byte: chr(256 + at) for at, byte in enumerate(hidden)}
    return dict(sorted(found.items()))


def _merged(texts: list[str]) -> tuple[list[list[str]], list[str]]:
    """(merges that build each text from its first character on, what they make)."""
    merges: list[list[str]] = []
    for text in texts:
        for end in range(2, len(text) + 1):
            step = [text[: end - 1], text[end - 1]]
            if step not in merges:
                merges.append(step)
    return merges, [first + second for first, second in merges]


def _token(number: int, text: str, *, special: bool = True) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": number, "content": text, **flags, "special": special}


def _write(folder: Path, model: Any, added: Any, normalizer: Any, pre: Any, decoder: Any) -> None:
    plain = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": normalizer,
        "pre_tokenizer": pre, "post_processor": None, "decoder": decoder, "model": model,
    }  # fmt: skip
    write_text(folder / "tokenizer.json", json.dumps(plain, ensure_ascii=False))
    decoded = {str(token["id"]): {k: v for k, v in token.items() if k != "id"} for token in added}
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "added_tokens_decoder": decoded, **named},
    )


# ----------------------------------------------------------------------------------------------------- comparing
# Keys that Lorimer decides: where a file comes from, the template, and where texts begin and end.
OURS = re.compile(
    r"general\.(?!architecture$|file_type$|type$|quantization_version$)|lorimer\.|tokenizer\.chat_template"
    r"|tokenizer\.ggml\.(eos|eot|eom)_token_id$|tokenizer\.ggml\.add_(bos|eos)_token$|GGUF\."
)


@dataclass(frozen=True, slots=True)
class Contents:
    """What a GGUF holds: tensors by name (type, shape, SHA-256) and keys, those of `OURS` left out."""

    tensors: Mapping[str, tuple[str, tuple[int, ...], str]]
    keys: Mapping[str, Any]


def contents(path: Path) -> Contents:
    """Everything that must be equal. (`GGUFReader` takes ten seconds for a vocabulary of 150,000.)

    Format: ggml, ``docs/gguf.md``.
    """
    file = _Bytes(path.read_bytes(), 4)
    assert file.data[:4] == b"GGUF"
    assert file.number("I") == 3
    count, lines = file.number("Q"), file.number("Q")
    keys = {file.text(): file.value(file.number("I")) for _ in range(lines)}
    infos = []
    for _ in range(count):
        name, dimensions = file.text(), file.number("I")
        shape = tuple(file.number("Q") for _ in range(dimensions))
        infos.append((name, shape, GGMLQuantizationType(file.number("I")), file.number("Q")))
    start = -(-file.at // 32) * 32
    tensors = {}
    for name, shape, kind, offset in infos:
        values, size = GGML_QUANT_SIZES[kind]
        data = file.data[start + offset : start + offset + math.prod(shape) // values * size]
        tensors[name] = (kind.name, shape, hashlib.sha256(data).hexdigest())
    return Contents(tensors, {name: value for name, value in keys.items() if not OURS.match(name)})


_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


class _Bytes:
    """The bytes of a GGUF, read from front to back."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def number(self, letter: str) -> Any:
        (found,) = struct.unpack_from(f"<{letter}", self.data, self.at)
        self.at += struct.calcsize(letter)
        return found

    def text(self) -> str:
        length = self.number("Q")
        self.at += length
        return self.data[self.at - length : self.at].decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == 8:
            return self.text()
        if kind != 9:
            return self.number(_NUMBERS[kind])
        inner, count = self.number("I"), self.number("Q")
        if inner == 8:
            return [self.text() for _ in range(count)]
        letter = _NUMBERS[inner]
        found = list(struct.unpack_from(f"<{count}{letter}", self.data, self.at))
        self.at += count * struct.calcsize(letter)
        return found


def recorded(files: Mapping[str, Path]) -> dict[str, Any]:
    """Files of all types of one model as test data: a hash for each tensor over all types; keys, lists by hash."""
    found = {kind: contents(path) for kind, path in files.items()}
    first = next(iter(found.values()))
    tensors = {}
    for name in sorted(first.tensors):
        whole = "|".join(f"{kind} {found[kind].tensors[name]}" for kind in sorted(found))
        tensors[name] = hashlib.sha256(whole.encode()).hexdigest()[:16]
    keys: dict[str, Any] = {}
    for name in sorted(first.keys):
        values = {kind: found[kind].keys[name] for kind in sorted(found)}
        if name == "general.file_type":
            keys[name] = values
            continue
        assert all(value == first.keys[name] for value in values.values()), name
        value = first.keys[name]
        keys[name] = hashlib.sha256(repr(value).encode()).hexdigest()[:16] if isinstance(value, list) else value
    return {"tensors": tensors, "keys": keys}


def ours(model: Path, kind: str, out: Path) -> Path:
    """The GGUF that Lorimer writes of a model's folder made by `make`."""
    base = BaseWeights.open(model)
    adapter, trained, quantise = Adapter.open(model, base), Trained.load(model), quantisation(kind)
    facts = {"run": "made", "title": "made", "model": "made"}
    planned = plan(base, adapter, trained, quantise)
    write(out, planned, base, adapter, trained, quantise, facts, lambda done, total: None)
    return out
