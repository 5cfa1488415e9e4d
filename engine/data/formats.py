"""Files to records: JSON, JSON Lines, CSV, Parquet, Arrow and plain text, piece by piece, each record with its line,
broken ones with the reason.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.data.decode import TextFile, empty_file, without_rows
from engine.data.files import plain_suffix
from engine.protocol.errors import Problem, UserError
from engine.protocol.text import Text, say

FORMATS: dict[str, Text] = {
    "json": say("JSON", "JSON"),
    "jsonl": say("JSON Lines", "JSON Lines"),
    "csv": say("CSV", "CSV"),
    "parquet": say("Parquet", "Parquet"),
    "arrow": say("Arrow", "Arrow"),
    "text": say("Plain text", "纯文本"),
}
_DELIMITERS = ",;\t|"
_SPACE = re.compile(r"\s*")
_LIST_FIELD = re.compile(r'"([^"\\]{1,80})"\s*:\s*\[\s*(?=\{)')
_HEAD = 1 << 16
LONGEST_ROW = 64 << 20
"""Characters of one row at most: a larger one is no row, and is set aside unread."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a file.

    Attributes:
        line: where it starts, from 1; for Parquet and Arrow its number, from 1.
        value: column → value; empty where `reason` says why it cannot be used.
        reason, text: as in `engine.data.rows.SetAside`; reason is empty for a usable record.
    """

    line: int
    value: Mapping[str, Any]
    reason: str = ""
    text: Text = field(default=Text("", ""))


@dataclass(slots=True)
class Table:
    """What a file holds.

    Attributes:
        format: a key of `FORMATS`.
        read: begins to read the records from the first on.
        problems: what is wrong with the file as a whole; filled while records are read.
        unnamed: columns without a name in which something stands; filled while records are read.
    """

    format: str
    read: Callable[[], Iterator[Record]]
    problems: list[Problem] = field(default_factory=list)
    unnamed: set[str] = field(default_factory=set)


def _bad(line: int, en: str, zh: str, *, cut: bool = False, **values: object) -> Record:
    return Record(line, {}, "cut_off" if cut else "bad_row", say(en, zh, **values))


def parse(text: TextFile) -> Table:
    """The records of a text file; its ending and its first character decide the format.

    Raises:
        UserError: it is empty, or none of the formats.
    """
    path, head = text.path, text.head(_HEAD)
    first = head[_SPACE.match(head).end() :][:1]  # type: ignore[union-attr]  # \s* always matches
    suffix = plain_suffix(path)
    if not first:
        raise empty_file(path)
    if suffix in (".jsonl", ".ndjson", ".jsonlines") and not (first == "[" and _is_list(head)):
        return _lines_table(text)
    if first in "[{" and suffix not in (".csv", ".tsv"):
        return _json(text, head)
    if suffix in (".csv", ".tsv"):
        return _csv(text, head)
    if suffix in (".txt", ".md", ".text", ""):
        return _plain(text)
    raise _not_data(path, suffix)


def _header_only(path: Path) -> UserError:
    words = say("{name} has a header and no row below it.", "{name} 只有表头，没有数据行。", name=path.name)
    return without_rows(path, words)


def _not_data(path: Path, suffix: str) -> UserError:
    if suffix == ".json":
        return UserError(
            "data.syntax",
            say(
                "{name} is not JSON: it must start with [ or {{.",
                "{name} 不是 JSON：必须以 [ 或 {{ 开头。",
                name=path.name,
            ),
            say("Check the file's start, or rename it if it is CSV.", "请检查文件开头；若是 CSV 请改扩展名。"),
            where=f"{path.name}:1",
        )
    return UserError(
        "data.unsupported_shape",
        say("{name} is no data file that Lorimer knows.", "{name} 不是 Lorimer 认识的数据文件。", name=path.name),
        say(
            "Known: JSON, JSON Lines, CSV (.csv, .tsv), Parquet, Arrow and plain text (.txt, .md).",
            "支持：JSON、JSON Lines、CSV（.csv、.tsv）、Parquet、Arrow 与纯文本（.txt、.md）。",
        ),
        where=f"{path.name}:1",
    )


# --------------------------------------------------------------------------------------------------------- plain text
def _plain(text: TextFile) -> Table:
    """Paragraphs, where blank lines part them; else lines."""
    in_paragraphs = re.search(r"\n[ \t\r]*\n\s*\S", text.head(1 << 20)) is not None

    def read() -> Iterator[Record]:
        kept: list[str] = []
        begin = 1
        for number, line in enumerate(text.lines(universal=True), 1):
            if line.strip():
                begin = number if not kept else begin
                kept.append(line)
            if kept and (not in_paragraphs or not line.strip()):
                yield Record(begin, {"text": "".join(kept).strip("\r\n")})
                kept = []
        if kept:
            yield Record(begin, {"text": "".join(kept).strip("\r\n")})

    return Table("text", read)


# --------------------------------------------------------------------------------------------------------- JSON
def _lines_table(text: TextFile) -> Table:
    return Table("jsonl", lambda: _json_lines(text.lines(universal=False)))


def _json_lines(lines: Iterator[str]) -> Iterator[Record]:
    # Only \n ends a line: U+2028 and its kin are allowed inside JSON strings.
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield json_line(line, number, is_last=not line.endswith("\n"))


def json_line(line: str, number: int, *, is_last: bool) -> Record:
    """The record of one line of a JSON Lines file; ``is_last``: no line end follows it."""
    if len(line) > LONGEST_ROW:
        return _bad(number, "The line is longer than {n} million characters.", "该行超过 {n} 百万个字符。", n=64)
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return _bad_json_line(number, error, cut=is_last)
    if isinstance(value, dict):
        return Record(number, value)
    return _bad(number, "The line is no JSON object.", "该行不是 JSON 对象。")


def _bad_json_line(line: int, error: Exception, *, cut: bool) -> Record:
    if cut:
        return _bad(line, "The last line breaks off in the middle.", "最后一行中途断开。", cut=True)
    reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
    column = error.colno if isinstance(error, json.JSONDecodeError) else 1
    return _bad(
        line,
        "The line is not valid JSON: {reason} at column {column}.",
        "该行不是有效的 JSON：第 {column} 列，{reason}。",
        reason=reason[:1].lower() + reason[1:],
        column=column,
    )


def _json(text: TextFile, head: str) -> Table:
    """A list of objects; an object with a list in it; one object; or, in a wrongly named file, JSON Lines."""
    start = _SPACE.match(head).end()  # type: ignore[union-attr]
    if head[start] != "[":
        first_line = head[start:].split("\n", 1)
        if len(first_line) == 2 and first_line[1].strip() and _is_json(first_line[0]):
            return _lines_table(text)
    is_list = head[start] == "["
    inner = start + 1 if is_list else _inner_list(head, start)
    table = Table("json", lambda: iter(()))

    def read() -> Iterator[Record]:
        table.problems.clear()
        count = broken = 0
        for record in _scan_list(_Window(text.pages()), start if inner is None else inner, text.path, table.problems):
            count, broken = count + 1, broken + bool(record.reason)
            yield record
        if inner is None and count == 1 and not broken:
            table.problems.clear()

    table.read = read
    return table


def _is_list(text: str) -> bool:
    """Whether a text that starts with ``[`` is one list, and not lines of which the first is no object."""
    lines = text.strip().split("\n", 2)
    if len(lines) == 1 or lines[0].strip() == "[":
        return True
    try:
        json.loads(lines[0])
    except (ValueError, RecursionError):
        return not _is_json(lines[1])
    return False


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _inner_list(text: str, start: int) -> int | None:
    """Where the list of rows in a wrapping object starts: its only field that is a list of objects.

    A row can hold a list of objects too (``messages``); such a list is told by its turns.
    """
    found = _LIST_FIELD.search(text, start, start + 4096)
    if found is None:
        return None
    try:
        first, _ = json.JSONDecoder().raw_decode(text, found.end())
    except ValueError:
        return None
    is_turn = isinstance(first, dict) and ("role" in first or "from" in first)
    return None if is_turn else found.end()


class _Window:
    """The part of a text that is being read: grows at its end, and lets go of what was read.

    Attributes:
        text: what is in view.
        is_whole: nothing follows it.
    """

    def __init__(self, pages: Iterator[str]) -> None:
        self._pages = pages
        self.text = ""
        self.is_whole = False
        self._line, self._at = 1, 0
        self.more()

    def more(self) -> None:
        """Another piece at the end."""
        page = next(self._pages, "")
        self.text += page
        self.is_whole = not page

    def line(self, position: int) -> int:
        """The line of a position, from 1; positions must not fall."""
        self._line += self.text.count("\n", self._at, position)
        self._at = position
        return self._line

    def let_go(self, position: int) -> int:
        """Forget what stands before a position where that is much; gives the position in what is left."""
        if position < _LET_GO:
            return position
        self.line(position)
        self.text, self._at = self.text[position:], 0
        return 0


_LET_GO = 1 << 22
_RETRY = 1 << 22
"""An object that cannot be read is tried again with more text behind it while so little is in view."""


def _scan_list(window: _Window, position: int, path: Path, problems: list[Problem]) -> Iterator[Record]:
    """Objects from ``position`` to the list's end, one by one: a broken one costs only itself."""
    scan = json.JSONDecoder().raw_decode
    count, columns = 0, set[str]()
    while True:
        position = window.let_go(_skip(window, position))
        if position >= len(window.text):
            problems.append(_unfinished(path, window.line(position), count))
            return
        if window.text[position] == "]":
            return
        line = window.line(position)
        try:
            value, end = _scanned(scan, window, position)
        except (ValueError, RecursionError) as error:
            resumed = _resume(window, getattr(error, "pos", position), columns)
            yield _broken_object(line, error, cut=resumed is None)
            if resumed is None:
                problems.append(_unfinished(path, line, count))
                return
            position = resumed
            count += 1
            continue
        if isinstance(value, dict):
            columns = columns or set(value)
            yield Record(line, value)
        else:
            yield _bad(line, "This is no JSON object.", "这不是 JSON 对象。")
        count += 1
        position = end


def _scanned(scan: Callable[[str, int], tuple[Any, int]], window: _Window, position: int) -> tuple[Any, int]:
    """The value at a position and where it ends; more text is read where it does not end in view."""
    seen = _RETRY
    while True:
        try:
            value, end = scan(window.text, position)
        except (ValueError, RecursionError):
            if window.is_whole or len(window.text) - position > seen:
                # Once more with much behind it: a long row, or a broken one.
                if window.is_whole or seen >= LONGEST_ROW:
                    raise
                seen *= 16
            window.more()
            continue
        if end == len(window.text) and not window.is_whole:
            window.more()  # a number may go on
            continue
        return value, end


_BETWEEN = re.compile(r"[\s,]*")


def _skip(window: _Window, position: int) -> int:
    while True:
        position = _BETWEEN.match(window.text, position).end()  # type: ignore[union-attr]  # always matches
        if position < len(window.text) or window.is_whole:
            return position
        window.more()


def _broken_object(line: int, error: Exception, *, cut: bool) -> Record:
    if cut:
        return _bad(line, "The object breaks off or is not valid JSON.", "该对象中途断开或不是有效的 JSON。", cut=True)
    reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
    at = error.lineno if isinstance(error, json.JSONDecodeError) else line
    return _bad(
        line,
        "The object is not valid JSON: {reason} in line {at}.",
        "该对象不是有效的 JSON：第 {at} 行，{reason}。",
        reason=reason[:1].lower() + reason[1:],
        at=at,
    )


_NEXT_OBJECT = re.compile(r"[,}\]]\s*(?=\{)")


def _resume(window: _Window, position: int, columns: set[str]) -> int | None:
    """Where the next whole row starts after a broken one, None when there is none.

    Objects inside a row (turns of a conversation) are told from rows by their columns.
    """
    if not columns:
        return None
    if not window.is_whole:
        window.more()
    for tried, found in enumerate(_NEXT_OBJECT.finditer(window.text, position)):
        try:
            value, _ = json.JSONDecoder().raw_decode(window.text, found.end())
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict) and set(value) & columns and not set(value) - columns:
            return found.end()
        if tried > 200:
            break
    return None


