"""A project at another place: moved, copied to another disk, moved by hand, and what it names that is not here."""

import errno
import json
import os
from pathlib import Path

import pytest

from engine.catalogue import CATALOGUE
from engine.project import moving, queue
from engine.project.atomic import write_json
from engine.project.moving import absent, move_project
from engine.project.project import Project, new_job
from engine.project.recent import recent, remember
from engine.project.run_folder import RunFolder
from engine.protocol.errors import Stopped, UserError
from engine.recipe.file import from_plain, load, save
from tests.unit.project.made_run import leave, make_run, work_on


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run in a project whose files name places in the project and elsewhere."""
    old = tmp_path / "旧 project"
    run = make_run(old, "one", data={"files": [str(old / "rows.jsonl"), "/data/x.jsonl"]})
    (old / "rows.jsonl").write_text("{}\n")
    run.write_facts({**run.read_facts(), "model_folder": str(old / "model"), "note": f"{old}er"})
    write_json(run.path / "exports.json", [{"kind": "gguf", "file": str(run.exports / "a.gguf")}])
    save(from_plain({"data": {"files": [str(old / "rows.jsonl")]}}, CATALOGUE), old / "draft.toml")
    remember(old)
    return run


def check(new: Path, old: Path) -> None:
    """Everything that led into the old place leads into the new one, and nothing else is another."""
    run = Project.open_or_create(new).runs()[0].folder
    assert load(run.recipe, CATALOGUE).data.files == (str(new / "rows.jsonl"), "/data/x.jsonl")
    assert load(new / "draft.toml", CATALOGUE).data.files == (str(new / "rows.jsonl"),)
    facts = run.read_facts()
    assert (facts["model_folder"], facts["note"]) == (str(new / "model"), f"{old}er")
    assert json.loads((run.path / "exports.json").read_text())[0]["file"] == str(run.exports / "a.gguf")
    assert not (old / "project.json").exists()


def test_a_project_is_moved(run: RunFolder, tmp_path: Path) -> None:
    old, new = run.path.parents[1], tmp_path / "deep" / "new place"
    run.events.unlink()
    queue.add(run)
    assert move_project(old, new)
    check(new, old)
    assert recent() == [new]
    assert queue.entries()[0].folder == RunFolder(new / "runs" / run.id)


def test_to_another_disk_by_a_copy_that_is_compared(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = run.path.parents[1], tmp_path / "new"
    (old / "link").symlink_to("rows.jsonl")
    other_disk(monkeypatch, old)
    kept = {path.relative_to(old): path.read_bytes() for path in run.checkpoints.rglob("*") if path.is_file()}
    told: list[tuple[int, int]] = []
    move_project(old, new, progress=lambda done, total: told.append((done, total)))
    check(new, old)
    assert told[-1][0] == told[-1][1] > 6000
    assert {name: (new / name).read_bytes() for name in kept} == kept
    assert os.readlink(new / "link") == "rows.jsonl"
    assert not old.exists()
    assert list(tmp_path.glob(".*.part")) == []


def test_a_name_as_long_as_names_can_be_goes_to_another_disk(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = run.path.parents[1], tmp_path / ("n" * 250)
    other_disk(monkeypatch, old)
    assert move_project(old, new)
    check(new, old)


def other_disk(monkeypatch: pytest.MonkeyPatch, old: Path) -> None:
    rename = os.rename

    def refuse(source: Path, target: Path) -> None:
        if Path(source) == old:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)


def test_a_copy_that_fails_leaves_the_project_where_it_was(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = run.path.parents[1], tmp_path / "new"
    other_disk(monkeypatch, old)
    before = {path.relative_to(old) for path in old.rglob("*")}

    def stop(done: int, total: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        move_project(old, new, progress=stop)
    free = moving.shutil.disk_usage(tmp_path)._replace(free=100)
    with monkeypatch.context() as small:
        small.setattr(moving.shutil, "disk_usage", lambda path: free)
        with pytest.raises(UserError, match="is full"):
            move_project(old, new)
    monkeypatch.setattr(moving.hashlib, "file_digest", lambda file, kind: moving.hashlib.sha256(b"damaged"))
    with pytest.raises(UserError, match="not copied as it is"):
        move_project(old, new)
    assert {path.relative_to(old) for path in old.rglob("*")} == before
    assert not new.exists()
    assert list(tmp_path.glob(".*.part")) == []
    assert recent() == [old]


@pytest.mark.parametrize("place", ["run", "later job", "data job"])
def test_nothing_is_moved_while_something_works(run: RunFolder, tmp_path: Path, place: str) -> None:
    project = Project.open_or_create(run.path.parents[1])
    later = {
        "run": lambda: run,
        "later job": lambda: new_job(run, "evaluate"),
        "data job": lambda: project.new_data_job("score"),
    }
    job = later[place]()
    work_on(job)
    with pytest.raises(UserError, match="still works") as caught:
        move_project(project.path, tmp_path / "new")
    assert caught.value.problem.where == str(job.path)
    leave(job)


def test_places_that_will_not_do(run: RunFolder, tmp_path: Path) -> None:
    old = run.path.parents[1]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    for target, words in ((old, "there already"), (old / "in", "into itself"), (tmp_path / "full", "not empty")):
        with pytest.raises(UserError, match=words):
            move_project(old, target)
    (tmp_path / "empty").mkdir()
    move_project(old, tmp_path / "empty")
    assert Project.open_or_create(tmp_path / "empty").runs()


# ------------------------------------------------------------------------------------------------------------- by hand
def test_a_project_that_was_moved_by_hand_is_found_again(run: RunFolder, tmp_path: Path) -> None:
    old, new = run.path.parents[1], tmp_path / "new"
    old.rename(new)
    check(new, old)
    assert recent() == []


def test_one_that_is_worked_on_is_left_alone(run: RunFolder, tmp_path: Path) -> None:
    old, new = run.path.parents[1], tmp_path / "new"
    work_on(run)
    old.rename(new)
    moved = Project.open_or_create(new).runs()[0].folder
    assert moved.read_facts()["model_folder"] == str(old / "model")
    leave(moved)


def test_paths_of_windows_lead_into_the_new_place(run: RunFolder, tmp_path: Path) -> None:
    project = run.path.parents[1]
    write_json(project / "project.json", {"version": 1, "name": "p", "path": "C:\\Users\\ada\\p"})
    run.write_facts({**run.read_facts(), "model_folder": "C:\\Users\\ada\\p\\models\\tiny"})
    Project.open_or_create(project)
    assert run.read_facts()["model_folder"] == str(project / "models" / "tiny")


def test_links_out_of_a_project_are_not_followed(run: RunFolder, tmp_path: Path) -> None:
    """A stranger's project whose runs are a link to somebody's own: nothing there is written."""
    old, strange = run.path.parents[1], tmp_path / "strange"
    strange.mkdir()
    write_json(strange / "project.json", {"version": 1, "path": str(old)})
    (strange / "runs").symlink_to(old / "runs")
    before = run.facts.read_bytes()
    Project.open_or_create(strange)
    assert run.facts.read_bytes() == before


@pytest.mark.parametrize("path", [3, None, "", "/", [1], {"a": 1}])
def test_a_strange_place_is_no_error(run: RunFolder, path: object) -> None:
    project = run.path.parents[1]
    write_json(project / "project.json", {"version": 1, "name": "p", "path": path})
    assert Project.open_or_create(project).runs()


# -------------------------------------------------------------------------------------------------------------- absent
def test_what_is_not_here_is_told(run: RunFolder) -> None:
    project = run.path.parents[1]
    save(
        from_plain({"data": {"files": [str(project / "rows.jsonl"), "/gone/x.jsonl", "hub:a/b"]}}, CATALOGUE),
        project / "draft.toml",
    )
    told = {(item.what, item.path, item.where) for item in absent(project)}
    assert told == {("data", "/gone/x.jsonl", "draft.toml"), ("model", str(project / "model"), run.id)}
    (project / "draft.toml").write_text("[")
    (project / "model").mkdir()
    assert absent(project) == []
