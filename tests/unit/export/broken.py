"""A GGUF changed in place, one thing at a time: what a check must notice."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader


def copy(path: Path, folder: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copyfile(path, folder / "broken.gguf"))


def set_number(path: Path, key: str, value: Any) -> None:
    """Another value of a number or truth."""
    field = GGUFReader(path, "r+").fields[key]
    field.parts[field.data[0]][0] = value


def set_text(path: Path, key: str, text: str, at: int = 0) -> None:
    """Another text of at most the same length; the rest is filled with spaces.

    Args:
        at: which entry, of a list of texts.
    """
    field = GGUFReader(path, "r+").fields[key]
    place = field.parts[field.data[at]]
    written = text.encode().ljust(len(place), b" ")
    assert len(written) == len(place), "longer than what was there"
    place[:] = np.frombuffer(written, dtype=np.uint8)


def text_of(path: Path, key: str, at: int = 0) -> str:
    """A text, or an entry of a list of texts."""
    field = GGUFReader(path).fields[key]
    return bytes(field.parts[field.data[at]]).decode()


def change_tensor(path: Path, name: str, change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> None:
    """Other values of a tensor, of the same shape and type."""
    tensor = next(tensor for tensor in GGUFReader(path, "r+").tensors if tensor.name == name)
    tensor.data[:] = change(np.array(tensor.data))
