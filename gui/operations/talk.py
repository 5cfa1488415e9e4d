"""What the user can do with the models: load them, put others beside, ask, stop, begin anew, keep the transcript."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject

from engine.project.run_folder import RunFolder
from engine.protocol.codec import build
from engine.protocol.errors import Failure
from engine.protocol.events import Event, Stage, Token
from engine.protocol.text import Text, say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.operations.operation import Operation
from gui.state.phase import Phase
from gui.state.talk import ADAPTER, GGUF, Column, Turn

if TYPE_CHECKING:
    from engine.project.held_out import HeldOutQuestion
    from engine.project.transcript import Transcript
    from engine.project.votes import BlindTest

PROMPTS = 30
STOPPING = say("Stopping…", "正在停止……")


def load_models(context: AppContext) -> Operation | None:
    """Load the run's weights into the chat session, once, with the columns that were chosen beside."""
    talk, run = context.talk, context.runs.run
    if run is None or talk.status.phase is Phase.WORKING:
        return None
    watch_run(context)
    talk.loaded = run.path
    talk.status.work(say("Loading the model…", "正在加载模型……"))
    talk.changed.emit()
    read_prompts(context)
    return _load(context, run)


def _load(context: AppContext, run: RunFolder) -> Operation:
    talk = context.talk
    operation = talk.loading = Operation(context).in_session(
        context.bridge.chat, "load", run=str(run.path), columns=[column.plain() for column in talk.beside]
    )
    operation.on_progress(lambda event: _tell(context, event))
    operation.on_success(lambda facts: _loaded(context, facts))
    return operation.on_failure(lambda failure: _not_loaded(context, failure))


def _tell(context: AppContext, event: Event) -> None:
    if context.talk.status.doing != STOPPING:
        context.talk.status.tell(event)
        context.talk.changed.emit()


def _loaded(context: AppContext, facts: dict[str, Any]) -> None:
    talk = context.talk
    talk.loading, talk.facts = None, facts
    for told in facts.get("columns", ()):
        column = talk.column(str(told.get("name", "")))
        if column is not None:
            column.facts = dict(told)
            column.failure = failure_of(told)
    talk.status.ready()
    talk.changed.emit()


def failure_of(told: dict[str, Any]) -> Failure | None:
    """Why a side failed, as the session tells it; None where it did not."""
    plain = told.get("failure")
    return build(Failure, plain) if isinstance(plain, dict) else None


def _not_loaded(context: AppContext, failure: Failure) -> None:
    talk = context.talk
    talk.loading = talk.loaded = None
    talk.status.fail(failure)
    talk.changed.emit()


def stop_loading(context: AppContext) -> None:
    """Have the models not loaded after all."""
    talk = context.talk
    if talk.loading is not None:
        talk.loading.cancel()
        talk.status.work(STOPPING)
        talk.changed.emit()


# ---------------------------------------------------------------------------------------------------------- columns
def find_candidates(context: AppContext) -> None:
    """Look for what could be a column: checkpoints, other runs of the project on the same base, exported GGUF."""
    run = context.runs.run
    if run is None:
        return

    def done(found: list[Column]) -> None:
        if run == context.runs.run:
            context.talk.candidates = found
            context.talk.changed.emit()

    Operation(context).in_background(lambda: _candidates(run)).on_success(done)


def _candidates(run: RunFolder) -> list[Column]:
    from engine.export.ledger import listed
    from engine.project.adapters import adapters_beside

    found = [Column("", ADAPTER, item.title, str(item.path)) for item in adapters_beside(run)]
    for export in listed(run):
        path = Path(export.file)
        if path.suffix == ".gguf" and path.is_file() and not export.kind.startswith("adapter"):
            found.append(Column("", GGUF, Text(path.name, path.name), str(path)))
    return found


def add_column(context: AppContext, kind: str, title: Text, path: str) -> None:
    """Put another adapter of the same base, or a GGUF, beside the others."""
    talk, run = context.talk, context.runs.run
    if run is None or not talk.can_add or talk.is_speaking or talk.loading is not None:
        return
    talk.add(kind, title, path)
    if talk.status.phase is Phase.READY:
        _load(context, run)