def _unfinished(path: Path, line: int, rows: int) -> Problem:
    return Problem(
        "data.half_written",
        say(
            "The list breaks off; the {n} whole rows before it are used.",
            "列表中途断开；使用之前的 {n} 行完整数据。",
            n=rows,
        ),
        say("Write or download the file again if rows are missing.", "若缺少数据，请重新写入或下载该文件。"),
        f"{path.name}:{line}",
    )


# ---------------------------------------------------------------------------------------------------------- CSV
def _csv(text: TextFile, head: str) -> Table:
    # The reader's default limit of 128 KiB a cell is too small for books.
    csv.field_size_limit(LONGEST_ROW)
    table = Table("csv", lambda: iter(()))
    delimiter = _sniff(head)
    table.read = lambda: _csv_records(text, delimiter, table)
    return table


def _csv_records(text: TextFile, delimiter: str, table: Table) -> Iterator[Record]:
    """Rows below the header; one is held back, so that the last can be looked at once more."""
    lines = _Kept(text.lines(universal=True))
    header: list[str] | None = None
    waiting: Record | None = None
    while (read := _next_cells(lines, delimiter)) is not None:
        line, cells = read
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = _header(cells)
            continue
        if waiting is not None:
            yield waiting
        waiting = _csv_record(line, cells, header) if cells is not _TOO_LONG else _too_long_row(line)
        table.unnamed |= {n for n, value in waiting.value.items() if n.startswith("column_") and value.strip()}
    if header is None:
        raise empty_file(text.path)
    if waiting is None:
        raise _header_only(text.path)
    if _ends_inside_quotes(lines.kept, delimiter):
        waiting = _bad(waiting.line, "A quote opened here is never closed.", "此处打开的引号没有关闭。", cut=True)
    yield waiting


