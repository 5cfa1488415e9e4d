"""Files to records: JSON, JSON Lines, CSV and Parquet, each record with its line, broken ones with the reason."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.protocol.errors import Problem, UserError
from engine.protocol.text import Text, say

FORMATS: dict[str, Text] = {
    "json": say("JSON", "JSON"),
    "jsonl": say("JSON Lines", "JSON Lines"),
    "csv": say("CSV", "CSV"),
    "parquet": say("Parquet", "Parquet"),
}
_DELIMITERS = ",;\t|"
_SPACE = re.compile(r"\s*")
_LIST_FIELD = re.compile(r'"([^"\\]{1,80})"\s*:\s*\[\s*(?=\{)')


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a file.

    Attributes:
        line: where it starts, from 1; for Parquet its number, from 1.
        value: column → value; empty where `reason` says why it cannot be used.
        reason, text: as in `engine.data.rows.SetAside`; reason is empty for a usable record.
    """

    line: int
    value: Mapping[str, Any]
    reason: str = ""
    text: Text = field(default=Text("", ""))


@dataclass(frozen=True, slots=True)
class Table:
    """What a file holds: its format, its records in order, and what is wrong with the file as a whole."""

    format: str
    records: list[Record]
    problems: tuple[Problem, ...] = ()


def _bad(line: int, en: str, zh: str, *, cut: bool = False, **values: object) -> Record:
    return Record(line, {}, "cut_off" if cut else "bad_row", say(en, zh, **values))


def parse(text: str, path: Path) -> Table:
    """The records of a text file; its ending and its first character decide the format.

    Raises:
        UserError: it is empty, or none of the formats.
    """
    first = text[_SPACE.match(text).end() :][:1]  # type: ignore[union-attr]  # \s* always matches
    suffix = path.suffix.lower()
    if not first:
        raise empty_file(path)
    if suffix in (".jsonl", ".ndjson", ".jsonlines") and not (first == "[" and _is_list(text)):
        return Table("jsonl", list(_json_lines(text)))
    if first in "[{" and suffix not in (".csv", ".tsv"):
        return _json(text, path)
    if suffix in (".csv", ".tsv"):
        return _csv(text, path)
    raise _not_data(path, suffix)


def empty_file(path: Path) -> UserError:
    """The error for a file without a single row."""
    return _without_rows(path, say("{name} is empty.", "{name} 是空文件。", name=path.name))


def _header_only(path: Path) -> UserError:
    words = say("{name} has a header and no row below it.", "{name} 只有表头，没有数据行。", name=path.name)
    return _without_rows(path, words)


def _without_rows(path: Path, message: Text) -> UserError:
    hint = say("Choose a file with rows in it.", "请选择有数据的文件。")
    return UserError("data.empty", message, hint, where=f"{path.name}:1")


def _not_data(path: Path, suffix: str) -> UserError:
    if suffix in (".json",):
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
        say("{name} is plain text, without rows to learn from.", "{name} 是纯文本，没有可学习的行。", name=path.name),
        say(
            "Lorimer trains on questions and answers: JSON, JSON Lines, CSV (.csv, .tsv) or Parquet.",
            "Lorimer 用提问与回答训练：JSON、JSON Lines、CSV（.csv、.tsv）或 Parquet。",
        ),
        where=f"{path.name}:1",
    )


# --------------------------------------------------------------------------------------------------------- JSON
def _json_lines(text: str) -> Iterator[Record]:
    # Only \n ends a line: U+2028 and its kin are allowed inside JSON strings.
    lines = text.split("\n")
    last = max((i for i, line in enumerate(lines) if line.strip()), default=0)
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield _bad_json_line(number + 1, error, cut=number == last and number == len(lines) - 1)
            continue
        if isinstance(value, dict):
            yield Record(number + 1, value)
        else:
            yield _bad(number + 1, "The line is no JSON object.", "该行不是 JSON 对象。")


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


def _json(text: str, path: Path) -> Table:
    """A list of objects; an object with a list in it; one object; or, in a wrongly named file, JSON Lines."""
    start = _SPACE.match(text).end()  # type: ignore[union-attr]
    if text[start] == "[":
        records, problems = _scan_list(text, start + 1, path)
        return Table("json", records, problems)
    first_line = text[start:].split("\n", 1)
    if len(first_line) == 2 and first_line[1].strip() and _is_json(first_line[0]):
        return Table("jsonl", list(_json_lines(text)))
    inner = _inner_list(text, start)
    if inner is not None:
        records, problems = _scan_list(text, inner, path)
        return Table("json", records, problems)
    records, problems = _scan_list(text, start, path)
    return Table("json", records, problems if len(records) > 1 or not records[0].value else ())


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


