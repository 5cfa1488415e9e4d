"""What this machine is and does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

if TYPE_CHECKING:
    from engine.machine.detect import Machine
    from engine.protocol.events import Gauge


class MachineState(QObject):
    """The machine.

    Attributes:
        machine: None until detected.
        gauge: the last reading, None before the first.

    Signals:
        detected: `machine` is known.
        gauged: `gauge` is new.
    """

    detected = Signal()
    gauged = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.machine: Machine | None = None
        self.gauge: Gauge | None = None

    def set_machine(self, machine: Machine) -> None:
        """The machine was looked at."""
        self.machine = machine
        self.detected.emit()

    def set_gauge(self, gauge: Gauge) -> None:
        """The gauges were read."""
        self.gauge = gauge
        self.gauged.emit()
