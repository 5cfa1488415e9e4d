"""Special tokens, padding, and damage."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, models

from engine.data.tokenizer import TextTokenizer
from engine.protocol.errors import EXIT_INPUT, UserError

Model = Callable[..., Path]


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


QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LLAMA = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|finetune_right_pad_id|>",
    "<|eot_id|>",
)
PHI = ("<unk>", "<s>", "</s>", "<|endoftext|>", "<|placeholder1|>", "<|end|>")


@pytest.mark.parametrize(
    ("special", "config", "pad"),
    [
        (QWEN, {"eos_token": "<|im_end|>"}, "<|endoftext|>"),
        (QWEN, {"eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}, "<|endoftext|>"),
        (QWEN, {"eos_token": QWEN[0], "pad_token": QWEN[0], "bos_token": "<|im_start|>"}, "<|im_start|>"),
        (LLAMA, {"eos_token": "<|eot_id|>"}, "<|finetune_right_pad_id|>"),
        (LLAMA, {"eos_token": "<|eot_id|>", "pad_token": "<|end_of_text|>"}, "<|end_of_text|>"),
        (LLAMA, {"eos_token": "<|eot_id|>", "pad_token": "not in the vocabulary"}, "<|finetune_right_pad_id|>"),
        (PHI, {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}, "<|placeholder1|>"),
    ],
)
def test_pad_is_never_eos_and_never_new(
    tiny_model: Model, special: tuple[str, ...], config: dict[str, str], pad: str
) -> None:
    tokenizer = TextTokenizer.load(tiny_model(*special, **config))
    assert tokenizer.pad == pad
    assert tokenizer.pad != tokenizer.eos
    assert tokenizer.size == 256 + len(special)


def test_one_special_token_for_everything(tmp_path: Path) -> None:
    bare = Tokenizer(models.BPE(vocab={"a": 0, "b": 1, "ab": 2}, merges=[("a", "b")]))
    bare.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    bare.save(str(tmp_path / "tokenizer.json"))
    tokenizer = TextTokenizer.load(tmp_path)
    assert tokenizer.eos == "<|endoftext|>"
    assert tokenizer.pad == "ab"


def test_ends_come_from_the_models_configuration(tiny_model: Model) -> None:
    folder = tiny_model(*QWEN)
    assert TextTokenizer.load(folder).eos == "<|endoftext|>"
    (folder / "config.json").write_text('{"eos_token_id": [258, 256], "max_position_embeddings": 32768}')
    tokenizer = TextTokenizer.load(folder)
    assert (tokenizer.eos, tokenizer.context_length) == ("<|im_end|>", 32768)


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
