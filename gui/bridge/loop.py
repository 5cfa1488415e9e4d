"""A thread that does one small round again and again, wakes when it is asked something, and always ends when closed.

The window's threads are all of this kind; nothing outside `gui.bridge` starts one.
"""

from __future__ import annotations

import queue
from collections.abc import Callable

from PySide6.QtCore import QObject, QThread

Call = Callable[[], None]


class Loop(QThread):
    """Runs `round` every ``interval`` seconds, and posted calls at once, in a thread of its own.

    Args:
        name: shown by debuggers and by the test that looks for leaked threads.
        interval: seconds between rounds; None for a thread that only does what it is asked.

    Attributes:
        interval: as given; the thread itself may change it between rounds.
    """

    def __init__(self, name: str, interval: float | None, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.setObjectName(name)
        self.interval = interval
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()

    def post(self, call: Call) -> None:
        """Have ``call`` done in the thread, after what was posted before it. Starts the thread when needed."""
        self._calls.put(call)
        if not self.isRunning():
            self.start()

    def ask_to_end(self) -> None:
        """Have the thread end after the round under way, without waiting for it."""
        if self.isRunning():
            self._calls.put(None)

    def close(self, *, patience_ms: int = 10_000) -> None:
        """End the thread after the round under way, and wait for it."""
        self.ask_to_end()
        self.wait(patience_ms)

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
