"""A thread that does one small round again and again, wakes when it is asked something, and always ends when closed.

The window's threads are all of this kind; nothing outside `gui.bridge` starts one.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable

from PySide6.QtCore import QObject, QThread

log = logging.getLogger("lorimer.window")

Call = Callable[[], None]

_left_behind: list[Loop] = []
"""Threads that a stalled drive keeps: Qt aborts the process when it is to delete one, so that nobody may."""


class Loop(QThread):
    """Runs `round` every ``interval`` seconds, and posted calls at once, in a thread of its own.

    Args:
        name: shown by debuggers and by the test that looks for leaked threads.
        interval: seconds between rounds; None for a thread that only does what it is asked.

    Attributes:
        interval: as given; the thread itself may change it between rounds.
        patience_ms: how long its end is waited for, from when it was first asked to end.
    """

    patience_ms = 10_000

    def __init__(self, name: str, interval: float | None, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.setObjectName(name)
        self.interval = interval
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._asked: float | None = None
        self._is_closed = False

    def post(self, call: Call) -> None:
        """Have ``call`` done in the thread, after what was posted before it. Starts the thread when needed; what comes
        after `close` is done by nobody."""
        if self._is_closed:
            return
        self._calls.put(call)
        self._asked = None
        if not self.isRunning():
            self.start()

    def ask_to_end(self) -> None:
        """Have the thread end after the round under way, without waiting for it."""
        if self.isRunning():
            self._asked = self._asked or time.monotonic()
            self._calls.put(None)

    def close(self) -> None:
        """End the thread after the round under way, and wait for it; one that a drive keeps is left behind."""
        self._is_closed = True
        self.ask_to_end()
        spent_ms = round(1000 * (time.monotonic() - self._asked)) if self._asked is not None else 0
        if self not in _left_behind and not self.wait(max(0, self.patience_ms - spent_ms)):
            log.warning("the thread %r is still waiting for a drive", self.objectName())
            self.blockSignals(True)
            self.setParent(None)
            _left_behind.append(self)

    def round(self) -> None:
        """What is done at each interval, in the thread."""

    def closing(self) -> None:
        """What is done last, in the thread."""

    def run(self) -> None:
        """The thread's life. Not to be called; `start` does."""
        while self._obey():
            if self.interval is not None:
                self.round()
        self.closing()

    def _obey(self) -> bool:
        """Do what was posted, or wait out the interval. False when it is time to end."""
        try:
            call = self._calls.get(timeout=self.interval)
        except queue.Empty:
            return True
        while call is not None:
            call()
            try:
                call = self._calls.get_nowait()
            except queue.Empty:
                return True
        return False


def left_behind() -> list[Loop]:
    """Closed threads that have not ended yet."""
    _left_behind[:] = [loop for loop in _left_behind if not loop.isFinished()]
    return list(_left_behind)
