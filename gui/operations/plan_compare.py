"""Two recipes side by side: keep one as A, change the draft, B, and go back or exchange them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.protocol.errors import UserError
from gui.context import AppContext
from gui.operations.operation import attempt
from gui.operations.plan import advised, compute, data_facts
from gui.state.plan import Kept

if TYPE_CHECKING:
    from engine.project.run_folder import RunFolder
    from engine.recipe.recipe import Recipe


def keep(context: AppContext) -> None:
    """Keep the draft as A."""
    _keep(context, context.draft.recipe)


def keep_advice(context: AppContext) -> None:
    """Compare the draft with what the advisor would do."""
    if context.plan.advice is not None:
        _keep(context, advised(context.draft.recipe, context.plan.advice.recipe))


def has_run(context: AppContext) -> bool:
    """Whether a run is looked at whose recipe the draft can be compared with: one of the same model."""
    run = context.runs.run
    return (
        run is not None and run.recipe.is_file() and bool(_facts(run).get("model") == context.draft.recipe.model.source)
    )


def keep_run(context: AppContext) -> None:
    """Compare the draft with the recipe of the run that is looked at."""
    from engine.catalogue import CATALOGUE
    from engine.recipe.file import load

    run = context.runs.run
    recipe = attempt(context, lambda: load(run.recipe, CATALOGUE)) if run is not None else None
    if recipe is not None:
        _keep(context, recipe)


def _facts(run: RunFolder) -> dict[str, Any]:
    try:
        return run.read_facts()
    except UserError:
        return {}


def _keep(context: AppContext, recipe: Recipe) -> None:
    data, dims = data_facts(context), context.plan.dims
    if data is not None and dims is not None:
        context.plan.kept = Kept(recipe, dims, data)
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
