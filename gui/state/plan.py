"""What the plan will need: memory by part, time, steps, disk, for the draft and for each other method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, Signal

from engine.protocol.errors import Failure

if TYPE_CHECKING:
    from engine.machine.advise import Advice
    from engine.machine.dims import ModelDims
    from engine.machine.forecast import DataFacts, Forecast, Room
    from engine.machine.table import Goal
    from engine.recipe.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Kept:
    """A recipe that the draft is compared with, and what it was made for."""

    recipe: Recipe
    dims: ModelDims
    data: DataFacts


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the draft would need with another value of one setting."""

    value: Any
    forecast: Forecast


class PlanState(QObject):
    """The forecast for the draft.

    Attributes:
        forecast: None while data, model or machine are unknown.
        methods: method name → forecast of the draft with that method.
        outcomes: dotted name → what other values of that setting would need, the present one among them.
        advice: what the advisor would do with this data, model and machine; None while unknown.
        advice_of: all that the advice was made of; it is made anew when that is other.
        goal: what the user wishes for; task: what the rows teach, empty for what is recognised.
        imagined_gib: plan for a card with so much memory instead of this machine, 0 for the CPU; None for this machine.
        kept, kept_forecast: the recipe A that the draft, B, is compared with, and what it needs where B is planned.
        room: the device that a run on this machine goes to; None until the machine is known.
        dims: widths of the chosen model; None while unknown.
        known_dims: folder → widths, of models that were looked at.
        disk_free: bytes free where the run will be written.
        advised: what the advisor decided when its recipe was last taken; None when it never was.
        advised_for: files, model and objective for which the advice was offered as the draft.
        failure: why there is no forecast, when that is an error.

    Signals:
        changed: any of it.
    """

    changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.forecast: Forecast | None = None
        self.methods: dict[str, Forecast] = {}
        self.outcomes: dict[str, tuple[Outcome, ...]] = {}
        self.advice: Advice | None = None
        self.advice_of: Any = None
        self.goal: Goal = "quality"
        self.task = ""
        self.imagined_gib: float | None = None
        self.kept: Kept | None = None
        self.kept_forecast: Forecast | None = None
        self.dims: ModelDims | None = None
        self.room: Room | None = None
        self.known_dims: dict[str, ModelDims] = {}
        self.disk_free = 0
        self.advised: tuple[Any, ...] | None = None
        self.advised_for: tuple[Any, ...] = ()
        self.failure: Failure | None = None

    def clear(self, failure: Failure | None = None) -> None:
        """Something is missing, or wrong: there is no forecast."""
        self.forecast, self.methods, self.outcomes, self.kept_forecast = None, {}, {}, None
        self.advice, self.advice_of, self.failure = None, None, failure
        self.changed.emit()
