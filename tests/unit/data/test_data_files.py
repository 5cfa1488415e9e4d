"""Folders and packed files: which files are data, what is left out and told, and what would fill the disk."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.ipc
import pytest

from engine.data.files import expand, open_bytes, plain_suffix
from engine.data.read import Source, open_source
from engine.data.rows import Row
from engine.protocol.errors import UserError

Write = Callable[[str, str | bytes], Path]
ROW = {"instruction": "Say hello.", "input": "", "output": "Hello!"}
LINES = "".join(json.dumps({**ROW, "output": f"Hello {i}!"}) + "\n" for i in range(30))


def answers(source: Source) -> list[str]:
    return [item.answer for item in source.rows() if isinstance(item, Row)]


def test_a_folder_is_its_data_files_in_order(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.json", "README.md", "dataset_info.json", ".hidden.jsonl", "notes.docx"):
        (tmp_path / name).write_text(LINES)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "c.csv").write_text("prompt,completion\nQ,A\n")
    assert [path.name for path in expand([tmp_path]).files] == ["a.json", "b.jsonl", "c.csv"]


def test_files_to_measure_with_are_left_out_and_told(tmp_path: Path) -> None:
    for name in ("train-00000.jsonl", "test.jsonl", "validation-00000.jsonl"):
        (tmp_path / name).write_text(LINES)
    found = expand([tmp_path])
    assert [path.name for path in found.files] == ["train-00000.jsonl"]
    assert [problem.code for problem in found.problems] == ["data.measured_files"]
    assert "test.jsonl" in found.problems[0].message.en
    (tmp_path / "train-00000.jsonl").unlink()
    assert len(expand([tmp_path]).files) == 2


def test_a_link_out_of_the_folder_is_left_out(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside.jsonl", tmp_path / "folder"
    outside.write_text(LINES)
    folder.mkdir()
    (folder / "a.jsonl").write_text(LINES)
    try:
        (folder / "b.jsonl").symlink_to(outside)
    except OSError:
        pytest.skip("this system lets nobody make links")
    found = expand([folder])
    assert [path.name for path in found.files] == ["a.jsonl"]
    assert [problem.code for problem in found.problems] == ["data.link"]


def test_a_folder_without_data(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        expand([tmp_path])
    assert caught.value.problem.code == "data.folder"


def test_the_ending_that_tells_the_format() -> None:
    assert [plain_suffix(Path(name)) for name in ("a.jsonl.gz", "a.CSV", "a.json.zst", "a.tar.gz", "a")] == [
        ".jsonl",
        ".csv",
        ".json",
        ".tar",
        "",
    ]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.csv.gz", "a.json.gz"])
def test_packed_files(write: Write, name: str) -> None:
    text = {
        "jsonl": LINES,
        "csv": "prompt,completion\n" + "".join(f"Question {i}?,Hello {i}!\n" for i in range(30)),
        "json": json.dumps([json.loads(line) for line in LINES.splitlines()]),
    }[name.split(".")[1]]
    packed = (
        gzip.compress(text.encode()) if name.endswith("gz") else pyarrow.compress(text.encode(), "zstd", asbytes=True)
    )
    assert answers(open_source(write(name, packed))) == [f"Hello {i}!" for i in range(30)]


def test_a_packed_file_that_breaks_off_keeps_its_whole_rows(write: Write) -> None:
    packed = gzip.compress(("".join(f"{LINES}" for _ in range(200))).encode())
    source = open_source(write("a.jsonl.gz", packed[: len(packed) * 3 // 4]))
    assert len(answers(source)) > 100
    assert "data.half_written" in {problem.code for problem in source.problems}


def test_a_file_made_to_fill_the_disk_is_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.data.files._BOMB_BYTES", 1 << 20)
    path = write("a.jsonl.gz", gzip.compress(b"\n" * (1 << 22)))
    with pytest.raises(UserError) as caught, open_bytes(path) as file:
        file.read()
    assert caught.value.problem.code == "data.bomb"


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_arrow(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "data.arrow"
    table = pyarrow.table({"question": ["Q", "R"], "answer": ["A", "B"]})
    make = pyarrow.ipc.new_file if kind == "file" else pyarrow.ipc.new_stream
    with pyarrow.OSFile(str(path), "wb") as sink, make(sink, table.schema) as writer:
        writer.write_table(table)
    source = open_source(path)
    assert (source.format, answers(source)) == ("arrow", ["A", "B"])
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError) as caught:
        open_source(path)
    assert caught.value.problem.code == "data.damaged"
