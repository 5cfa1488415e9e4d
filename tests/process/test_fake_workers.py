"""Workers that ignore every request, write rubbish, die anywhere or say nothing: the state is right, stop means stop,
nothing is left running, and the window stays usable."""

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from pytestqt.qtbot import QtBot

from engine.host import control, launch, platform
from engine.host.follow import Follower, last_status, log_tail, replay
from engine.host.launch import is_alive, start_job
from engine.project.project import Project
from engine.project.run_folder import JobFolder, RunFolder
from engine.protocol.errors import Failure
from engine.protocol.events import Event, Finished
from engine.protocol.state import JobState, apply_all
from gui.context import AppContext
from gui.pages.train import TrainPage
from gui.state.settings import AppSettings
from gui.widgets.log_view import MOST_IN_LINE, readable
from tests.process.fake_worker import end, start_fakes
from tests.process.misbehaving import RUBBISH, course

LAST = len(course()) - 1
EVERY_RUNG = ["asked", "terminated"]
LONGEST_GAP = 1.0
"""Seconds for which a window may not answer, on a machine that does other things too; the bench has real figures."""


@dataclass(frozen=True)
class Case:
    """What a worker does, and what is then known of it.

    Attributes:
        status, code: how it ends; no status: it does not, and must be stopped by this rung.
        damaged: lines of its record that cannot be read.
    """

    name: str
    arguments: dict[str, Any]
    status: str = ""
    code: str = ""
    rung: str = ""
    damaged: int = 0
    step: int = 3
    own: bool = field(default=False)


def ending(name: str, status: str, code: str = "", **more: Any) -> Case:
    """A worker that ends by itself."""
    arguments = more.pop("arguments", {"end": name})
    return Case(name, arguments, status, code, **more)


def stopped(name: str, end: str, rung: str, **more: Any) -> Case:
    """A worker that must be stopped."""
    return Case(name, {"end": end, **more.pop("arguments", {})}, "stopped", rung=rung, **more)


def cut(number: int, *, half: bool = False) -> Case:
    """A worker that dies after so many events, or amid the next one."""
    ended = number > LAST
    step = sum(event["type"] == "step" for event in course()[:number])
    return Case(
        f"cut {number}{' and a half' if half else ''}",
        {"cut": number, "half": half},
        "done" if ended else "failed",
        "" if ended else "process.ended",
        damaged=int(half),
        step=step,
        own=ended,
    )


SHOWN = {"unknown event", "unknown field", "empty lines", "no number", "huge power", "half a pair"}
SHOWN |= {"control characters", "long text", "type of a list"}
"""What looks like rubbish and can be read, or passed over, all the same."""

CASES = [
    ending("well", "done", own=True),
    ending("linger", "done", own=True),
    ending("lose-itself", "done", own=True),
    ending("crash", "failed", "memory.gpu"),
    ending("killed", "failed", "process.killed"),
    ending("half-line", "failed", "process.ended", damaged=1),
    ending("strange-status", "failed", own=True),
    ending("close-output", "failed", "process.ended"),
    ending("orphan", "done", own=True),
    ending("killed-with-child", "failed", "process.killed"),
    ending("long-line", "done", damaged=1, own=True),
    ending("much-log", "failed", "process.ended"),
    ending("flood", "done", own=True, step=60_003),
    *[ending(f"code {code}", "failed", "process.ended", arguments={"code": code}) for code in (0, 1, 3, 255)],
    *[
        ending(signal.Signals(number).name, "failed", code, arguments={"signal": number})
        for number, code in {
            signal.SIGKILL: "process.killed",
            signal.SIGSEGV: "process.crashed",
            signal.SIGABRT: "process.crashed",
            signal.SIGHUP: "process.ended",
        }.items()
    ],
    ending(
        "all rubbish",
        "done",
        arguments={"end": "well", "rubbish": list(RUBBISH)},
        damaged=sum(bool(line.strip()) for name in RUBBISH.keys() - SHOWN for line in RUBBISH[name].splitlines()),
        own=True,
    ),
    *[cut(number) for number in range(LAST + 2)],
    *[cut(number, half=True) for number in (0, 4, LAST)],
    stopped("ignores nothing", "hang", "asked", own=True),
    stopped("ignores the question", "hang", "terminated", arguments={"ignore": ["asked"]}),
    stopped("ignores everything", "hang", "killed", arguments={"ignore": EVERY_RUNG}),
    stopped("goes silent", "mute", "terminated"),
    stopped("stops itself", "stop-itself", "killed"),
]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobFolder]:
    """A job folder whose worker is the misbehaving one; whatever is left of it is ended."""
    start_fakes(monkeypatch, tmp_path, "-S", "-E")
    folder = JobFolder(tmp_path / "一个 job")
    yield folder
    end(folder)


def _until(done: Callable[[], Any], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.005)


