"""A GGUF's head read and written as bytes: whole vocabularies are carried over without looking at each token.

The ``gguf`` package's reader makes objects of every text: half a minute for a vocabulary of 128,000 tokens.
Source of the layout: ggml, ``docs/gguf.md``.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from gguf import GGMLQuantizationType

MAGIC, VERSION, ALIGNMENT = b"GGUF", 3, 32
STRING, ARRAY = 8, 9
# GGUF's number of a kind of value → struct's letter: 8, 16 and 32 bits signed or not, float, bool, 64 bits, double.
_PLAIN = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
UINT32, BOOL = 4, 7
_MOST = 2**31


@dataclass(frozen=True, slots=True)
class RawTensor:
    """One tensor of a file: its name, shape (rows first), GGML type, and where its data begin in the file."""

    name: str
    shape: tuple[int, ...]
    kind: str
    start: int


@dataclass(frozen=True, slots=True)
class RawFile:
    """A file's head, and its bytes.

    Attributes:
        values: key → its kind and value as they stand in the file.
        tensors: in the order of the file.
        data: the whole file, mapped.
    """

    values: Mapping[str, bytes]
    tensors: tuple[RawTensor, ...]
    data: memoryview

    def plain(self, key: str) -> Any:
        """A key's value, of an array its first; None where there is none, or one of texts."""
        raw = self.values.get(key)
        if raw is None:
            return None
        (kind,) = struct.unpack_from("<I", raw)
        at = 4
        if kind == ARRAY:
            kind, count = struct.unpack_from("<IQ", raw, at)
            at += 12
            if not count:
                return None
        if kind == STRING:
            (size,) = struct.unpack_from("<Q", raw, at)
            return raw[at + 8 : at + 8 + size].decode("utf-8", "replace")
        return struct.unpack_from(f"<{_PLAIN[kind]}", raw, at)[0]


@contextmanager
def opened(path: Path) -> Iterator[RawFile]:
    """The head of a GGUF, with its data mapped while the block runs.

    Raises:
        ValueError: it is none, or of another version.
        OSError: it cannot be read.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        view = memoryview(mapped)
        try:
            yield _read(view)
        finally:
            view.release()


def _read(view: memoryview) -> RawFile:
    try:
        magic, version, tensors, values = struct.unpack_from("<4sIQQ", view)
        if magic != MAGIC or version not in (2, VERSION) or max(tensors, values) > _MOST:
            raise ValueError("not a GGUF of version 2 or 3")
        at, found = 24, {}
        for _ in range(values):
            name, at = _text(view, at)
            end = _skipped(view, at)
            found[name] = bytes(view[at:end])
            at = end
        heads = []
        for _ in range(tensors):
            name, at = _text(view, at)
            (count,) = struct.unpack_from("<I", view, at)
            sizes = struct.unpack_from(f"<{count}Q", view, at + 4)
            kind, offset = struct.unpack_from("<IQ", view, at + 4 + 8 * count)
            at += 4 + 8 * count + 12
            heads.append((name, tuple(reversed(sizes)), GGMLQuantizationType(kind).name, offset))
    except struct.error as error:
        raise ValueError("the file ends in its head") from error
    alignment = RawFile(found, (), view).plain("general.alignment") or ALIGNMENT
    start = -(-at // alignment) * alignment
    return RawFile(found, tuple(RawTensor(*head[:3], start + head[3]) for head in heads), view)


def _text(view: memoryview, at: int) -> tuple[str, int]:
    (size,) = struct.unpack_from("<Q", view, at)
    return bytes(view[at + 8 : at + 8 + size]).decode("utf-8"), at + 8 + size


def _skipped(view: memoryview, at: int) -> int:
    """Where the value that begins at ``at``, with its kind, ends."""
    (kind,) = struct.unpack_from("<I", view, at)
    at += 4
    count = 1
    if kind == ARRAY:
        kind, count = struct.unpack_from("<IQ", view, at)
        at += 12
    if kind != STRING:
        return at + count * struct.calcsize(f"<{_PLAIN[kind]}")
    unpack = struct.Struct("<Q").unpack_from
    for _ in range(count):
        at += 8 + unpack(view, at)[0]
    return at


# --------------------------------------------------------------------------------------------------------------- write
def raw_value(value: str | int | bool) -> bytes:
    """A text, whole number or truth as it stands in a file."""
    if isinstance(value, str):
        content = value.encode("utf-8")
        return struct.pack("<IQ", STRING, len(content)) + content
    if isinstance(value, bool):
        return struct.pack("<I?", BOOL, value)
    return struct.pack("<II", UINT32, value)


def write_head(
    file: IO[bytes], values: Mapping[str, bytes], tensors: Sequence[tuple[str, tuple[int, ...], str, int]]
) -> None:
    """Write everything before the data, and pad to where they begin.

    Args:
        values: as `RawFile.values`.
        tensors: name, shape (rows first), GGML type and bytes; their data must follow in this order, each by `pad`.
    """
    file.write(struct.pack("<4sIQQ", MAGIC, VERSION, len(tensors), len(values)))
    for name, raw in values.items():
        file.write(_named(name) + raw)
    offset = 0
    for name, shape, kind, size in tensors:
        sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        file.write(_named(name) + sizes + struct.pack("<IQ", GGMLQuantizationType[kind].value, offset))
        offset += -(-size // ALIGNMENT) * ALIGNMENT
    pad(file)


def pad(file: IO[bytes]) -> None:
    """Go on at a multiple of the alignment."""
    file.write(bytes(-file.tell() % ALIGNMENT))


def _named(name: str) -> bytes:
    content = name.encode("utf-8")
    return struct.pack("<Q", len(content)) + content
