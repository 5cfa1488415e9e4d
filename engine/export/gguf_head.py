"""What a GGUF says of itself in its first lines; it may be a stranger's, so nothing is taken on trust.

Source: ggml, ``docs/gguf.md``.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.export.targets import QUANTISATIONS
from engine.project.atomic import disk_error, open_plain

_HEAD = 1024 * 1024
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST = 8, 9
_LONGEST_LIST = 4096


class _Reader:
    """Numbers and texts from the beginning of a file; ``struct.error`` where they end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def number(self, form: str) -> Any:
        (value,) = struct.unpack_from(f"<{form}", self._data, self._at)
        self._at += struct.calcsize(f"<{form}")
        return value

    def text(self) -> str:
        length = self.number("Q")
        if length > len(self._data) - self._at:
            raise struct.error("a text goes beyond what was read")
        self._at += length
        return self._data[self._at - length : self._at].decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind == _TEXT:
            return self.text()
        if kind == _LIST:
            inner, count = self.number("I"), self.number("Q")
            if inner == _LIST or count > _LONGEST_LIST:
                raise struct.error("a list that is not read")
            return [self.value(inner) for _ in range(count)]
        if kind not in _SCALARS:
            raise struct.error(f"no such type: {kind}")
        return self.number(_SCALARS[kind])


def head(path: Path) -> dict[str, Any] | None:
    """Its first keys with their values, up to the first long list (the vocabulary's); None where it is no GGUF.

    Raises:
        UserError: the disk does not give it.
    """
    try:
        with open_plain(path, links=True) as file:
            data = file.read(_HEAD)
    except OSError as error:
        raise disk_error(error, path) from error
    if not data.startswith(b"GGUF"):
        return None
    reader = _Reader(data)
    found: dict[str, Any] = {}
    try:
        reader.number("I"), reader.number("I"), reader.number("Q")
        for _ in range(reader.number("Q")):
            key = reader.text()
            found[key] = reader.value(reader.number("I"))
    except (struct.error, MemoryError, OverflowError):
        return found  # as far as it could be read
    return found


def type_of(facts: Mapping[str, Any]) -> str:
    """Name of its type ("Q4_K_M") by ``general.file_type``; "type N" of one that is not written here."""
    number = facts.get("general.file_type")
    return next((kind.name for kind in QUANTISATIONS.values() if kind.file_type == number), f"type {number}")


def is_adapter(facts: Mapping[str, Any]) -> bool:
    """Whether it holds an adapter alone."""
    return facts.get("general.type") == "adapter"
