"""Two recipes side by side: keep one as A, change the draft, B, and go back or exchange them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gui.context import AppContext
from gui.operations.plan import compute, data_facts
from gui.state.plan import Kept

if TYPE_CHECKING:
    from engine.recipe.recipe import Recipe


def keep(context: AppContext) -> None:
    """Keep the draft as A."""
    data, dims = data_facts(context), context.plan.dims
    if data is not None and dims is not None:
        context.plan.kept = Kept(context.draft.recipe, dims, data)
        compute(context)


def swap(context: AppContext) -> None:
    """The draft becomes A, and what was A the draft."""
    kept, data, dims = context.plan.kept, data_facts(context), context.plan.dims
    if kept is None or data is None or dims is None:
        return
    context.plan.kept = Kept(context.draft.recipe, dims, data)
    context.draft.replace(kept.recipe)
    compute(context)


def forget(context: AppContext) -> None:
    """Compare with nothing any more."""
    context.plan.kept = context.plan.kept_forecast = None
    context.plan.changed.emit()


def differing(one: Recipe, other: Recipe) -> list[tuple[str, Any, Any]]:
    """Settings that differ: dotted name and both values, None where a recipe has no such setting."""
    found = []
    for part in ("model", "data", "method", "objective", "train", "evaluate"):
        before, after = getattr(one, part), getattr(other, part)
        for name in dict.fromkeys((*type(before).model_fields, *type(after).model_fields)):
            values = getattr(before, name, None), getattr(after, name, None)
            if values[0] != values[1]:
                found.append((f"{part}.{name}", *values))
    return found