@dataclass(slots=True)
class _Lines:
    """Line numbers of growing positions, each newline counted once."""

    text: str
    line: int = 1
    at: int = 0

    def of(self, position: int) -> int:
        self.line += self.text.count("\n", self.at, position)
        self.at = position
        return self.line


def _scan_list(text: str, position: int, path: Path) -> tuple[list[Record], tuple[Problem, ...]]:
    """Objects from ``position`` to the list's end, one by one: a broken one costs only itself."""
    scan, lines = json.JSONDecoder().raw_decode, _Lines(text)
    records: list[Record] = []
    while True:
        position = _skip(text, position)
        if position >= len(text):
            return records, (_unfinished(path, lines.of(position), len(records)),)
        if text[position] == "]":
            return records, ()
        line = lines.of(position)
        try:
            value, end = scan(text, position)
        except (ValueError, RecursionError) as error:
            resumed = _resume(text, getattr(error, "pos", position), records)
            records.append(_broken_object(line, error, cut=resumed is None))
            if resumed is None:
                return records, (_unfinished(path, line, len(records) - 1),)
            position = resumed
            continue
        is_row = isinstance(value, dict)
        records.append(Record(line, value) if is_row else _bad(line, "This is no JSON object.", "这不是 JSON 对象。"))
        position = end


_BETWEEN = re.compile(r"[\s,]*")


def _skip(text: str, position: int) -> int:
    return _BETWEEN.match(text, position).end()  # type: ignore[union-attr]  # may be empty, always matches


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


def _resume(text: str, position: int, records: list[Record]) -> int | None:
    """Where the next whole row starts after a broken one, None when there is none.

    Objects inside a row (turns of a conversation) are told from rows by their columns.
    """
    columns = next((set(r.value) for r in reversed(records) if r.value), None)
    if columns is None:
        return None
    for tried, found in enumerate(_NEXT_OBJECT.finditer(text, position)):
        try:
            value, _ = json.JSONDecoder().raw_decode(text, found.end())
        except ValueError:
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
def _csv(text: str, path: Path) -> Table:
    # The reader's default limit of 128 KiB a cell is too small for books; this is the largest a C long holds anywhere.
    csv.field_size_limit(2**31 - 1)
    delimiter = _sniff(text)
    lines = io.StringIO(text, newline="").readlines()
    reader = csv.reader(lines, delimiter=delimiter)
    header: list[str] | None = None
    records: list[Record] = []
    before = 0
    for cells in reader:
        line, before = before + 1, reader.line_num
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = _header(cells)
        else:
            records.append(_csv_record(line, cells, header))
    if header is None:
        raise empty_file(path)
    if not records:
        raise _header_only(path)
    if _ends_inside_quotes(lines[records[-1].line - 1 :], delimiter):
        records[-1] = _bad(
            records[-1].line, "A quote opened here is never closed.", "此处打开的引号没有关闭。", cut=True
        )
    return Table("csv", _without_empty_columns(records))


def _sniff(text: str) -> str:
    """The delimiter that cuts the first rows into the most columns, the same number in each."""
    head = text[: 1 << 16]
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


def _without_empty_columns(records: list[Record]) -> list[Record]:
    """Without unnamed columns that are empty in every row: what a spreadsheet leaves behind."""
    unnamed = {name for r in records for name in r.value if name.startswith("column_")}
    empty = {name for name in unnamed if not any(str(r.value.get(name, "")).strip() for r in records)}
    if not empty:
        return records
    return [Record(r.line, {k: v for k, v in r.value.items() if k not in empty}, r.reason, r.text) for r in records]


# ------------------------------------------------------------------------------------------------------ Parquet
def parse_parquet(path: Path) -> Table:
    """The records of a Parquet file. Raises `UserError` when it is damaged or half-written."""
    # Takes a third of a second to import, and most files are not Parquet.
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise UserError(
            "data.damaged",
            say(
                "{name} is a damaged or half-written Parquet file.",
                "{name} 是损坏或未写完的 Parquet 文件。",
                name=path.name,
            ),
            say("Write or download it again.", "请重新写入或下载。"),
            where=str(path.name),
            details=str(error),
        ) from error
    if not rows:
        raise empty_file(path)
    return Table("parquet", [Record(i + 1, row) for i, row in enumerate(rows)])
