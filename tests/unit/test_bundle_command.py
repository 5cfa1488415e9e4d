"""``lorimer bundle``: shown first, written where one says."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from engine.cli import main
from engine.project.run_folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "run")
    made.path.mkdir()
    made.write_facts({"id": "run", "title": "hello"})
    made.recipe.write_text('[model]\nsource = "starter"\n', encoding="utf-8")
    made.log.write_text("went on\n", encoding="utf-8")
    return made


def test_without_a_place_it_is_only_shown(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", str(run.path)]) == 0
    told = capsys.readouterr().out
    assert "log.txt" in told
    assert "the end of the log" in told
    assert "left out: checkpoints, adapter, exports" in told
    assert "Nothing is written" in told


def test_what_is_told_is_what_is_written(run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.zip"
    assert main(["bundle", str(run.path), "--out", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    with zipfile.ZipFile(out) as packed:
        assert {item.filename: item.file_size for item in packed.infolist()} == {
            entry["name"]: entry["bytes"] for entry in document["entries"]
        }
        assert packed.read("log.txt") == b"went on\n"
    assert (document["file"], document["bytes"]) == (str(out), out.stat().st_size)
    assert document["texts"] == "compared_with_the_rows"


def test_a_folder_that_is_no_run_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", str(tmp_path), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "run.missing"