def remove_column(context: AppContext, name: str) -> None:
    """Take a column away, and its memory with it. While an answer grows it stays."""
    talk, run = context.talk, context.runs.run
    if talk.is_speaking or talk.loading is not None or run is None:
        return
    talk.remove(name)
    if talk.status.phase is Phase.READY:
        _load(context, run)


# ------------------------------------------------------------------------------------------------- the run looked at
def watch_run(context: AppContext) -> None:
    """From now on let go of the models when another run is looked at, or when theirs has learned more."""
    if context.talk.findChild(_RunWatch) is None:
        _RunWatch(context)


class _RunWatch(QObject):
    """Pages come and go with the language; what is loaded is watched without them."""

    def __init__(self, context: AppContext) -> None:
        super().__init__(context.talk)
        self._context = context
        context.runs.selected.connect(self._look)
        context.runs.train.finished.connect(self._look_closer)

    def _look(self) -> None:
        run, loaded = self._context.runs.run, self._context.talk.loaded
        if loaded is not None and (run is None or run.path != loaded):
            let_go(self._context)
            begin_anew(self._context)
            self._context.talk.columns = self._context.talk.columns[:2]
            self._context.talk.candidates = None
            self._context.talk.changed.emit()

    def _look_closer(self) -> None:
        """The same run may have learned more; what was said with its earlier state stays."""
        run, loaded = self._context.runs.run, self._context.talk.loaded
        if run is None or run.path != loaded:
            return
        operation = Operation(self._context).in_background(lambda: run.adapter_written)
        operation.on_success(self._compare).on_failure(lambda failure: None)

    def _compare(self, written: int) -> None:
        known = self._context.talk.facts.get("written")
        if known is not None and written != known and self._context.talk.loaded is not None:
            let_go(self._context)


def let_go(context: AppContext) -> None:
    """The models that are loaded, or on their way, are not those of the run that is looked at."""
    talk = context.talk
    if talk.loading is not None:
        talk.loading.cancel()
        talk.loading.drop()
    talk.loading = talk.loaded = None
    talk.prompts, talk.held_out, talk.facts, context.blind.newest = [], 0, {}, None
    talk.status.clear()
    talk.changed.emit()


# ---------------------------------------------------------------------------------------------------------- questions
def read_prompts(context: AppContext) -> None:
    """Find held-out questions to ask, and what the last blind test came to."""
    run = context.runs.run
    if run is None:
        return

    def done(found: tuple[list[HeldOutQuestion], int, BlindTest | None]) -> None:
        if run == context.runs.run:
            context.talk.prompts, context.talk.held_out, context.blind.newest = found
            context.talk.changed.emit()

    Operation(context).in_background(lambda: _questions(run)).on_success(done)


def _questions(run: RunFolder) -> tuple[list[HeldOutQuestion], int, BlindTest | None]:
    from engine.project.held_out import read_questions
    from engine.project.votes import read_tests

    known = [test for test in read_tests(run) if test.revealed and test.result.decided]
    return (*read_questions(run, most=PROMPTS), known[-1] if known else None)


def ask_all(context: AppContext, question: str, *, row: HeldOutQuestion | None = None) -> None:
    """Ask every column; each knows its own answers of before, unless one was kept for all. Answers grow side by side.

    Args:
        row: the held-out row that the question is of; its own earlier turns stand before it.
    """
    talk = context.talk
    if question.strip() and not talk.is_speaking:
        _ask(context, talk.begin(question.strip(), row=row))


def ask_again(context: AppContext, *, new_seed: bool = False, drop: bool = False) -> None:
    """Take the last answers back and ask the same once more.

    Args:
        new_seed: with the next seed, which stays set.
        drop: with the oldest turns left out where all have no room, from now on.
    """
    talk = context.talk
    turn = talk.take_back()
    if turn is not None:
        talk.drop = talk.drop or drop
        if new_seed:
            talk.sampling["seed"] = (int(turn.sampling.get("seed", talk.sampling["seed"])) + 1) % 2**31
        ask_all(context, turn.question, row=turn.row)


