"""Files of every format, encoding and kind of damage."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from engine.data.read import Source, fingerprint, open_source
from engine.data.rows import Row, SetAside
from engine.protocol.errors import EXIT_INPUT, EXIT_MACHINE, UserError

Write = Callable[[str, str | bytes], Path]
ROW = {"instruction": "Say hello.", "input": "", "output": "Hello!"}
CHINESE = [
    {"instruction": "写一句关于春天的话。", "output": "春天来了，万物复苏，花园里开满了鲜花。"},
    {"instruction": "北京是哪个国家的首都？", "output": "北京是中华人民共和国的首都，也是政治文化中心。"},
]


def rows(source: Source) -> list[Row]:
    return [item for item in source.rows() if isinstance(item, Row)]


def aside(source: Source) -> list[SetAside]:
    return [item for item in source.rows() if isinstance(item, SetAside)]


# ----------------------------------------------------------------------------------------------------------- formats
def test_json_list_names_the_line_of_each_row(write: Write) -> None:
    source = open_source(write("a.json", json.dumps([ROW, {**ROW, "output": "Hi!"}], indent=2)))
    assert (source.format, source.shape.name, source.encoding) == ("json", "alpaca", "utf-8")
    assert [row.where for row in rows(source)] == ["a.json:2", "a.json:7"]
    assert rows(source)[1].answer == "Hi!"


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_json_lines_under_either_name(write: Write, name: str) -> None:
    source = open_source(write(name, f"{json.dumps(ROW)}\r\n\r\n{json.dumps(ROW)}\r\n"))
    assert source.format == "jsonl"
    assert [row.where for row in rows(source)] == [f"{name}:1", f"{name}:3"]


def test_a_list_inside_an_object(write: Write) -> None:
    source = open_source(write("a.json", json.dumps({"version": 1, "data": [ROW, ROW]}, indent=1)))
    assert source.count == 2
    assert rows(source)[0].where == "a.json:4"


def test_one_object_is_one_row_even_with_turns_in_it(write: Write) -> None:
    record = {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}
    source = open_source(write("a.json", json.dumps(record, indent=2)))
    assert source.count == 1
    assert source.problems == ()
    assert rows(source)[0].answer == "A"


def test_line_separators_inside_strings_end_no_line(write: Write) -> None:
    text = json.dumps({**ROW, "output": "a\u2028b"}, ensure_ascii=False)
    assert rows(open_source(write("a.jsonl", f"{text}\n{text}\n")))[1].answer == "a\u2028b"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_with_cells_of_several_lines(write: Write, delimiter: str, end: str) -> None:
    lines = [
        delimiter.join(("question", "answer")),
        delimiter.join(('"Two\nlines, and a ""quote"""', "one; two"))
        if delimiter != ";"
        else '"Two\nlines, and a ""quote""";"one; two"',
        delimiter.join(("Next", "Yes")),
    ]
    source = open_source(write("a.csv", end.join(lines) + end))
    assert source.columns == ("question", "answer")
    first, second = rows(source)
    assert (first.question, first.answer) == ('Two\nlines, and a "quote"', "one; two")
    assert (first.where, second.where) == ("a.csv:2", "a.csv:4")


def test_csv_drops_unnamed_empty_columns_and_names_the_others(write: Write) -> None:
    source = open_source(write("a.csv", "prompt,completion,,\nQ,A,,note\nR,B,,\n"))
    assert source.columns == ("prompt", "completion", "column_4")


def test_csv_rows_of_another_width_are_set_aside(write: Write) -> None:
    source = open_source(write("a.csv", "prompt,completion\nQ,A\nonly one\nQ,A,too,many\nR,B\n"))
    assert [item.where for item in aside(source)] == ["a.csv:3", "a.csv:4"]
    assert len(rows(source)) == 2


def test_csv_that_ends_inside_a_quote(write: Write) -> None:
    source = open_source(write("a.csv", 'prompt,completion\nQ,A\nR,"broken off\nin the'))
    assert [(item.reason, item.where) for item in aside(source)] == [("cut_off", "a.csv:3")]
    assert len(rows(source)) == 1


