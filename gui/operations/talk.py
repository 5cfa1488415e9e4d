"""What the user can do with the two models: load them, ask both, stop, begin anew, keep the transcript."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject

from engine.project.run_folder import RunFolder
from engine.protocol.errors import Failure
from engine.protocol.events import Event, Stage, Token
from engine.protocol.text import say
from gui.context import AppContext
from gui.operations.operation import Operation, attempt
from gui.state.phase import Phase
from gui.state.talk import SIDES, Turn

PROMPTS = 30
STOPPING = say("Stopping…", "正在停止……")


def load_models(context: AppContext) -> Operation | None:
    """Load the run's weights into the chat session, once; the adapter is switched on for the tuned side only."""
    talk, run = context.talk, context.runs.run
    if run is None or talk.status.phase is Phase.WORKING:
        return None
    watch_run(context)
    talk.loaded = adapter_of(run)
    talk.status.work(say("Loading the model…", "正在加载模型……"))
    talk.changed.emit()
    read_prompts(context)
    operation = talk.loading = Operation(context).in_session(context.bridge.chat, "load", run=str(run.path))
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
    talk.status.ready()
    talk.changed.emit()


def _not_loaded(context: AppContext, failure: Failure) -> None:
    talk = context.talk
    talk.loading = talk.loaded = None
    talk.status.fail(failure)
    talk.changed.emit()


def stop_loading(context: AppContext) -> None:
    """Have the models not loaded after all. Weights that are being read are read to their end first."""
    talk = context.talk
    if talk.loading is not None:
        talk.loading.cancel()
        talk.status.work(STOPPING)
        talk.changed.emit()


# ------------------------------------------------------------------------------------------------- the run looked at
def adapter_of(run: RunFolder | None) -> tuple[Path, int] | None:
    """Which adapter a run has now: where, and when it was written; None when it has none. Another one after the run
    went on."""
    return (run.adapter, run.adapter_written) if run is not None and run.adapter_written else None


def watch_run(context: AppContext) -> None:
    """From now on let go of the models when another run is looked at, or when theirs has learned more."""
    if context.talk.findChild(_RunWatch) is None:
        _RunWatch(context)


class _RunWatch(QObject):
    """Pages come and go with the language; what is loaded is watched without them."""

    def __init__(self, context: AppContext) -> None:
        super().__init__(context.talk)
        self._context = context
        for signal in (context.runs.selected, context.runs.train.finished):
            signal.connect(self._look)

    def _look(self) -> None:
        loaded, now = self._context.talk.loaded, adapter_of(self._context.runs.run)
        if loaded == now:
            return
        let_go(self._context)
        if loaded is None or now is None or loaded[0] != now[0]:
            begin_anew(self._context)  # what was said with the same run's earlier state stays


def let_go(context: AppContext) -> None:
    """The models that are loaded, or on their way, are not those of the run that is looked at."""
    talk = context.talk
    if talk.loading is not None:
        talk.loading.cancel()
        talk.loading.drop()
    talk.loading = talk.loaded = None
    talk.prompts = []
    talk.status.clear()
    talk.changed.emit()


# ---------------------------------------------------------------------------------------------------------- questions
def read_prompts(context: AppContext) -> None:
    """Find held-out questions to ask."""
    run = context.runs.run
    if run is None:
        return

    def done(prompts: list[str]) -> None:
        if run != context.runs.run:
            return
        context.talk.prompts = prompts
        context.talk.changed.emit()

    Operation(context).in_background(lambda: _questions(run.held_out)).on_success(done)


def _questions(path: Path) -> list[str]:
    """The last user turn of each held-out row, without repeats."""
    if not path.is_file():
        return []
    found: dict[str, None] = {}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            asked = [m["content"] for m in json.loads(line)["messages"] if m["role"] == "user"]
            if asked:
                found[asked[-1]] = None
            if len(found) >= PROMPTS:
                break
    return list(found)


def ask_both(context: AppContext, question: str) -> None:
    """Ask both models; each knows its own answers of before. The first time their answers grow side by side."""
    talk = context.talk
    if not question.strip() or talk.is_speaking:
        return
    turn = talk.begin(question.strip())
    _ask(context, turn, SIDES) if len(talk.turns) == 1 else _ask_in_turn(context, turn, SIDES)


def ask_again(context: AppContext) -> None:
    """Take the last answers back and ask the same once more."""
    talk = context.talk
    if talk.turns and not talk.is_speaking:
        question = talk.turns.pop().question
        talk.changed.emit()
        ask_both(context, question)


def _ask_in_turn(context: AppContext, turn: Turn, sides: tuple[str, ...]) -> None:
    """One side after the other. The next is asked when the one before has ended: what waits cannot be stopped."""
    if turn.stopped:
        _end_stopped(context, turn, sides)
    elif sides:
        asked = _ask(context, turn, sides[:1])
        asked.ended.connect(lambda: _ask_in_turn(context, turn, sides[1:]))


def _ask(context: AppContext, turn: Turn, sides: tuple[str, ...]) -> Operation:
    """The run is named each time: a session that had to be started anew loads its models again."""
    talk, run = context.talk, context.runs.run
    operation = Operation(context).in_session(
        context.bridge.chat,
        "ask",
        run=str(run.path) if run is not None else "",
        messages=talk.history(sides[0]),
        sides=list(sides),
        sampling=dict(talk.sampling),
    )
    talk.asking.append(operation)
    operation.ended.connect(lambda: talk.asking.remove(operation))
    operation.on_progress(lambda event: _take(context, turn, event))
    operation.on_success(lambda answers: talk.end(turn, answers))
    return operation.on_failure(lambda failure: _no_answer(context, turn, sides, failure))


def _no_answer(context: AppContext, turn: Turn, sides: tuple[str, ...], failure: Failure) -> None:
    if failure.code == "cancelled":
        _end_stopped(context, turn, sides)
    else:
        context.talk.fail(turn, failure, sides)


def _end_stopped(context: AppContext, turn: Turn, sides: tuple[str, ...]) -> None:
    """The user wanted no more before these sides had said anything."""
    context.talk.end(turn, {side: {"text": "", "tokens": 0, "end": "cancelled"} for side in sides})


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


def save_transcript(context: AppContext, path: Path) -> None:
    """Write the conversation as Markdown or JSON, by the name's ending."""
    title = str(context.runs.facts.get("title") or "Lorimer")
    attempt(context, lambda: context.talk.save(path, title))
