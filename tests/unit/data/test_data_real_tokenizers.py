"""Full real vocabularies: against their published vectors, and against transformers, with real chat templates."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from engine.data.rows import Message
from engine.data.template import ChatTemplate, choose_template
from engine.data.tokenizer import TextTokenizer

CONVERSATION = (
    Message("system", "You are kind."),
    Message("user", "What is 1 + 1?\nAnswer  shortly."),
    Message("assistant", "It is 2."),
    Message("user", "你好 🙂"),
    Message("assistant", "你好！"),
)


class Pair(NamedTuple):
    """The same tokenizer, ours and transformers'."""

    name: str
    ours: TextTokenizer
    theirs: Any
    template: ChatTemplate


MODELS = {
    "qwen2": ("qwen2", "<|im_end|>", "Qwen-Qwen2.5-7B-Instruct"),
    "llama3": ("llama-bpe", "<|eot_id|>", "meta-llama-Llama-3.1-8B-Instruct"),
    "phi-3-mini": ("phi-3", "<|endoftext|>", "microsoft-Phi-3.5-mini-instruct"),
}


@pytest.fixture(scope="module", params=MODELS)
def pair(request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Each model, loaded once for all tests of this file: it takes seconds."""
    from transformers import PreTrainedTokenizerFast

    name: str = request.param
    folder = tmp_path_factory.mktemp(name)
    source = shared_data / "tokenizers" / name
    shutil.copy(source / "tokenizer.json", folder)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": MODELS[name][1]}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    if (source / "tokenizer_config.json").is_file():
        shutil.copy(source / "tokenizer_config.json", folder)
    shutil.copy(shared_data / "templates" / f"{MODELS[name][2]}.jinja", folder / "chat_template.jinja")
    ours = TextTokenizer.load(folder)
    template = choose_template(folder, tokenizer=ours)
    return Pair(name, ours, PreTrainedTokenizerFast.from_pretrained(folder), template)


def test_published_vectors(pair: Pair, shared_data: Path) -> None:
    stem = shared_data / "tokenizers" / "vectors" / f"ggml-vocab-{MODELS[pair.name][0]}.gguf"
    texts = Path(f"{stem}.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    expected = [[int(i) for i in line.split()] for line in Path(f"{stem}.out").read_text().splitlines()]
    assert len(expected) >= 40
    for text, ids in zip(texts, expected, strict=False):
        found, offsets = pair.ours.encode(text)
        if pair.name != "phi-3-mini":
            # llama.cpp puts its space before SentencePiece texts at other places than the model's own tokenizer.
            assert found == ids, text
        assert found == pair.theirs(text, add_special_tokens=False)["input_ids"], text
        assert all(0 <= a <= b <= len(text) for a, b in offsets)


def test_special_tokens_in_texts_equal_transformers(pair: Pair) -> None:
    added = pair.ours._tokenizer.get_added_tokens_decoder().values()
    for text in ["Hello  world\n\n你好 🙂 café", " leading", "trailing ", *(f"a {t.content} b" for t in added)]:
        assert pair.ours.encode(text)[0] == pair.theirs(text, add_special_tokens=False)["input_ids"], text


def test_tokens_of_the_models_own_template_equal_transformers(pair: Pair) -> None:
    plain = [{"role": m.role, "content": m.content} for m in CONVERSATION]
    ids, _ = pair.ours.encode(pair.template.render(CONVERSATION).text)
    assert ids == pair.theirs.apply_chat_template(plain, return_dict=True)["input_ids"]
    assert pair.template.stop[-1] == MODELS[pair.name][1]


def test_pad_is_not_eos(pair: Pair) -> None:
    assert pair.ours.pad is not None
    assert pair.ours.pad_id != pair.ours.eos_id
    assert pair.ours.size == len(pair.theirs)
