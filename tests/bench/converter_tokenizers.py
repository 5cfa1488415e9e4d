"""Tokenizers for `bench_gguf_converter`: published ones where ``../shared/data`` has them, else trained to the kind."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results import ROOT
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence, Split
from tokenizers.trainers import BpeTrainer

sys.path.insert(0, str(ROOT))

from engine.export.gguf_tokenizer_pre import _TEKKEN
from engine.project.atomic import write_json, write_text

DATA = ROOT.parent / "shared" / "data" / "tokenizers"
_SPACES = [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]
_DECODERS = [
    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
    {"type": "ByteFallback"},
    {"type": "Fuse"},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0},
]


@dataclass(frozen=True, slots=True)
class Made:
    """A tokenizer's folder.

    Attributes:
        real: it is a published one; else it was trained here.
        pre: llama.cpp's name of its split pattern, told to the converter where it does not know the fingerprint.
    """

    folder: Path
    name: str
    real: bool
    pre: str = ""


def sample_text() -> str:
    """What tokenizers are trained on here: the samples that come with Lorimer."""
    texts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "resources" / "samples").glob("*.jsonl"))]
    return "\n".join([*texts, (ROOT / "README.md").read_text(encoding="utf-8")])


def llama2(folder: Path) -> Made:
    """Llama 2's own."""
    source = DATA / "llama2" / "tokenizer.model"
    if not source.is_file():
        return mistral(folder)
    folder.mkdir(parents=True)
    shutil.copyfile(source, folder / "tokenizer.model")
    sentencepiece_json(folder, {})
    return Made(folder, "llama2", True)


def mistral(folder: Path, *, prefix: bool = True) -> Made:
    """Trained to Mistral's kind: SentencePiece with bytes as the last resort."""
    folder.mkdir(parents=True)
    write_text(folder / "text.txt", sample_text())
    SentencePieceTrainer.train(
        input=str(folder / "text.txt"), model_prefix=str(folder / "tokenizer"), vocab_size=800, model_type="bpe",
        byte_fallback=True, character_coverage=0.995, minloglevel=2, normalization_rule_name="identity",
        remove_extra_whitespaces=False, add_dummy_prefix=prefix, num_threads=1, max_sentence_length=20000,
    )  # fmt: skip
    for name in ("text.txt", "tokenizer.vocab"):
        (folder / name).unlink()
    sentencepiece_json(folder, {"[INST]": True, "<unused0>": False}, prefix=prefix)
    return Made(folder, "spm, trained", False)


def gemma(folder: Path) -> Made:
    """Trained to Gemma's kind: the same without a space before texts."""
    made = mistral(folder, prefix=False)
    return Made(made.folder, "gemma kind, trained", False)


def sentencepiece_json(folder: Path, more: Mapping[str, bool], *, prefix: bool = True) -> None:
    """``tokenizer.json`` and ``tokenizer_config.json`` of a SentencePiece file, with added tokens (text → special)."""
    model = SentencePieceProcessor()
    model.LoadFromFile(str(folder / "tokenizer.model"))
    pieces = [model.IdToPiece(at) for at in range(model.GetPieceSize())]
    ids = {text: at for at, text in enumerate(pieces)}
    merges = sorted(_splits(ids), key=lambda pair: -model.GetScore(ids["".join(pair)]))
    added = [*((text, ids[text], True) for text in ("<unk>", "<s>", "</s>"))]
    added += [(text, len(pieces) + at, special) for at, (text, special) in enumerate(more.items())]
    split = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    plain: dict[str, Any] = {
        "version": "1.0", "truncation": None, "padding": None, "post_processor": None,
        "added_tokens": [_flags(text) | {"id": at, "special": special} for text, at, special in added],
        "normalizer": {"type": "Sequence", "normalizers": _SPACES} if prefix else _SPACES[1],
        "pre_tokenizer": None if prefix else split,
        "decoder": {"type": "Sequence", "decoders": _DECODERS if prefix else _DECODERS[:-1]},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "vocab": ids,
            "merges": [list(pair) for pair in merges],
        },
    }  # fmt: skip
    write_text(folder / "tokenizer.json", json.dumps(plain, ensure_ascii=False))
    _config(folder, plain["added_tokens"], {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})


