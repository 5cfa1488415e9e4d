"""What the data files still tell of held-out rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.dataset import DataSet
from engine.data.rows import Row, row_to_plain, set_aside_to_plain
from engine.evaluate.training_data import UNKNOWN, look
from engine.project.run_folder import RunFolder
from engine.recipe.recipe import DataSettings


def _file(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in records), encoding="utf-8")
    return path


def _records(count: int = 24) -> list[dict[str, Any]]:
    return [
        {"instruction": f"Question number {i}?", "output": f"Answer {i}.", "category": f"k{i % 3}"}
        for i in range(count)
    ]


def _run(
    folder: Path, data: DataSettings, held_out: list[int], aside: list[int] | None = None
) -> tuple[RunFolder, list[Row]]:
    """A run that held these rows out; the rows."""
    rows = DataSet(data, preference=False).scan()
    chosen = list(rows.rows(np.array(held_out)))
    run = RunFolder(folder)
    run.path.mkdir(exist_ok=True)
    run.held_out.write_text("".join(json.dumps(row_to_plain(row)) + "\n" for row in chosen), encoding="utf-8")
    items = [item for index in aside or [] if (item := rows.item(index))]
    lines = [
        {"index": item.index, "where": item.where} if isinstance(item, Row) else set_aside_to_plain(item)
        for item in items
    ]
    run.set_aside.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return run, chosen


def test_rows_that_nothing_else_repeats(tmp_path: Path) -> None:
    data = DataSettings(files=(str(_file(tmp_path / "a.jsonl", _records())),))
    run, rows = _run(tmp_path / "run", data, [1, 4, 9])
    found = look(run, data, rows, preference=False)
    assert found.overlap is not None
    assert (found.overlap.rows, found.overlap.questions, found.overlap.of) == (0, 0, 3)
    assert (found.column, found.values) == ("category", ("k1", "k1", "k0"))
    assert found.note is None


def test_a_question_with_another_answer_in_training_is_counted(tmp_path: Path) -> None:
    records = [*_records(), {**_records()[4], "output": "Another answer."}]
    data = DataSettings(files=(str(_file(tmp_path / "a.jsonl", records)),))
    run, rows = _run(tmp_path / "run", data, [1, 4])
    found = look(run, data, rows, preference=False).overlap
    assert found is not None
    assert (found.rows, found.questions) == (0, 1)
    # Not when the run set that row aside.
    run, rows = _run(tmp_path / "other", data, [1, 4], aside=[24])
    found = look(run, data, rows, preference=False).overlap
    assert found is not None
    assert found.questions == 0


def test_a_row_that_stands_in_both_is_counted(tmp_path: Path) -> None:
    """A held-out file of its own that repeats a row, which somebody took back by hand into training."""
    from engine.data.decisions import Decision, Decisions, record_key

    records = _records()
    training = _file(tmp_path / "a.jsonl", records)
    held_out = _file(tmp_path / "b.jsonl", records[3:5])
    kept = Decisions([Decision(str(training), 3, record_key(records[3]), aside=False)])
    kept.save(tmp_path / "decisions.jsonl")
    data = DataSettings(
        files=(str(training),), held_out_file=str(held_out), decisions=str(tmp_path / "decisions.jsonl")
    )
    run, rows = _run(tmp_path / "run", data, [24, 25])
    found = look(run, data, rows, preference=False).overlap
    assert found is not None
    assert (found.rows, found.questions, found.of) == (1, 1, 2)


def test_files_that_are_gone_or_changed_tell_nothing(tmp_path: Path) -> None:
    path = _file(tmp_path / "a.jsonl", _records())
    data = DataSettings(files=(str(path),))
    run, rows = _run(tmp_path / "run", data, [1, 4, 9])
    _file(path, _records()[1:])
    found = look(run, data, rows, preference=False)
    assert found.overlap is None
    assert found.note == UNKNOWN
    path.unlink()
    assert look(run, data, rows, preference=False).overlap is None


def test_a_column_that_says_no_kind_is_not_used(tmp_path: Path) -> None:
    records = [{**one, "category": f"Something else {i}", "topic": "one"} for i, one in enumerate(_records(80))]
    data = DataSettings(files=(str(_file(tmp_path / "a.jsonl", records)),))
    run, rows = _run(tmp_path / "run", data, list(range(40)))
    assert look(run, data, rows, preference=False).column == ""
