"""Safetensors files as they lie on disk: mapped into the address space for reading, so that no weight is copied.

Format: 8 bytes, the header's length as a little-endian number; the header, JSON; then the data
(huggingface/safetensors, README, "Format").
"""

from __future__ import annotations

import json
import math
import mmap
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.model.weights_header import LONGEST_HEADER

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "BOOL": torch.bool,
}


class BrokenWeights(Exception):
    """A file that is no whole safetensors file."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a file: its dtype as safetensors names it, its shape, and the bytes it lies in, from the start."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class Mapped:
    """One safetensors file; pages come from the disk as they are read, and count as no memory of the process.

    Attributes:
        path: the file.
        entries: its tensors by name, in the order in which they lie.
        metadata: what the header says beside them.

    Raises:
        BrokenWeights: it is no whole safetensors file.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            size = path.stat().st_size
            begin, plain = _header(file.read(8), file.read, size)
            self._bytes = _mapped(file.fileno(), size)
        about = plain.pop("__metadata__", None) or {}
        self.metadata: Mapping[str, str] = {str(key): str(value) for key, value in about.items()}
        entries = {name: _entry(name, entry, begin, size) for name, entry in plain.items()}
        self.entries: Mapping[str, Entry] = dict(sorted(entries.items(), key=lambda item: item[1].start))

    def tensor(self, name: str) -> Tensor:
        """A tensor for reading only: a write to it ends the process."""
        entry = self.entries[name]
        raw = self._bytes[entry.start : entry.end]
        dtype = DTYPES[entry.dtype]
        if entry.start % dtype.itemsize:
            raw = raw.clone()  # a header that was not padded
        return raw.view(dtype).reshape(entry.shape)


def _mapped(handle: int, size: int) -> Tensor:
    memory = mmap.mmap(handle, size, access=mmap.ACCESS_READ)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it says that the memory cannot be written: that is meant
        return torch.frombuffer(memory, dtype=torch.uint8)


def _header(start: bytes, read: Any, size: int) -> tuple[int, dict[str, Any]]:
    """(where the data begin, the header)."""
    length = int.from_bytes(start, "little")
    if len(start) < 8 or not 2 <= length <= min(LONGEST_HEADER, size - 8):
        raise BrokenWeights("it is no safetensors file")
    try:
        plain = json.loads(read(length))
    except (ValueError, RecursionError) as error:
        raise BrokenWeights(str(error)) from error
    if not isinstance(plain, dict) or not isinstance(plain.get("__metadata__") or {}, dict):
        raise BrokenWeights("the header is not an object")
    return 8 + length, plain


def _entry(name: str, plain: Any, begin: int, size: int) -> Entry:
    try:
        dtype, shape = str(plain["dtype"]), tuple(int(width) for width in plain["shape"])
        start, end = (begin + int(offset) for offset in plain["data_offsets"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BrokenWeights(f"{name}: {error!r}") from error
    known = DTYPES.get(dtype)
    expected = math.prod(shape) * known.itemsize if known else end - start
    if min(shape, default=0) < 0 or not begin <= start <= end <= size or end - start != expected:
        raise BrokenWeights(f"{name}: bytes {start} to {end} of {size} do not hold {dtype} {list(shape)}")
    return Entry(dtype, shape, start, end)
