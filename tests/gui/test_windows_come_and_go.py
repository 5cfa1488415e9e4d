"""A window may close, crash or be killed: the run goes on, and the next window shows all of it and controls it."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from engine.host import launch, platform, restart
from engine.host.follow import replay
from engine.host.launch import is_alive, running_pid, start_job
from engine.project.project import Project
from engine.project.run_folder import JobFolder, RunFolder
from engine.protocol.codec import encode_event
from engine.protocol.events import Event, Finished, JobStarted, Launched, StepDone
from engine.protocol.state import JobState, apply_all
from gui.bridge.jobs import JobWatcher
from gui.context import AppContext
from gui.operations.project import open_project
from gui.operations.train import stop_run

ROOT = Path(__file__).resolve().parents[2]
FAKE = ROOT / "tests" / "process" / "misbehaving.py"


@pytest.fixture
def run(tmp_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, context: AppContext) -> Iterator[RunFolder]:
    """A run of the project whose worker is the misbehaving one; it is ended at the end."""

    def start(arguments: list[str], stdin: Any, stdout: Any, stderr: Any, *, detached: bool) -> Any:
        command = [sys.executable, "-S", "-E", str(FAKE), *arguments]
        streams = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
        return platform.start(command, folder=tmp_path, environment={}, detached=detached, **streams)

    monkeypatch.setattr(launch, "_start", start)
    made = Project.open_or_create(tmp_project).new_run(context.draft.recipe)
    yield made
    pid = running_pid(made)
    if pid is not None:
        platform.end_group(pid, force=True)
        while is_alive(made):
            time.sleep(0.01)


def test_a_window_that_is_killed_leaves_the_run_to_the_next(qtbot: QtBot, context: AppContext, run: RunFolder) -> None:
    start_job(run, "train", {"end": "hang", "steps": 400, "pause": 0.005})
    worker = running_pid(run)
    window = subprocess.Popen([sys.executable, "-m", "gui", "--project", str(context.project.path)], cwd=ROOT)
    try:
        lease = context.project.path / "control.1.json"
        qtbot.waitUntil(lease.exists, timeout=30_000)
    finally:
        window.kill()
        window.wait()
    assert running_pid(run) == worker
    with qtbot.waitSignal(context.project.opened):
        open_project(context, context.project.path)
    assert context.runs.run == run
    qtbot.waitUntil(lambda: context.runs.train.state.step == 400, timeout=20_000)
    assert [event.step for event in context.runs.train.state.steps] == list(range(1, 401))
    qtbot.waitUntil(lambda: context.control._has_answer and context.control.controls)
    stop_run(context)
    qtbot.waitUntil(lambda: context.runs.train.state.is_over, timeout=20_000)
    assert context.runs.train.state.status == "stopped"
    assert context.runs.train.state == replay(run)
    assert not is_alive(run)


def test_a_window_that_is_closed_leaves_the_run_alone(qtbot: QtBot, context: AppContext, run: RunFolder) -> None:
    start_job(run, "train", {"end": "hang", "steps": 5})
    with qtbot.waitSignal(context.project.opened):
        open_project(context, context.project.path)
    qtbot.waitUntil(lambda: context.runs.train.state.step == 5)
    context.close()
    assert is_alive(run)
    assert not list(context.project.path.glob("control.*"))


def test_of_two_windows_one_starts_a_killed_run_again(
    qtbot: QtBot, run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both follow it, each in a thread of its own, and both find it gone at once."""
    count = tmp_path / "memory.events"
    count.write_text("oom_kill 0\n")
    monkeypatch.setattr(platform, "_CGROUPS", count.parent)
    monkeypatch.setattr(platform, "memory_kill_count", lambda pid: (count, platform.memory_kills(count)))
    monkeypatch.setattr(restart, "LOOK_SECONDS", 0.0)
    start_job(run, "train", {"end": "hang", "plan": True})
    windows = [JobWatcher() for _ in range(2)]
    told: list[list[Event]] = [[], []]
    for window, events in zip(windows, told, strict=True):
        window.happened.connect(lambda _path, new, events=events: events.extend(new))
        window.watch(run)
    qtbot.waitUntil(lambda: all(apply_all(JobState(), events).step == 3 for events in told))
    qtbot.wait(250)  # they have looked at the count
    count.write_text("oom_kill 1\n")
    platform.end_group(running_pid(run) or 0, force=True)
    qtbot.waitUntil(lambda: all(_number(events, JobStarted) == 2 for events in told), timeout=10_000)
    qtbot.wait(300)
    for window in windows:
        window.close()
    for events in told:
        assert _number(events, Launched) == 2
        assert _number(events, Finished) == 0
    assert told[0] == told[1]
    assert is_alive(run)


def _number(events: list[Event], kind: type[Event]) -> int:
    return sum(isinstance(event, kind) for event in events)


@pytest.mark.parametrize("jump", [6 * 3600, -6 * 3600])
def test_a_clock_that_is_set_changes_nothing(
    qtbot: QtBot, context: AppContext, run: RunFolder, monkeypatch: pytest.MonkeyPatch, jump: int
) -> None:
    """Between the steps of a run, and while windows hold and renew their lease."""
    start_job(run, "train", {"end": "hang", "steps": 3})
    with qtbot.waitSignal(context.project.opened):
        open_project(context, context.project.path)
    qtbot.waitUntil(lambda: context.runs.train.state.step == 3 and context.control._has_answer)
    true = time.time
    monkeypatch.setattr(time, "time", lambda: true() + jump)
    step = StepDone(step=4, steps=10, epoch=0.4, loss=1.0, learning_rate=0.1)
    launch.append_event(JobFolder(run.path), step)
    qtbot.waitUntil(lambda: context.runs.train.state.step == 4)
    qtbot.wait(1200)  # the lease is looked at
    assert context.control.controls
    assert [event.step for event in context.runs.train.state.steps] == [1, 2, 3, 4]
    assert is_alive(run)
    stop_run(context)
    qtbot.waitUntil(lambda: context.runs.train.state.is_over, timeout=10_000)
    assert context.runs.train.state.status == "stopped"


def test_the_order_of_a_record_is_that_of_arrival(tmp_path: Path) -> None:
    """Not that of the clock, which was set back meanwhile."""
    job = JobFolder(tmp_path)
    steps = [StepDone(step=n, steps=4, epoch=0, loss=1, learning_rate=0, time=9000.0 - n) for n in range(1, 5)]
    job.events.write_text("".join(encode_event(event) + "\n" for event in [*steps, Finished(status="done", time=5.0)]))
    state = replay(job)
    assert [event.step for event in state.steps] == [1, 2, 3, 4]
    assert (state.status, state.step) == ("done", 4)
