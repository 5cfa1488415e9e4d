"""What an objective declares: light, so that the window, the planner and the docs can list it."""

from __future__ import annotations

from dataclasses import dataclass

from engine.protocol.text import Text
from engine.recipe.recipe import ObjectiveSettings


@dataclass(frozen=True, slots=True)
class Objective:
    """What a run learns from its rows.

    Attributes:
        name: the recipe's ``objective.name``.
        label, summary: what people read.
        settings: the recipe section with the objective's own fields.
        preference: rows hold a chosen and a rejected answer; otherwise conversations.
        work: module that holds the heavy part, imported by name in a worker; see CONTRIBUTING.md, "An objective".
        forward_passes: forward passes per trained sequence, for memory and time.
        rows_per_example: sequences per row.
        default_learning_rate_factor: the method's rate is multiplied by it.
        source: where it comes from.
    """

    name: str
    label: Text
    summary: Text
    settings: type[ObjectiveSettings]
    preference: bool
    work: str
    forward_passes: float
    rows_per_example: int
    default_learning_rate_factor: float
    source: str
