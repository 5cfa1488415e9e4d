"""What a safetensors file says of itself: its header, read without loading a weight.

Format: 8 bytes, the header's length as a little-endian number; the header, JSON; then the data
(huggingface/safetensors, README, "Format")."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.protocol.errors import Problem
from engine.protocol.text import say

# safetensors itself refuses longer headers (100 MB).
LONGEST_HEADER = 100_000_000


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a file: its dtype as safetensors names it ("BF16"), and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Header:
    """The tensors of one file by name, and the file's size in bytes."""

    tensors: Mapping[str, Tensor]
    size: int


class Damaged(Exception):
    """A file that is no whole safetensors file; carries the `Problem`."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message.en)
        self.problem = problem


def is_weights_name(name: object) -> bool:
    """Whether an index may name a file so: safetensors, in the folder itself and not by a way out of it."""
    return isinstance(name, str) and name.endswith(".safetensors") and not any(part in name for part in "/\\:\0")


def read_header(path: Path) -> Header:
    """The header of a safetensors file.

    Raises:
        Damaged: it is no safetensors file, its header is broken, or the file is shorter or longer than its header says.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or not 2 <= length <= min(LONGEST_HEADER, size - 8):
            raise Damaged(_not_safetensors(path))
        raw = file.read(length)
    try:
        plain = json.loads(raw)
        tensors, end = _tensors(plain)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise Damaged(_not_safetensors(path)) from error
    if size != 8 + length + end:
        raise Damaged(_wrong_size(path, size, 8 + length + end))
    return Header(tensors, size)


def _tensors(plain: dict[str, Any]) -> tuple[dict[str, Tensor], int]:
    """Tensors by name, and where the data of the last one ends."""
    tensors, end = {}, 0
    for name, about in plain.items():
        if name == "__metadata__":
            continue
        tensors[name] = Tensor(str(about["dtype"]), tuple(int(width) for width in about["shape"]))
        end = max(end, int(about["data_offsets"][1]))
    return tensors, end


def _not_safetensors(path: Path) -> Problem:
    return Problem(
        "model.damaged",
        say(
            "{name} is no safetensors file, or its header is damaged.",
            "{name} 不是 safetensors 文件，或文件头已损坏。",
            name=path.name,
        ),
        say("Download or copy it again.", "请重新下载或复制。"),
        str(path),
    )


def _wrong_size(path: Path, size: int, expected: int) -> Problem:
    return Problem(
        "model.damaged",
        say(
            "{name} has {size:,} bytes, its header tells of {expected:,}: it was not copied or downloaded to the end.",
            "{name} 只有 {size:,} 字节，而文件头写明 {expected:,}：复制或下载没有完成。",
            name=path.name,
            size=size,
            expected=expected,
        )
        if size < expected
        else say(
            "{name} has {size:,} bytes, more than the {expected:,} its header tells of.",
            "{name} 有 {size:,} 字节，多于文件头写明的 {expected:,}。",
            name=path.name,
            size=size,
            expected=expected,
        ),
        say("Download or copy it again.", "请重新下载或复制。"),
        str(path),
    )
