"""The host against real processes that misbehave: the end is always told, and stop means stop."""

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from engine.host import control, launch, platform
from engine.host.control import send
from engine.host.follow import Follower, last_status, replay
from engine.host.launch import is_alive, start_job
from engine.project.run_folder import JobFolder
from engine.protocol.codec import encode_event
from engine.protocol.errors import UserError
from engine.protocol.events import Continued, Event, Finished, StepDone, Waiting
from engine.protocol.state import JobState, apply_all
from engine.protocol.text import say
from tests.process.fake_worker import end, start_fakes


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobFolder]:
    """A job folder whose worker is the misbehaving one; whatever is left of it is ended."""

    start_fakes(monkeypatch, tmp_path)
    folder = JobFolder(tmp_path / "一个 job")
    yield folder
    end(folder)


def _until(done: Any, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.01)


def _follow(job: JobFolder) -> list[Event]:
    follower, events = Follower(job), list[Event]()
    _until(lambda: events.extend(follower.poll()) or any(isinstance(event, Finished) for event in events))
    return events


@pytest.mark.parametrize(
    ("end", "status", "code", "derived"),
    [
        ("well", "done", "", False),
        ("crash", "failed", "memory.gpu", True),
        ("silent", "failed", "process.ended", True),
        ("killed", "failed", "process.killed", True),
        ("half-line", "failed", "process.ended", True),
    ],
)
def test_the_end_is_always_told(job: JobFolder, end: str, status: str, code: str, derived: bool) -> None:
    start_job(job, "train", {"end": end})
    events = _follow(job)
    last = events[-1]
    assert isinstance(last, Finished)
    assert (last.status, last.derived) == (status, derived)
    assert (last.failure.code if last.failure else "") == code
    assert sum(isinstance(event, StepDone) for event in events) == 3
    # A second reader, as a new window would be, learns the same from the file alone.
    assert replay(job).status == status
    assert last_status(job) == status
    assert sum(isinstance(event, Finished) for event in Follower(job).poll()) == 1


def test_a_new_window_sees_the_same_state(job: JobFolder) -> None:
    start_job(job, "train", {"end": "hang", "steps": 5})
    follower, events = Follower(job), list[Event]()
    _until(lambda: events.extend(follower.poll()) or apply_all(JobState(), events).step == 5)
    assert last_status(job) == "working"
    assert replay(job) == apply_all(JobState(), events)
    control.stop(job)
    events += follower.poll()
    assert replay(job) == apply_all(JobState(), events)


@pytest.mark.parametrize(
    ("ignore", "rung"), [([], "asked"), (["asked"], "terminated"), (["asked", "terminated"], "killed")]
)
def test_stop_means_stop(job: JobFolder, ignore: list[str], rung: str) -> None:
    start_job(job, "train", {"end": "hang", "ignore": ignore})
    child_file = job.path / "child.pid"
    _until(lambda: child_file.exists() and child_file.read_text())
    child = psutil.Process(int(child_file.read_text()))
    assert control.stop(job, save_seconds=0.3, terminate_seconds=0.3) == rung
    assert not is_alive(job)
    _until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    last = _follow(job)[-1]
    assert isinstance(last, Finished)
    assert (last.status, last.failure) == ("stopped", None)
    assert last.derived == (rung != "asked")
    assert last.rung == (rung if last.derived else "")


def test_stopping_what_has_ended_needs_no_rung(job: JobFolder) -> None:
    start_job(job, "train", {"end": "well"})
    _follow(job)
    _until(lambda: not is_alive(job))
    assert control.stop(job) == ""
    assert not job.commands.exists()


def test_one_job_at_a_time_in_a_folder(job: JobFolder) -> None:
    start_job(job, "train", {"end": "hang"})
    with pytest.raises(UserError, match="already"):
        start_job(job, "train", {"end": "hang"})
    control.stop(job)


