"""Large files: streamed, scanned in pieces and by several processes, and read by number, as if they were small."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.data import cache, decode, scan
from engine.data.formats import Record
from engine.data.read import Source, open_source
from engine.data.rows import Message, Row, SetAside, ToolCall
from engine.protocol.errors import UserError

Write = Callable[[str, str | bytes], Path]


def record(i: int) -> dict[str, Any]:
    return {
        "instruction": f"Question {i}? 问题",
        "input": "",
        "output": f"Answer {i}.\n第 {i} 行 🙂" + " word" * (i % 40),
    }


def mixed_lines(count: int) -> str:
    """Whole rows with blank, broken and repeated ones between."""
    lines = []
    for i in range(count):
        lines.append(json.dumps(record(i), ensure_ascii=i % 2 == 0))
        if i % 97 == 0:
            lines.append("")
        if i % 101 == 0:
            lines.append('{"instruction": "broken')
        if i % 103 == 0:
            lines.append(json.dumps(record(i)))
    return "\n".join(lines) + "\n"


def told(source: Source) -> list[tuple[str, str]]:
    return [(item.where, item.reason if isinstance(item, SetAside) else item.answer) for item in source.rows()]


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every limit so low that a small file is treated as a large one."""
    monkeypatch.setattr(decode, "_WHOLE", 1 << 12)
    monkeypatch.setattr(scan, "BLOCK", 1 << 12)
    monkeypatch.setattr("engine.data.store._BUFFER", 1 << 11)
    monkeypatch.setattr("engine.data.decode._PAGE", 1 << 11)
    monkeypatch.setattr("engine.data.formats._LET_GO", 1 << 12)
    monkeypatch.setattr("engine.data.read.SMALL", 0)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
def test_in_pieces_it_is_the_same(write: Write, request: pytest.FixtureRequest, name: str, encoding: str) -> None:
    records = [record(i) for i in range(300)]
    if name == "a.csv":
        cells = [[r["instruction"], r["output"].replace('"', '""')] for r in records]
        text = "prompt,completion\r\n" + "".join(f'"{q}","{a}"\r\n' for q, a in cells)
    elif name == "a.json":
        text = json.dumps(records, ensure_ascii=False, indent=1)
    else:
        text = (
            mixed_lines(300)
            if encoding != "gb18030"
            else "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records)
        )
    path = write(name, text.encode(encoding))
    whole = told(open_source(path, encoding="auto" if encoding != "gb18030" else "gb18030"))
    assert len(whole) >= 300
    request.getfixturevalue("small_pieces")
    path.touch()  # another time of change, another place in the cache
    pieces = open_source(path, encoding="auto" if encoding != "gb18030" else "gb18030")
    assert not pieces.is_scanned
    assert told(pieces) == whole


def test_rows_are_read_by_number(write: Write, small_pieces: None) -> None:
    source = open_source(write("a.jsonl", mixed_lines(400)))
    every = list(source.rows())
    order = list(range(len(every)))
    random.Random(1).shuffle(order)
    assert all(source.row(i) == every[i] for i in order[:100])
    assert list(source.rows(50, 60)) == every[50:60]


