"""Which methods a model can be trained by on this machine, from its widths alone: asked for every model of a list.

It asks for the least that a run can do with: one row at a time and activation checkpointing. The plan makes the most of
what is free; here the question is whether there is a plan at all. Well under a millisecond for each model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.machine.dims import ModelDims
from engine.machine.forecast import TIGHT, USABLE, DataFacts, Lengths, Room
from engine.machine.memory import predict
from engine.methods.registry import METHODS
from engine.protocol.text import Text, say
from engine.recipe.recipe import MethodSettings, Recipe

# Of the registered methods these answer "how large a model?"; the others of the registry need as much as one of them.
ASKED = ("qlora", "lora", "full")
# Rows of the usual fine-tuning sets are shorter than this; stated wherever it stands for data that are not there yet.
TYPICAL_LENGTH = 512

Verdict = Literal["fits", "tight", "no"]
WORDS: dict[Verdict, Text] = {
    "fits": say("fits", "放得下"),
    "tight": say("tight", "勉强"),
    "no": say("too big", "放不下"),
}


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a model can be trained by a method here.

    Attributes:
        method: name in the registry.
        needed_gib: peak memory of the leanest run.
        usable_gib: what a run may plan with here.
    """

    method: str
    needed_gib: float
    usable_gib: float

    @property
    def verdict(self) -> Verdict:
        """ "fits", "tight" (closely), or "no"."""
        if self.needed_gib > self.usable_gib:
            return "no"
        return "tight" if self.needed_gib > self.usable_gib * TIGHT else "fits"


def asked_methods() -> tuple[str, ...]:
    """The methods that models are asked for, those that are registered."""
    return tuple(name for name in ASKED if name in METHODS)


def typical(length: int = TYPICAL_LENGTH) -> DataFacts:
    """Data of a usual length, for when none are there yet."""
    return DataFacts(rows=1000, lengths=Lengths(length, length, length, length, length, length))


def fits_here(dims: ModelDims, where: Room, recipe: Recipe, data: DataFacts) -> dict[str, Fit]:
    """Each of `asked_methods` for one model.

    Args:
        recipe: what the user has under work; its rank, optimizer, precision and longest row count.
        data: their longest row counts.
    """
    usable = where.free_gib * USABLE[where.device]
    return {name: Fit(name, _needed(dims, where, leanest(recipe, name), data), usable) for name in asked_methods()}


def leanest(recipe: Recipe, method: str) -> Recipe:
    """The recipe by another method with the least memory: one row at a time, activations computed anew."""
    train = recipe.train.model_copy(update={"batch_size": 1, "checkpointing": True})
    return recipe.model_copy(update={"method": _settings(recipe.method, method), "train": train})


def _needed(dims: ModelDims, where: Room, recipe: Recipe, data: DataFacts) -> float:
    longest = data.lengths.longest
    return predict(dims, recipe, longest=longest, device=where.device, calibration=where.calibration).total


def _settings(old: MethodSettings, name: str) -> MethodSettings:
    """Another method's settings; those that both have are kept."""
    declared = METHODS[name].settings
    shared = {field: getattr(old, field) for field in declared.model_fields if field != "name" and hasattr(old, field)}
    return declared(name=name, **shared)
