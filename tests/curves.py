"""Curves of the real engine that `tests/bench/record_curves.py` recorded, as what a run tells."""

import json
from pathlib import Path
from typing import Any

from engine.catalogue import CATALOGUE
from engine.project.curve import Reading, read_curve
from engine.protocol.events import HeldOut, Note, StepDone
from engine.protocol.text import NOTHING
from engine.recipe.file import from_plain
from engine.recipe.recipe import Recipe

CURVES = Path(__file__).parent / "unit" / "project" / "curves"
Recorded = dict[str, Any]


def behaviours() -> dict[str, list[Recorded]]:
    """Name of a behaviour → its recorded runs, one for each seed."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(CURVES.glob("*.json"))}


def steps_of(curve: Recorded, share: float = 1.0) -> list[StepDone]:
    """The first part of a run's steps."""
    total, epochs, steps = curve["total"], curve["epochs"], curve["steps"]
    return [
        StepDone(
            step=n, steps=total, epoch=epochs * n / total, loss=float(loss), grad_norm=norm, learning_rate=float(rate)
        )
        for n, loss, norm, rate in steps[: round(share * len(steps))]
    ]


def held_out_of(curve: Recorded, last: int) -> list[HeldOut]:
    """The measurements up to a step."""
    return [HeldOut(step=n, loss=float(loss)) for n, loss in curve["held_out"] if n <= last]


def notes_of(curve: Recorded, last: int) -> list[Note]:
    """What was told up to a step."""
    return [Note(step=n, code=code, level=level, text=NOTHING) for n, code, level in curve["notes"] if n <= last]


def recipe_of(curve: Recorded) -> Recipe:
    """What was trained, without its files."""
    return from_plain(curve["recipe"], CATALOGUE)


def read(curve: Recorded, share: float = 1.0) -> Reading:
    """What is read from a run when so much of it is done."""
    steps = steps_of(curve, share)
    last = steps[-1].step if steps else 0
    return read_curve(
        steps,
        held_out_of(curve, last),
        notes_of(curve, last if share < 1 else 10**9),
        recipe=recipe_of(curve),
        is_over=share == 1.0,
    )
