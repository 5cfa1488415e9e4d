"""Folders with models in them: remembered, looked into, and those of other tools."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.project import model_folders
from engine.project.model_folders import MOST, forget, found, inside, remember, remembered


@pytest.fixture(autouse=True)
def no_other_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where ModelScope's cache would lie."""
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "modelscope"))
    return tmp_path / "modelscope"


def model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_a_folder_is_a_model_or_holds_some(tmp_path: Path) -> None:
    one, two = model(tmp_path / "all" / "owner" / "one"), model(tmp_path / "all" / "two")
    model(tmp_path / "all" / ".hidden")
    model(tmp_path / "all" / "a" / "b" / "c" / "too-deep")
    assert inside(tmp_path / "all") == [two, one]
    assert inside(one) == [one]
    assert inside(tmp_path / "nowhere") == []


def test_a_whole_disk_is_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_folders, "LOOKED_AT", 5)
    for number in range(5):
        model(tmp_path / "disk" / f"z{number}" / "far")
    near = model(tmp_path / "disk" / "near")
    assert inside(tmp_path / "disk") == [near]


def test_folders_are_remembered_newest_first(tmp_path: Path) -> None:
    assert remembered() == []
    folders = [model(tmp_path / f"m{i}") for i in range(MOST + 1)]
    for folder in folders:
        remember(folder)
    remember(folders[5])
    assert remembered()[0] == folders[5]
    assert len(remembered()) == MOST
    forget(folders[5])
    assert folders[5] not in remembered()


def test_a_folder_that_is_gone_is_left_out(tmp_path: Path) -> None:
    folder = model(tmp_path / "gone")
    remember(folder)
    (folder / "config.json").unlink()
    folder.rmdir()
    assert (remembered(), found()) == ([], [])


def test_an_unreadable_list_is_empty(lorimer_home: Path) -> None:
    (lorimer_home / "model_folders.json").write_text("{", encoding="utf-8")
    assert remembered() == []


def test_other_tools_models_are_found_each_once(tmp_path: Path, no_other_tools: Path) -> None:
    theirs = model(no_other_tools / "models" / "Qwen" / "Qwen3-0___6B")
    mine = model(tmp_path / "mine")
    remember(mine)
    remember(no_other_tools / "models")
    assert sorted(found()) == sorted([theirs, mine])
