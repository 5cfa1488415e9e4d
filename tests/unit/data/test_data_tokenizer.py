"""Tokens: real vocabularies against their published vectors and against transformers; special tokens; damage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.data.tokenizer import TextTokenizer
from engine.protocol.errors import EXIT_INPUT, UserError

Model = Callable[..., Path]


@pytest.mark.parametrize(("name", "vectors"), [("qwen2", "qwen2"), ("llama3", "llama-bpe")])
def test_published_vectors(shared_data: Path, real_tokenizer: Model, name: str, vectors: str) -> None:
    stem = shared_data / "tokenizers" / "vectors" / f"ggml-vocab-{vectors}.gguf"
    texts = Path(f"{stem}.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    expected = [[int(i) for i in line.split()] for line in Path(f"{stem}.out").read_text().splitlines()]
    tokenizer = TextTokenizer.load(real_tokenizer(name))
    assert len(expected) >= 40
    for text, ids in zip(texts, expected, strict=False):
        found, offsets = tokenizer.encode(text)
        assert found == ids, text
        assert len(offsets) == len(ids)
        assert all(0 <= a <= b <= len(text) for a, b in offsets)


def test_special_tokens_of_the_starter(starter_text: Path) -> None:
    tokenizer = TextTokenizer.load(starter_text)
    assert (tokenizer.eos, tokenizer.pad) == ("<|im_end|>", "<|endoftext|>")
    assert not tokenizer.adds_bos
    assert tokenizer.context_length == 1024
    assert {"<|im_start|>", "<|im_end|>", "<|endoftext|>"} <= tokenizer.specials
    assert tokenizer.pad_id not in (None, tokenizer.eos_id)
    ids, _ = tokenizer.encode("<|im_start|>user\n你好, hello<|im_end|>")
    assert ids[0] == tokenizer.id_of("<|im_start|>")
    assert ids[-1] == tokenizer.eos_id
    assert tokenizer.decode(ids, skip_special=False) == "<|im_start|>user\n你好, hello<|im_end|>"


def test_special_tokens_of_a_base_model(stories: Path) -> None:
    tokenizer = TextTokenizer.load(stories)
    assert (tokenizer.bos, tokenizer.eos, tokenizer.unk, tokenizer.pad) == ("<s>", "</s>", "<unk>", "<unk>")
    assert tokenizer.adds_bos
    assert tokenizer.context_length == 512
    assert tokenizer.size == 512


@pytest.mark.parametrize(
    ("name", "config", "pad"),
    [
        ("qwen2", {"eos_token": "<|im_end|>"}, "<|endoftext|>"),
        ("qwen2", {"eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}, "<|endoftext|>"),
        ("qwen2", {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "bos_token": "<|im_start|>"}, "<|im_start|>"),
        ("llama3", {"eos_token": "<|eot_id|>"}, "<|finetune_right_pad_id|>"),
        ("llama3", {"eos_token": "<|eot_id|>", "pad_token": "<|python_tag|>"}, "<|python_tag|>"),
        ("phi-3-mini", {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}, "<|placeholder1|>"),
        ("llama3", {"eos_token": "<|eot_id|>", "pad_token": "not in the vocabulary"}, "<|finetune_right_pad_id|>"),
    ],
)
def test_pad_is_never_eos_and_never_new(real_tokenizer: Model, name: str, config: dict[str, str], pad: str) -> None:
    folder = real_tokenizer(name, **config)
    size = len(json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"])
    tokenizer = TextTokenizer.load(folder)
    assert tokenizer.pad == pad
    assert tokenizer.pad != tokenizer.eos
    assert len(tokenizer._tokenizer.get_added_tokens_decoder()) == size


def test_one_special_token_for_everything(tmp_path: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, models

    bare = Tokenizer(models.BPE(vocab={"a": 0, "b": 1, "ab": 2}, merges=[("a", "b")]))
    bare.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    bare.save(str(tmp_path / "tokenizer.json"))
    tokenizer = TextTokenizer.load(tmp_path)
    assert tokenizer.eos == "<|endoftext|>"
    assert tokenizer.pad == "ab"


def test_ends_come_from_the_models_configuration(real_tokenizer: Model) -> None:
    folder = real_tokenizer("qwen2")
    assert TextTokenizer.load(folder).eos == "<|endoftext|>"
    (folder / "config.json").write_text('{"eos_token_id": [151645, 151643], "max_position_embeddings": 32768}')
    tokenizer = TextTokenizer.load(folder)
    assert (tokenizer.eos, tokenizer.context_length) == ("<|im_end|>", 32768)


@pytest.mark.parametrize("name", ["qwen2", "llama3", "phi-3-mini"])
def test_equal_to_transformers(real_tokenizer: Model, shared_data: Path, name: str) -> None:
    from transformers import PreTrainedTokenizerFast

    folder = real_tokenizer(name)
    given = shared_data / "tokenizers" / name / "tokenizer_config.json"
    if given.is_file():
        shutil.copy(given, folder)
    theirs = PreTrainedTokenizerFast.from_pretrained(folder)
    ours = TextTokenizer.load(folder)
    added = list(ours._tokenizer.get_added_tokens_decoder().values())
    texts = ["Hello  world\n\n你好 🙂 café", " leading", "trailing ", *(f"a {t.content} b" for t in added)]
    for text in texts:
        assert ours.encode(text)[0] == theirs(text, add_special_tokens=False)["input_ids"], text


def test_missing_and_damaged_tokenizers(shared_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        TextTokenizer.load(tmp_path)
    assert caught.value.problem.code == "tokenizer.missing"
    shutil.copy(shared_data / "broken" / "llama2-odd-merges.tokenizer.json", tmp_path / "tokenizer.json")
    with pytest.raises(UserError) as caught:
        TextTokenizer.load(tmp_path)
    assert caught.value.problem.code == "tokenizer.damaged"
    assert caught.value.exit_code == EXIT_INPUT
    assert "tokenizers" in caught.value.details
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe\x00half")
    with pytest.raises(UserError) as caught:
        TextTokenizer.load(tmp_path)
    assert caught.value.problem.code == "tokenizer.damaged"


def test_a_damaged_configuration_is_told(starter_text: Path, tmp_path: Path) -> None:
    shutil.copy(starter_text / "tokenizer.json", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": ')
    with pytest.raises(UserError) as caught:
        TextTokenizer.load(tmp_path)
    assert caught.value.problem.code == "tokenizer.damaged"
    assert caught.value.problem.where.endswith("tokenizer_config.json")
