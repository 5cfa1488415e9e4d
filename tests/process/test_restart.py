"""Trainings that the system ends for lack of memory: started again a few times, and never what a person ended."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.host import control, launch, platform, restart
from engine.host import follow as follow_module
from engine.host.follow import Follower, replay
from engine.host.launch import is_alive, running_pid, start_job
from engine.project.run_folder import JobFolder, RunFolder
from engine.protocol.events import CheckpointSaved, Event, Finished, JobStarted, Launched, Note, StepDone
from engine.protocol.state import JobState, apply_all
from engine.terminal import Terminal, follow
from tests.process.fake_worker import end, start_fakes
from tests.tiny_model import make_model, write_rows

STEPS = 40


@pytest.fixture
def count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets how many processes the system says that it ended for lack of memory; none at first."""
    file = tmp_path / "memory.events"
    file.write_text("oom_kill 0\n")
    monkeypatch.setattr(platform, "_CGROUPS", file.parent)
    monkeypatch.setattr(platform, "memory_kill_count", lambda pid: (file, platform.memory_kills(file)))
    monkeypatch.setattr(restart, "LOOK_SECONDS", 0.0)

    def put(number: int) -> None:
        file.write_text(f"oom_kill {number}\n")

    return put


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobFolder]:
    """A job folder whose worker is the misbehaving one."""

    start_fakes(monkeypatch, tmp_path)
    folder = JobFolder(tmp_path / "run")
    yield folder
    end(folder)


def _until(done: Callable[[], Any], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.01)


def _read(follower: Follower, events: list[Event], kind: type[Event], number: int = 1) -> None:
    """Follow until so many events of a kind have come."""

    def come() -> bool:
        events.extend(follower.poll())
        return sum(isinstance(event, kind) for event in events) >= number

    _until(come)


def _kill(folder: JobFolder) -> None:
    pid = running_pid(folder)
    assert pid is not None
    platform.end_group(pid, force=True)
    _until(lambda: not is_alive(folder))


def test_it_is_started_again_and_told_and_at_last_left_alone(job: JobFolder, count: Callable[[int], None]) -> None:
    start_job(job, "train", {"end": "hang", "plan": True})
    follower, events = Follower(job, restarts=True), list[Event]()
    for number in range(1, restart.MOST_RESTARTS + 1):
        _read(follower, events, StepDone, 3 * number)
        follower.poll()
        count(number)
        _kill(job)
        _read(follower, events, JobStarted, number + 1)
        assert not any(isinstance(event, Finished) for event in events)
        known = launch.read_json(job.job)
        assert (known["kind"], known["arguments"]["restarts"]) == ("resume", number)
    notes = [event for event in events if isinstance(event, Note)]
    assert [(note.code, note.level, note.step) for note in notes] == [("process.restarted", "recovery", 3)] * 3
    assert "(2 of 3)" in notes[1].text.en
    _read(follower, events, StepDone, 3 * (restart.MOST_RESTARTS + 1))
    count(99)
    _kill(job)
    _read(follower, events, Finished)
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.failure is not None
    assert last.failure.code == "memory.killed"
    assert replay(job) == apply_all(JobState(), events)


def test_a_kill_by_hand_is_the_end(job: JobFolder, count: Callable[[int], None]) -> None:
    start_job(job, "train", {"end": "hang", "plan": True})
    follower, events = Follower(job, restarts=True), list[Event]()
    _read(follower, events, StepDone, 3)
    _kill(job)
    _read(follower, events, Finished)
    assert sum(isinstance(event, Launched) for event in events) == 1
    assert getattr(events[-1], "failure").code == "process.killed"  # noqa: B009


def test_a_stop_is_the_end_whatever_the_system_counts(job: JobFolder, count: Callable[[int], None]) -> None:
    start_job(job, "train", {"end": "hang", "plan": True, "ignore": ["asked", "terminated"]})
    follower, events = Follower(job, restarts=True), list[Event]()
    _read(follower, events, StepDone, 3)
    count(1)
    assert control.stop(job, save_seconds=0.1, terminate_seconds=0.1) == "killed"
    _read(follower, events, Finished)
    assert getattr(events[-1], "status") == "stopped"  # noqa: B009
    assert sum(isinstance(event, Launched) for event in events) == 1


