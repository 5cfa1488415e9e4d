"""What the user can do with data: import, read again with other columns, look at rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from engine.protocol.errors import Failure
from engine.protocol.text import say
from gui.context import AppContext
from gui.i18n.language import language
from gui.operations.operation import Operation, attempt
from gui.operations.plan import set_objective
from gui.state.notices import INFO

SAMPLES = Path(__file__).resolve().parents[2] / "resources" / "samples"
ENDINGS = (".json", ".jsonl", ".csv", ".tsv", ".parquet")


def sample_file() -> Path:
    """The sample data set in the window's language."""
    return SAMPLES / f"orders_{language()}.jsonl"


def import_files(context: AppContext, paths: Sequence[Path]) -> None:
    """Take these files as the data; what was chosen for other files (columns, encoding) is forgotten."""
    values = {
        "data.files": [str(path) for path in paths],
        "data.mapping": {},
        "data.shape": "auto",
        "data.encoding": "auto",
    }
    # Set before the draft: the answer that follows the change is the one that may choose the objective.
    context.data.is_new = True
    attempt(context, lambda: context.draft.set(values))


def add_files(context: AppContext, paths: Sequence[Path]) -> None:
    """Take these files besides the ones that are there."""
    known = list(context.draft.recipe.data.files)
    new = [str(path) for path in paths if str(path) not in known]
    if new:
        attempt(context, lambda: context.draft.set({"data.files": [*known, *new]}))


def choose_columns(context: AppContext, shape: str, mapping: dict[str, str], encoding: str) -> None:
    """Read the files in another way."""
    values = {"data.shape": shape, "data.mapping": mapping, "data.encoding": encoding}
    attempt(context, lambda: context.draft.set(values))


def open_data(context: AppContext) -> Operation | None:
    """Have the data session read what the draft names; the data state tells how it goes."""
    from engine.objectives.registry import OBJECTIVES
    from engine.recipe.file import to_plain

    recipe = context.draft.recipe
    if not recipe.data.files:
        context.data.clear()
        return None
    context.data.status.work(say("Reading {name}…", "正在读取 {name}…", name=Path(recipe.data.files[0]).name))
    context.data.changed.emit()
    operation = Operation(context).in_session(
        context.bridge.data,
        "open_data",
        data=to_plain(recipe)["data"],
        model=recipe.model.source,
        # New files are taken for what they are, and choose the objective; later the objective says how to read them.
        preference=None if context.data.is_new else OBJECTIVES[recipe.objective.name].preference,
    )

    def told(event: Any) -> None:
        context.data.status.tell(event)
        context.data.changed.emit()

    def failed(failure: Failure) -> None:
        context.data.status.fail(failure)
        context.data.changed.emit()

    return operation.on_progress(told).on_failure(failed).on_success(lambda facts: _read(context, facts))


def _read(context: AppContext, facts: dict[str, Any]) -> None:
    """The facts are there; new data of preferences are learned as preferences, and the user is told."""
    was_new, context.data.is_new = context.data.is_new, False
    context.data.set_facts(facts)
    if was_new:
        _fit_objective(context, str(facts.get("shape", "")))


def _fit_objective(context: AppContext, shape: str) -> None:
    from engine.data.registry import SHAPES
    from engine.objectives.registry import OBJECTIVES

    if shape not in SHAPES or SHAPES[shape].preference == OBJECTIVES[context.draft.recipe.objective.name].preference:
        return
    fitting = next(item for item in OBJECTIVES.values() if item.preference == SHAPES[shape].preference)
    set_objective(context, fitting.name)
    words = say(
        "These rows suit “{name}”, so the plan was set to it. You can change it on the Plan page.",
        "这些数据适合“{name}”，计划已据此设置；可在“计划”页更改。",
        name=fitting.label,
    )
    context.notices.tell(INFO, words)


def fetch_rows(
    context: AppContext, start: int, count: int, status: str, done: Callable[[dict[str, Any]], object]
) -> Operation:
    """A page of rows; ``status`` "" for all, else only rows that stand so."""
    operation = Operation(context).in_session(context.bridge.data, "rows", start=start, count=count, status=status)
    return operation.on_success(done)


def fetch_row(context: AppContext, index: int, done: Callable[[dict[str, Any]], object]) -> Operation:
    """The tokens of one row."""
    return Operation(context).in_session(context.bridge.data, "row", index=index).on_success(done)
