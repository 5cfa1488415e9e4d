"""Window tests leave no QTimer or QThread running: either goes on firing into widgets that are gone."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest
from PySide6.QtCore import QThread, QTimer
from pytestqt.qtbot import QtBot
from shiboken6 import isValid

from gui.context import AppContext
from gui.i18n.language import speak
from gui.main_window import MainWindow
from gui.operations.data import import_files
from gui.operations.start import begin
from gui.state.settings import AppSettings

PATIENCE = 60_000
"""Milliseconds that a session may take on a busy machine."""


@pytest.fixture(autouse=True)
def garbage_stays_in_this_thread() -> Iterator[None]:
    """As in the window (`gui.bridge.garbage`): no other thread destroys widgets."""
    gc.disable()
    yield
    gc.enable()
    gc.collect()


@pytest.fixture(autouse=True)
def english() -> None:
    """Each test begins in English, whatever the one before it spoke."""
    speak("en")


@pytest.fixture(autouse=True)
def no_leaked_timers(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test after which a QTimer that it started still runs."""
    started: WeakSet[QTimer] = WeakSet()
    start = QTimer.start

    def remembered(timer: QTimer, *args: Any) -> None:
        started.add(timer)
        start(timer, *args)

    monkeypatch.setattr(QTimer, "start", remembered)
    yield
    running = [timer for timer in started if isValid(timer) and timer.isActive()]
    names = ", ".join(timer.objectName() or f"a timer of {timer.parent()!r}" for timer in running)
    for timer in running:
        timer.stop()
    assert not names, f"the test left timers running: {names}. Give each a parent that is deleted, or call stop()."


@pytest.fixture(autouse=True)
def no_leaked_qthreads(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test after which a QThread that it started still runs."""
    started: WeakSet[QThread] = WeakSet()
    start = QThread.start

    def remembered(thread: QThread, *args: Any) -> None:
        started.add(thread)
        start(thread, *args)

    monkeypatch.setattr(QThread, "start", remembered)
    yield
    running = [thread for thread in started if isValid(thread) and not thread.wait(3000)]
    names = ", ".join(thread.objectName() or type(thread).__name__ for thread in running)
    assert not names, f"the test left QThreads running: {names}. Call quit() and wait() when their owner closes."


# --------------------------------------------------------------------------------------------------- the window's own
@pytest.fixture
def context(qtbot: QtBot, tmp_project: Path) -> Iterator[AppContext]:
    """The states and the bridge on an empty project, in English and light; closed at the end."""
    speak("en")
    made = AppContext(AppSettings(language="en", theme="light"), tmp_project)
    yield made
    made.close()
    made.deleteLater()


@pytest.fixture
def window(qtbot: QtBot, context: AppContext) -> MainWindow:
    """The whole window, shown; nothing is opened until `begin` is called."""
    made = MainWindow(context)
    qtbot.addWidget(made)
    made.show()
    return made


@pytest.fixture
def opened(qtbot: QtBot, window: MainWindow, context: AppContext) -> AppContext:
    """The window with its project open, its sessions running and its models listed, as a user meets it."""
    begin(context)
    qtbot.waitUntil(lambda: bool(context.models.models) and context.machine.machine is not None, timeout=PATIENCE)
    return context


@pytest.fixture
def with_data(qtbot: QtBot, opened: AppContext, repository: Path) -> AppContext:
    """The opened window with the English sample imported and planned."""
    import_files(opened, [repository / "resources" / "samples" / "orders_en.jsonl"])
    qtbot.waitUntil(lambda: opened.plan.forecast is not None, timeout=PATIENCE)
    # The advice sets the longest row, after which the data are read once more.
    qtbot.waitUntil(lambda: opened.data.facts.get("limit") == opened.draft.recipe.data.max_length, timeout=PATIENCE)
    return opened
