"""A GGUF where LM Studio looks for models: found on each system, linked or copied, never over somebody else's."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from engine.export import handing_work
from engine.export.export_work import export
from engine.export.ledger import listed
from engine.export.lmstudio import checked_part, home_folder, models_folder, needed_models_folder, place_of
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Recorder
from engine.protocol.errors import Stopped, UserError
from engine.protocol.events import STOP, Command, Progress
from tests.unit.export.moved import moved


@pytest.fixture
def run(starter_run: RunFolder, tmp_path: Path) -> RunFolder:
    return moved(starter_run, tmp_path / "run")


def hand(run: RunFolder, models: Path, channel: Recorder | None = None, **wished: Any) -> dict[str, Any]:
    given = {"to": "lmstudio", "file": str(run.exports / "orders.gguf"), "models": str(models), **wished}
    return export(run, given, channel or Recorder())


def test_it_is_found_where_it_says(tmp_path: Path) -> None:
    assert models_folder(tmp_path) is None
    older = tmp_path / ".cache" / "lm-studio"
    older.mkdir(parents=True)
    assert models_folder(tmp_path) == older / "models"
    own = tmp_path / ".lmstudio"
    own.mkdir()
    assert models_folder(tmp_path) == own / "models"
    chosen = tmp_path / "big disk" / "models"
    (own / "settings.json").write_text(json.dumps({"downloadsFolder": str(chosen)}))
    assert models_folder(tmp_path) == own / "models"  # that folder is not there (any more)
    chosen.mkdir(parents=True)
    assert models_folder(tmp_path) == chosen
    (own / "settings.json").write_text("[damaged")
    assert models_folder(tmp_path) == own / "models"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / ".lmstudio-home-pointer").write_text(f"{elsewhere}\n")
    assert home_folder(tmp_path) == elsewhere


def test_without_it_a_folder_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    with pytest.raises(UserError) as caught:
        needed_models_folder()
    assert caught.value.problem.code == "lmstudio.missing"
    assert needed_models_folder(tmp_path / "x") == tmp_path / "x"


def test_it_lies_as_lm_studio_wants_and_takes_no_room(run: RunFolder, tmp_path: Path) -> None:
    result = hand(run, tmp_path / "models")
    target = tmp_path / "models" / "lorimer" / "made" / "orders.gguf"
    assert Path(result["file"]) == target
    assert result["way"] == "linked"
    assert target.samefile(run.exports / "orders.gguf")
    assert [item.name for item in target.parent.iterdir()] == ["orders.gguf"]
    assert listed(run)[0].kind == "lmstudio"
    assert hand(run, tmp_path / "models")["way"] == "there"
    named = hand(run, tmp_path / "models", name="clinic", publisher="ada")
    assert Path(named["file"]) == tmp_path / "models" / "ada" / "clinic" / "orders.gguf"


def other_disk(*_: Any) -> None:
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))


def test_on_another_disk_it_is_copied(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handing_work.os, "link", other_disk)
    channel = Recorder()
    result = hand(run, tmp_path / "models", channel)
    assert result["way"] == "copied"
    assert Path(result["file"]).read_bytes() == (run.exports / "orders.gguf").read_bytes()
    last = [event for event in channel.events if isinstance(event, Progress)][-1]
    assert last.done == last.total == result["bytes"]


def test_a_full_disk_and_a_stop_leave_nothing(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handing_work.os, "link", other_disk)
    channel = Recorder()
    channel.pending = [Command(name=STOP)]
    with pytest.raises(Stopped):
        hand(run, tmp_path / "models", channel)
    assert not [path for path in (tmp_path / "models").rglob("*") if path.is_file()]

    class Full:
        free = 1000

    monkeypatch.setattr("engine.merge.place.shutil.disk_usage", lambda folder: Full)
    with pytest.raises(UserError) as caught:
        hand(run, tmp_path / "models")
    assert caught.value.problem.code == "disk.full"
    assert not [path for path in (tmp_path / "models").rglob("*") if path.is_file()]


def test_somebody_else_s_file_stays(run: RunFolder, tmp_path: Path) -> None:
    target = tmp_path / "models" / "lorimer" / "made" / "orders.gguf"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"GGUF of somebody")
    with pytest.raises(UserError) as caught:
        hand(run, tmp_path / "models")
    assert caught.value.problem.code == "export.occupied"
    assert target.read_bytes() == b"GGUF of somebody"


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b", "c:x", ".hidden", "end."])
def test_names_that_lead_elsewhere(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        checked_part(name)
    assert caught.value.problem.code == "lmstudio.name"
    with pytest.raises(UserError):
        place_of("x.gguf", tmp_path, name)
