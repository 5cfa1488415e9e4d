"""What the plan will need: memory by part, time, steps, disk, for the draft and for each other method."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import QObject, Signal

from engine.protocol.errors import Failure
from engine.protocol.text import NOTHING, Text


@dataclass(frozen=True, slots=True)
class Forecast:
    """What one recipe needs on this machine.

    Attributes:
        parts: part of the memory → GiB.
        total_gib: their sum.
        room_gib: what the device has free for it; `whole_gib`: what it has in all.
        fits: whether the sum stays below the room.
        seconds: how long the run takes; None when unknown.
        steps: optimizer steps.
        disk_gib: what the run will write.
        disk_free_gib: what the project's disk has.
        trained_parameters: weights that are trained.
    """

    parts: dict[str, float]
    total_gib: float
    room_gib: float
    whole_gib: float
    fits: bool
    seconds: float | None
    steps: int
    disk_gib: float
    disk_free_gib: float
    trained_parameters: int


class PlanState(QObject):
    """The forecast for the draft.

    Attributes:
        forecast: None while data, model or machine are unknown.
        methods: method name → forecast of the draft with that method.
        reasons: why the advisor chose what it chose.
        nearest: what would fit, when the draft does not.
        advised: name of the method that the advisor recommends.
        failure: why there is no forecast, when that is an error.

    Signals:
        changed: any of it.
    """

    changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.forecast: Forecast | None = None
        self.methods: dict[str, Forecast] = {}
        self.reasons: tuple[Text, ...] = ()
        self.nearest: Text = NOTHING
        self.advised = ""
        self.failure: Failure | None = None

    def put(self, forecast: Forecast | None, methods: dict[str, Forecast], failure: Failure | None = None) -> None:
        """The draft, the data, the model or the machine changed."""
        self.forecast, self.methods, self.failure = forecast, methods, failure
        self.changed.emit()
