"""Window tests leave no QTimer or QThread running: either goes on firing into widgets that are gone."""

from collections.abc import Iterator
from typing import Any
from weakref import WeakSet

import pytest
from PySide6.QtCore import QThread, QTimer
from pytestqt.qtbot import QtBot
from shiboken6 import isValid


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
