"""A very small model and its rows, made once."""

from pathlib import Path

import pytest

from tests.tiny_model import make_model, write_preferences, write_rows


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a very small Llama."""
    return make_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 Alpaca rows of several lengths."""
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl")


@pytest.fixture(scope="session")
def preferences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 rows with a chosen and a rejected answer."""
    return write_preferences(tmp_path_factory.mktemp("rows") / "preferences.jsonl")