def test_several_processes_find_the_same(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("a.jsonl", mixed_lines(3000))
    alone = {name: np.array(open_source(path).facts[name]) for name in scan.COLUMNS}
    monkeypatch.setattr(scan, "BLOCK", 1 << 14)
    monkeypatch.setattr(scan, "_ALONE", 0)
    monkeypatch.setattr(scan, "cores", lambda: 2)
    path.touch()
    together = open_source(path).facts
    for name, values in alone.items():
        assert np.array_equal(together[name], values), name


def test_progress_ends_the_scan_and_leaves_nothing(write: Write, small_pieces: None) -> None:
    path = write("a.jsonl", mixed_lines(500))
    source, seen = open_source(path), []

    def tell(done: int, total: int) -> None:
        seen.append(done / total)
        if len(seen) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        source.scan(tell)
    assert seen == sorted(seen)
    assert not list(cache.folder(path, source.encoding, source.format).glob("facts-*"))
    assert source.scan().count == len(list(source.rows()))


def test_what_was_found_is_not_sought_again(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("a.json", json.dumps([record(i) for i in range(20)]))
    first = told(open_source(path))

    def never(*_: object) -> None:
        raise AssertionError("scanned again")

    monkeypatch.setattr(scan, "scan_block", never)
    assert told(open_source(path)) == first
    path.write_text(json.dumps([record(i) for i in range(19)]))
    with pytest.raises(AssertionError, match="scanned again"):
        told(open_source(path))


def test_a_helper_that_ends_is_explained(write: Write) -> None:
    with scan.Helpers(2) as helpers:
        helpers._processes[0].kill()
        helpers._processes[0].join()
        with pytest.raises(UserError) as caught:
            list(helpers.map(_slow, [(i,) for i in range(8)]))
    assert caught.value.problem.code == "data.helper_ended"


def _slow(number: int) -> int:
    return number


def test_what_a_helper_raises_is_raised_here() -> None:
    with scan.Helpers(1) as helpers, pytest.raises(ZeroDivisionError):
        list(helpers.map(_fail, [(0,)]))


def _fail(number: int) -> float:
    return 1 / number


def test_an_enormous_line_is_set_aside_unread(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.data.formats.LONGEST_ROW", 5000)
    path = write(
        "a.jsonl", json.dumps(record(1)) + "\n" + json.dumps({"instruction": "x", "output": "y" * 9000}) + "\n"
    )
    assert [where for where, what in told(open_source(path)) if what == "bad_row"] == ["a.jsonl:2"]


# ------------------------------------------------------------------------------------------------------ fingerprints
def test_rows_that_teach_otherwise_have_another_fingerprint() -> None:
    asked, answer = Message("user", "Q"), Message("assistant", "A")
    rows = [
        Row(0, "", (asked, answer)),
        Row(0, "", (Message("user", "Q\0assistant\1A"),)),
        Row(0, "", (asked, Message("assistant", "A", calls=(ToolCall("f", "{}"),)))),
        Row(0, "", (asked, Message("assistant", "A", reasoning="hm"))),
        Row(0, "", (asked, answer), liked=True),
        Row(0, "", (asked, answer), liked=False),
        Row(0, "", (asked, answer), tools="[]"),
        Row(0, "", (asked,), "A", "B"),
        Row(0, "", (), text="Q"),
    ]
    assert len({scan.keys(row)[0] for row in rows}) == len(rows)
    assert scan.keys(rows[0])[1] == scan.keys(rows[7])[1] == scan.keys(rows[4])[1]


def test_estimated_tokens() -> None:
    assert [scan.estimated_tokens(text) for text in ("", "abcd", "abcde", "中文", "a中b")] == [0, 1, 2, 2, 2]


def test_broken_bytes_survive_a_spool(write: Write, small_pieces: None) -> None:
    lines = [json.dumps(record(i), ensure_ascii=False).encode() for i in range(100)]
    lines[40] = lines[40].replace("问题".encode(), b"\xff\xfe", 1)
    path = write("a.json", b"[" + b",\n".join(lines) + b"]")
    assert [where for where, what in told(open_source(path)) if what == "wrong_encoding"] == ["a.json:41"]


def test_a_record_that_cannot_be_used_keeps_its_reason(write: Write, small_pieces: None) -> None:
    path = write(
        "a.csv", "prompt,completion\n" + "".join(f"Question {i}?,Answer {i}.\n" for i in range(50)) + "only one\n"
    )
    source = open_source(path)
    found = source.record(source.count - 1)
    assert isinstance(found, Record)
    assert (found.line, found.reason) == (52, "bad_row")
    assert "2" in found.text.en
