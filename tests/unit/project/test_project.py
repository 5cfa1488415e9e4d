"""Projects, their runs, and the list of recent ones."""

import json
import shutil
from pathlib import Path

import pytest

from engine.catalogue import CATALOGUE
from engine.project.atomic import write_json
from engine.project.project import Project, new_job, open_run
from engine.project.recent import forget, recent, remember
from engine.project.settings import Settings, load_settings, save_settings
from engine.protocol.errors import UserError
from engine.protocol.events import Gauge, Launched, Waiting
from engine.recipe.file import load, loads
from tests.unit.project.made_run import leave, work_on, write


def test_made_opened_and_filled(tmp_path: Path) -> None:
    project = Project.open_or_create(tmp_path / "诊所 回复")
    recipe = loads('[model]\nsource = "Qwen/Qwen2.5-0.5B"\n[data]\nfiles = ["/a/my rows.json"]\n', CATALOGUE)
    first, second = project.new_run(recipe), project.new_run(recipe, title="第二次: a/b")
    assert (first.id, second.id) == ("0001-qlora-Qwen2.5-0.5B-my-rows", "0002-第二次-a-b")
    assert load(first.recipe, CATALOGUE) == recipe
    runs = Project.open_or_create(project.path).runs()
    assert [run.folder.id for run in runs] == [second.id, first.id]
    assert (runs[0].title, runs[0].method, runs[0].status) == ("第二次: a/b", "qlora", "")
    assert project.name == "诊所 回复"
    assert new_job(first, "merge").path.name == "001-merge"
    assert new_job(first, "export").path.name == "002-export"


def test_a_damaged_run_does_not_hide_the_others(tmp_path: Path) -> None:
    project = Project.open_or_create(tmp_path / "p")
    good, bad = project.new_run(loads("", CATALOGUE)), project.new_run(loads("", CATALOGUE))
    bad.facts.write_text("{")
    assert [(run.folder.id, run.is_damaged) for run in project.runs()] == [(bad.id, True), (good.id, False)]


def test_the_number_of_a_run_is_never_given_again(tmp_path: Path) -> None:
    project = Project.open_or_create(tmp_path / "p")
    first, second = (project.new_run(loads("", CATALOGUE), title="same") for _ in range(2))
    shutil.rmtree(second.path)
    third = Project.open_or_create(project.path).new_run(loads("", CATALOGUE), title="same")
    assert [run.number for run in (first, second, third)] == ["0001", "0002", "0003"]
    assert [run.named for run in project.runs()] == ["0003 same", "0001 same"]
    facts = json.loads((project.path / "project.json").read_text("utf-8"))
    write_json(project.path / "project.json", {**facts, "last_run": "many"})
    assert project.new_run(loads("", CATALOGUE)).number == "0004"


def test_what_a_run_waits_for_is_told(tmp_path: Path) -> None:
    run = Project.open_or_create(tmp_path / "p").new_run(loads("", CATALOGUE))
    write(run, Launched(kind="train"), Waiting(step=3, reason="disk"), Gauge())
    work_on(run)
    (told,) = Project(tmp_path / "p").runs()
    assert (told.status, told.waits_for) == ("waiting", "disk")
    leave(run)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="not empty"):
        Project.open_or_create(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["letter.txt"]


def test_no_run_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run"):
        open_run(tmp_path)


def test_recent_projects(tmp_path: Path) -> None:
    first, second = (Project.open_or_create(tmp_path / name).path for name in ("a", "b"))
    assert recent() == []
    remember(first)
    remember(second)
    remember(first)
    assert recent() == [first, second]
    (second / "project.json").unlink()
    assert recent() == [first]
    forget(first)
    assert recent() == []
    assert first.exists()


def test_settings_survive_and_fall_back(lorimer_home: Path) -> None:
    assert load_settings() == Settings()
    save_settings(Settings(language="zh", theme="dark"))
    assert load_settings() == Settings(language="zh", theme="dark")
    (lorimer_home / "settings.json").write_text('{"language": "xx", "theme": "dark", "new": 1}')
    assert load_settings() == Settings(language="auto", theme="dark")
    (lorimer_home / "settings.json").write_text("[")
    assert load_settings() == Settings()
