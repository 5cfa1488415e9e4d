"""A data file opened: what it is at once, and its rows by number, usable or set aside with line and reason."""

from __future__ import annotations

import errno
import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.data import cache
from engine.data.declare import Shape
from engine.data.decode import TextFile, empty_file, open_text
from engine.data.detect import Guess, detect
from engine.data.endings import PACKED
from engine.data.files import expand, plain_suffix
from engine.data.formats import Record, Table, parse, parse_arrow, parse_parquet
from engine.data.making import shaped
from engine.data.rows import HINTS, Row, SetAside
from engine.data.scan import CODE, Facts, Job, Progress
from engine.data.store import Extract, Index, Lines
from engine.project.atomic import disk_error
from engine.protocol.errors import Problem, UserError
from engine.protocol.text import say

_HEAD = 200
"""Records that are read at once: the shape is told by them."""
SMALL = 16 << 20
"""Files up to so many bytes are read whole when they are opened."""


@dataclass
class Source:
    """An opened data file: what it is, and its rows, which are read when they are first asked for.

    Attributes:
        path: the file.
        format: a key of `engine.data.formats.FORMATS`.
        encoding: Python's name of the text encoding; "binary" for Parquet and Arrow.
        guess: how its columns make conversations, and how sure that is.
        head: its first records.
        bytes: size of the file.
        as_conversation: rows of preferences count as conversations when duplicates are looked for.
    """

    path: Path
    format: str
    encoding: str
    guess: Guess
    head: tuple[Record, ...]
    bytes: int
    as_conversation: bool = False
    _table: Table | None = field(default=None, repr=False)
    _lines: Lines | None = field(default=None, repr=False)
    _problems: tuple[Problem, ...] = ()
    _facts: Facts | None = field(default=None, repr=False)

    # ------------------------------------------------------------------------------------------------- what it is
    @property
    def shape(self) -> Shape:
        """How its columns make conversations."""
        return self.guess.shape

    @property
    def confidence(self) -> float:
        """0 to 1, how sure the shape is."""
        return self.guess.confidence

    @property
    def mapping(self) -> dict[str, str]:
        """Role → column."""
        return self.guess.mapping

    @property
    def is_scanned(self) -> bool:
        """Whether every row was looked at."""
        return self._facts is not None

    @property
    def _is_at_hand(self) -> bool:
        """Whether every row was looked at, or may be at once because the file is small."""
        return self.is_scanned or self.bytes <= SMALL

    @property
    def columns(self) -> tuple[str, ...]:
        """All column names, in order of appearance; those of the first records while not every row was looked at."""
        return self.facts.columns if self._is_at_hand else columns_of(self.head, self._table)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the file as a whole, as far as it was read."""
        if self._is_at_hand:
            self.scan()
        return self._problems + tuple(self._table.problems if self._table is not None else ())

    @property
    def count(self) -> int:
        """Rows in the file, unusable ones counted; every row is looked at for it."""
        return self.facts.count

    @property
    def reading(self) -> tuple[str, ...]:
        """What tells this reading of this file, as it is now, from any other."""
        key = cache.folder(self.path, self.encoding, self.format).name
        return (key, self.shape.name, *(f"{role}={column}" for role, column in sorted(self.mapping.items())))

    @cached_property
    def sha256(self) -> str:
        """Fingerprint of the file's content."""
        return fingerprint(self.path)

    # ------------------------------------------------------------------------------------------------------- rows
    @property
    def facts(self) -> Facts:
        """What is known of each row; every row is looked at when it is first asked for."""
        return self.scan()

    @cached_property
    def _index(self) -> Index:
        assert self._lines is not None
        facts = self.facts
        return Index(self._lines, lambda: (facts["offset"], facts["line"]))

    def scan(self, progress: Progress | None = None) -> Facts:
        """Look at every row, on all cores. What was found before in the same file is taken from the cache.

        Args:
            progress: called with (bytes done, bytes in all); what it raises ends the scan, and nothing is lost.

        Raises:
            UserError: the file cannot be read to its end, or holds no row that can be read.
        """
        if self._facts is not None:
            return self._facts
        folder = cache.folder(self.path, self.encoding, self.format)
        numbers = None
        if self._lines is None or self._lines.is_spool:
            assert self._table is not None
            spool = cache.spool(folder, self._table, self.bytes, progress)
            self._lines, numbers, self._table.problems = spool.lines, spool.numbers, spool.problems
        job = Job(self._lines, self.shape.name, self.mapping, self._lines.path.stat().st_size, self.as_conversation)
        facts = cache.facts(folder, job, progress, numbers)
        if self.format == "csv" and self._table is not None:
            known = columns_of(self.head, self._table)
            named = tuple(c for c in facts.columns if not c.startswith("column_") or c in known)
            facts = replace(facts, columns=named)
        if self.encoding == "utf-8" and not self._lines.is_spool:
            self._problems = (*self._problems, *_broken_characters(self, facts))
        self._facts = facts
        return facts

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Row | SetAside]:
        """Rows in the file's order, from ``start`` up to ``stop``."""
        end = self.count if stop is None else min(stop, self.count)
        for index, record in enumerate(self._index.records(start, end), start):
            yield self.shaped(index, record)

    def row(self, index: int) -> Row | SetAside:
        """One row."""
        return self.shaped(index, self._index.record(index))

    def records(self, start: int, stop: int) -> Iterator[Record]:
        """Records as the file holds them, from ``start`` up to ``stop``."""
        return self._index.records(start, stop)

    def record(self, index: int) -> Record:
        """One record as the file holds it."""
        return self._index.record(index)

    def extracts(self, rows: NDArray[np.int64], *, most: int) -> Iterator[Extract]:
        """Where records of some rows (rising) lie, in pieces of at most ``most`` rows."""
        return self._index.extracts(rows, most=most)

    def shaped(self, index: int, record: Record) -> Row | SetAside:
        """The row that a record makes."""
        return shaped(index, record, name=self.path.name, shape=self.shape.name, mapping=self.mapping)

    def first_rows(self) -> list[Row | SetAside]:
        """The rows of `head`: there at once, whatever the file's size."""
        return [self.shaped(index, record) for index, record in enumerate(self.head)]


