"""The end of a run is told to someone who looks elsewhere, and only then."""

import time
from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication, QSystemTrayIcon
from pytestqt.qtbot import QtBot

from engine.catalogue import CATALOGUE
from engine.host import follow
from engine.project.project import Project
from engine.project.run_folder import RunFolder
from engine.protocol.codec import encode_event
from engine.protocol.errors import Failure
from engine.protocol.events import Event, Finished, Gauge, HeldOut, JobStarted, StepDone, Waiting
from engine.protocol.text import say
from engine.recipe.file import loads
from gui.context import AppContext
from gui.i18n.language import speak
from gui.main_window import MainWindow
from gui.operations import project
from gui.widgets.announcer import RunAnnouncer


def ended(tmp_path: Path, status: str, at: float, failure: Failure | None = None) -> RunFolder:
    """A run whose record says that it ended then."""
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.write_facts({"id": "run", "title": "run", "created": 0})
    events: list[Event] = [
        JobStarted(kind="train", pid=1, time=at - 9),
        StepDone(step=8, steps=8, epoch=1, loss=1.5, learning_rate=1e-4, time=at - 2),
        HeldOut(step=8, loss=1.25, time=at - 1),
        Finished(status=status, failure=failure, time=at),
    ]
    run.events.write_text("".join(encode_event(event) + "\n" for event in events), encoding="utf-8")
    return run


@pytest.fixture
def announcer(window: MainWindow) -> RunAnnouncer:
    return window.findChildren(RunAnnouncer)[0]


@pytest.fixture
def in_background(monkeypatch: pytest.MonkeyPatch, window: MainWindow) -> list[object]:
    """Has the window look inactive; gives what asked for attention."""
    alerts: list[object] = []
    monkeypatch.setattr(window, "isActiveWindow", lambda: False)
    monkeypatch.setattr(QApplication, "alert", lambda *args: alerts.append(args[0]))
    return alerts


def test_a_window_in_the_background_asks_for_attention(
    qtbot: QtBot, context: AppContext, tmp_path: Path, announcer: RunAnnouncer, in_background: list[object]
) -> None:
    with qtbot.waitSignal(announcer.announced) as told:
        context.runs.select(ended(tmp_path, "done", time.time() + 60))
    assert told.args == ["The run is done. Best held-out loss 1.25."]
    assert in_background == [announcer.parent()]
    [notice] = context.notices.open  # the page that was looked at is not Train
    assert (notice.level, notice.message.zh) == ("good", "训练完成。")


def test_a_failure_says_why_in_the_language_of_the_window(
    qtbot: QtBot, context: AppContext, tmp_path: Path, announcer: RunAnnouncer, in_background: list[object]
) -> None:
    speak("zh")
    failure = Failure("gpu_memory", say("Out of memory.", "显存不足。"), say("Try less.", "请减小。"))
    with qtbot.waitSignal(announcer.announced) as told:
        context.runs.select(ended(tmp_path, "failed", time.time() + 60, failure))
    assert told.args == ["训练出错结束。检查点已保留。 显存不足。"]
    assert [notice.level for notice in context.notices.open] == ["error"]


def test_what_a_stop_lost_is_told_as_a_warning(
    qtbot: QtBot, context: AppContext, tmp_path: Path, announcer: RunAnnouncer, in_background: list[object]
) -> None:
    with qtbot.waitSignal(announcer.announced) as told:
        context.runs.select(ended(tmp_path, "stopped", time.time() + 60))
    assert told.args == [
        "Stopped at step 8. Steps 1 to 8 were not saved; there is no checkpoint. Best held-out loss 1.25."
    ]
    assert [notice.level for notice in context.notices.open] == ["warning"]


def test_who_looks_at_the_run_is_not_told_twice(
    qtbot: QtBot, context: AppContext, tmp_path: Path, window: MainWindow, announcer: RunAnnouncer
) -> None:
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow)
    context.wizard.go("train")
    with qtbot.assertNotEmitted(announcer.announced), qtbot.waitSignal(context.runs.train.finished):
        context.runs.select(ended(tmp_path, "done", time.time() + 60))
    assert context.notices.open == []


def test_what_ended_before_the_window_opened_is_not_news(
    qtbot: QtBot, context: AppContext, tmp_path: Path, announcer: RunAnnouncer, in_background: list[object]
) -> None:
    with qtbot.assertNotEmitted(announcer.announced), qtbot.waitSignal(context.runs.train.finished):
        context.runs.select(ended(tmp_path, "done", time.time() - 60))
    assert context.notices.open == []


