"""Records by number: every data file as JSON Lines with an index, read in any order without holding it in memory.

A UTF-8 JSON Lines file is its own store. Any other file is written out once, record by record, as JSON Lines in
Lorimer's cache; the file itself is never changed.
"""

from __future__ import annotations

import base64
import json
import mmap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data.formats import LONGEST_ROW, Record, Table, json_line
from engine.project.atomic import disk_error
from engine.protocol.text import as_text

Progress = Callable[[int, int], None]
_TELL = 512
_BUFFER = 8 << 20
LONGEST_BYTES = 4 * LONGEST_ROW
"""A line of more bytes is not read at all."""


@dataclass(frozen=True, slots=True)
class Lines:
    """A JSON Lines file in UTF-8.

    Attributes:
        path: where it lies.
        skip: bytes of a byte-order mark.
        is_spool: Lorimer's own: a record that cannot be used is a list there, ``[reason, {"en", "zh"}]``.
    """

    path: Path
    skip: int = 0
    is_spool: bool = False

    def record(self, raw: bytes, number: int, *, is_last: bool = False) -> Record:
        """The record of one line, without or with its end; bytes that are not UTF-8 become lone surrogates.

        Args:
            number: the line's, for messages.
            is_last: it ends the file without a line end.
        """
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError:
            line = raw.decode("utf-8", "surrogateescape")
        if self.is_spool and line.startswith("["):
            reason, text = json.loads(line)
            return Record(number, {}, reason, as_text(text))
        return json_line(line, number, is_last=is_last)


class Index:
    """Where each record of a `Lines` file begins, and its line in the user's file.

    Args:
        lines: the file.
        offsets: bytes, shape (records,), rising.
        numbers: line in the user's file of each record, shape (records,).
    """

    def __init__(self, lines: Lines, offsets: NDArray[np.uint64], numbers: NDArray[np.uint32]) -> None:
        self._lines, self._offsets, self._numbers = lines, offsets, numbers
        self._size = lines.path.stat().st_size

    def __len__(self) -> int:
        return len(self._offsets)

    def records(self, start: int, stop: int) -> Iterator[Record]:
        """Records from ``start`` up to ``stop``, read as one piece where they lie together."""
        while start < stop:
            # Pieces of bounded size, at least one record each.
            limit = int(self._offsets[start]) + _BUFFER
            end = max(start + 1, int(np.searchsorted(self._offsets[start:stop], limit)) + start)
            yield from self._piece(start, min(end, stop))
            start = min(end, stop)

    def record(self, number: int) -> Record:
        """One record."""
        return next(self._piece(number, number + 1))

    def _piece(self, start: int, stop: int) -> Iterator[Record]:
        begin, end = int(self._offsets[start]), self._end(stop)
        if end - begin > LONGEST_BYTES and stop == start + 1:
            yield json_line(" " * (LONGEST_ROW + 1), int(self._numbers[start]), is_last=False)
            return
        raw = self._read(begin, end - begin)
        for i in range(start, stop):
            at, until = int(self._offsets[i]) - begin, self._end(i + 1) - begin
            line = raw[at:until]
            is_last = begin + until >= self._size and not line.endswith(b"\n")
            # Blank lines behind a record belong to no record.
            yield self._lines.record(line.split(b"\n", 1)[0], int(self._numbers[i]), is_last=is_last)

    def _end(self, number: int) -> int:
        return int(self._offsets[number]) if number < len(self._offsets) else self._size

    def _read(self, begin: int, count: int) -> bytes:
        try:
            # Not kept open: Windows lets nobody replace a file that is.
            with self._lines.path.open("rb") as file:
                file.seek(begin)
                return file.read(count)
        except OSError as error:
            raise disk_error(error, self._lines.path) from error


def write_spool(table: Table, size: int, target: Path, numbers: Path, progress: Progress | None = None) -> None:
    """Write a table's records as JSON Lines.

    Args:
        table: whose records.
        size: bytes of the user's file, the whole of the progress.
        target: the JSON Lines file.
        numbers: a file of their lines in the user's file, uint32 each.
        progress: called with (bytes done, about, ``size``); what it raises ends the writing.

    Raises:
        UserError: the disk does not take it.
    """
    lines: list[int] = []
    try:
        with target.open("wb", buffering=1 << 20) as file, numbers.open("wb") as places:
            for count, record in enumerate(table.read()):
                file.write(_spooled(record))
                lines.append(record.line)
                if count % _TELL == _TELL - 1:
                    places.write(np.asarray(lines, dtype=np.uint32).tobytes())
                    lines.clear()
                    if progress is not None:
                        progress(min(size, file.tell()), size)
            places.write(np.asarray(lines, dtype=np.uint32).tobytes())
    except OSError as error:
        raise disk_error(error, target) from error


def _spooled(record: Record) -> bytes:
    if record.reason:
        value: Any = [record.reason, {"en": record.text.en, "zh": record.text.zh}]
    else:
        value = record.value
    line = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_written) + "\n"
    return line.encode("utf-8", "surrogatepass")


def _written(value: Any) -> Any:
    """A value that JSON does not know (bytes, dates, decimals of a Parquet file)."""
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value[:64]).decode("ascii")}
    return str(value)


def line_starts(path: Path, skip: int, block: int) -> Sequence[int]:
    """Where pieces of about ``block`` bytes begin, each at a line's start, and the file's end.

    Raises:
        UserError: it cannot be read.
    """
    starts = [skip]
    try:
        size = path.stat().st_size
        if size <= skip:
            return [skip]
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            while starts[-1] + block < size:
                end = content.find(b"\n", starts[-1] + block) + 1
                if end == 0:
                    break
                starts.append(end)
    except OSError as error:
        raise disk_error(error, path) from error
    return [*starts, size] if starts[-1] < size else starts
