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
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from engine.data.formats import LONGEST_ROW, Record, Table, json_line
from engine.project.atomic import disk_error
from engine.protocol.text import as_text

Progress = Callable[[int, int], None]
_TELL = 512
_BUFFER = 8 << 20
_ROWS = 2048
_SPARSE = 4
"""Rows are read one by one where they fill less than this part of the bytes from the first to the last."""
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


@dataclass(frozen=True, slots=True)
class Extract:
    """Some records of a `Lines` file: where each begins and ends, ready to be sent to another process.

    Attributes:
        lines: the file.
        begins, ends: bytes, shape (records,), rising.
        numbers: line in the user's file of each record, shape (records,).
        size: bytes of the file.
    """

    lines: Lines
    begins: NDArray[np.uint64]
    ends: NDArray[np.uint64]
    numbers: NDArray[np.uint32]
    size: int

    def records(self) -> Iterator[Record]:
        """The records, read in one go where they lie close together. Raises `UserError` when the disk fails."""
        if not len(self.begins):
            return
        wanted, span = int((self.ends - self.begins).sum()), int(self.ends[-1] - self.begins[0])
        places = list(zip(self.begins.tolist(), self.ends.tolist(), self.numbers.tolist(), strict=True))
        try:
            # Not kept open: Windows lets nobody replace a file that is.
            with self.lines.path.open("rb") as file:
                if span > _SPARSE * wanted or wanted > LONGEST_BYTES:
                    for begin, end, number in places:
                        yield self._alone(file, begin, end, number)
                    return
                first = places[0][0]
                file.seek(first)
                raw = file.read(span)
        except OSError as error:
            raise disk_error(error, self.lines.path) from error
        for begin, end, number in places:
            yield self._record(raw[begin - first : end - first], end, number)

    def _alone(self, file: BinaryIO, begin: int, end: int, number: int) -> Record:
        if end - begin > LONGEST_BYTES:
            return json_line(" " * (LONGEST_ROW + 1), number, is_last=False)
        file.seek(begin)
        return self._record(file.read(end - begin), end, number)

    def _record(self, line: bytes, end: int, number: int) -> Record:
        is_last = end >= self.size and not line.endswith(b"\n")
        # Blank lines behind a record belong to no record.
        return self.lines.record(line.split(b"\n", 1)[0], number, is_last=is_last)


class Index:
    """Where each record of a `Lines` file begins, and its line in the user's file.

    Args:
        lines: the file.
        places: gives two arrays, shape (records,): bytes, rising, and lines in the user's file. They are asked for
            anew for each extract: of arrays on disk nothing stays in memory.
    """

    def __init__(self, lines: Lines, places: Callable[[], tuple[NDArray[np.uint64], NDArray[np.uint32]]]) -> None:
        self._lines, self._places = lines, places
        self._size = lines.path.stat().st_size

    def records(self, start: int, stop: int) -> Iterator[Record]:
        """Records from ``start`` up to ``stop``."""
        for begin in range(start, stop, _ROWS):
            for extract in self.extracts(np.arange(begin, min(begin + _ROWS, stop))):
                yield from extract.records()

    def record(self, number: int) -> Record:
        """One record."""
        return next(self.records(number, number + 1))

    def extracts(self, rows: NDArray[np.int64], *, most: int = _ROWS) -> Iterator[Extract]:
        """Records of some rows (rising), in pieces of bounded size: ``most`` rows, and at least one each."""
        at = 0
        while at < len(rows):
            offsets, numbers = self._places()
            chosen = rows[at : at + most]
            begins = np.asarray(offsets[chosen])
            until = max(1, int(np.searchsorted(begins, begins[0] + np.uint64(_BUFFER))))
            chosen, begins = chosen[:until], begins[:until]
            after = chosen + 1
            ends = np.asarray(offsets[np.minimum(after, len(offsets) - 1)])
            ends[after == len(offsets)] = self._size
            yield Extract(self._lines, begins, ends, np.asarray(numbers[chosen]), self._size)
            at += until


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