def _splits(ids: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    for text in ids:
        for at in range(1, len(text)):
            if text[:at] in ids and text[at:] in ids:
                yield text[:at], text[at:]


def _flags(text: str) -> dict[str, Any]:
    return {"content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


def _config(folder: Path, added: list[dict[str, Any]], named: Mapping[str, Any]) -> None:
    decoder = {str(token["id"]): {key: value for key, value in token.items() if key != "id"} for token in added}
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "added_tokens_decoder": decoder}
    write_json(folder / "tokenizer_config.json", {**kind, **named})


def real(name: str, named: Mapping[str, Any], pre: str, *, opens: str = "") -> Callable[[Path], Made]:
    """A published ``tokenizer.json``; where it is absent, a trained one of the same pattern.

    Args:
        opens: token that the published file puts before texts, which the stored copy leaves out. The converter's
            fingerprint hangs on it: without it, it takes Llama 3 for another model.
    """

    def make(folder: Path) -> Made:
        source = DATA / name / "tokenizer.json"
        if not source.is_file():
            return smollm(folder)
        folder.mkdir(parents=True)
        plain = json.loads(source.read_text(encoding="utf-8"))
        if opens:
            plain["post_processor"] = _opening(opens, plain)
        write_text(folder / "tokenizer.json", json.dumps(plain, ensure_ascii=False))
        _config(folder, plain["added_tokens"], named)
        return Made(folder, name, True, pre)

    return make


def _opening(token: str, plain: Mapping[str, Any]) -> dict[str, Any]:
    number = next(added["id"] for added in plain["added_tokens"] if added["content"] == token)
    first, text = {"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    return {
        "type": "TemplateProcessing", "single": [first, text],
        "pair": [first, text, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]}},
    }  # fmt: skip


def phi3(folder: Path) -> Made:
    """Phi-3-mini's own, with the SentencePiece file of Llama 2 that it extends."""
    if not (DATA / "phi-3-mini" / "tokenizer.json").is_file() or not (DATA / "llama2" / "tokenizer.model").is_file():
        return mistral(folder)
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(DATA / "phi-3-mini" / name, folder / name)
    shutil.copyfile(DATA / "llama2" / "tokenizer.model", folder / "tokenizer.model")
    return Made(folder, "phi-3-mini", True)


def gpt2(folder: Path) -> Made:
    """GPT-2's own, out of its list of merges."""
    source = DATA / "gpt2"
    if not (source / "gpt2.vocab").is_file():
        return smollm(folder)
    vocabulary = json.loads((source / "gpt2.vocab").read_text(encoding="utf-8"))
    lines = (source / "gpt2.merges.txt").read_text(encoding="utf-8").split("\n")
    merges = [(first, second) for line in lines[1:] if line for first, second in [line.split(" ")]]
    made = Tokenizer(BPE(vocabulary, merges))
    made.pre_tokenizer = ByteLevel(add_prefix_space=False)
    return _byte_level(folder, made, ("<|endoftext|>",), "gpt2", True, "gpt-2")


def smollm(folder: Path) -> Made:
    """Trained to SmolLM's kind: byte-level, digits one by one."""
    made = _trained(Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]))
    return _byte_level(folder, made, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), "smollm kind", False, "smollm")


def tekken(folder: Path) -> Made:
    """Trained to Mistral Nemo's kind."""
    steps = [Split(Regex(_TEKKEN), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
    made = _trained(Sequence(steps))
    made.model.ignore_merges = True
    return _byte_level(folder, made, ("<unk>", "<s>", "</s>", "[INST]"), "tekken kind", False, "tekken")


def _trained(steps: Any) -> Tokenizer:
    made = Tokenizer(BPE())
    made.pre_tokenizer = steps
    trainer = BpeTrainer(vocab_size=700, initial_alphabet=ByteLevel.alphabet(), show_progress=False)
    made.train_from_iterator(sample_text().splitlines(), trainer)
    return made


def _byte_level(folder: Path, made: Tokenizer, special: tuple[str, ...], name: str, is_real: bool, pre: str) -> Made:
    folder.mkdir(parents=True)
    made.decoder = ByteLevelDecoder()
    made.add_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    made.save(str(folder / "tokenizer.json"))
    added = json.loads(made.to_str())["added_tokens"]
    named = {"eos_token": special[-1] if "[INST]" not in special else "</s>", "bos_token": special[0]}
    _config(folder, added, {**named, "add_prefix_space": False})
    return Made(folder, name if is_real else f"{name}, trained", is_real, pre)


LLAMA3 = real(
    "llama3",
    {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"},
    "llama-bpe",
    opens="<|begin_of_text|>",
)
QWEN2 = real("qwen2", {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}, "qwen2")