class _Kept:
    """Lines one by one, those of the present row kept.

    Attributes:
        kept: lines since the row began.
        number: lines read so far.
    """

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.kept: list[str] = []
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        # A NUL would end the reader's line.
        line = next(self._lines).replace("\0", "")
        self.number += 1
        self.kept.append(line)
        return line


_TOO_LONG = ["-"]


def _next_cells(lines: _Kept, delimiter: str) -> tuple[int, list[str]] | None:
    """(line on which the next row begins, its cells), None at the end."""
    before, last = lines.number + 1, lines.kept
    lines.kept = []
    try:
        cells = next(csv.reader(lines, delimiter=delimiter), None)
    except csv.Error:
        return before, _TOO_LONG
    if cells is None:
        lines.kept = last
        return None
    if not any(cell.strip() for cell in cells):
        lines.kept = last
    return before, cells


def _too_long_row(line: int) -> Record:
    return _bad(line, "A cell is longer than {n} million characters.", "单元格超过 {n} 百万个字符。", n=64)


def _sniff(head: str) -> str:
    """The delimiter that cuts the first rows into the most columns, the same number in each."""
    best, best_score = ",", 0.0
    for delimiter in _DELIMITERS:
        rows = [len(r) for r in csv.reader(io.StringIO(head, newline=""), delimiter=delimiter) if r][:50]
        if not rows or rows[0] < 2:
            continue
        score = rows[0] * sum(1 for n in rows if n == rows[0]) / len(rows)
        if score > best_score:
            best, best_score = delimiter, score
    return best


