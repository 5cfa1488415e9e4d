"""The tokenizer inside a GGUF cuts texts as its tokenizer.json does, by llama.cpp's own test vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from engine.export.gguf_tokenizer import Vocabulary
from engine.export.gguf_tokenizer_pre import pre_tokenizer
from engine.export.gguf_write import plan, write
from engine.export.llama_cpp import loaded
from engine.export.targets import quantisation
from engine.merge.delta import Adapter
from engine.merge.prompts import Trained
from engine.merge.weights import BaseWeights
from engine.project.atomic import read_json, write_json
from engine.protocol.errors import UserError

WIDTH = 32
SPLIT = "__ggml_vocab_test__"


def vectors(shared_data: Path, name: str) -> list[tuple[str, list[int]]]:
    """llama.cpp's test texts with the ids it expects."""
    stem = shared_data / "tokenizers" / "vectors" / f"ggml-vocab-{name}.gguf"
    texts = stem.with_suffix(".gguf.inp").read_text(encoding="utf-8").split(f"\n{SPLIT}\n")
    lines = stem.with_suffix(".gguf.out").read_text(encoding="utf-8").split("\n")
    expected = [[int(number) for number in line.split()] for line in lines]
    return list(zip(texts, expected, strict=False))


def vocabulary_only(folder: Path, tokenizer: dict[str, Any], special: dict[str, str]) -> Path:
    """A GGUF with this tokenizer and a model of one narrow layer."""
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    write_json(folder / "tokenizer_config.json", special)
    rows = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size()
    write_json(
        folder / "config.json",
        {
            "architectures": ["LlamaForCausalLM"], "hidden_size": WIDTH, "intermediate_size": WIDTH,
            "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": rows, "max_position_embeddings": 256,
            "tie_word_embeddings": True,
        },
    )  # fmt: skip
    layer = "model.layers.0."
    attention, inner = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")
    weights = {"model.embed_tokens.weight": torch.zeros(rows, WIDTH), "model.norm.weight": torch.ones(WIDTH)}
    weights |= {f"{layer}self_attn.{name}.weight": torch.zeros(WIDTH, WIDTH) for name in attention}
    weights |= {f"{layer}mlp.{name}.weight": torch.zeros(WIDTH, WIDTH) for name in inner}
    weights |= {f"{layer}{name}.weight": torch.ones(WIDTH) for name in ("input_layernorm", "post_attention_layernorm")}
    save_file(weights, folder / "model.safetensors")
    write_json(folder / "adapter_config.json", {"peft_type": "LORA", "r": 1, "lora_alpha": 1})
    save_file({}, folder / "adapter_model.safetensors")
    base, kind = BaseWeights.open(folder), quantisation("F16")
    adapter, trained = Adapter.open(folder, base), Trained.load(folder)
    facts = {"run": "r", "title": "t", "model": "m"}
    path = folder / "vocabulary.gguf"
    write(path, plan(base, adapter, trained, kind), base, adapter, trained, kind, facts, lambda done, total: None)
    return path


def known(shared_data: Path, name: str) -> dict[str, Any]:
    """A real tokenizer.json."""
    folder = shared_data / "tokenizers" / name
    if name != "gpt2":
        tokenizer: dict[str, Any] = read_json(folder / "tokenizer.json")
        return tokenizer
    made = Tokenizer(
        BPE(
            read_json(folder / "gpt2.vocab"),
            [
                (first, second)
                for line in (folder / "gpt2.merges.txt").read_text(encoding="utf-8").split("\n")
                if line and not line.startswith("#version")
                for first, second in [line.split(" ")]
            ],
        )
    )
    made.pre_tokenizer = ByteLevel(add_prefix_space=False)
    made.decoder = ByteLevelDecoder()
    plain: dict[str, Any] = json.loads(made.to_str())
    return plain