def test_a_click_on_the_notification_brings_the_run_back(
    qtbot: QtBot,
    context: AppContext,
    tmp_path: Path,
    window: MainWindow,
    announcer: RunAnnouncer,
    in_background: list[object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The desktop's part is played: offscreen there is none, and Qt warns of each call that it would serve."""
    shown: list[tuple[str, str]] = []
    visible: list[bool] = []
    raised: list[MainWindow] = []
    monkeypatch.setattr(QSystemTrayIcon, "show", lambda icon: visible.append(True))
    monkeypatch.setattr(QSystemTrayIcon, "hide", lambda icon: visible.append(False))
    monkeypatch.setattr(window, "raise_", lambda: raised.append(window))
    monkeypatch.setattr(QSystemTrayIcon, "isSystemTrayAvailable", staticmethod(lambda: True))
    monkeypatch.setattr(QSystemTrayIcon, "showMessage", lambda icon, title, words, *rest: shown.append((title, words)))
    with qtbot.waitSignal(announcer.announced):
        context.runs.select(ended(tmp_path, "done", time.time() + 60))
    assert shown == [(f"{context.project.name} · Lorimer", "The run is done. Best held-out loss 1.25.")]
    [icon] = announcer.findChildren(QSystemTrayIcon)
    assert visible == [True]
    icon.messageClicked.emit()
    assert context.wizard.current == "train"
    assert visible == [True, False]
    assert raised == [window]


def waits(tmp_path: Path, at: float, code: str = "disk.full") -> RunFolder:
    """A run whose record says that it waits for the disk since then."""
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.write_facts({"id": "run", "title": "run", "created": 0})
    room = say("Free 160 MiB on D:.", "请在 D: 腾出 160 MiB。")
    events: list[Event] = [
        JobStarted(kind="train", pid=1, time=at - 9),
        StepDone(step=8, steps=16, epoch=1, loss=1.5, learning_rate=1e-4, time=at - 2),
        Waiting(step=8, reason="disk", code=code, text=room, time=at),
    ]
    run.events.write_text("".join(encode_event(event) + "\n" for event in events), encoding="utf-8")
    return run


def test_a_run_that_waits_for_the_disk_is_told_once(
    qtbot: QtBot,
    context: AppContext,
    tmp_path: Path,
    announcer: RunAnnouncer,
    in_background: list[object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follow, "is_alive", lambda folder: True)
    told: list[str] = []
    announcer.announced.connect(told.append)
    run = waits(tmp_path, time.time() + 60)
    with qtbot.waitSignal(announcer.announced):
        context.runs.select(run)
    with run.events.open("a", encoding="utf-8") as file:
        file.write(encode_event(Gauge(memory_gib=1.0)) + "\n")
    qtbot.waitUntil(lambda: context.runs.train.state.gauge is not None)
    assert told == ["The run waits: the disk is full. Free 160 MiB on D:."]
    assert [notice.level for notice in context.notices.open] == ["warning"]


def test_a_drive_that_is_gone_is_not_told_as_full(
    qtbot: QtBot,
    context: AppContext,
    tmp_path: Path,
    announcer: RunAnnouncer,
    in_background: list[object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follow, "is_alive", lambda folder: True)
    with qtbot.waitSignal(announcer.announced) as told:
        context.runs.select(waits(tmp_path, time.time() + 60, "disk.gone"))
    assert told.args == ["The run waits: its disk is gone. Free 160 MiB on D:."]


def test_the_end_of_a_run_that_nobody_looks_at_is_told_once(
    qtbot: QtBot,
    context: AppContext,
    tmp_project: Path,
    announcer: RunAnnouncer,
    in_background: list[object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(project, "WATCH_MS", 100)
    alive: set[Path] = set()
    monkeypatch.setattr(follow, "is_alive", lambda folder: folder.path in alive)
    made = Project.open_or_create(tmp_project)
    looked_at, other = (made.new_run(loads("", CATALOGUE), title=title) for title in ("mine", "other"))
    alive.add(other.path)
    step = StepDone(step=1, steps=8, epoch=1, loss=1.5, learning_rate=1e-4, time=time.time())
    tell(other, JobStarted(kind="train", pid=1, time=time.time()), step)
    with qtbot.waitSignal(context.runs.selected):
        project.open_project(context, tmp_project, looked_at)
    assert set(context.bridge.jobs._loops) == {looked_at.path, other.path}  # it is started again if memory runs out
    context.runs.select(other)
    context.runs.select(looked_at)
    assert set(context.bridge.jobs._loops) == {looked_at.path, other.path}
    told: list[str] = []
    announcer.announced.connect(told.append)
    tell(other, Finished(status="done", time=time.time()))
    alive.clear()
    qtbot.waitUntil(lambda: told == ["“other”: The run is done. Training loss 1.50."])
    assert set(context.bridge.jobs._loops) == {looked_at.path}
    context.runs.select(other)  # its end is told by itself as well, and was told
    qtbot.waitUntil(lambda: context.runs.train.state.is_over)
    assert len(told) == 1


def tell(run: RunFolder, *events: Event) -> None:
    """Put events at the end of a run's record."""
    with run.events.open("a", encoding="utf-8") as file:
        file.writelines(encode_event(event) + "\n" for event in events)
