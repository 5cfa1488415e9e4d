"""The bridge: threads that wake, work and always end; events that cross it whole and in order."""

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import pytest
from PySide6.QtCore import QObject, Signal
from pytestqt.qtbot import QtBot

from engine.host import follow
from engine.project.run_folder import JobFolder
from engine.protocol.codec import encode_event
from engine.protocol.errors import Failure, UserError
from engine.protocol.events import Event, Finished, JobStarted, StepDone
from engine.protocol.text import say
from gui.bridge.background import Background
from gui.bridge.bridge import Bridge
from gui.bridge.garbage import GarbageCollector
from gui.bridge.jobs import BATCH, JobWatcher
from gui.bridge.loop import Loop, left_behind
from gui.bridge.session import SessionClient

ROOT = Path(__file__).resolve().parents[2]


class Beating(Loop):
    """Counts its rounds and remembers its end."""

    def __init__(self) -> None:
        super().__init__("beating", 0.01)
        self.rounds = 0
        self.ended = False

    def round(self) -> None:
        self.rounds += 1

    def closing(self) -> None:
        self.ended = True


def write_job(folder: Path, steps: int) -> JobFolder:
    """A finished job with so many steps."""
    folder.mkdir(parents=True)
    job = JobFolder(folder)
    events: list[Event] = [JobStarted(kind="train", pid=1)]
    events += [StepDone(step=i, steps=steps, epoch=0.0, loss=1.0 / i, learning_rate=1e-4) for i in range(1, steps + 1)]
    events.append(Finished(status="done"))
    job.events.write_text("".join(encode_event(event) + "\n" for event in events), encoding="utf-8")
    return job


def test_a_loop_does_its_rounds_and_ends(qtbot: QtBot) -> None:
    loop = Beating()
    loop.start()
    qtbot.waitUntil(lambda: loop.rounds > 3)
    loop.close()
    assert loop.ended
    assert not loop.isRunning()


def test_what_is_posted_is_done_in_order_and_elsewhere(qtbot: QtBot) -> None:
    loop, seen = Loop("posted", None), []
    for number in range(50):
        loop.post(lambda number=number: seen.append((number, threading.get_ident())))
    qtbot.waitUntil(lambda: len(seen) == 50)
    loop.close()
    assert [number for number, _ in seen] == list(range(50))
    assert {thread for _, thread in seen} != {threading.get_ident()}


def test_closing_what_never_ran_is_no_error() -> None:
    Loop("idle", None).close()
    Bridge().close()


def test_background_hands_results_and_failures_back_on_the_windows_thread(qtbot: QtBot) -> None:
    background = Background()
    results: list[tuple[object, int]] = []
    failures: list[Failure] = []

    def refuse() -> None:
        raise UserError("data.empty", say("It is empty.", "它是空的。"))

    def break_down() -> None:
        raise ZeroDivisionError("one by nothing")

    background.call(lambda: 6 * 7, lambda value: results.append((value, threading.get_ident())), failures.append)
    background.call(refuse, results.append, failures.append)
    background.call(break_down, results.append, failures.append)
    qtbot.waitUntil(lambda: len(failures) == 2)
    background.close()
    assert results == [(42, threading.get_ident())]
    assert [failure.code for failure in failures] == ["data.empty", "window.unexpected"]
    assert "ZeroDivisionError" in failures[1].details


def test_a_watched_job_tells_all_its_events_in_order(qtbot: QtBot, tmp_path: Path) -> None:
    job = write_job(tmp_path / "job", 3 * BATCH)
    watcher = JobWatcher()
    batches: list[list[Event]] = []
    watcher.happened.connect(lambda _path, events: batches.append(events))
    watcher.watch(job)
    qtbot.waitUntil(lambda: sum(map(len, batches)) == 3 * BATCH + 2, timeout=20_000)
    watcher.close()
    assert max(map(len, batches)) <= BATCH
    steps = [event.step for events in batches for event in events if isinstance(event, StepDone)]
    assert steps == list(range(1, 3 * BATCH + 1))
    assert isinstance(batches[-1][-1], Finished)


def test_events_written_later_are_told_soon(qtbot: QtBot, tmp_path: Path) -> None:
    job = write_job(tmp_path / "job", 2)
    watcher = JobWatcher()
    seen: list[Event] = []
    watcher.happened.connect(lambda _path, events: seen.extend(events))
    watcher.watch(job)
    qtbot.waitUntil(lambda: len(seen) == 4)
    with job.events.open("a", encoding="utf-8") as file:
        file.write(encode_event(JobStarted(kind="resume", pid=2, resumed_from=2)) + "\n")
    began = time.monotonic()
    qtbot.waitUntil(lambda: any(isinstance(event, JobStarted) and event.pid == 2 for event in seen))
    assert time.monotonic() - began < 2.0
    watcher.close()


def test_a_forgotten_job_tells_nothing_more(qtbot: QtBot, tmp_path: Path) -> None:
    job = write_job(tmp_path / "job", 2)
    watcher = JobWatcher()
    seen: list[Event] = []
    watcher.happened.connect(lambda _path, events: seen.extend(events))
    watcher.watch(job)
    qtbot.waitUntil(lambda: len(seen) == 4)
    watcher.forget(job)
    with job.events.open("a", encoding="utf-8") as file:
        file.write(encode_event(Finished(status="failed")) + "\n")
    qtbot.wait(400)
    watcher.close()
    assert len(seen) == 4


