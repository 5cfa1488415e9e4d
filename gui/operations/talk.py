"""What the user can do with the two models: load them, ask both, stop, begin anew, keep the transcript."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.protocol.errors import Failure
from engine.protocol.events import Event, Token
from engine.protocol.text import say
from gui.context import AppContext
from gui.operations.operation import Operation, attempt
from gui.state.phase import Phase
from gui.state.talk import SIDES, Turn

PROMPTS = 30


def load_models(context: AppContext) -> Operation | None:
    """Load the run's weights into the chat session, once; the adapter is switched on for the tuned side only."""
    talk, run = context.talk, context.runs.run
    if run is None or talk.status.phase is Phase.WORKING:
        return None
    talk.status.work(say("Loading the model…", "正在加载模型……"))
    talk.changed.emit()

    def done(facts: dict[str, Any]) -> None:
        talk.facts = facts
        talk.status.ready()
        talk.changed.emit()

    def failed(failure: Failure) -> None:
        talk.status.fail(failure)
        talk.changed.emit()

    read_prompts(context)
    operation = Operation(context).in_session(context.bridge.chat, "load", run=str(run.path))
    return operation.on_success(done).on_failure(failed)


def read_prompts(context: AppContext) -> None:
    """Find held-out questions to ask."""
    run = context.runs.run
    if run is None:
        return

    def done(prompts: list[str]) -> None:
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
    if len(talk.turns) == 1:
        _ask(context, turn, SIDES)
    else:
        for side in SIDES:
            _ask(context, turn, (side,))


def ask_again(context: AppContext) -> None:
    """Take the last answers back and ask the same once more."""
    talk = context.talk
    if talk.turns and not talk.is_speaking:
        question = talk.turns.pop().question
        talk.changed.emit()
        ask_both(context, question)


def _ask(context: AppContext, turn: Turn, sides: tuple[str, ...]) -> None:
    talk = context.talk

    def told(event: Event) -> None:
        if isinstance(event, Token):
            talk.grow(turn, event.side, event.text)

    operation = Operation(context).in_session(
        context.bridge.chat, "ask", messages=talk.history(sides[0]), sides=list(sides), sampling=dict(talk.sampling)
    )
    talk.asking.append(operation)
    operation.ended.connect(lambda: talk.asking.remove(operation))
    operation.on_progress(told).on_success(lambda answers: talk.end(turn, answers))
    operation.on_failure(lambda failure: talk.fail(turn, failure))


def stop_answers(context: AppContext) -> None:
    """End the answers that are growing; what was said stays."""
    for operation in list(context.talk.asking):
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