def test_a_second_process_continues_the_record(job: JobFolder) -> None:
    start_job(job, "train", {"end": "silent"})
    _follow(job)
    _until(lambda: not is_alive(job))
    start_job(job, "resume", {"end": "well"})
    follower, events = Follower(job), list[Event]()
    _until(lambda: events.extend(follower.poll()) or apply_all(JobState(), events).status == "done")
    assert sum(isinstance(event, Finished) for event in events) == 2


def test_a_process_that_takes_its_leave_is_waited_for(job: JobFolder) -> None:
    start_job(job, "train", {"end": "linger"})
    _until(lambda: launch.is_told(job))
    assert is_alive(job)
    start_job(job, "resume", {"end": "well"})
    follower, events = Follower(job), list[Event]()
    _until(lambda: sum(isinstance(event, Finished) for event in events + _more(follower, events)) == 2)
    assert not any(isinstance(event, Finished) and event.failure for event in events)


def _more(follower: Follower, events: list[Event]) -> list[Event]:
    events.extend(follower.poll())
    return []


def test_a_full_disk_is_told_where_the_process_could_not(job: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    full = SimpleNamespace(free=4096)
    monkeypatch.setattr("engine.host.follow.shutil.disk_usage", lambda path: full)
    start_job(job, "train", {"end": "silent"})
    events = _follow(job)
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.failure is not None
    assert last.failure.code == "disk.full"


def test_another_process_with_the_same_number_is_not_the_job(job: JobFolder) -> None:
    job.path.mkdir()
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
    try:
        launch.process_file(job).write_text(f'{{"pid": {other.pid}, "mark": "another boot:1"}}')
        assert not is_alive(job)
        assert control.stop(job) == ""
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_commands_reach_the_worker_in_order(job: JobFolder) -> None:
    from engine.worker.channel import WorkerChannel

    job.path.mkdir()
    channel = WorkerChannel(1, job.commands)
    assert channel.commands() == []
    for name in ("pause", "continue"):
        send(job, name)
    assert [command.name for command in channel.commands()] == ["pause", "continue"]
    with job.commands.open("ab") as file:
        file.write(b'not json\n{"name": "st')
    assert channel.commands() == []
    with job.commands.open("ab") as file:
        file.write(b'op"}\n')
    assert [command.name for command in channel.commands()] == ["stop"]


def test_a_machine_that_was_restarted_is_told(job: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    start_job(job, "train", {"end": "killed"})
    _until(lambda: not is_alive(job))
    monkeypatch.setattr(launch, "_started", {})  # another host than the one that started it
    monkeypatch.setattr(platform, "started", lambda: time.time() + 60)
    state = replay(job)
    assert state.failure is not None
    assert state.failure.code == "machine.restarted"


def test_stop_means_stop_on_a_disk_that_takes_nothing(job: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    start_job(job, "train", {"end": "hang", "ignore": ["asked"]})
    _until(lambda: replay(job).step == 3)

    def full(*_: Any) -> None:
        raise UserError("disk.full", say("The disk is full.", "磁盘已满。"))

    with monkeypatch.context() as patch:
        patch.setattr(control, "write_json", full)
        patch.setattr(control, "send", full)
        began = time.monotonic()
        # It cannot be asked, so nobody waits for what it would do.
        assert control.stop(job, save_seconds=60.0, terminate_seconds=5.0) == "terminated"
        assert time.monotonic() - began < 20
    assert not is_alive(job)


@pytest.mark.parametrize(("apart", "patience"), [(0.1, 60.0), (100.0, 300.0), (1e6, 1800.0)])
def test_a_job_whose_steps_are_long_is_given_longer_to_save(job: JobFolder, apart: float, patience: float) -> None:
    job.path.mkdir()
    assert control.save_patience(job) == 60.0
    steps = [StepDone(step=n, steps=9, epoch=0, loss=1, learning_rate=0, time=1000 + n * apart) for n in range(1, 5)]
    night = [Waiting(step=4, time=2e7), Continued(step=4, time=3e7), replace(steps[-1], step=5, time=4e7)]
    job.events.write_text("".join(encode_event(event) + "\n" for event in [*steps, *night]) + "{half")
    assert control.save_patience(job) == pytest.approx(patience)