def test_nothing_starts_when_the_window_has_closed(qtbot: QtBot, tmp_path: Path) -> None:
    """An answer that comes late may ask for anything."""
    bridge, seen = Bridge(), []
    bridge.background.call(lambda: 1, seen.append, seen.append)
    qtbot.waitUntil(lambda: seen == [1])
    bridge.close()
    bridge.background.call(lambda: 2, seen.append, seen.append)
    bridge.jobs.watch(write_job(tmp_path / "job", 1))
    bridge.control.keep(tmp_path)
    bridge.data.warm_up()
    bridge.machine.begin()
    qtbot.wait(50)
    assert not any(loop.isRunning() for loop in bridge.findChildren(Loop))
    assert seen == [1]
    assert not list(tmp_path.glob("control.*"))


class Speaker(QObject):
    said = Signal(object)


def test_five_thousand_signals(qtbot: QtBot) -> None:
    """PySide6 6.12.0 on Python 3.11 loses a reference on each emit and aborts after some six hundred of them."""
    speaker, heard = Speaker(), []
    speaker.said.connect(heard.append)
    for number in range(5000):
        speaker.said.emit(number % 2 == 0)
    assert len(heard) == 5000
    assert sum(heard) == 2500


@pytest.mark.slow
def test_a_session_answers_fails_and_ends(qtbot: QtBot) -> None:
    client = SessionClient("data")
    answers: list[dict[str, object]] = []
    failures: list[Failure] = []
    client.ask("list_models", {}, answers.append, failures.append)
    client.ask("nonsense", {}, answers.append, failures.append)
    unwanted = client.ask("list_models", {}, answers.append, failures.append)
    client.drop(unwanted)
    qtbot.waitUntil(lambda: len(answers) == 1 and len(failures) == 1, timeout=60_000)
    client.close()
    assert next(model["source"] for model in answers[0]["models"]) == "starter"
    assert failures[0].message.en
    assert failures[0].message.zh
    assert not client._process.alive


# ------------------------------------------------------------------------------------------------------------ garbage
def test_garbage_is_collected_in_the_windows_thread_alone(qtbot: QtBot) -> None:
    class Knot:
        def __init__(self) -> None:
            self.itself = self
            weakref.finalize(self, lambda: threads.append(threading.current_thread()))

    threads: list[threading.Thread] = []
    collector = GarbageCollector()
    maker = threading.Thread(target=lambda: [Knot() for _ in range(5000)])
    maker.start()
    maker.join()
    assert threads == []
    qtbot.waitUntil(lambda: len(threads) == 5000, timeout=5000)
    assert set(threads) == {threading.main_thread()}
    collector.close()
    assert gc.isenabled()


# ------------------------------------------------------------------------------------------------------ stalled drives
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_drive_that_stalls_holds_up_nobody_else(
    qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread waits in a read that never returns: other jobs are followed, and the bridge closes."""
    stalled = JobFolder(tmp_path / "stalled")
    stalled.path.mkdir()
    os.mkfifo(stalled.events)
    # A pipe is refused where a file should be; this one is read as a drive that does not answer.
    plain = follow.open_plain
    monkeypatch.setattr(follow, "open_plain", lambda path: path.open("rb") if path == stalled.events else plain(path))
    monkeypatch.setattr("gui.bridge.jobs._FollowLoop.patience_ms", 300)
    bridge, seen = Bridge(), []
    bridge.jobs.happened.connect(lambda path, events: seen.extend((path, event) for event in events))
    bridge.jobs.watch(stalled)
    other = write_job(tmp_path / "other", 3)
    qtbot.wait(100)
    bridge.jobs.watch(other)
    qtbot.waitUntil(lambda: len(seen) == 5, timeout=2000)
    began = time.monotonic()
    bridge.close()
    assert time.monotonic() - began < 2.0
    left = left_behind()
    assert [loop.objectName() for loop in left] == ["follows stalled"]
    bridge.close()  # as the window does, twice
    bridge.deleteLater()
    qtbot.wait(10)
    stalled.events.open("wb").close()  # it is there again
    qtbot.waitUntil(lambda: left_behind() == [])
    assert len(seen) == 5


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_window_closes_while_a_drive_stalls(tmp_path: Path) -> None:
    """A process of its own: Qt aborts one that deletes a thread which runs."""
    stalled = tmp_path / "stalled"
    stalled.mkdir()
    os.mkfifo(stalled / "events.jsonl")
    done = subprocess.run(
        [sys.executable, "-c", CLOSING, str(stalled)], cwd=ROOT, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"Destroyed" not in done.stderr


CLOSING = """
import sys
from pathlib import Path
from PySide6.QtCore import QTimer
from engine.host import follow as following
from engine.project.run_folder import JobFolder
from gui import app
from gui.main_window import MainWindow

# A pipe is refused where a file should be; this one is read as a drive that does not answer.
following.open_plain = lambda path: path.open("rb")

def follow(context):
    context.runs.train.follow(JobFolder(Path(sys.argv[1])))
    QTimer.singleShot(200, lambda: [widget.close() for widget in app.QApplication.topLevelWidgets()])

app.begin = follow
sys.exit(app.run(["--project", sys.argv[1] + "-project", "--lang", "en"]))
"""


def test_an_event_on_its_way_is_not_told_twice(qtbot: QtBot, tmp_path: Path) -> None:
    """Following a job anew while its first events are still on their way begins again from the first."""
    job = write_job(tmp_path / "job", 2)
    watcher = JobWatcher()
    seen: list[Event] = []
    watcher.happened.connect(lambda _path, events: seen.extend(events))
    for _ in range(5):
        watcher.watch(job)
        time.sleep(0.05)  # the thread tells, and this one does not listen yet
    qtbot.waitUntil(lambda: len(seen) >= 4)
    qtbot.wait(150)
    watcher.close()
    assert len(seen) == 4
