"""``lorimer runs`` and ``lorimer queue`` without a worker: documents, sentences, what is refused."""

import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest

from engine import runs_command
from engine.cli import main
from engine.host import trash
from engine.host.launch import is_alive
from engine.jobs import resume_with
from engine.project import queue
from engine.project.kept import kept
from engine.project.recent import recent, remember
from engine.project.run_folder import RunFolder
from engine.protocol.events import Finished, Launched, Result, RunPlanned, Waiting
from engine.runs_command import size
from engine.terminal import Outcome
from tests.unit.project.made_run import evaluate, leave, make_run, step, work_on, write

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "p"
    evaluate(make_run(folder, "clinic replies", saved=(10, 20, 40)), 0.2, 0.5)
    make_run(folder, "orders", status="failed", train={"epochs": 2.0})
    return folder


def call(capsys: Capture, *arguments: object, code: int = 0) -> Any:
    """The document of a command."""
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def run_of(project: Path, number: int) -> RunFolder:
    return RunFolder(sorted((project / "runs").iterdir())[number - 1])


def test_list(capsys: Capture, project: Path) -> None:
    told = call(capsys, "runs", "--project", project)
    assert [run["title"] for run in told["runs"]] == ["orders", "clinic replies"]
    run = told["runs"][1]
    assert (run["status"], run["steps"], run["best_loss"], run["evaluation"]["gain"]) == (
        "done",
        40,
        1.5,
        pytest.approx(0.3),
    )
    assert run["bytes"]["total"] > run["bytes"]["checkpoints"] > 0
    found = call(capsys, "runs", "list", "--project", project, "--status", "failed", "--search", "ORD")
    assert ([run["title"] for run in found["runs"]], found["all"]) == (["orders"], 2)
    assert call(capsys, "runs", "--project", project / "nowhere", code=2)["error"]["code"] == "project.missing"
    assert main(["runs", "--project", str(project), "--tag", "none", "--lang", "zh"]) == 0
    assert capsys.readouterr().out == "没有符合条件的训练。\n"


def test_show_tells_checkpoints_and_what_the_curve_says(capsys: Capture, project: Path) -> None:
    told = call(capsys, "runs", "show", 1, "--project", project)
    assert [item["step"] for item in told["checkpoints"]] == [10, 20, 40]
    assert told["reading"]["verdict"]
    assert isinstance(told["reading"]["sentence"], str)
    assert main(["runs", "show", str(run_of(project, 1).path)]) == 0
    assert told["reading"]["sentence"] in capsys.readouterr().out


def test_compare(capsys: Capture, project: Path) -> None:
    told = call(capsys, "runs", "compare", "0001-clinic-replies", 2, "--project", project)
    assert [run["title"] for run in told["runs"]] == ["clinic replies", "orders"]
    assert told["differing"] == [{"setting": "train.epochs", "values": [3.0, 2.0]}]
    for runs in (["1"], ["1", "1"]):
        assert call(capsys, "runs", "compare", *runs, "--project", project, code=2)["error"]["code"] == "usage"


def test_a_damaged_record_is_told_and_the_run_can_be_had(capsys: Capture, project: Path) -> None:
    run = run_of(project, 1)
    run.facts.write_text("{")
    assert [item["damaged"] for item in call(capsys, "runs", "--project", project)["runs"]] == [False, True]
    assert main(["runs", "show", "1", "--project", str(project)]) == 0
    told = capsys.readouterr().out
    assert "done, record damaged" in told
    assert "run.json cannot be read" in told
    assert call(capsys, "bundle", run.path)["entries"]
    assert call(capsys, "runs", "delete", 1, "--project", project)["bytes"] > 0