def edit_last(context: AppContext) -> str:
    """Take the last question back to be written anew; gives its words, empty while an answer grows."""
    turn = context.talk.take_back()
    return turn.question if turn is not None else ""


def _ask(context: AppContext, turn: Turn) -> Operation:
    """Run and columns are named each time: a session that had to be started anew loads its models again."""
    talk, run = context.talk, context.runs.run
    arguments: dict[str, Any] = {"system": turn.system} if turn.system is not None else {}
    operation = Operation(context).in_session(
        context.bridge.chat,
        "ask",
        run=str(run.path) if run is not None else "",
        columns=[column.plain() for column in talk.beside],
        conversations={side: talk.history(side) for side in turn.sides},
        sides=list(turn.sides),
        sampling=dict(turn.sampling),
        drop=talk.drop,
        **arguments,
    )
    talk.asking.append(operation)
    operation.ended.connect(lambda: talk.asking.remove(operation) if operation in talk.asking else None)
    operation.on_progress(lambda event: _take(context, turn, event))
    operation.on_success(lambda answers: _answered(context, turn, answers))
    return operation.on_failure(lambda failure: _no_answer(context, turn, failure))


def _answered(context: AppContext, turn: Turn, answers: dict[str, dict[str, Any]]) -> None:
    for side, told in answers.items():
        failure = failure_of(told)
        if failure is not None:
            turn.failures[side] = failure
    context.talk.end(turn, {side: told for side, told in answers.items() if side not in turn.failures})


def _no_answer(context: AppContext, turn: Turn, failure: Failure) -> None:
    if failure.code == "cancelled":
        said = {side: {"text": turn.texts.get(side, ""), "tokens": 0, "end": "cancelled"} for side in turn.sides}
        context.talk.end(turn, said)
    else:
        context.talk.fail(turn, failure)


def _take(context: AppContext, turn: Turn, event: Event) -> None:
    if isinstance(event, Token):
        context.talk.grow(turn, event.side, event.text)
    elif isinstance(event, Stage):
        context.talk.waits.emit(event.text)


def stop_answers(context: AppContext) -> None:
    """End the answers that are growing; what was said stays."""
    talk = context.talk
    if talk.is_speaking:
        talk.turns[-1].stopped = True
    for operation in list(talk.asking):
        operation.cancel()


def begin_anew(context: AppContext) -> None:
    """Forget the conversation."""
    stop_answers(context)
    for operation in list(context.talk.asking):
        operation.drop()
    context.talk.asking.clear()
    context.talk.clear()


# --------------------------------------------------------------------------------------------------------- transcript
def save_transcript(context: AppContext, path: Path) -> Operation:
    """Write the conversation as Markdown or JSON, by the name's ending."""
    from engine.project.transcript import write_transcript

    transcript = transcript_of(context)
    return Operation(context).in_background(lambda: write_transcript(path, transcript))


def transcript_of(context: AppContext) -> Transcript:
    """What was said so far, with who said it, how it was drawn and how fast."""
    from engine.project.transcript import Exchange, Side, Transcript

    talk = context.talk
    sides = [Side(c.name, tr(c.title), c.kind, c.path or _own_adapter(context, c)) for c in talk.columns]
    turns = []
    for turn in talk.turns:
        answers = {side: {**turn.facts.get(side, {}), "text": text} for side, text in turn.texts.items()}
        for side, failure in turn.failures.items():
            answers[side] = {"text": turn.texts.get(side, ""), "end": "failed", "failure": failure.message.en}
        row = turn.row
        where, reference = (row.where, row.reference) if row is not None else ("", "")
        turns.append(Exchange(turn.question, answers, dict(turn.sampling), turn.system, where, reference, turn.kept))
    title = str(context.runs.facts.get("title") or "Lorimer")
    return Transcript(title, str(talk.facts.get("model", "")), time.time(), sides, turns)


def _own_adapter(context: AppContext, column: Column) -> str:
    run = context.runs.run
    return str(run.adapter) if run is not None and column.kind == "tuned" else ""
