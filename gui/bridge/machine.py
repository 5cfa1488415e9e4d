"""Looks at the machine now and then, away from the window's thread: a driver may take its time to answer."""

from __future__ import annotations

from PySide6.QtCore import QObject, Signal

from gui.bridge.loop import Loop

GAUGE_SECONDS = 1.5


class MachineWatcher(Loop):
    """Finds out once what the machine is, then reads its gauges.

    Signals:
        detected(Machine): what the machine is made of.
        gauged(Gauge): memory, load and temperature now.
    """

    detected = Signal(object)
    gauged = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__("machine", GAUGE_SECONDS, parent)

    def begin(self) -> None:
        """Start looking."""
        self.post(self.detect)

    def detect(self) -> None:
        """Find out what the machine is (in the thread)."""
        from engine.machine.detect import detect

        self.detected.emit(detect())
        self.round()

    def round(self) -> None:
        """Read the gauges once (in the thread)."""
        from engine.machine.detect import gauge

        self.gauged.emit(gauge())
