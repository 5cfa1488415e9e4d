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
ENDINGS = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow", ".txt", ".md", ".gz", ".zst")
HOW_READ = ("data.files", "data.held_out_file", "data.mapping", "data.shape", "data.encoding", "data.template")
"""What decides whether data can be read, and is gone back to when they cannot."""


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


def last_good(context: AppContext) -> dict[str, Any]:
    """The values that "go back" restores: those with which data were read before, where they are others than now."""
    good = context.data.good(context.draft.path)
    return good if good != how_read(context) else {}


def how_read(context: AppContext) -> dict[str, Any]:
    """The draft's values of `HOW_READ`."""
    return {name: context.draft.value(name) for name in HOW_READ}


def go_back(context: AppContext) -> None:
    """Read what was read well before."""
    good = last_good(context)
    context.data.is_new = False
    attempt(context, lambda: context.draft.set(good))


def leave_out(context: AppContext, file: str) -> None:
    """Take one of several files out of the data; it stays on the disk."""
    files = [name for name in context.draft.recipe.data.files if name != file]
    attempt(context, lambda: context.draft.set({"data.files": files}))


def file_at_fault(context: AppContext, failure: Failure) -> str:
    """Which of several files a failure is about, "" where that is not known or there is no other."""
    files = context.draft.recipe.data.files
    if len(files) < 2:
        return ""
    place = failure.where
    named = [name for name in files if place == name or place.split(":")[0] == Path(name).name]
    good = context.data.good(context.draft.path).get("data.files", ())
    new = [name for name in files if name not in good]
    doubtful = [name for name in named if name in new] or named or (new if len(new) == 1 else [])
    return doubtful[-1] if doubtful else ""


def cancel_reading(context: AppContext) -> None:
    """End the reading; the session stops at its next row, and nobody waits for that."""
    if context.data.reading is not None:
        context.data.reading.cancel()
        context.data.reading.drop()
    context.data.clear(is_stopped=True)


def open_data(context: AppContext) -> Operation | None:
    """Have the data session read what the draft names; the data state tells how it goes."""
    from engine.objectives.registry import OBJECTIVES
    from engine.recipe.file import to_plain

    recipe = context.draft.recipe
    draft, values = context.draft.path, how_read(context)
    for operation in (context.data.reading, context.data.counts):
        if operation is not None:
            operation.drop()
    context.data.counts = None
    context.data.counting.clear()
    if not recipe.data.files:
        context.data.clear()
        return None
    context.data.is_stopped = False
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

    def done(facts: dict[str, Any]) -> None:
        context.data.keep_good(draft, values)
        if facts.get("scanned", True):
            _read(context, facts)
        else:
            context.data.show_first(facts)
            _scan(context)

    return _reading(context, operation).on_success(done)


def _reading(context: AppContext, operation: Operation) -> Operation:
    """The operation as the one that reads: its progress and failure are the data's."""

    def told(event: Any) -> None:
        context.data.status.tell(event)
        context.data.changed.emit()

    def failed(failure: Failure) -> None:
        context.data.reading = None
        context.data.status.fail(failure)
        context.data.changed.emit()

    context.data.reading = operation
    return operation.on_progress(told).on_failure(failed)


def _scan(context: AppContext) -> None:
    """Have every row of large files looked at, while the first ones are in view."""
    operation = Operation(context).in_session(context.bridge.data, "scan")
    _reading(context, operation).on_success(lambda facts: _read(context, facts))


def _read(context: AppContext, facts: dict[str, Any]) -> None:
    """The facts are there; new data of preferences are learned as preferences, and the user is told."""
    was_new, context.data.is_new = context.data.is_new, False
    context.data.set_facts(facts)
    if was_new:
        _fit_objective(context, str(facts.get("shape", "")))
    if not facts.get("measured", True):
        count_tokens(context)


def count_tokens(context: AppContext) -> None:
    """Have every row's tokens counted; until then lengths are estimates."""
    state = context.data
    if state.counts is not None:
        state.counts.drop()
    state.counting.work(say("Counting tokens…", "正在计算词元数…"))
    version = state.version
    operation = Operation(context).in_session(context.bridge.data, "measure")

    def told(event: Any) -> None:
        state.counting.tell(event)
        state.changed.emit()

    def failed(failure: Failure) -> None:
        state.counts = None
        state.counting.fail(failure)
        state.changed.emit()

    def done(facts: dict[str, Any]) -> None:
        if version == state.version:
            state.count_again(facts)

    state.counts = operation.on_progress(told).on_failure(failed).on_success(done)


def stop_counting(context: AppContext) -> None:
    """Keep the estimates."""
    if context.data.counts is not None:
        context.data.counts.cancel()


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