def test_resuming_rebuilds_the_record_and_remembers_the_project(
    capsys: Capture, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(project, 1)
    run.facts.write_text("{")
    written = Finished(status="done")
    monkeypatch.setattr("engine.jobs.start_job", lambda folder, kind, arguments: write(folder, written))
    assert call(capsys, "resume", run.path)["status"] == "done"
    assert run.read_facts()["title"] == "clinic replies"
    assert recent() == [project]


def test_a_run_that_waits_for_the_disk_is_not_called_paused(capsys: Capture, project: Path) -> None:
    run = run_of(project, 2)
    write(run, Launched(kind="resume"), Waiting(step=40, reason="disk"))
    work_on(run)
    os.utime(run.events, (5000, 5000))
    (told,) = call(capsys, "runs", "--project", project, "--status", "training")["runs"]
    assert (told["status"], told["waits_for"]) == ("waiting", "disk")
    assert main(["runs", "--project", str(project)]) == 0
    assert "waiting for the disk" in capsys.readouterr().out
    leave(run)


def test_lines_stay_short_and_paths_can_be_pasted(capsys: Capture, tmp_path: Path) -> None:
    project = tmp_path / "p 项目 🎉"
    run = make_run(project, "word " * 50)
    assert main(["runs", "--project", str(project)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert len(line) < 140
    assert line.rstrip().endswith("…")
    hint = resume_with(run.path).en
    assert shlex.split(hint.partition("with: ")[2]) == ["lorimer", "resume", str(run.path)]
    assert main(["runs", "show", "99", "--project", str(project)]) == 2
    assert capsys.readouterr().err.startswith("99 is not a run")
    assert [size(count) for count in (999, 1010 * 1024, 1010 * 2**20, 2**30)] == [
        "999 B",
        "1.0 MiB",
        "1.0 GiB",
        "1.0 GiB",
    ]
    assert main(["runs", "show", "1", "--project", str(project), "--lang", "zh"]) == 0
    assert "检查点：20、40" in capsys.readouterr().out


def test_steps_are_told_although_their_record_was_lost(capsys: Capture, project: Path) -> None:
    run = run_of(project, 1)
    run.events.unlink()
    plan = RunPlanned(steps=60, epochs=1, rows=9, held_out=1, trained_parameters=5, all_parameters=50, device="cpu")
    write(run, Launched(kind="resume"), plan, Result(value={"steps": 60}), Finished(status="done"))
    assert call(capsys, "runs", "show", 1, "--project", project)["steps"] == 60


def test_tags_note_and_title(capsys: Capture, project: Path) -> None:
    assert call(capsys, "runs", "tag", 1, "best", "try", "--project", project)["tags"] == ["best", "try"]
    assert call(capsys, "runs", "tag", 1, "--remove", "TRY", "--project", project)["tags"] == ["best"]
    call(capsys, "runs", "note", 1, "ask Maria", "--project", project)
    assert call(capsys, "runs", "note", 1, "--project", project)["note"] == "ask Maria"
    assert call(capsys, "runs", "rename", 1, "replies 2", "--project", project)["title"] == "replies 2"
    (run,) = call(capsys, "runs", "--tag", "best", "--project", project)["runs"]
    assert (run["title"], run["note"], run["id"]) == ("replies 2", "ask Maria", "0001-clinic-replies")


def test_delete_tells_the_sizes_first(capsys: Capture, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[Path] = []
    monkeypatch.setattr(trash, "move_to_trash", moved.append)
    run = run_of(project, 1)
    told = call(capsys, "runs", "delete", 1, "--checkpoints", "--project", project)
    assert (told["checkpoints"], told["bytes"], told["deleted"], moved) == ([10], kept(run)[0].bytes, False, [])
    call(capsys, "runs", "delete", 1, "--checkpoints", "--yes", "--project", project)
    assert moved == [run.checkpoints / "step-000010"]
    assert call(capsys, "runs", "delete", 1, "--yes", "--project", project)["deleted"] is True
    assert moved[-1] == run.path
    work_on(run)
    assert call(capsys, "runs", "delete", 1, "--yes", "--project", project, code=2)["error"]["code"] == "run.busy"
    leave(run)
    assert len(moved) == 2


def test_continue_makes_a_new_run_and_resumes_it(
    capsys: Capture, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[tuple[RunFolder, str]] = []

    def run_job(run: RunFolder, kind: str, *_: object) -> Outcome:
        jobs.append((run, kind))
        outcome = Outcome()
        outcome.status, outcome.value = "done", {"steps": 40}
        return outcome

    monkeypatch.setattr(runs_command, "run_job", run_job)
    told = call(capsys, "runs", "continue", 1, "--step", 20, "--project", project)
    made = run_of(project, 3)
    assert told == {"run": str(made.path), "status": "done", "steps": 40}
    assert jobs == [(made, "resume")]
    assert (
        call(capsys, "runs", "continue", 1, "--step", 21, "--project", project, code=2)["error"]["code"]
        == "run.no_checkpoint"
    )


# --------------------------------------------------------------------------------------------------------------- queue
def test_the_queue_is_listed_changed_and_run(capsys: Capture, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = run_of(project, 1), run_of(project, 2)
    assert call(capsys, "queue", "add", 1, "--project", project)["state"] == "waiting"
    call(capsys, "queue", "add", two.path, "--only-if-done")
    assert [item["title"] for item in call(capsys, "queue", "move", 2, "up")["queue"]] == ["orders", "clinic replies"]
    call(capsys, "queue", "move", two.id, "down")
    assert call(capsys, "queue", "add", 1, "--project", project, code=2)["error"]["code"] == "queue.twice"

    def train(run: RunFolder, kind: str, arguments: dict[str, Any]) -> None:
        assert (kind, arguments) == ("resume", {"run": str(run.path)})
        write(run, Launched(kind=kind), step(40), Finished(status="stopped" if run == one else "done"))
        assert not is_alive(run)

    monkeypatch.setattr(queue, "start_job", train)
    assert call(capsys, "queue", "run") == {"ran": [{"run": str(one.path), "status": "stopped"}]}
    states = [(item["title"], item["status"] or item["state"]) for item in call(capsys, "queue")["queue"]]
    assert states == [("clinic replies", "stopped"), ("orders", "held")]
    assert call(capsys, "queue", "remove", "orders", code=2)["error"]["code"] == "queue.unknown"
    assert call(capsys, "queue", "remove", 2) == {"removed": str(two.path)}
    assert main(["queue", "list", "--lang", "zh"]) == 0
    assert capsys.readouterr().out == "1. 0001 clinic replies：已停止\n"


# ------------------------------------------------------------------------------------------------------------ projects
def test_a_project_is_checked_and_moved(capsys: Capture, project: Path, tmp_path: Path) -> None:
    assert call(capsys, "project") == {"projects": []}
    remember(project)
    assert call(capsys, "project")["projects"] == [{"project": str(project), "name": "p"}]
    run = run_of(project, 1)
    run.write_facts({**run.read_facts(), "model_folder": "/gone"})
    told = call(capsys, "project", "check", project)
    assert (told["runs"], told["absent"]) == (2, [{"what": "model", "path": "/gone", "where": run.id}])
    new = tmp_path / "new"
    assert call(capsys, "project", "move", project, new) == {"project": str(new), "was": str(project)}
    assert len(call(capsys, "runs", "--project", new)["runs"]) == 2
    assert call(capsys, "project", "move", project, tmp_path / "x", code=2)["error"]["code"] == "project.missing"
