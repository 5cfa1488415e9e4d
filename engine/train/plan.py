"""How many steps a run has, and where in it is measured and saved: arithmetic only."""

from __future__ import annotations

import math
from dataclasses import dataclass

from engine.recipe.recipe import TrainSettings

MEASUREMENTS = 10
FEWEST_STEPS_BETWEEN = 5


@dataclass(frozen=True, slots=True)
class Schedule:
    """The steps of a run.

    Attributes:
        steps: optimizer steps in all.
        steps_per_epoch: optimizer steps in one pass over the rows; the last of a pass may have fewer rows.
        warmup: steps in which the rate rises.
        evaluate_every, save_every: steps between measurements and checkpoints; ``evaluate_every`` 0 means never.
    """

    steps: int
    steps_per_epoch: int
    warmup: int
    evaluate_every: int
    save_every: int

    @property
    def epochs(self) -> float:
        """Passes over the rows, the part of a last one included."""
        return self.steps / self.steps_per_epoch

    def evaluates_at(self, step: int) -> bool:
        """Whether the held-out rows are measured after ``step``; always after the last."""
        return bool(self.evaluate_every) and (step % self.evaluate_every == 0 or step >= self.steps)

    def saves_at(self, step: int) -> bool:
        """Whether a checkpoint is written after ``step``; always after the last."""
        return step % self.save_every == 0 or step >= self.steps

    def evaluations_after(self, step: int) -> int:
        """How many measurements are still to come."""
        if not self.evaluate_every or step >= self.steps:
            return 0
        return math.ceil(self.steps / self.evaluate_every) - step // self.evaluate_every


def schedule(settings: TrainSettings, *, rows: int, held_out: int) -> Schedule:
    """The schedule of a run over ``rows``. "Auto" gives about ten measurements, never closer than five steps."""
    batches = math.ceil(rows / settings.batch_size)
    per_epoch = max(math.ceil(batches / settings.accumulation), 1)
    steps = max(math.ceil(settings.epochs * per_epoch), 1)
    if settings.max_steps:
        steps = min(steps, settings.max_steps)
    tenth = max(math.ceil(steps / MEASUREMENTS), FEWEST_STEPS_BETWEEN)
    evaluate_every = (settings.evaluate_every or tenth) if held_out else 0
    return Schedule(
        steps=steps,
        steps_per_epoch=per_epoch,
        warmup=math.ceil(settings.warmup_ratio * steps),
        evaluate_every=evaluate_every,
        save_every=settings.save_every or evaluate_every or tenth,
    )