def test_messages_as_json_in_a_csv_cell(write: Write) -> None:
    turns = json.dumps([{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]).replace('"', '""')
    assert rows(open_source(write("a.csv", f'messages\n"{turns}"\n')))[0].answer == "A"


def test_parquet_with_text_and_with_turns(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"question": ["Q", "R"], "answer": ["A", None]}), path)
    source = open_source(path)
    assert (source.format, source.encoding) == ("parquet", "binary")
    assert [row.where for row in rows(source)] == ["a.parquet:1"]
    assert [item.reason for item in aside(source)] == ["empty_answer"]
    turns = [[{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]]
    pyarrow.parquet.write_table(pyarrow.table({"messages": turns}), path)
    assert open_source(path).shape.name == "messages"


def test_half_a_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"question": ["Q"] * 100, "answer": ["A"] * 100}), path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError) as caught:
        open_source(path)
    assert caught.value.problem.code == "data.damaged"
    assert caught.value.exit_code == EXIT_INPUT


# --------------------------------------------------------------------------------------------------------- encodings
@pytest.mark.parametrize(
    ("encoding", "told"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8"),
        ("utf-16", "utf-16-le"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("utf-32", "utf-32-le"),
        ("gb18030", "gb18030"),
    ],
)
def test_encodings_of_chinese_text(write: Write, encoding: str, told: str) -> None:
    text = json.dumps(CHINESE, ensure_ascii=False)
    source = open_source(write("a.json", text.encode(encoding)))
    assert source.encoding == told
    assert rows(source)[0].answer == CHINESE[0]["output"]


@pytest.mark.parametrize(("encoding", "told"), [("latin-1", "latin-1"), ("cp1252", "cp1252")])
def test_encodings_of_western_text(write: Write, encoding: str, told: str) -> None:
    quote = "„été“" if encoding == "cp1252" else "été"
    answer = f"L'{quote} à la plage était très agréable; où êtes-vous allé, garçon? Größe, señor, país."
    text = "question,answer\n" + f'Où?,"{answer}"\n' * 3
    source = open_source(write("a.csv", text.encode(encoding)))
    assert source.encoding == told
    assert rows(source)[0].answer == answer


def test_an_encoding_chosen_by_hand(write: Write) -> None:
    path = write("a.json", json.dumps(CHINESE, ensure_ascii=False).encode("big5", "replace"))
    assert open_source(path, encoding="big5").encoding == "big5"
    with pytest.raises(UserError) as caught:
        open_source(path, encoding="utf-8")
    assert caught.value.problem.code == "data.encoding"
    assert caught.value.problem.where == "a.json:1"
    with pytest.raises(UserError) as caught:
        open_source(path, encoding="latin-99")
    assert caught.value.problem.code == "data.encoding_unknown"


def test_a_few_broken_bytes_cost_only_their_row(write: Write) -> None:
    lines = [json.dumps(row, ensure_ascii=False).encode() for row in CHINESE * 5]
    lines[3] = lines[3].replace("首都".encode(), b"\xe9\x80\xff", 1)
    source = open_source(write("a.jsonl", b"\n".join(lines) + b"\n"))
    assert source.encoding == "utf-8"
    assert [(item.reason, item.where) for item in aside(source)] == [("wrong_encoding", "a.jsonl:4")]
    assert [(p.code, p.where) for p in source.problems] == [("data.broken_characters", "a.jsonl:4")]
    assert len(rows(source)) == 9


def test_half_an_escaped_character_is_set_aside(write: Write) -> None:
    source = open_source(write("a.jsonl", json.dumps(ROW) + '\n{"instruction": "x", "output": "\\ud83d"}\n'))
    assert [item.reason for item in aside(source)] == ["wrong_encoding"]


# ------------------------------------------------------------------------------------------------------------ damage
def test_missing_empty_blank_and_a_folder(write: Write, tmp_path: Path) -> None:
    cases = [
        (tmp_path / "none.json", "file.missing"),
        (write("empty.jsonl", ""), "data.empty"),
        (write("blank.csv", " \n\n"), "data.empty"),
        (write("header.csv", "prompt,completion\n"), "data.empty"),
        (write("list.json", "[]"), "data.empty"),
        (tmp_path, "data.folder"),
    ]
    for path, code in cases:
        with pytest.raises(UserError) as caught:
            open_source(path)
        assert caught.value.problem.code == code, path
        assert caught.value.exit_code == EXIT_INPUT
        assert caught.value.problem.hint, path
        assert caught.value.problem.message.zh != caught.value.problem.message.en


def test_a_header_alone_is_not_called_empty(write: Write) -> None:
    with pytest.raises(UserError, match="header and no row"):
        open_source(write("header.csv", "prompt,completion\n"))


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([ROW] * 2),
        json.dumps([ROW] * 2, indent=2),
        "[\n" + json.dumps(ROW) + ",\n" + json.dumps(ROW) + "\n]\n",
        "[\n" + json.dumps(ROW) + ",\n" + json.dumps(ROW) + "]",
        "[" + json.dumps(ROW) + ",\n" + json.dumps(ROW) + "]",
    ],
)
def test_a_list_in_a_file_named_jsonl(write: Write, text: str) -> None:
    source = open_source(write("a.jsonl", text))
    assert (source.format, source.count, len(rows(source)), source.problems) == ("json", 2, 2, ())


