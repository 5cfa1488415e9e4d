"""What the Data page asks of a view besides rows: shares of the files, other splits before they are taken, first rows'
lengths, rows in the order of a model's scores."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from engine.data.mixing import rows_seen
from engine.data.prepare import prepare
from engine.data.preview import DataView
from engine.data.scored import RowScores
from engine.model.locate import locate
from engine.protocol.errors import UserError
from engine.recipe.recipe import DataSettings


def made(path: Path, count: int, **more: Any) -> str:
    rows = [
        {
            "question": f"{path.stem}: what is {i}?",
            "answer": f"It is {i}.",
            **more,
            "town": f"town {i % 4}",
            "half": f"half {i % 2}",
        }
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str, str]:
    return made(tmp_path / "a.jsonl", 200), made(tmp_path / "b.jsonl", 50), made(tmp_path / "chat.jsonl", 30)


@pytest.mark.parametrize("mixing", ["all", "balanced", "temperature"])
def test_shares_are_those_that_are_trained_on(files: tuple[str, str, str], mixing: str) -> None:
    a, b, chat = files
    settings: dict[str, Any] = {"mixing": mixing, "per_file": {b: {"weight": 1.5}}, "general": (chat,)}
    data = DataSettings.model_validate({"files": (a, b), "max_length": 512, **settings})
    told = {file["name"]: file for file in DataView(data, locate("starter")).facts()["files"]}
    prepared = prepare(data, preference=False, model_folder=locate("starter"))
    trained = Counter(example.row.where.split(":")[0] for example in prepared.train)
    assert {name: file["seen"] for name, file in told.items()} == trained
    assert sum(file["share"] for file in told.values()) == pytest.approx(1)
    assert [file["general"] for file in told.values()] == [False, False, True]


def test_rows_of_a_fraction_are_rounded() -> None:
    assert [rows_seen(10, factor) for factor in (0.0, 0.25, 1.0, 2.26)] == [0, 2, 10, 23]


def test_another_split_is_counted_and_changes_nothing(files: tuple[str, str, str]) -> None:
    view = DataView(DataSettings(files=(files[0],)))
    before = view.facts()
    other = DataSettings(files=(files[0],), split="group", split_column="town", held_out=0.25)
    found = view.try_split(other)
    assert found == {"train": 150, "held_out": 50, "in_training": 0}
    assert view.facts() == before
    rows = view.rows_for(other, False)
    assert rows is not None
    taken = DataView(other, rows=rows)
    assert taken.facts()["held_out"] == 50
    towns = {cell["value"] for i in range(200) for cell in taken.row(i)["cells"] if cell["column"] == "town"}
    held = taken.page(0, 200, status="held_out")["rows"]
    assert len(towns) == 4
    assert len({line["index"] % 4 for line in held}) == 1


@pytest.mark.parametrize(
    ("column", "share", "words"),
    [("no", 0.1, "has no column"), ("same", 0.1, "All rows have the same"), ("half", 0.1, "too large")],
)
def test_a_split_that_cannot_be_is_told(tmp_path: Path, column: str, share: float, words: str) -> None:
    file = made(tmp_path / "few.jsonl", 40, same="all")
    view = DataView(DataSettings(files=(file,)))
    with pytest.raises(UserError, match=words) as caught:
        view.try_split(DataSettings(files=(file,), split="group", split_column=column, held_out=share))
    assert caught.value.problem.hint
    assert view.facts()["held_out"] == 4


def test_the_first_rows_have_lengths_before_all_are_read(
    files: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.data.preview.SMALL", 0)
    monkeypatch.setattr("engine.data.read.SMALL", 0)
    data = DataSettings(files=(files[0],), max_length=16)
    view = DataView(data, locate("starter"))
    assert not view.is_scanned
    first = view.page(0, 20)["rows"]
    histogram = view.histogram()
    assert sum(histogram["counts"]) == view.total
    view.scan()
    view.measure()
    exact = view.page(0, 20)["rows"]
    assert [line["tokens"] for line in first] == [line["tokens"] for line in exact]
    assert {line["status"] for line in first} == {"cut"}


def test_rows_stand_in_the_order_of_their_scores(files: tuple[str, str, str], tmp_path: Path) -> None:
    view = DataView(DataSettings(files=(files[1],)))
    lines = [{"index": i, "loss": None if i == 7 else (i * 7) % 50, "uncertainty": 1 / (1 + i)} for i in range(45)]
    written = tmp_path / "scores.jsonl"
    written.write_text("".join(json.dumps(line) + "\n" for line in lines))
    view.scores = RowScores(written)
    hardest = [line["index"] for line in view.page(0, 60, status="score:hardest")["rows"]]
    known = [line for line in lines if line["loss"] is not None]
    assert hardest == [line["index"] for line in sorted(known, key=lambda line: -line["loss"])]  # type: ignore[operator]
    assert view.page(2, 3, status="score:hardest")["rows"][0]["index"] == hardest[2]
    assert [line["index"] for line in view.page(0, 3, status="score:uncertain")["rows"]] == [0, 1, 2]
    assert view.page(0, 3, status="score:nothing")["total"] == 0
    assert view.scores.of(7) == {"loss": None, "uncertainty": 1 / 8}
    assert view.scores.of(48) == {"loss": None, "uncertainty": None}
    plain = view.scores.to_plain()
    assert (plain["rows"], plain["hardest"], plain["uncertain"]) == (45, 44, 45)
    with pytest.raises(UserError):
        RowScores(tmp_path / "none.jsonl")
