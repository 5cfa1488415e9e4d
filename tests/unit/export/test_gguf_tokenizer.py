"""The tokenizer inside a GGUF cuts texts as its tokenizer.json does, by llama.cpp's own test vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader, TokenType
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from engine.data.tokenizer import TextTokenizer
from engine.export.gguf_tokenizer import Vocabulary
from engine.export.gguf_tokenizer_pieces import Pieces
from engine.export.gguf_tokenizer_pre import pre_tokenizer
from engine.export.gguf_write import plan, write
from engine.export.llama_cpp import loaded
from engine.export.targets import quantisation
from engine.merge.delta import Adapter
from engine.merge.prompts import Trained
from engine.merge.weights import BaseWeights
from engine.project.atomic import read_json, write_json, write_text
from engine.protocol.errors import UserError
from tests.unit.export.tiny import spm

WIDTH = 32
SPLIT = "__ggml_vocab_test__"


def vectors(shared_data: Path, name: str) -> list[tuple[str, list[int]]]:
    """llama.cpp's test texts with the ids it expects."""
    stem = shared_data / "tokenizers" / "vectors" / f"ggml-vocab-{name}.gguf"
    texts = stem.with_suffix(".gguf.inp").read_text(encoding="utf-8").split(f"\n{SPLIT}\n")
    lines = stem.with_suffix(".gguf.out").read_text(encoding="utf-8").split("\n")
    expected = [[int(number) for number in line.split()] for line in lines]
    return list(zip(texts, expected, strict=False))


def vocabulary_only(
    folder: Path, tokenizer: dict[str, Any], special: dict[str, Any], *, title: str = "t", template: str = ""
) -> Path:
    """A GGUF with this tokenizer and a model of one narrow layer."""
    folder.mkdir()
    if template:
        write_text(folder / "chat_template.jinja", template)
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
    facts = {"run": "r", "title": title, "model": "m"}
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
    texts = vectors(shared_data, vector)
    assert len(texts) >= 45
    # The large ones are tried once, with tokens added: it takes long to load them.
    for added in (False, True) if name in ("gpt2", "phi-3-mini") else (True,):
        folder = tmp_path / f"model{added}"
        if added:
            tokenizer = with_tokens(tokenizer)
        path = vocabulary_only(folder, tokenizer, {"eos_token": eos})
        ours = Tokenizer.from_file(str(folder / "tokenizer.json"))
        vocabulary = Vocabulary.of(tokenizer, ours.get_vocab_size())
        assert vocabulary.pre == pre
        with loaded(path, 64) as model:
            for text, expected in texts:
                assert model.tokenize(text) == expected, text
                if name != "phi-3-mini" or text.strip():
                    assert ours.encode(text, add_special_tokens=False).ids == expected, text
            # By the name of Phi-3 llama.cpp takes spaces away after every added token, new ones too.
            kept = [text for text in ADDED if not (vocabulary.trims and " " in text)]
            for text in kept if added else ():
                assert model.tokenize(text) == ours.encode(text, add_special_tokens=False).ids, text


# Words on both sides, at the ends, twice in a row, a space inside, and one that only looks like one.
ADDED = (
    "Hi<|call|>there", "<tool>", "a<tool><tool>b", "x<|call|><tool>3.14", "two words here", "<|call", "<too>l",
    "é<tool>你",
)  # fmt: skip


def with_tokens(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """The same tokenizer after a special token and two plain ones were added."""
    made = Tokenizer.from_str(json.dumps(tokenizer))
    made.add_tokens([AddedToken("<|call|>", special=True, normalized=False)])
    made.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("two words", normalized=False)])
    plain: dict[str, Any] = json.loads(made.to_str())
    return plain


def test_spaces_after_special_tokens_are_swallowed_as_in_training(tmp_path: Path) -> None:
    spm(tmp_path)
    tokenizer = read_json(tmp_path / "tokenizer.json")
    plain = {"single_word": False, "lstrip": False, "rstrip": True, "normalized": False, "special": True}
    rows = len(tokenizer["model"]["vocab"])
    for text in ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>"):
        rstrip = text != "<|endoftext|>"
        tokenizer["added_tokens"].append({**plain, "id": rows, "content": text, "rstrip": rstrip})
        rows += 1
    path = vocabulary_only(tmp_path / "model", tokenizer, {"eos_token": "<|end|>"}, title="my run")
    assert contents_of(path, "general.name") == "my run (Phi-3)"
    ours = TextTokenizer.load(tmp_path / "model")
    with loaded(path, 64) as model:
        for text in ("<|user|>\nthe cat<|end|>\n<|assistant|>\n", "<|user|>  a mat<|end|>", "<|user|>Hi"):
            assert model.tokenize(text) == ours.encode(text)[0], text