def _header(cells: list[str]) -> list[str]:
    names: list[str] = []
    for i, cell in enumerate(cells):
        name = cell.strip() or f"column_{i + 1}"
        names.append(name if name not in names else f"{name}_{i + 1}")
    return names


def _csv_record(line: int, cells: list[str], header: list[str]) -> Record:
    if len(cells) < len(header):
        return _bad(
            line,
            "It has {n} columns where the header has {m}.",
            "有 {n} 列，而表头有 {m} 列。",
            n=len(cells),
            m=len(header),
        )
    if any(cell.strip() for cell in cells[len(header) :]):
        return _bad(
            line,
            "It has {n} columns where the header has {m}; text with commas needs quotes.",
            "有 {n} 列，而表头有 {m} 列；含逗号的文本需要引号。",
            n=len(cells),
            m=len(header),
        )
    return Record(line, dict(zip(header, cells, strict=False)))


def _ends_inside_quotes(lines: list[str], delimiter: str) -> bool:
    """Whether the file ends inside the quotes that its last record, in ``lines``, opens."""
    try:
        list(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error as error:
        return "unexpected end" in str(error)
    return False


# ------------------------------------------------------------------------------------------------- Parquet and Arrow
def parse_parquet(path: Path) -> Table:
    """The records of a Parquet file, row group by row group; a damaged one costs its own rows.

    Raises:
        UserError: it is damaged or half-written.
    """
    # Takes a third of a second to import, and most files are not Parquet.
    import pyarrow
    import pyarrow.parquet

    wrong = (pyarrow.ArrowException, OSError, ValueError)
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            groups, count = file.num_row_groups, file.metadata.num_rows
    except wrong as error:
        raise _damaged(path, error) from error
    if count == 0:
        raise empty_file(path)
    table = Table("parquet", lambda: iter(()))

    def read() -> Iterator[Record]:
        table.problems.clear()
        line = 1
        with pyarrow.parquet.ParquetFile(path) as file:
            for group in range(groups):
                end = line + file.metadata.row_group(group).num_rows
                try:
                    for batch in file.iter_batches(_BATCH, row_groups=[group]):
                        for value in batch.to_pylist():
                            yield Record(line, value)
                            line += 1
                except wrong as error:
                    if not table.problems:
                        table.problems.append(_damaged_part(path, line, error))
                    for number in range(line, end):
                        yield _bad(number, "Its part of the file is damaged.", "文件中它所在的部分已损坏。")
                line = end

    table.read = read
    return table


def parse_arrow(path: Path) -> Table:
    """The records of an Arrow file or stream (as `datasets` saves them). Raises `UserError` when it is damaged."""
    import pyarrow

    wrong = (pyarrow.ArrowException, OSError, ValueError)

    def batches() -> Iterator[Any]:
        with pyarrow.memory_map(str(path)) as source:
            try:
                file = pyarrow.ipc.open_file(source)
            except pyarrow.ArrowInvalid:
                yield from pyarrow.ipc.open_stream(source)
                return
            for i in range(file.num_record_batches):
                yield file.get_batch(i)

    table = Table("arrow", lambda: iter(()))

    def read() -> Iterator[Record]:
        table.problems.clear()
        line = 1
        try:
            for batch in batches():
                # Offsets that lead out of a damaged batch would end the process.
                batch.validate(full=True)
                for start in range(0, batch.num_rows, _BATCH):
                    for value in batch.slice(start, _BATCH).to_pylist():
                        yield Record(line, value)
                        line += 1
        except wrong as error:
            if line == 1:
                raise _damaged(path, error) from error
            table.problems.append(_damaged_part(path, line, error))

    table.read = read
    return table


_BATCH = 512


def _damaged(path: Path, error: Exception) -> UserError:
    kind = "Arrow" if plain_suffix(path) == ".arrow" else "Parquet"
    return UserError(
        "data.damaged",
        say(
            "{name} is a damaged or half-written {kind} file.",
            "{name} 是损坏或未写完的 {kind} 文件。",
            name=path.name,
            kind=kind,
        ),
        say("Write or download it again.", "请重新写入或下载。"),
        where=path.name,
        details=str(error),
    )


def _damaged_part(path: Path, row: int, error: Exception) -> Problem:
    reason = str(error).strip().split("\n", 1)[0][:200]
    return Problem(
        "data.damaged_part",
        say(
            "{name} is damaged from row {row} on ({reason}).",
            "{name} 从第 {row} 行起已损坏（{reason}）。",
            name=path.name,
            row=row,
            reason=reason,
        ),
        say("The other rows are used. Write or download it again.", "其余行仍可使用。请重新写入或下载。"),
        f"{path.name}:{row}",
    )
