"""Python's cyclic garbage is collected in the window's own thread, never in another.

Left to itself Python collects in whichever thread happens to allocate. Where that is a worker thread and the garbage
holds widgets, they are destroyed there: Qt then waits for Python's lock, while the window's thread, which has it, waits
for Qt's.
"""

from __future__ import annotations

import gc

from PySide6.QtCore import QObject, QTimer

INTERVAL_MS = 500


class GarbageCollector(QObject):
    """Takes automatic collection over; made in the window's thread, and collects there by the same thresholds."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        gc.disable()
        self._timer = QTimer(self)
        self._timer.setObjectName("garbage is collected")
        self._timer.setInterval(INTERVAL_MS)
        self._timer.timeout.connect(self.collect)
        self._timer.start()

    def collect(self) -> None:
        """Collect the generations whose time has come, the oldest of them with all younger ones."""
        pairs = zip(gc.get_count(), gc.get_threshold(), strict=True)
        due = [generation for generation, (count, limit) in enumerate(pairs) if count > limit]
        if due:
            gc.collect(due[-1])

    def close(self) -> None:
        """Give collection back to Python."""
        self._timer.stop()
        gc.enable()
