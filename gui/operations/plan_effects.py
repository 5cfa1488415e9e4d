"""What each setting does to memory and time: the draft with its other values, forecast one by one."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from gui.state.plan import Outcome

if TYPE_CHECKING:
    from engine.machine.dims import ModelDims
    from engine.machine.forecast import DataFacts, Room
    from engine.recipe.recipe import Recipe

SLIDERS: dict[str, tuple[int, ...]] = {
    "train.epochs": (1, 2, 3, 4, 5, 8, 10),
    "method.rank": (4, 8, 16, 32, 64, 128, 256),
    "data.max_length": (
        *(64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192),
        *(12_288, 16_384, 24_576, 32_768, 49_152, 65_536, 98_304, 131_072),
    ),
    "train.batch_size": (1, 2, 4, 8, 16, 32),
    "train.accumulation": (1, 2, 4, 8, 16, 32),
}
"""Settings on a slider → the stops that there usually are."""
CHOICES = (
    "train.checkpointing",
    "train.optimizer",
    "train.precision",
    "train.short_rows",
    "train.loss",
    "train.attention",
    "method.targets",
    "method.quant_type",
    "method.double_quantisation",
    "method.feed_forward",
)
"""Settings with few values that change what a run needs."""


def outcomes(
    recipe: Recipe, advised: Recipe, dims: ModelDims, data: DataFacts, where: Room
) -> dict[str, tuple[Outcome, ...]]:
    """What the draft would need with other values of its settings; some fifty forecasts, a few milliseconds."""
    from engine.machine.forecast import forecast

    found = {}
    for name, values in _asked(recipe, advised, dims, data):
        found[name] = tuple(
            Outcome(value, forecast(changed(recipe, name, value), dims, data, where)) for value in values
        )
    return found


def changed(recipe: Recipe, name: str, value: Any) -> Recipe:
    """The recipe with another value at a dotted name, unchecked."""
    part, field = name.split(".")
    section = getattr(recipe, part).model_copy(update={field: value})
    return recipe.model_copy(update={part: section})


def _asked(recipe: Recipe, advised: Recipe, dims: ModelDims, data: DataFacts) -> Iterator[tuple[str, tuple[Any, ...]]]:
    for name, usual in SLIDERS.items():
        part, field = name.split(".")
        if hasattr(getattr(recipe, part), field):
            own = {getattr(getattr(each, part), field, None) for each in (recipe, advised)} - {None}
            low, high = _bounds(name, dims, data)
            yield name, tuple(sorted(own | {value for value in usual if low <= value <= high}))
    for name in CHOICES:
        part, field = name.split(".")
        kind = getattr(type(getattr(recipe, part)).model_fields.get(field), "annotation", None)
        if kind is bool:
            yield name, (False, True)
        elif typing.get_origin(kind) is Literal:
            yield name, typing.get_args(kind)


def _bounds(name: str, dims: ModelDims, data: DataFacts) -> tuple[float, float]:
    """Stops between which a value changes something: no row is longer than the longest, no model knows longer ones."""
    if name != "data.max_length":
        return 0, float("inf")
    lengths = data.lengths
    least = next((stop for stop in reversed(SLIDERS[name]) if stop <= lengths.p50), SLIDERS[name][0])
    most = next((stop for stop in SLIDERS[name] if stop >= lengths.longest), SLIDERS[name][-1])
    return least, min(most, dims.context)
