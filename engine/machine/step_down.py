"""The next recipe down, for one that ran out of memory: what is given up next, in the order of `table.SQUEEZES`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from engine.machine import table
from engine.machine.advise import FOUR_BIT, LOW_RANK
from engine.machine.dims import ModelDims
from engine.machine.forecast import DataFacts, Forecast, Room, forecast
from engine.machine.memory import FIXED_GIB
from engine.machine.table import Squeeze
from engine.methods.registry import METHODS
from engine.protocol.text import Text, say
from engine.recipe.fields import Setting, settings
from engine.recipe.recipe import MethodSettings, Recipe

# A recipe that needs so much of what another needs is no step down.
LESS = 0.98

ON, OFF = say("on", "开"), say("off", "关")


@dataclass(frozen=True, slots=True)
class StepDown:
    """A recipe that needs less memory than another.

    Attributes:
        recipe: it.
        forecast: what it needs by the formulas.
        change: what is other in it ("Rows at once 8 → 4").
    """

    recipe: Recipe
    forecast: Forecast
    change: Text


def step_down(recipe: Recipe, dims: ModelDims, data: DataFacts, where: Room) -> StepDown | None:
    """The next recipe to try after ``recipe`` ran out of memory in ``where``; None when there is nothing left to save.

    First fewer rows at once with more batches per step, so that each step still has the same rows; then, one row at a
    time, what the advisor gives up. What is taken is the first that is predicted to fit, the prediction raised by as
    much as it was too low for ``recipe``; where none is, simply the first.
    """
    fixed = FIXED_GIB[where.device] if where.calibration.fixed_gib is None else where.calibration.fixed_gib
    needs = forecast(recipe, dims, data, where).memory.total - fixed
    # It needed more than what was free.
    too_low = max(1.0, (where.free_gib - fixed) / needs)
    tried = [(each, forecast(each, dims, data, where)) for each in _lower(recipe, data, where)]
    lower = [(each, told) for each, told in tried if told.memory.total - fixed < needs * LESS]
    if not lower:
        return None
    fitting = (pair for pair in lower if fixed + (pair[1].memory.total - fixed) * too_low <= where.usable_gib)
    found, told = next(fitting, lower[0])
    return StepDown(found, told, change(recipe, found))


def _lower(recipe: Recipe, data: DataFacts, where: Room) -> Iterator[Recipe]:
    """Recipes that give up more and more."""
    found = recipe
    while found.train.batch_size > 1:
        found = halved(found)
        yield found
    for squeeze in table.SQUEEZES:
        found = squeezed(found, squeeze, data, where)
        if found != recipe:
            yield found


def halved(recipe: Recipe) -> Recipe:
    """Half as many rows at once, or somewhat fewer, so that the rows of a step stay as many."""
    effective = recipe.effective_batch
    rows = next(size for size in range(max(1, recipe.train.batch_size // 2), 0, -1) if effective % size == 0)
    train = recipe.train.model_copy(update={"batch_size": rows, "accumulation": effective // rows})
    return recipe.model_copy(update={"train": train})


def squeezed(recipe: Recipe, squeeze: Squeeze, data: DataFacts, where: Room) -> Recipe:
    """``recipe`` with what a rung of the table gives up; what it gave up already stays so."""
    train = recipe.train
    if squeeze.checkpointing:
        train = train.model_copy(update={"checkpointing": True})
    if where.device == "cuda" and train.optimizer == "adamw":  # the CPU has no paged memory to save
        train = train.model_copy(update={"optimizer": squeeze.optimizer})
    method = recipe.method
    if squeeze.four_bit and method.name == LOW_RANK:
        method = _in_four_bits(method)
    if squeeze.rank:
        method = _of_rank(method, squeeze.rank)
    cut = recipe.data
    if squeeze.whole != "longest":
        step = table.LENGTH_STEP.value
        length = math.ceil(int(getattr(data.lengths, squeeze.whole)) / step) * step
        cut = cut.model_copy(update={"max_length": min(cut.max_length, length)})
    return recipe.model_copy(update={"train": train, "method": method, "data": cut})


def _in_four_bits(method: MethodSettings) -> MethodSettings:
    """The same adapter beside 4-bit weights."""
    declared = METHODS[FOUR_BIT].settings
    shared = {name: getattr(method, name) for name in declared.model_fields if name != "name" and hasattr(method, name)}
    return declared(name=FOUR_BIT, **shared)


def _of_rank(method: MethodSettings, most: int) -> MethodSettings:
    """A rank of at most so much, the adapter's scale unchanged."""
    rank = getattr(method, "rank", 0)
    if rank <= most:
        return method
    less = most / rank
    scale = math.sqrt(less) if getattr(method, "rank_stabilised", False) else less
    return method.model_copy(update={"rank": most, "alpha": round(getattr(method, "alpha", 0.0) * scale, 2)})


# ------------------------------------------------------------------------------------------------------------- in words
def change(old: Recipe, new: Recipe) -> Text:
    """What is other in ``new``, setting by setting; empty when nothing is."""
    told = []
    if old.method.name != new.method.name:
        told.append(say("{name}", "{name}", name=METHODS[new.method.name].describe(new.method)))
    for part in ("method", "train", "data"):
        before, after = getattr(old, part), getattr(new, part)
        told += [
            _one(about, getattr(before, name), getattr(after, name))
            for name, about in settings(type(after)).items()
            if hasattr(before, name) and getattr(before, name) != getattr(after, name)
        ]
    return Text(", ".join(text.en for text in told), "，".join(text.zh for text in told))


def _one(about: Setting, old: Any, new: Any) -> Text:
    return say(
        "{label} {old} → {new}",
        "{label} {old} → {new}",
        label=about.label,
        old=_word(about, old),
        new=_word(about, new),
    )


def _word(about: Setting, value: Any) -> Text | str:
    if isinstance(value, bool):
        return ON if value else OFF
    named = dict(about.choices).get(str(value))
    if named is not None:
        return named
    return f"{value:g}" if isinstance(value, float) else str(value)