def _pid(folder: JobFolder) -> int:
    return int(launch.read_json(launch.process_file(folder))["pid"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_whatever_a_worker_does(job: JobFolder, case: Case) -> None:
    start_job(job, "train", case.arguments)
    pid, follower, events = _pid(job), Follower(job), list[Event]()
    if case.rung:
        _until(lambda: events.extend(follower.poll()) or apply_all(JobState(), events).step == case.step)
        if case.arguments["end"] == "hang":
            _until((job.path / "child.pid").exists)
        assert control.stop(job, save_seconds=0.2, terminate_seconds=0.2) == case.rung
    _until(lambda: events.extend(follower.poll()) or any(isinstance(event, Finished) for event in events))
    _until(lambda: not is_alive(job))
    state = apply_all(JobState(), events)
    assert (state.status, state.failure.code if state.failure else "") == (case.status, case.code)
    assert state.step == case.step
    assert sum(isinstance(event, Finished) for event in events) == 1
    assert next(event.derived for event in events if isinstance(event, Finished)) is not case.own
    assert _damaged(events) == case.damaged
    # A second reader, as a new window would be, learns the same from the file alone; and reading tells it once.
    assert replay(job) == state
    assert last_status(job) == case.status
    # Whatever it left behind goes with a stop, which is no error for what has ended.
    control.stop(job, save_seconds=0.2, terminate_seconds=0.2)
    _until(lambda: platform.group_members(pid) == [], 5.0)
    child = job.path / "child.pid"
    assert not child.exists() or not _runs(int(child.read_text()))
    assert replay(job) == state


def _runs(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def _damaged(events: list[Event]) -> int:
    """How many lines were told to be damaged, alone or together."""
    notes = [event.text.en for event in events if getattr(event, "code", "") == "events.damaged"]
    return sum(int(note.split()[0]) if note.split()[0].isdigit() else 1 for note in notes)


def test_of_a_gigabyte_of_log_only_the_end_is_read(job: JobFolder) -> None:
    start_job(job, "train", {"end": "much-log"})
    _until(lambda: not is_alive(job))
    assert job.log.stat().st_size > 2**30
    began = time.monotonic()
    assert log_tail(job.log).endswith("the end of the log\n")
    assert getattr(replay(job).failure, "details").endswith("the end of the log\n")  # noqa: B009
    assert time.monotonic() - began < 1.0


def test_a_log_is_shown_without_what_cannot_be() -> None:
    assert readable("a\0b\x1b[31m\r1%\r2%\nc\ttab\n") == "ab[31m\n1%\n2%\nc\ttab"
    assert len(readable("x" * 60_000)) <= MOST_IN_LINE + 1


WINDOWS = [
    ("flood", {"end": "flood"}, "done"),
    ("all rubbish", {"end": "well", "rubbish": list(RUBBISH)}, "done"),
    ("much log", {"end": "much-log"}, "failed"),
    ("a long line", {"end": "long-line"}, "done"),
    ("ignores everything", {"end": "hang", "ignore": EVERY_RUNG}, "stopped"),
]


@pytest.mark.parametrize(("arguments", "status"), [case[1:] for case in WINDOWS], ids=[case[0] for case in WINDOWS])
def test_the_window_stays_usable(
    qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], status: str
) -> None:
    """The Train page looks at it, with the log open; the longest time for which nothing else came to its turn."""
    start_fakes(monkeypatch, tmp_path, "-S", "-E")
    context = AppContext(AppSettings(language="en", theme="light"), tmp_path / "project")
    project = Project.open_or_create(tmp_path / "project")
    page = TrainPage(context)
    qtbot.addWidget(page)
    page.show()
    page.build_ahead()  # what is slow only the first time
    page._log_switch.setChecked(True)
    run = project.new_run(context.draft.recipe)
    try:
        longest = _watch(qtbot, context, run, arguments, status)
    finally:
        context.close()
        end(run)
        context.deleteLater()
    assert longest < LONGEST_GAP


def _watch(qtbot: QtBot, context: AppContext, run: RunFolder, arguments: dict[str, Any], status: str) -> float:
    """Follow a run until it has ended; gives the longest time between two turns of the event loop, in seconds."""
    start_job(run, "train", arguments)
    context.runs.select(run)
    gaps, last = [0.0], time.monotonic()

    def turned() -> bool:
        nonlocal last
        gaps.append(time.monotonic() - last - 0.01)
        last = time.monotonic()
        if status == "stopped" and context.runs.train.state.step == 3 and not context.runs.train.is_stopping:
            monkey = control.StopLadder(run, save_seconds=0.2, terminate_seconds=0.2)
            _until(monkey.poll)
            last = time.monotonic()
        return context.runs.train.state.is_over

    qtbot.waitUntil(turned, timeout=20_000)
    qtbot.wait(200)
    assert context.runs.train.state.status == status
    assert isinstance(context.runs.train.state.failure, Failure) == (status == "failed")
    return max(gaps)
