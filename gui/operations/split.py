"""What the user can do about held-out rows: try another way, which is taken where it works, or name a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.protocol.errors import Failure
from engine.protocol.text import say
from gui.context import AppContext
from gui.operations.operation import Operation, attempt

NEED_COLUMN = ("group", "time", "column", "stratified")
TRYING = say("Counting the rows held out…", "正在计算留出的行…")


def try_split(context: AppContext, values: dict[str, Any]) -> None:
    """Ask the session what comes of other settings; the draft takes them where they work, else it stays as it is.

    Args:
        values: fields of the recipe's data section. A way by column waits until its column is named.
    """
    tried = context.data.splitting
    tried.errand.drop()
    tried.wished |= values
    wished = {**_now(context), **tried.wished}
    if wished["split"] in NEED_COLUMN and not wished["split_column"]:
        context.data.changed.emit()
        return
    data = _valid(context, tried.wished)
    if data is None:
        tried.wished.clear()
        context.data.changed.emit()
        return
    tried.errand.status.work(TRYING)
    operation = Operation(context).in_session(context.bridge.data, "split", data=data)
    tried.errand.operation = operation.on_success(lambda _value: _take(context)).on_failure(
        lambda failure: _fail(context, failure)
    )
    context.data.changed.emit()


def _now(context: AppContext) -> dict[str, Any]:
    data = context.draft.recipe.data
    return {"split": data.split, "split_column": data.split_column}


def _valid(context: AppContext, wished: dict[str, Any]) -> dict[str, Any] | None:
    """The data section with these values; None where one is out of its bounds, which becomes a notice."""
    from engine.catalogue import CATALOGUE
    from engine.recipe.file import changed, to_plain

    values = {f"data.{name}": value for name, value in wished.items()}
    recipe = attempt(context, lambda: changed(context.draft.recipe, values, CATALOGUE))
    return None if recipe is None else dict(to_plain(recipe)["data"])


def _take(context: AppContext) -> None:
    tried = context.data.splitting
    values = {f"data.{name}": value for name, value in tried.wished.items()}
    tried.errand.operation = None
    tried.errand.status.ready()
    tried.wished.clear()
    attempt(context, lambda: context.draft.set(values))
    context.data.changed.emit()


def _fail(context: AppContext, failure: Failure) -> None:
    context.data.splitting.errand.operation = None
    context.data.splitting.errand.status.fail(failure)
    context.data.changed.emit()


def forget(context: AppContext) -> None:
    """What was tried and not taken is of no interest any more."""
    context.data.splitting.errand.drop()
    context.data.splitting.wished.clear()


def measure_with(context: AppContext, file: Path) -> None:
    """Hold out a file of its own instead of a share."""
    forget(context)
    attempt(context, lambda: context.draft.set({"data.held_out_file": str(file)}))


def at_random(context: AppContext) -> None:
    """The way back where the recipe's split is what is wrong with the data."""
    forget(context)
    attempt(context, lambda: context.draft.set({"data.split": "random", "data.split_column": ""}))
