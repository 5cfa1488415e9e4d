"""A data file opened: what it is, and its rows one by one, usable or set aside with line and reason."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.data.declare import BadRow, Shape
from engine.data.decode import decode, has_broken_characters
from engine.data.detect import detect
from engine.data.formats import Record, Table, empty_file, parse, parse_parquet
from engine.data.rows import HINTS, Row, SetAside
from engine.project.atomic import disk_error
from engine.protocol.errors import EXIT_MACHINE, Problem, UserError
from engine.protocol.text import say


@dataclass(frozen=True, slots=True)
class Source:
    """An opened data file.

    Attributes:
        path: the file.
        format: json, jsonl, csv or parquet.
        encoding: Python's name of the text encoding; "binary" for Parquet.
        shape: how its columns make conversations.
        confidence: 0 to 1, how sure that is.
        mapping: role → column.
        columns: all column names, in order of appearance.
        problems: what is wrong with the file as a whole.
        bytes: size of the file.
        sha256: fingerprint of its content.
        records: its records, as read.
    """

    path: Path
    format: str
    encoding: str
    shape: Shape
    confidence: float
    mapping: dict[str, str]
    columns: tuple[str, ...]
    problems: tuple[Problem, ...]
    bytes: int
    sha256: str
    records: tuple[Record, ...]

    @property
    def count(self) -> int:
        """Rows in the file, unusable ones counted."""
        return len(self.records)

    def rows(self) -> Iterator[Row | SetAside]:
        """Each row in the file's order."""
        for index, record in enumerate(self.records):
            yield self._row(index, record)

    def _row(self, index: int, record: Record) -> Row | SetAside:
        where = f"{self.path.name}:{record.line}"
        if record.reason:
            return SetAside(index, where, record.reason, record.text)
        try:
            found = self.shape.convert(record.value, self.mapping)
        except BadRow as bad:
            return SetAside(index, where, bad.reason, bad.text)
        texts = [m.content for m in found.messages] + [found.chosen or "", found.rejected or ""]
        if any(has_broken_characters(text) for text in texts):
            return SetAside(
                index,
                where,
                "wrong_encoding",
                say("It holds bytes that are no characters.", "其中有无法识别为字符的字节。"),
            )
        return Row(index, where, found.messages, found.chosen, found.rejected, found.liked, found.tools, found.text)


def open_source(
    path: Path | str, *, encoding: str = "auto", shape: str = "auto", mapping: Mapping[str, str] | None = None
) -> Source:
    """Open a data file: format, encoding, shape and columns are found, or taken as given.

    Args:
        path: a JSON, JSON Lines, CSV or Parquet file.
        encoding: a Python codec name, or "auto".
        shape: a key of `engine.data.registry.SHAPES`, or "auto".
        mapping: role → column, where the detected one is not right.

    Raises:
        UserError: it is missing, empty, binary, wrongly encoded, or of no known shape (exit code 2); it may not be
            read, or the disk fails (exit code 1). `where` names file and line.
    """
    path = Path(path)
    raw = _read(path)
    if not raw.strip():
        raise empty_file(path)
    if raw.startswith(b"PAR1"):
        table, found_encoding = parse_parquet(path), "binary"
    else:
        decoded = decode(raw, path, encoding)
        table, found_encoding = parse(decoded.text, path), decoded.encoding
        table = Table(table.format, table.records, decoded.problems + table.problems)
    usable = [record.value for record in table.records if not record.reason]
    columns = tuple(dict.fromkeys(column for value in usable for column in value))
    if not usable:
        raise _no_record(path, table)
    guess = detect(usable, columns, path.name, shape=shape, mapping=mapping)
    return Source(
        path=path,
        format=table.format,
        encoding=found_encoding,
        shape=guess.shape,
        confidence=guess.confidence,
        mapping=guess.mapping,
        columns=columns,
        problems=table.problems,
        bytes=len(raw),
        sha256=hashlib.sha256(raw).hexdigest(),
        records=tuple(table.records),
    )


def fingerprint(path: Path | str) -> str:
    """SHA-256 of a file's content, in hexadecimal. Raises `UserError` when it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise disk_error(error, Path(path)) from error


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise UserError(
            "data.folder",
            say("{name} is a folder.", "{name} 是文件夹。", name=path.name),
            say("Choose a file in it.", "请选择其中的文件。"),
            where=str(path),
        )
    try:
        return path.read_bytes()
    except MemoryError as error:
        raise UserError(
            "data.memory",
            say("{name} does not fit into memory.", "内存放不下 {name}。", name=path.name),
            say("Close other programs, or split the file.", "请关闭其他程序，或拆分该文件。"),
            where=str(path),
            exit_code=EXIT_MACHINE,
        ) from error
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.EINVAL):
            raise disk_error(FileNotFoundError(error.errno, error.strerror), path) from error
        raise disk_error(error, path) from error


def _no_record(path: Path, table: Table) -> UserError:
    """The file has the right ending and not one whole row."""
    problems = tuple(
        Problem(f"data.{r.reason}", r.text, HINTS[r.reason], f"{path.name}:{r.line}") for r in table.records[:100]
    )
    if not problems:
        return empty_file(path)
    return UserError(
        "data.syntax",
        say("{name} has no row that can be read.", "{name} 中没有可读取的行。", name=path.name),
        say("Line {line}: {text}", "第 {line} 行：{text}", line=table.records[0].line, text=table.records[0].text),
        where=problems[0].where,
        problems=problems,
    )