@pytest.mark.parametrize("first", ["[1, 2]", "[broken"])
def test_a_first_line_that_is_no_object_costs_only_itself(write: Write, first: str) -> None:
    source = open_source(write("a.jsonl", first + "\n" + json.dumps(ROW) + "\n" + json.dumps(ROW) + "\n"))
    assert (source.format, len(rows(source))) == ("jsonl", 2)
    assert [item.where for item in aside(source)] == ["a.jsonl:1"]


def test_each_line_that_cannot_be_read_has_a_hint(write: Write) -> None:
    with pytest.raises(UserError) as caught:
        open_source(write("a.jsonl", "1\n2\n"))
    assert len(caught.value.problems) == 2
    assert all(problem.hint for problem in caught.value.problems)


def test_unknown_columns_are_mapped_in_the_recipe(write: Write) -> None:
    with pytest.raises(UserError) as caught:
        open_source(write("a.jsonl", json.dumps({"foo": 1, "bar": 2, "baz": 3}) + "\n"))
    assert "data.mapping" in caught.value.problem.hint.en
    assert "data.mapping" in caught.value.problem.hint.zh


def test_no_permission_is_the_machines_fault(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("a.json", json.dumps([ROW]))

    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError) as caught:
        open_source(path)
    assert caught.value.exit_code == EXIT_MACHINE


@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04" + bytes(200),
        b"%PDF-1.7\n",
        bytes(range(256)) * 20,
        random.Random(1).randbytes(4000),
        os.urandom(3).join([b"\0" * 300] * 3),
    ],
)
def test_binary_files(write: Write, content: bytes) -> None:
    with pytest.raises(UserError) as caught:
        open_source(write("a.jsonl", content))
    assert caught.value.problem.code == "data.binary"
    assert caught.value.problem.where == "a.jsonl:1"


def test_a_damaged_archive(write: Write) -> None:
    with pytest.raises(UserError) as caught:
        open_source(write("a.jsonl.gz", b"\x1f\x8b\x08" + bytes(50)))
    assert caught.value.problem.code == "data.damaged"


def test_a_half_written_last_line_is_set_aside(write: Write) -> None:
    source = open_source(write("a.jsonl", "\n".join([json.dumps(ROW)] * 3) + '\n{"instruction": "And th'))
    assert [(item.reason, item.where) for item in aside(source)] == [("cut_off", "a.jsonl:4")]
    assert len(rows(source)) == 3


