"""All rows of a recipe by number: decisions about single rows, splits by columns, mixing, doubts, folders."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.data.dataset import DataSet
from engine.data.decisions import Decisions
from engine.data.mixing import factors, mixed
from engine.data.prepare import prepare
from engine.data.preview import DataView
from engine.data.rows import Row, SetAside
from engine.data.scan import CODE
from engine.data.splits import held_out_of
from engine.protocol.errors import UserError
from engine.recipe.quality import QualitySettings
from engine.recipe.recipe import DataSettings, FileSettings

Write = Callable[[str, str | bytes], Path]
ROWS = [
    {
        "instruction": f"What is {i} plus {i}?",
        "output": f"It is {2 * i}.",
        "topic": f"t{i % 7}",
        "when": f"2026-{1 + i // 28:02d}-{1 + i % 28:02d}",
        "split": "test" if i % 10 == 3 else "train",
    }
    for i in range(120)
]


@pytest.fixture
def path(write: Write) -> Path:
    return write("rows.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS))


@pytest.fixture
def decided(path: Path, tmp_path: Path) -> DataSettings:
    return DataSettings(files=(str(path),), decisions=str(tmp_path / "decisions.jsonl"))


def scanned(data: DataSettings) -> DataSet:
    return DataSet(data).scan()


# --------------------------------------------------------------------------------------------------------- decisions
def test_a_cell_is_changed_and_the_file_is_not(decided: DataSettings, path: Path) -> None:
    before = path.read_bytes()
    scanned(decided).decide(4, column="output", value="Eight.")
    row = scanned(decided).item(4)
    assert isinstance(row, Row)
    assert row.answer == "Eight."
    assert path.read_bytes() == before


def test_a_row_is_set_aside_and_taken_back(decided: DataSettings) -> None:
    rows = scanned(decided)
    rows.decide(4, aside=True)
    item = scanned(decided).item(4)
    assert isinstance(item, SetAside)
    assert item.reason == "by_hand"
    assert 4 not in scanned(decided).usable
    rows.decide(4, aside=False)
    assert 4 in scanned(decided).usable
    assert [rows.undo(), rows.undo(), rows.undo()] == [4, 4, None]
    assert len(scanned(decided).usable) == 120


def test_a_duplicate_can_be_taken_back(write: Write, tmp_path: Path) -> None:
    path = write("two.jsonl", (json.dumps(ROWS[0]) + "\n") * 2)
    data = DataSettings(files=(str(path),), decisions=str(tmp_path / "d.jsonl"))
    rows = scanned(data)
    assert rows.reasons() == {"duplicate": 1}
    rows.decide(1, aside=False)
    assert scanned(data).reasons() == {}


def test_a_change_that_breaks_a_row_sets_it_aside(decided: DataSettings) -> None:
    rows = scanned(decided)
    rows.decide(4, column="output", value="")
    assert scanned(decided).reasons() == {"empty_answer": 1}


def test_a_decision_about_another_row_is_not_applied(decided: DataSettings, path: Path) -> None:
    scanned(decided).decide(4, aside=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS[1:]))
    rows = scanned(decided)
    assert rows.reasons() == {}
    assert [problem.code for problem in rows.problems] == ["data.decisions"]


def test_decisions_need_a_file_and_a_damaged_one_is_told(path: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        scanned(DataSettings(files=(str(path),))).decide(1, aside=True)
    assert caught.value.problem.where == "data.decisions"
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"file": "x"}\n')
    with pytest.raises(UserError) as caught:
        Decisions.load(broken)
    assert caught.value.problem.where == "broken.jsonl:1"


def test_the_view_decides_and_undoes(decided: DataSettings, starter_text: Path) -> None:
    view = DataView(decided, starter_text)
    view.measure()
    before = view.facts()
    view.decide(4, column="output", value="Eight, of course.")
    row = view.row(4)
    assert (row["answer"], row["decided"]) == ("Eight, of course.", True)
    assert [cell["column"] for cell in row["cells"] if cell["changed"]] == ["output"]
    view.decide(5, aside=True)
    assert view.facts()["set_aside"] == {"by_hand": 1}
    assert view.decisions == 2
    assert [(view.undo() or {}).get("row") for _ in range(3)] == [5, 4, None]
    view.measure()
    assert view.facts() == before


# ------------------------------------------------------------------------------------------------------------ splits
def values(rows: DataSet, taken: np.ndarray, column: str) -> list[str]:
    return [str(rows.record(int(i)).value[column]) for i in np.flatnonzero(taken)]


def test_split_by_group_keeps_groups_whole(path: Path) -> None:
    rows = scanned(DataSettings(files=(str(path),), split="group", split_column="topic", held_out=0.3))
    taken = held_out_of(rows)
    held, trained = set(values(rows, taken, "topic")), set(values(rows, ~taken, "topic"))
    assert held
    assert not held & trained


def test_split_by_time_takes_the_latest(path: Path) -> None:
    rows = scanned(DataSettings(files=(str(path),), split="time", split_column="when", held_out=0.25))
    taken = held_out_of(rows)
    assert taken.sum() == 30
    assert min(values(rows, taken, "when")) > max(values(rows, ~taken, "when"))


def test_split_as_a_column_says(path: Path) -> None:
    rows = scanned(DataSettings(files=(str(path),), split="column", split_column="split"))
    taken = held_out_of(rows)
    assert set(values(rows, taken, "split")) == {"test"}
    assert taken.sum() == 12


def test_stratified_split_takes_of_each(path: Path) -> None:
    rows = scanned(DataSettings(files=(str(path),), split="stratified", split_column="topic", held_out=0.2))
    counts = Counter(values(rows, held_out_of(rows), "topic"))
    assert set(counts.values()) <= {3, 4}
    assert len(counts) == 7


@pytest.mark.parametrize(
    ("split", "column", "words"),
    [
        ("group", "", "no column"),
        ("group", "tpic", "tpic"),
        ("time", "topic", "no time"),
        ("column", "topic", "No row"),
    ],
)
def test_a_split_that_cannot_be(path: Path, split: str, column: str, words: str) -> None:
    rows = scanned(DataSettings.model_validate({"files": [str(path)], "split": split, "split_column": column}))
    with pytest.raises(UserError, match=words) as caught:
        held_out_of(rows)
    assert caught.value.problem.code == "data.split"
    assert caught.value.problem.hint


# ------------------------------------------------------------------------------------------------------------ mixing
def test_factors() -> None:
    counts = {0: 100, 1: 900}
    assert factors(counts, "all", temperature=2, weights={}) == {0: 1.0, 1: 1.0}
    balanced = factors(counts, "balanced", temperature=2, weights={1: 2.0})
    assert {file: round(often * counts[file]) for file, often in balanced.items()} == {0: 500, 1: 1000}
    between = factors(counts, "temperature", temperature=2, weights={})
    assert {file: round(often * counts[file]) for file, often in between.items()} == {0: 250, 1: 750}


def test_rows_are_repeated_and_left_out_by_lot() -> None:
    files = np.array([0] * 4 + [1] * 6)
    often = Counter(mixed(files, {0: 2.5, 1: 0.5}, seed=1).tolist())
    assert sum(often[row] for row in range(4)) == 10
    assert {often[row] for row in range(4)} == {2, 3}
    assert sum(often[row] for row in range(4, 10)) == 3
    one, other = (mixed(files, {0: 2.5, 1: 0.5}, seed=seed).tolist() for seed in (1, 2))
    assert one != other
    assert one == sorted(one)
    assert mixed(files, {0: 1.0, 1: 1.0}, seed=1).tolist() == list(range(10))


def test_files_have_weights_and_prefixes_of_their_own(write: Write, starter_text: Path) -> None:
    first = write("a.jsonl", "".join(json.dumps({"prompt": f"Q{i}", "completion": f"A{i}"}) + "\n" for i in range(20)))
    second = write("b.csv", "question,answer\n" + "".join(f"R{i},B{i}\n" for i in range(20)))
    own = {
        str(second): FileSettings(weight=2.0, prefix="Sort: ", mapping={"prompt": "question", "completion": "answer"})
    }
    data = DataSettings(files=(str(first), str(second)), per_file=own, held_out=0.0)
    train = prepare(data, preference=False, model_folder=starter_text).train
    assert Counter(example.row.where.split(":")[0] for example in train) == {"a.jsonl": 20, "b.csv": 40}
    questions: set[Any] = {example.row.question[:6] for example in train if example.row.where.startswith("b.csv")}
    assert questions == {"Sort: "}


def test_shortest_first(path: Path, starter_text: Path) -> None:
    train = prepare(
        DataSettings(files=(str(path),), order="shortest"), preference=False, model_folder=starter_text
    ).train
    assert [example.length for example in train] == sorted(example.length for example in train)


# ------------------------------------------------------------------------------------------------------------ others
def test_a_folder_of_files(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for part in range(3):
        (folder / f"part-{part}.jsonl").write_text(
            "".join(json.dumps(r) + "\n" for r in ROWS[part * 40 : part * 40 + 40])
        )
    (folder / "test.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    rows = scanned(DataSettings(files=(str(folder),)))
    assert (rows.count, len(rows.sources)) == (120, 3)
    assert [row.where for row in rows.rows(np.array([0, 39, 40, 119]))] == [
        "part-0.jsonl:1",
        "part-0.jsonl:40",
        "part-1.jsonl:1",
        "part-2.jsonl:40",
    ]
    assert [problem.code for problem in rows.problems] == ["data.measured_files"]


def test_what_is_doubtful_is_not_trained_on(write: Write, starter_text: Path) -> None:
    lines = [
        {"alpha": f"Some text number {i} about things", "beta": f"Other text number {i} of a kind"} for i in range(40)
    ]
    path = write("unknown.jsonl", "".join(json.dumps(row) + "\n" for row in lines))
    data = DataSettings(files=(str(path),))
    with pytest.raises(UserError) as caught:
        prepare(data, preference=False, model_folder=starter_text)
    assert caught.value.problem.code == "data.ask"
    assert "--map" in caught.value.problem.hint.en
    said = data.model_copy(update={"mapping": {"prompt": "alpha", "completion": "beta"}})
    assert len(prepare(said, preference=False, model_folder=starter_text).train) == 36


def test_rows_of_poor_quality_are_set_aside_when_asked(write: Write, starter_text: Path) -> None:
    refusal = {"instruction": "How do I bake bread?", "output": "As an AI language model, I cannot help with that."}
    path = write("rows.jsonl", "".join(json.dumps(row) + "\n" for row in [*ROWS, refusal]))
    data = DataSettings(files=(str(path),))
    assert len(prepare(data, preference=False, model_folder=starter_text).set_aside) == 0
    strict = data.model_copy(update={"quality": QualitySettings(actions={"refusal": "set_aside"})})
    prepared = prepare(strict, preference=False, model_folder=starter_text)
    assert [(item.reason, item.where) for item in prepared.set_aside] == [("refusal", "rows.jsonl:121")]
    view = DataView(strict, starter_text)
    view.inspect()
    assert view.facts()["set_aside"] == {"refusal": 1}
    assert [row["where"] for row in view.page(0, 5, status="check:refusal")["rows"]] == ["rows.jsonl:121"]


def test_counting_quickly_finds_what_encoding_finds(
    shared_data: Path, starter_text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = shared_data / "datasets" / "llama-factory" / "alpaca_zh_demo.json"
    data = DataSettings(files=(str(file),), max_length=256)
    closely = DataView(data, starter_text)
    closely.measure()
    monkeypatch.setattr("engine.data.preview._CLOSELY", 0)
    quickly = DataView(data, starter_text)
    quickly.measure()
    assert quickly.facts() == closely.facts()
    assert np.array_equal(quickly.lengths, closely.lengths)


def test_a_summary_of_lengths() -> None:
    from engine.data.lengths import summary

    found = summary(np.arange(1, 101, dtype=np.int32)[::-1])
    assert found == {"mean": 50.5, "p50": 50, "p90": 90, "p95": 95, "p99": 99, "longest": 100}
    assert set(summary(np.array([7], np.int32)).values()) == {7}
    assert set(summary(np.zeros(0, np.int32)).values()) == {1}


# ------------------------------------------------------------------------------------------ examples in the prompt
def test_examples_stand_before_each_question_and_are_not_trained_on(path: Path, starter_text: Path) -> None:
    data = DataSettings(files=(str(path),), few_shot=2, system="Be brief.", held_out=0.2)
    prepared = prepare(data, preference=False, model_folder=starter_text)
    assert [m.role for m in prepared.examples] == ["user", "assistant"] * 2
    shown = [item for item in prepared.set_aside if item.reason == "example"]
    assert len(shown) == 2
    questions = {m.content for m in prepared.examples}
    for example in (*prepared.train, *prepared.held_out):
        turns = example.row.messages
        assert [m.role for m in turns] == ["system", *["user", "assistant"] * 3]
        assert [m.learned for m in turns if m.role == "assistant"] == [False, False, True]
        assert turns[1:5] == prepared.examples
        assert turns[5].content not in questions
    learned = prepared.train[0]
    ids = [i for i, flag in zip(learned.input_ids, learned.learned, strict=True) if flag]
    assert prepared.tokenizer.decode(ids) == learned.row.answer


def test_examples_leave_the_same_rows_held_out(path: Path, starter_text: Path) -> None:
    data = DataSettings(files=(str(path),), held_out=0.2)
    without = prepare(data, preference=False, model_folder=starter_text)
    few = prepare(data.model_copy(update={"few_shot": 3}), preference=False, model_folder=starter_text)
    assert few.held_out.rows.tolist() == without.held_out.rows.tolist()
    assert len(few.train) == len(without.train) - 3
    other = prepare(data.model_copy(update={"few_shot": 3, "seed": 8}), preference=False, model_folder=starter_text)
    assert other.examples != few.examples


def test_the_view_shows_the_examples(path: Path, starter_text: Path) -> None:
    view = DataView(DataSettings(files=(str(path),), few_shot=1), starter_text)
    assert view.facts()["set_aside"]["example"] == 1
    ready = next(row for row in view.page(0, 20)["rows"] if row["status"] == "ready")
    assert "".join(piece["text"] for piece in view.row(ready["index"])["pieces"]).count("<|im_start|>user") == 2


def test_too_few_rows_that_could_be_examples_are_told(write: Write) -> None:
    rows = [{"instruction": f"What is {i}?", "output": f"It is {i}."} for i in range(3)]
    path = write("few.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    told = DataSet(DataSettings(files=(str(path),), few_shot=5, held_out=0.0)).scan().problems
    assert [(p.code, p.where) for p in told] == [("data.few_shot", "data.few_shot")]
    assert "3 of 5" in told[0].message.en
    text = DataSettings(files=(str(write("plain.txt", "One line.\n\nAnother one.\n")),), few_shot=1)
    assert [p.code for p in DataSet(text).scan().problems] == ["data.few_shot"]


def test_another_example_makes_every_row_another(path: Path, starter_text: Path, tmp_path: Path) -> None:
    decisions = str(tmp_path / "decisions.jsonl")
    data = DataSettings(files=(str(path),), few_shot=1, decisions=decisions)
    view = DataView(data, starter_text)
    view.measure()
    shown = int(np.flatnonzero(view._rows.codes == CODE["example"])[0])
    other = next(i for i in range(20) if view._rows.codes[i] == 0)
    view.decide(other, aside=True)
    assert view.measured  # one row less, nothing else
    view.decide(shown, aside=True)
    assert not view.measured
    assert int(np.flatnonzero(view._rows.codes == CODE["example"])[0]) != shown
    view.measure()
    fresh = DataView(data, starter_text)
    fresh.measure()
    assert view.lengths.tolist() == fresh.lengths.tolist()


# ------------------------------------------------------------------------------------------------------ general data
def test_general_data_take_their_share(write: Write, starter_text: Path) -> None:
    task = write("task.jsonl", _records(70, "task"))
    general = write("general.jsonl", _records(100, "general"))
    data = DataSettings(files=(str(task),), general=(str(general),), held_out=0.1)
    prepared = prepare(data, preference=False, model_folder=starter_text)
    seen = Counter(example.row.where.split(":")[0] for example in prepared.train)
    assert seen == {"task.jsonl": 63, "general.jsonl": 27}
    assert {example.row.where.split(":")[0] for example in prepared.held_out} == {"task.jsonl"}
    assert len(set(prepared.train.rows.tolist())) == len(prepared.train)


def test_few_general_rows_are_seen_four_times_at_most(write: Write, starter_text: Path) -> None:
    task, general = write("task.jsonl", _records(70, "task")), write("general.jsonl", _records(3, "general"))
    data = DataSettings(files=(str(task),), general=(str(general), str(task)), general_share=0.5, held_out=0.0)
    seen = Counter(prepare(data, preference=False, model_folder=starter_text).train.rows.tolist())
    assert {index: seen[index] for index in range(70, 73)} == {70: 4, 71: 4, 72: 4}
    assert len(seen) == 73  # a file that is named twice is data of the task


def test_without_general_share_none_are_seen(write: Write, starter_text: Path) -> None:
    task, general = write("task.jsonl", _records(20, "task")), write("general.jsonl", _records(20, "general"))
    data = DataSettings(files=(str(task),), general=(str(general),), general_share=0.0)
    train = prepare(data, preference=False, model_folder=starter_text).train
    assert {example.row.where.split(":")[0] for example in train} == {"task.jsonl"}


def _records(count: int, name: str) -> str:
    rows = ({"instruction": f"What is {name} {i}?", "output": f"It is number {i} of {name}."} for i in range(count))
    return "".join(json.dumps(row) + "\n" for row in rows)
