"""Runs whose ``run.json`` is gone or damaged: listed, opened, reported, gone on with, and written down again."""

import json
import os
import time
from pathlib import Path

import pytest

from engine.project.atomic import write_json
from engine.project.bundle import make_bundle
from engine.project.fork import fork
from engine.project.project import Project, open_run
from engine.project.rebuilt import BEING_MADE_SECONDS, facts_of, repair, run_folders
from engine.project.run_folder import RunFolder
from engine.project.runs import Listing
from engine.protocol.events import Finished
from tests.unit.project.made_run import make_run, write


@pytest.fixture(params=["damaged", "absent", "a list"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> RunFolder:
    """One whose recipe, record and checkpoints are whole."""
    run = make_run(tmp_path, "clinic replies")
    os.utime(run.recipe, (5000, 5000))
    contents = {"damaged": '{"title": "cli', "a list": "[]"}
    run.facts.unlink() if request.param == "absent" else run.facts.write_text(contents[request.param])
    long_ago = time.time() - 2 * BEING_MADE_SECONDS
    os.utime(run.path, (long_ago, long_ago))
    return run


def test_it_is_listed_with_what_can_be_known(run: RunFolder, tmp_path: Path) -> None:
    (row,) = Listing(tmp_path).read()
    assert (row.title, row.model, row.method, row.objective) == ("clinic replies", "Qwen2.5-0.5B", "qlora", "sft")
    assert (row.created, row.files, row.figures.steps, row.is_damaged) == (1000.0, ("clinic.jsonl",), 40, True)
    run.events.write_text("[]\n")
    assert Listing(tmp_path).read()[0].created == 5000.0  # of the recipe
    write(run, Finished(status="done"))
    (line,) = Project(tmp_path).runs()
    assert (line.title, line.status, line.is_damaged) == ("clinic replies", "done", True)


def test_it_is_opened_reported_and_gone_on_with(run: RunFolder, tmp_path: Path) -> None:
    assert open_run(run.path) == run
    assert any(entry.name == "recipe.toml" for entry in make_bundle(run).entries)
    made = fork(run, 20)
    facts = made.read_facts()
    assert (facts["title"], facts["model"]) == ("clinic replies 20+", "Qwen/Qwen2.5-0.5B")
    assert facts["continued_from"] == {"run": run.id, "step": 20}


def test_its_base_model_is_the_one_that_its_adapter_names(run: RunFolder, tmp_path: Path) -> None:
    assert "model_folder" not in facts_of(run)[0]
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    write_json(run.adapter / "adapter_config.json", {"base_model_name_or_path": str(tmp_path / "base")})
    repair(run)
    assert run.trained_on() == tmp_path / "base"


def test_it_is_written_down_again(run: RunFolder, tmp_path: Path) -> None:
    before = run.facts.read_bytes() if run.facts.exists() else None
    assert repair(run)
    assert run.read_facts()["title"] == "clinic replies"
    assert not repair(run)
    assert not Listing(tmp_path).read()[0].is_damaged
    aside = run.path / "run.damaged.json"
    assert (aside.read_bytes() if aside.exists() else None) == before


def test_a_folder_that_is_being_made_or_is_none_is_passed_over(tmp_path: Path) -> None:
    run = make_run(tmp_path, "one")
    run.facts.unlink()  # just now, as in the moment before it is written for the first time
    (tmp_path / "runs" / "0002-notes").mkdir()
    (tmp_path / "runs" / "letter.txt").write_text("dear")
    assert run_folders(tmp_path / "runs") == []
    assert run_folders(tmp_path / "nowhere") == []
    run.log.write_text("a process has worked on it")
    assert run_folders(tmp_path / "runs") == [run]


def test_what_a_worker_wrote_without_the_rest_is_filled_up(tmp_path: Path) -> None:
    run = make_run(tmp_path, "one", model={"source": str(tmp_path / "model")})
    run.facts.write_text(json.dumps({"model_folder": "/m", "data": []}))
    facts, is_damaged = facts_of(run)
    assert (facts["title"], facts["model_folder"], is_damaged) == ("one", "/m", False)
