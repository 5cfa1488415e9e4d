"""What the user can do with rows: look at them, search, check, count, change one, set one aside, undo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.protocol.errors import Failure
from engine.protocol.text import Text, say
from gui.context import AppContext
from gui.i18n.numbers import count as number
from gui.operations.operation import Operation, attempt
from gui.state.data import Errand
from gui.state.notices import INFO
from gui.state.phase import Phase

CHECKING = say("Checking the texts…", "正在检查文本…")
COUNTING = say("Counting tokens…", "正在计算词元数…")
SEARCHED = say(
    "Only the first {n} rows were searched; the others follow as soon as they are read.",
    "目前只搜索了前 {n} 行；其余的行读完后会继续搜索。",
)
NOTHING_TO_UNDO = say("There is nothing to undo.", "没有可撤销的操作。")


# -------------------------------------------------------------------------------------------------------------- looking
def fetch_rows(
    context: AppContext, start: int, count: int, status: str, done: Callable[[dict[str, Any]], object]
) -> Operation:
    """A page of rows; ``status`` "" for all, else only rows that stand so; of those that the search found, if any."""
    found = bool(context.data.words)
    operation = Operation(context).in_session(
        context.bridge.data, "rows", start=start, count=count, status=status, found=found
    )
    return operation.on_success(done)


def fetch_row(context: AppContext, index: int, done: Callable[[dict[str, Any]], object]) -> Operation:
    """The tokens and the cells of one row."""
    return Operation(context).in_session(context.bridge.data, "row", index=index).on_success(done)


def find(context: AppContext, words: str) -> None:
    """Look for words in all rows; the state's ``words`` are these when they were looked for, and "" shows all rows."""
    data = context.data
    if not words.strip():
        stop_finding(context)
        return

    def done(value: dict[str, Any]) -> None:
        data.words = words
        data.rows_changed(data.facts)
        if not value.get("all", True):
            first = number(value.get("covered", 0))
            context.notices.tell(INFO, say(SEARCHED.en, SEARCHED.zh, n=first))

    doing = say("Searching for “{words}”…", "正在搜索“{words}”…", words=words)
    _begin(context, data.finding, doing, "find", done, words=words)


def stop_finding(context: AppContext) -> None:
    """End the search, and show all rows again."""
    context.data.finding.drop()
    context.data.words = ""
    context.data.rows_changed(context.data.facts)


# ------------------------------------------------------------------------------------------------------ slow requests
def _begin(
    context: AppContext,
    errand: Errand,
    doing: Text,
    name: str,
    done: Callable[[dict[str, Any]], object],
    then: Callable[[], object] | None = None,
    **arguments: Any,
) -> None:
    """Have something slow done beside what else the session answers; ``then`` is called however it ends."""
    state = context.data
    errand.drop()
    errand.status.work(doing)

    def told(event: Any) -> None:
        errand.status.tell(event)
        state.changed.emit()

    def failed(failure: Failure) -> None:
        errand.operation = None
        errand.status.fail(failure)
        if errand is not state.checking:  # whose failure has a place on the page
            context.notices.failure(failure)
        state.changed.emit()
        if then is not None:
            then()

    def succeeded(value: dict[str, Any]) -> None:
        errand.operation = None
        errand.status.ready()
        done(value)
        if then is not None:
            then()

    operation = Operation(context).in_session(context.bridge.data, name, **arguments)
    errand.operation = operation.on_progress(told).on_failure(failed).on_success(succeeded)
    state.changed.emit()


def stop_errand(context: AppContext) -> None:
    """End the slow request that the page tells of."""
    data = context.data
    errand = data.under_way
    if errand is data.finding:
        stop_finding(context)
    elif errand is not None and errand.operation is not None:
        errand.operation.cancel()


def count_tokens(context: AppContext, then: Callable[[], object] | None = None) -> None:
    """Have every row's tokens counted; until then lengths are estimates."""
    _begin(context, context.data.counting, COUNTING, "measure", context.data.rows_changed, then)


def check_texts(context: AppContext) -> None:
    """Have the texts' quality looked at, by the draft's settings."""
    quality = context.draft.recipe.data.quality.model_dump(mode="json")
    _begin(context, context.data.checking, CHECKING, "inspect", context.data.rows_changed, quality=quality)


def follow_limit(context: AppContext) -> Operation:
    """Follow another longest length: nothing is read, counted or checked again, and what is being done goes on."""
    from engine.recipe.file import to_plain

    def done(facts: dict[str, Any]) -> None:
        state = context.data
        state.rows_changed(facts)
        # Rows that were only counted, and are too long now, are looked at.
        if can_be_judged(context) and not facts.get("measured", True) and not state.counting.is_working:
            count_tokens(context)

    recipe = to_plain(context.draft.recipe)
    return Operation(context).in_session(context.bridge.data, "limit", data=recipe["data"]).on_success(done)


# ---------------------------------------------------------------------------------------------------------- decisions
def choose_action(context: AppContext, check: str, action: str) -> None:
    """What happens to the rows in which a check finds something; what follows the draft has it done."""
    actions = {**context.draft.recipe.data.quality.actions, check: action}
    attempt(context, lambda: context.draft.set({"data.quality.actions": actions}))


def can_be_judged(context: AppContext) -> bool:
    """Whether other quality settings can be followed without reading the data again."""
    return context.data.status.phase is Phase.READY and context.data.is_scanned


def set_aside(context: AppContext, index: int, aside: bool) -> Operation:
    """Set a row aside, or take it back."""
    return _decide(context, index=index, aside=aside)


def change_cell(context: AppContext, index: int, column: str, value: str) -> Operation:
    """Put another text in a cell; the file stays as it is."""
    return _decide(context, index=index, column=column, value=value)


def _decide(context: AppContext, **decision: Any) -> Operation:
    operation = Operation(context).in_session(context.bridge.data, "decide", **decision)
    return operation.on_success(context.data.rows_changed)


def undo(context: AppContext) -> Operation:
    """Take the last decision about a row back, and say what it was."""

    def done(value: dict[str, Any]) -> None:
        _tell_once(context, undone_words(value.pop("undone", None)))
        context.data.rows_changed(value)

    return Operation(context).in_session(context.bridge.data, "undo").on_success(done)


def _tell_once(context: AppContext, words: Text) -> None:
    """Say what was undone in the place of what was said before."""
    for notice in [item for item in context.notices.open if item.message == context.data.told]:
        context.notices.close(notice)
    context.data.told = words
    context.notices.tell(INFO, words)


def undone_words(undone: dict[str, Any] | None) -> Text:
    """What was undone, in a sentence."""
    if undone is None:
        return NOTHING_TO_UNDO
    if undone.get("row") is None:
        return say("Undone: a decision about a row of another file.", "已撤销：对其他文件中一行的决定。")
    row = number(undone["row"] + 1)
    if undone.get("column"):
        column = undone["column"]
        return say("Undone: “{c}” of row {n} is as before.", "已撤销：第 {n} 行的“{c}”恢复原样。", n=row, c=column)
    if undone.get("aside"):
        return say("Undone: row {n} is no longer set aside by you.", "已撤销：第 {n} 行不再由你搁置。", n=row)
    return say("Undone: row {n} is no longer taken back by you.", "已撤销：第 {n} 行不再由你取回。", n=row)