def test_a_file_cut_in_the_middle_of_a_character(write: Write) -> None:
    whole = "\n".join(json.dumps(row, ensure_ascii=False) for row in CHINESE).encode()
    source = open_source(write("a.jsonl", whole[: whole.rindex("文化".encode()) + 1]))
    assert source.encoding == "utf-8"
    assert [item.reason for item in aside(source)] == ["cut_off"]
    assert len(rows(source)) == 1


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32", "gb18030"])
def test_a_half_written_file_in_every_encoding(write: Write, encoding: str) -> None:
    whole = "\n".join(json.dumps(row, ensure_ascii=False) for row in CHINESE * 4).encode(encoding)
    for cut in range(1, 6):
        source = open_source(write("a.jsonl", whole[: len(whole) - 8 - cut]))
        assert [(item.reason, item.where) for item in aside(source)] == [("cut_off", "a.jsonl:8")]
        assert [row.answer for row in rows(source)][:2] == [row["output"] for row in CHINESE]


def test_a_broken_line_in_the_middle(write: Write) -> None:
    source = open_source(write("a.jsonl", f"{json.dumps(ROW)}\n{{'single': 1}}\n[1]\n{json.dumps(ROW)}\n"))
    assert [(item.reason, item.where) for item in aside(source)] == [("bad_row", "a.jsonl:2"), ("bad_row", "a.jsonl:3")]


@pytest.mark.parametrize("keep", [0.3, 0.5, 0.9, 0.99])
def test_a_half_written_list_keeps_its_whole_objects(write: Write, keep: float) -> None:
    whole = json.dumps([{**ROW, "output": f"Hello {i}"} for i in range(20)], indent=2)
    source = open_source(write("a.json", whole[: int(len(whole) * keep)]))
    assert [p.code for p in source.problems] == ["data.half_written"]
    assert source.problems[0].where.startswith("a.json:")
    kept = rows(source)
    assert [row.answer for row in kept] == [f"Hello {i}" for i in range(len(kept))]
    assert len(kept) >= int(20 * keep) - 1


def test_a_broken_object_in_a_list_costs_only_itself(write: Write) -> None:
    objects = [json.dumps({**ROW, "output": f"Hello {i}"}) for i in range(4)]
    objects[1] = objects[1].replace('"output":', '"output"')
    source = open_source(write("a.json", "[" + ",\n".join(objects) + "]"))
    assert [(item.reason, item.where) for item in aside(source)] == [("bad_row", "a.json:2")]
    assert [row.answer for row in rows(source)] == ["Hello 0", "Hello 2", "Hello 3"]


def test_turns_are_not_mistaken_for_rows_after_a_break(write: Write) -> None:
    turns = {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}
    objects = [json.dumps(turns)] * 3
    objects[1] = objects[1].replace("[{", "[x{")
    source = open_source(write("a.json", "[" + ",\n".join(objects) + "]"))
    assert Counter(type(item).__name__ for item in source.rows()) == {"Row": 2, "SetAside": 1}


def test_no_readable_row_at_all(write: Write) -> None:
    with pytest.raises(UserError) as caught:
        open_source(write("a.jsonl", "{broken\n{also\n"))
    assert caught.value.problem.code == "data.syntax"
    assert caught.value.problem.where == "a.jsonl:1"
    assert [p.where for p in caught.value.problems] == ["a.jsonl:1", "a.jsonl:2"]
    with pytest.raises(UserError) as caught:
        open_source(write("a.json", "hello"))
    assert caught.value.problem.where == "a.json:1"


def test_deeply_nested_json_is_a_bad_row_not_a_crash(write: Write) -> None:
    deep = '{"instruction": ' + "[" * 100_000 + "]" * 100_000 + "}"
    source = open_source(write("a.jsonl", f"{json.dumps(ROW)}\n{deep}\n"))
    assert [item.reason for item in aside(source)] == ["bad_row"]


def test_fingerprint_is_of_the_content(write: Write, tmp_path: Path) -> None:
    path = write("a.json", json.dumps([ROW]))
    assert fingerprint(path) == open_source(path).sha256
    assert fingerprint(write("b.json", json.dumps([ROW]))) == fingerprint(path)
    assert fingerprint(write("c.json", json.dumps([ROW, ROW]))) != fingerprint(path)
    with pytest.raises(UserError):
        fingerprint(tmp_path / "none")
