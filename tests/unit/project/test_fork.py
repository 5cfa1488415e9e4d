"""A new run from a checkpoint of another: what it holds, and what it leaves to the other."""

from pathlib import Path

import pytest

from engine.catalogue import CATALOGUE
from engine.host.follow import replay
from engine.project.atomic import disk_error
from engine.project.fork import fork
from engine.project.kept import is_whole, kept
from engine.project.project import Project
from engine.project.remarks import Remarks, read_remarks, write_remarks
from engine.project.runs import Listing
from engine.protocol.errors import Stopped, UserError
from engine.protocol.events import JobStarted, Launched
from engine.recipe.file import load, save
from tests.unit.project.made_run import make_run, step, write


def test_it_stands_where_the_other_stood(tmp_path: Path) -> None:
    run = make_run(tmp_path, "replies", saved=(10, 20, 30, 40), best=20)
    write_remarks(run, Remarks(tags=("best",), note="mine"))
    run.held_out.write_text('{"where": "x"}\n')
    before = run.events.read_bytes()
    told: list[tuple[int, int]] = []
    made = fork(run, 30, progress=lambda done, total: told.append((done, total)))

    state = replay(made)
    assert (state.step, state.status) == (30, "paused")
    assert [event.step for event in state.checkpoints] == [10, 20, 30]
    assert [event.step for event in state.held_out] == [20]
    assert "step 30 of 0001-replies" in state.notes[-1].text.en
    assert [item.step for item in kept(made)] == [20, 30], "the best one before it comes along"
    assert all(is_whole(item.path) for item in kept(made))
    assert made.held_out.read_text() == run.held_out.read_text()
    assert load(made.recipe, CATALOGUE) == load(run.recipe, CATALOGUE)
    assert told[-1][0] == told[-1][1] > 0
    (row, other) = Listing(tmp_path).read()
    assert row.figures.seconds == 30.0
    assert (row.title, row.came_from, row.tags) == ("replies 30+", ("0001-replies", 30), ("best",))
    assert read_remarks(made).note == ""
    assert (other.figures.steps, run.events.read_bytes()) == (40, before)
    assert [item.step for item in kept(run)] == [10, 20, 30, 40]


def test_steps_that_were_repeated_are_those_of_the_last_time(tmp_path: Path) -> None:
    run = make_run(tmp_path, "r", status="stopped", saved=(20,), steps=30)
    write(run, Launched(kind="resume"), JobStarted(kind="resume", pid=2, resumed_from=0))
    write(run, *(step(number, 5000.0 + number) for number in range(1, 26)))
    events = run.events.read_text().splitlines(keepends=True)
    saved = next(number for number, line in enumerate(events) if line.startswith('{"type": "step", "time": 5020'))
    again = '{"type": "checkpoint", "time": 5020.0, "step": 20, "path": "checkpoints/step-000020", "best": false}\n'
    run.events.write_text("".join([*events[: saved + 1], again, *events[saved + 1 :]]))
    state = replay(fork(run, 20))
    assert state.step == 20
    assert {event.time for event in state.steps} == {5000.0 + number for number in range(1, 21)}


def test_without_the_line_of_the_checkpoint_later_steps_are_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path, "r", saved=(20,))
    lines = [line for line in run.events.read_text().splitlines(keepends=True) if '"checkpoint"' not in line]
    run.events.write_text("".join(lines) + '{"half a li')
    assert replay(fork(run, 20)).step == 20


def test_decisions_about_rows_become_its_own(tmp_path: Path) -> None:
    run = make_run(tmp_path, "r")
    run.decisions.write_text('{"row": 3}\n')
    recipe = load(run.recipe, CATALOGUE)
    data = recipe.data.model_copy(update={"decisions": str(run.decisions)})
    save(recipe.model_copy(update={"data": data}), run.recipe_as_run)
    made = fork(run, 20)
    assert load(made.recipe_as_run, CATALOGUE).data.decisions == str(made.decisions)
    assert made.decisions.read_text() == '{"row": 3}\n'


def test_a_checkpoint_that_is_not_whole_is_told(tmp_path: Path) -> None:
    run = make_run(tmp_path, "r")
    with pytest.raises(UserError, match=r"step 25 does not exist.*20, 40"):
        fork(run, 25)
    next(run.checkpoints.glob("step-000020/*.safetensors")).write_bytes(b"no")
    with pytest.raises(UserError, match=r"step 20 is damaged.*40"):
        fork(run, 20)
    assert len(Project(tmp_path).runs()) == 1


def test_nothing_is_left_of_a_copy_that_failed(tmp_path: Path) -> None:
    run = make_run(tmp_path, "r")

    def stop(done: int, total: int) -> None:
        raise Stopped

    def full(done: int, total: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(Stopped):
        fork(run, 20, progress=stop)
    with pytest.raises(UserError, match="full") as caught:
        fork(run, 20, progress=full)
    assert caught.value.problem.code == disk_error(OSError(28, ""), run.path).problem.code
    assert [path.name for path in run.path.parent.iterdir()] == [run.id]


def test_a_run_that_ended_elsewhere_keeps_its_end(tmp_path: Path) -> None:
    run = make_run(tmp_path, "r", status="failed", saved=(20,), steps=25)
    made = fork(run, 20, title="second try")
    lines = made.events.read_text().splitlines()
    assert sum('"finished"' in line for line in lines) == 1
    assert replay(run).status == "failed"
    assert Project(tmp_path).runs()[0].title == "second try"
