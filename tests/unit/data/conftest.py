"""Small model folders and files for the tests of the data room."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


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
def real_tokenizer(shared_data: Path, tmp_path: Path) -> Callable[..., Path]:
    """A model's folder made of a real tokenizer.json and a configuration: (name, **config) → folder."""

    def make(name: str, **config: Any) -> Path:
        folder = tmp_path / f"model-{name}"
        folder.mkdir()
        shutil.copy(shared_data / "tokenizers" / name / "tokenizer.json", folder / "tokenizer.json")
        config = {"tokenizer_class": "PreTrainedTokenizerFast", **config}
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        return folder

    return make
