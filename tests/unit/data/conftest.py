"""Small model folders and files for the tests of the data room."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """Write a file into an empty folder: (name, content) → path."""

    def put(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        return path

    return put


@pytest.fixture
def alpaca(write: Callable[[str, str | bytes], Path]) -> Callable[..., Path]:
    """Write Alpaca JSON Lines: number of rows → path; each row has a question and an answer of its own."""

    def put(count: int, name: str = "rows.jsonl", **extra: Any) -> Path:
        rows = [{"instruction": f"Question {i}?", "input": "", "output": f"Answer {i}.", **extra} for i in range(count)]
        return write(name, "".join(json.dumps(row) + "\n" for row in rows))

    return put


@pytest.fixture
def starter_text(repository: Path) -> Path:
    """The starter's folder, for its tokenizer and template; its weights are not needed."""
    folder = repository / "resources" / "starter"
    assert (folder / "tokenizer.json").is_file(), f"the starter's tokenizer is not in {folder}"
    return folder


@pytest.fixture
def stories(shared_data: Path) -> Path:
    """A real base model without a chat template."""
    return shared_data / "models" / "stories260K"


@pytest.fixture
def tiny_model(tmp_path: Path) -> Callable[..., Path]:
    """A model's folder with a byte-level tokenizer that merges nothing: (special tokens, **config) → folder.

    Real vocabularies take seconds to load; what depends only on which special tokens there are does not need one.
    """

    def make(*special: str, **config: Any) -> Path:
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
        folder = tmp_path / "tiny-model"
        folder.mkdir()
        tokenizer.save(str(folder / "tokenizer.json"))
        config = {"tokenizer_class": "PreTrainedTokenizerFast", **config}
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        return folder

    return make
