"""Data sets by id: fetched once, read offline; a folder stands in for the hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.data.dataset import DataSet
from engine.data.hub_data import fetched, is_hub_data
from engine.data.rows import Row
from engine.protocol.errors import UserError
from engine.recipe.recipe import DataSettings


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    folder = tmp_path / "remote"
    folder.mkdir()
    for split, count in (("train", 20), ("test", 4)):
        lines = [{"question": f"What is {i}?", "answer": f"It is {split} {i}."} for i in range(count)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_an_id_is_told_from_a_file() -> None:
    assert is_hub_data("hub:owner/name")
    assert not is_hub_data("owner/name.jsonl")


def test_splits_are_fetched_once_and_read_offline(remote: Path, tmp_path: Path) -> None:
    data = DataSettings(files=(f"hub:{remote}",), held_out_file=f"hub:{remote}?split=test")
    rows = DataSet(data).scan()
    assert (len(rows.usable), len(rows.measured)) == (16, 4)  # four questions are asked in both
    first = next(rows.rows())
    assert isinstance(first, Row)
    assert first.answer.startswith("It is train")
    remote.rename(tmp_path / "gone")
    assert len(DataSet(data).scan().usable) == 16


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("hub:", "data.hub"),
        ("hub:{remote}?split=nope", "data.hub"),
        ("hub:{remote}?rows=3", "data.hub"),
        ("hub:{remote}/none", "data.hub"),
    ],
)
def test_what_there_is_not(remote: Path, name: str, code: str) -> None:
    with pytest.raises(UserError) as caught:
        fetched(name.format(remote=remote))
    assert caught.value.problem.code == code
    assert caught.value.problem.hint


def test_the_hub_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(UserError) as caught:
        fetched("hub:owner/name")
    assert (caught.value.problem.code, caught.value.exit_code) == ("data.hub_offline", 1)