def test_a_title_cannot_change_how_llama_cpp_reads_tokens(repository: Path, tmp_path: Path) -> None:
    tokenizer = read_json(repository / "resources" / "starter" / "tokenizer.json")
    path = vocabulary_only(
        tmp_path / "model", tokenizer, {"eos_token": "<|im_end|>"}, title="better than PHI-3 or phi3"
    )
    assert contents_of(path, "general.name") == "better than Phi 3 or Phi 3"
    with loaded(path, 64) as model:
        assert model.tokenize("Hi<|im_end|>\n")


def contents_of(path: Path, name: str) -> Any:
    """One key of a GGUF."""
    field = GGUFReader(path).get_field(name)
    assert field is not None
    return field.contents()


@pytest.mark.parametrize("scheme", ["always", "first", "never"])
@pytest.mark.parametrize("opening", ["<s>", "", "Q: "])
def test_a_space_before_texts_is_put_where_the_tokenizer_puts_it(tmp_path: Path, scheme: str, opening: str) -> None:
    spm(tmp_path)
    tokenizer = read_json(tmp_path / "tokenizer.json")
    tokenizer["normalizer"] = None
    tokenizer["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False}
    template = "{% for m in messages %}" + opening + "{{ m['content'] }}</s>{% endfor %}"
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    path = vocabulary_only(tmp_path / "model", tokenizer, special, template=template)
    ours = Tokenizer.from_file(str(tmp_path / "model" / "tokenizer.json"))
    with loaded(path, 64) as model:
        text = f"{opening}the cat"
        asked = text.removeprefix("<s>")  # llama.cpp puts it there by itself
        assert model.tokenize(asked) == ours.encode(text, add_special_tokens=False).ids


def test_scores_come_from_the_sentencepiece_file_where_it_is_the_same_vocabulary(tmp_path: Path) -> None:
    spm(tmp_path)
    tokenizer = read_json(tmp_path / "tokenizer.json")
    rows = len(tokenizer["model"]["vocab"])
    pieces = Pieces.of(tmp_path)
    assert pieces is not None
    stored = Vocabulary.of(tokenizer, rows, pieces=pieces)
    made = Vocabulary.of(tokenizer, rows)
    assert stored.types == made.types
    assert [s for s, a in zip(stored.scores, stored.types, strict=True) if a == TokenType.NORMAL] == [
        s for s, a in zip(pieces.scores, stored.types, strict=True) if a == TokenType.NORMAL
    ]
    # Either order of merging is the same one.
    merged = [at for at, score in enumerate(made.scores) if score < 0 and score > -1e6]
    assert sorted(merged, key=lambda at: -made.scores[at]) == sorted(merged, key=lambda at: -stored.scores[at])
    other = Pieces([*pieces.texts[:-1], "▁else"], pieces.scores, pieces.types)
    assert Vocabulary.of(tokenizer, rows, pieces=other).scores == made.scores


def test_a_broken_sentencepiece_file_is_left_aside(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"no pieces here")
    assert Pieces.of(tmp_path) is None
    assert Pieces.of(tmp_path / "none") is None


def test_words_that_merges_do_not_make(repository: Path) -> None:
    tokenizer = read_json(repository / "resources" / "starter" / "tokenizer.json")
    tokenizer["model"]["ignore_merges"] = True
    assert pre_tokenizer(tokenizer) == "qwen2"  # merges make every word: the flag says nothing
    tokenizer["model"]["vocab"] = {**tokenizer["model"]["vocab"], "zzqqzz": 99999}
    with pytest.raises(UserError, match="not made by merging"):
        pre_tokenizer(tokenizer)


def test_patterns_are_known_in_either_spelling(repository: Path) -> None:
    tokenizer = read_json(repository / "resources" / "starter" / "tokenizer.json")
    split = tokenizer["pre_tokenizer"]["pretokenizers"][0]["pattern"]
    spelt = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
    split["Regex"] = split["Regex"].replace(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)", spelt)
    assert spelt in split["Regex"]
    assert pre_tokenizer(tokenizer) == "qwen2"


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