@pytest.mark.parametrize(
    ("name", "vector", "pre", "eos"),
    [
        pytest.param("qwen2", "qwen2", "qwen2", "<|endoftext|>", marks=pytest.mark.slow),
        pytest.param("llama3", "llama-bpe", "llama-bpe", "<|end_of_text|>", marks=pytest.mark.slow),
        ("gpt2", "gpt-2", "gpt-2", "<|endoftext|>"),
        ("phi-3-mini", "llama-spm", "default", "</s>"),
    ],
)
def test_llama_cpp_cuts_texts_as_expected(
    shared_data: Path, tmp_path: Path, name: str, vector: str, pre: str, eos: str
) -> None:
    tokenizer = known(shared_data, name)
    path = vocabulary_only(tmp_path / "model", tokenizer, {"eos_token": eos})
    ours = Tokenizer.from_file(str(tmp_path / "model" / "tokenizer.json"))
    assert Vocabulary.of(tokenizer, ours.get_vocab_size()).pre == pre
    texts = vectors(shared_data, vector)
    assert len(texts) >= 45
    with loaded(path, 64) as model:
        for text, expected in texts:
            assert model.tokenize(text) == expected, text
            if name != "phi-3-mini" or text.strip():
                assert ours.encode(text, add_special_tokens=False).ids == expected, text


def test_the_pattern_decides_the_name(repository: Path) -> None:
    tokenizer = read_json(repository / "resources" / "starter" / "tokenizer.json")
    assert pre_tokenizer(tokenizer) == "qwen2"
    split = tokenizer["pre_tokenizer"]["pretokenizers"][0]["pattern"]
    split["Regex"] = split["Regex"].replace(r"\p{N}|", r"\p{N}{1,3}|")
    assert pre_tokenizer(tokenizer) == "smaug-bpe"
    tokenizer["model"]["ignore_merges"] = True
    assert pre_tokenizer(tokenizer) == "llama-bpe"
    tokenizer["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    tokenizer["model"]["ignore_merges"] = False
    assert pre_tokenizer(tokenizer) == "gpt-2"
    digits = {"type": "Digits", "individual_digits": True}
    tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, tokenizer["pre_tokenizer"]]}
    assert pre_tokenizer(tokenizer) == "smollm"


@pytest.mark.parametrize(
    ("part", "value", "word"),
    [
        ("pre_tokenizer", {"type": "Whitespace"}, "Whitespace"),
        ("pre_tokenizer", None, "splits text"),
        ("pre_tokenizer", {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}, "add_prefix_space"),
        ("normalizer", {"type": "Lowercase"}, "Lowercase"),
    ],
)
def test_an_unknown_way_of_splitting_is_refused_by_name(repository: Path, part: str, value: Any, word: str) -> None:
    tokenizer = read_json(repository / "resources" / "starter" / "tokenizer.json")
    tokenizer[part] = value
    with pytest.raises(UserError) as caught:
        pre_tokenizer(tokenizer)
    assert caught.value.problem.code == "export.tokenizer"
    assert word in caught.value.problem.message.en
    assert caught.value.problem.message.zh != caught.value.problem.message.en


def test_a_model_without_byte_pairs_is_refused(repository: Path) -> None:
    tokenizer = read_json(repository / "resources" / "starter" / "tokenizer.json")
    tokenizer["model"]["type"] = "Unigram"
    with pytest.raises(UserError, match="Unigram"):
        Vocabulary.of(tokenizer, 5000)


def test_rows_beyond_the_tokenizer_are_unused_tokens(repository: Path) -> None:
    tokenizer = read_json(repository / "resources" / "starter" / "tokenizer.json")
    size = len(tokenizer["model"]["vocab"]) + len(
        [t for t in tokenizer["added_tokens"] if t["content"] not in tokenizer["model"]["vocab"]]
    )
    vocabulary = Vocabulary.of(tokenizer, size + 2)
    assert vocabulary.tokens[-2:] == [f"[PAD{size}]", f"[PAD{size + 1}]"]
    assert len(set(vocabulary.tokens)) == size + 2
    with pytest.raises(UserError, match="has"):
        Vocabulary.of(tokenizer, size - 1)