def open_source(
    path: Path | str,
    *,
    encoding: str = "auto",
    shape: str = "auto",
    mapping: Mapping[str, str] | None = None,
) -> Source:
    """Open a data file: format, encoding, shape and columns are found from its beginning, or taken as given.

    A small file is read whole; of a large one the beginning, until its rows are asked for.

    Args:
        path: a file of a known format, packed or not.
        encoding: a Python codec name, or "auto".
        shape: a key of `engine.data.registry.SHAPES`, or "auto".
        mapping: role → column, where the detected one is not right.

    Raises:
        UserError: it is missing, empty, binary, wrongly encoded, or of no known shape (exit code 2); it may not be
            read, or the disk fails (exit code 1). `where` names file and line.
    """
    path = Path(path)
    if path.is_dir():
        path = _only_file(path)
    size = _size(path)
    table, text = _table(path, encoding)
    head = tuple(itertools.islice(table.read(), _HEAD))
    usable = [record.value for record in head if not record.reason]
    if not usable and (len(head) < _HEAD or size <= SMALL):
        head, usable = _looked_further(table, head)
    if not usable:
        raise _no_record(path, head)
    guess = detect(usable, columns_of(head, table), path.name, shape=shape, mapping=mapping)
    lines = None
    if text is not None and table.format == "jsonl" and text.encoding == "utf-8" and not _is_packed(path):
        lines = Lines(path, text.skip)
    problems = text.problems if text is not None else ()
    found = text.encoding if text is not None else "binary"
    return Source(path, table.format, found, guess, head, size, _table=table, _lines=lines, _problems=problems)


def _table(path: Path, encoding: str) -> tuple[Table, TextFile | None]:
    mark = _mark(path)
    if mark.startswith(b"PAR1"):
        return parse_parquet(path), None
    if mark.startswith(b"ARROW1") or plain_suffix(path) == ".arrow":
        return parse_arrow(path), None
    text = open_text(path, encoding)
    return parse(text), text


def _mark(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(8)
    except OSError as error:
        raise _not_there(path, error) from error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise _not_there(path, error) from error


def _not_there(path: Path, error: OSError) -> UserError:
    if error.errno in (errno.ENAMETOOLONG, errno.EINVAL):
        return disk_error(FileNotFoundError(error.errno, error.strerror), path)
    return disk_error(error, path)


def _is_packed(path: Path) -> bool:
    return path.suffix.lower() in PACKED


def _only_file(folder: Path) -> Path:
    """The data file of a folder that holds just one. Raises `UserError` otherwise."""
    files = expand([folder]).files
    if len(files) == 1:
        return files[0]
    raise UserError(
        "data.folder",
        say("{name} is a folder of {n} files.", "{name} 是包含 {n} 个文件的文件夹。", name=folder.name, n=len(files)),
        say("Choose one of them.", "请选择其中一个。"),
        where=str(folder),
    )


def columns_of(records: tuple[Record, ...], table: Table | None) -> tuple[str, ...]:
    """Column names of records, in order of appearance, without unnamed ones in which nothing stands."""
    names = dict.fromkeys(name for record in records for name in record.value)
    if table is None or table.format != "csv":
        return tuple(names)
    return tuple(name for name in names if not name.startswith("column_") or name in table.unnamed)


def _looked_further(table: Table, head: tuple[Record, ...]) -> tuple[tuple[Record, ...], list[Mapping[str, object]]]:
    """The first records of a file whose beginning is broken, with the first usable ones behind them."""
    later = (record for record in itertools.islice(table.read(), len(head), None) if not record.reason)
    more = tuple(itertools.islice(later, _HEAD))
    return head + more, [record.value for record in more]


def _broken_characters(source: Source, facts: Facts) -> list[Problem]:
    """How many rows hold bytes that are no UTF-8, with the first one's place."""
    hits = (facts["code"] == CODE["wrong_encoding"]).nonzero()[0]
    if not len(hits) or any(p.code == "data.broken_characters" for p in source._problems):
        return []
    message = say("{n} rows hold bytes that are not UTF-8.", "{n} 行含有不是 UTF-8 的字节。", n=len(hits))
    hint = say("Save the file again as UTF-8.", "请将文件重新另存为 UTF-8。")
    return [Problem("data.broken_characters", message, hint, f"{source.path.name}:{int(facts['line'][hits[0]])}")]


def fingerprint(path: Path | str) -> str:
    """SHA-256 of a file's content, in hexadecimal. Raises `UserError` when it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise disk_error(error, Path(path)) from error


def _no_record(path: Path, records: tuple[Record, ...]) -> UserError:
    """The file has the right ending and not one whole row."""
    problems = tuple(
        Problem(f"data.{r.reason}", r.text, HINTS[r.reason], f"{path.name}:{r.line}") for r in records[:100]
    )
    if not problems:
        return empty_file(path)
    return UserError(
        "data.syntax",
        say("{name} has no row that can be read.", "{name} 中没有可读取的行。", name=path.name),
        say("Line {line}: {text}", "第 {line} 行：{text}", line=records[0].line, text=records[0].text),
        where=problems[0].where,
        problems=problems,
    )