@pytest.mark.parametrize(
    ("kind", "plan", "restarts"), [("evaluate", True, True), ("train", False, True), ("train", True, False)]
)
def test_only_a_training_that_a_host_follows_is_started_again(
    job: JobFolder, count: Callable[[int], None], kind: str, plan: bool, restarts: bool
) -> None:
    """Not other jobs, not one that was still loading its model, and not by who only looks into the record."""
    start_job(job, kind, {"end": "hang", "plan": plan})
    follower, events = Follower(job, restarts=restarts), list[Event]()
    _read(follower, events, StepDone, 3)
    count(1)
    _kill(job)
    _read(follower, events, Finished)
    assert sum(isinstance(event, Launched) for event in events) == 1
    assert getattr(events[-1], "failure").code == "memory.killed"  # noqa: B009


def test_of_two_hosts_one_starts_it(job: JobFolder, count: Callable[[int], None]) -> None:
    start_job(job, "train", {"end": "hang", "plan": True})
    one, other = Follower(job, restarts=True), Follower(job, restarts=True)
    events, others = list[Event](), list[Event]()
    _read(one, events, StepDone, 3)
    _read(other, others, StepDone, 3)
    count(1)
    _kill(job)
    _read(one, events, JobStarted, 2)
    _read(other, others, JobStarted, 2)
    assert sum(isinstance(event, Launched) for event in others) == 2
    assert not any(isinstance(event, Finished) for event in [*events, *others])


def test_another_reader_that_found_the_end_first_does_not_prevent_it(
    job: JobFolder, count: Callable[[int], None]
) -> None:
    start_job(job, "train", {"end": "hang", "plan": True})
    follower, events = Follower(job, restarts=True), list[Event]()
    _read(follower, events, StepDone, 3)
    count(1)
    _kill(job)
    assert replay(job).status == "failed"
    _read(follower, events, JobStarted, 2)
    assert not any(isinstance(event, Finished) for event in events)


@pytest.mark.slow
def test_a_real_run_that_was_ended_is_done_in_the_end(
    tmp_path: Path,
    count: Callable[[int], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Followed by a command, as `lorimer run` does; the worker is ended after its first checkpoint."""
    # The real worker writes down where the system really counts: what it is said to have counted is put in its place.
    counted = tmp_path / "memory.events"
    for module in (restart, follow_module):
        monkeypatch.setattr(module, "memory_kills", lambda folder: (0, platform.memory_kills(counted)))
    from engine.catalogue import CATALOGUE
    from engine.recipe.file import from_plain, load, save

    model, rows = make_model(tmp_path / "model"), write_rows(tmp_path / "rows.jsonl")
    run = RunFolder(tmp_path / "real")
    run.path.mkdir()
    plain = {
        "model": {"source": str(model)},
        "data": {"files": [str(rows)]},
        "method": {"name": "ia3"},
        "train": {
            "max_steps": STEPS,
            "epochs": 20.0,
            "batch_size": 4,
            "accumulation": 1,
            "save_every": 10,
            "evaluate_every": STEPS,
        },
    }
    save(from_plain(plain, CATALOGUE), run.recipe)
    start_job(run, "train", {"run": str(run.path)})
    try:
        follower, events = Follower(run), list[Event]()
        ended = False

        def poll(self: Follower) -> list[Event]:
            nonlocal ended
            found = polled(self)
            if not ended and any(isinstance(event, CheckpointSaved) for event in found):
                ended = True
                count(1)
                _kill(run)
            return found

        polled = Follower.poll
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Follower, "poll", poll)
            outcome = follow(run, Terminal(as_json=True, language="en"))
        assert ended
        assert (outcome.status, outcome.step) == ("done", STEPS)
        _until(lambda: events.extend(follower.poll()) or any(isinstance(event, Finished) for event in events))
        state = apply_all(JobState(), events)
        assert [event.step for event in state.steps] == list(range(1, STEPS + 1))
        assert {note.code for note in state.notes} >= {"process.restarted", "memory.restarted"}
        recipe = load(run.recipe_as_run, CATALOGUE)
        assert (recipe.train.batch_size, recipe.train.accumulation) == (2, 2)
        assert recipe.recovered[0].cause == "killed"
        assert recipe.recovered[0].step >= 10
        assert "started again" in capsys.readouterr().err
    finally:
        end(run)
