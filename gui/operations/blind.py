"""What the user can do in a blind test: begin one or go on with one, judge, take a vote back, be told whose answers
they were. Each vote is on the disk before the next question comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.project.held_out import HeldOutQuestion
from engine.protocol.errors import Failure
from engine.protocol.text import say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.operations.operation import Operation
from gui.operations.talk import failure_of
from gui.state.blind import JUDGE, QUESTION, RESULT
from gui.state.talk import TUNED, Column

if TYPE_CHECKING:
    from engine.project.run_folder import RunFolder
    from engine.project.votes import BlindTest, Contender, Vote

HELD_OUT, OWN = "held_out", "own"
MOST_QUESTIONS = 100_000
ANSWERING = say("Both answer. You see them together when both are done.", "双方正在回答，全部完成后一并显示。")


def open_blind(context: AppContext) -> None:
    """Show the choice of a test, with the tests of before."""
    blind, run = context.blind, context.runs.run
    if run is None:
        return
    blind.reset()
    blind.is_open = True
    blind.work(say("Reading the votes…", "正在读取投票……"))

    def done(found: tuple[list[BlindTest], int]) -> None:
        if run == context.runs.run:
            blind.earlier, context.talk.held_out = found
            blind.status.ready()
            blind.changed.emit()

    Operation(context).in_background(lambda: _tests(run)).on_success(done).on_failure(blind.fail)


def _tests(run: RunFolder) -> tuple[list[BlindTest], int]:
    from engine.project.held_out import read_questions
    from engine.project.votes import read_tests

    return read_tests(run), read_questions(run, most=1)[1]


def close_blind(context: AppContext) -> None:
    """Back to the conversations; what was voted is kept, and can be gone on with."""
    _drop_answers(context)
    context.blind.is_open = False
    context.blind.reset()
    context.blind.changed.emit()


def contender(context: AppContext, column: Column) -> Contender:
    """One of the two models as the votes name it."""
    from engine.project.votes import Contender

    run, own = context.runs.run, column.kind == TUNED
    title = str(context.runs.facts.get("title") or tr(column.title)) if own else column.title.en
    path = str(run.adapter) if own and run is not None else column.path
    written = int(context.talk.facts.get("written", 0)) if own else 0
    return Contender(column.name if not column.path else column.path, title, column.kind, path, written)


def begin_blind(context: AppContext, first: Column, second: Column, *, source: str, seed: int) -> None:
    """A new test of two columns, with the settings that answers are drawn by now."""
    blind, run, talk = context.blind, context.runs.run, context.talk
    if run is None or first is second or not context.may_change():
        return
    sides = (contender(context, first), contender(context, second))
    sampling, system = dict(talk.sampling), talk.system

    def work() -> tuple[BlindTest, list[HeldOutQuestion]]:
        from engine.project.votes import begin_test

        made = begin_test(run, sides, seed=seed, source=source, sampling=sampling, system=system)
        return made, _questions(run, made)

    blind.work(say("Beginning…", "正在开始……"))
    operation = Operation(context).in_background(work, changes=True)
    operation.on_success(lambda found: _come_to(context, *found)).on_failure(blind.fail)


def go_on_with(context: AppContext, test: BlindTest) -> None:
    """Go on where a test was left."""
    blind, run = context.blind, context.runs.run
    if run is None:
        return
    blind.work(say("Reading the questions…", "正在读取提问……"))
    operation = Operation(context).in_background(lambda: _questions(run, test))
    operation.on_success(lambda questions: _come_to(context, test, questions)).on_failure(blind.fail)


def look_at(context: AppContext, test: BlindTest) -> None:
    """The result of a test that is over."""
    context.blind.test = test
    context.blind.go(RESULT)


def _questions(run: RunFolder, test: BlindTest) -> list[HeldOutQuestion]:
    from engine.project.held_out import read_questions

    return read_questions(run, most=MOST_QUESTIONS, seed=test.seed)[0] if test.source == HELD_OUT else []


def _come_to(context: AppContext, test: BlindTest, questions: list[HeldOutQuestion]) -> None:
    blind = context.blind
    blind.test, blind.questions = test, questions
    blind.status.ready()
    next_question(context)


def can_go_on(context: AppContext, test: BlindTest) -> bool:
    """Whether both models of a test are columns now, in the state in which they were tested."""
    return not test.revealed and all(column_of(context, side) is not None for side in test.sides)


def column_of(context: AppContext, side: Contender) -> Column | None:
    """The column that a test means; None where it is not loaded, or has learned more since."""
    for column in context.talk.columns:
        if column.failure is None and contender(context, column).name == side.name:
            return column if not side.written or contender(context, column).written == side.written else None
    return None


# ------------------------------------------------------------------------------------------------------------ questions
def next_question(context: AppContext) -> None:
    """Ask both models the next held-out question, or wait for one of the person's own."""
    blind = context.blind
    test = blind.test
    if test is None:
        return
    blind.answers, blind.item = {}, None
    if test.source == OWN:
        blind.go(QUESTION)
    elif test.next_index < len(blind.questions):
        ask_blindly(context, blind.questions[test.next_index])
    else:
        reveal(context)


def ask_blindly(context: AppContext, item: HeldOutQuestion) -> None:
    """Have both answer; nothing is shown before both have, so that no speed tells whose answer is whose."""
    blind, run, test = context.blind, context.runs.run, context.blind.test
    if run is None or test is None or blind.is_asking or not item.question.strip():
        return
    columns = [column_of(context, side) for side in test.sides]
    names = [column.name for column in columns if column is not None]
    if len(names) != len(test.sides):
        blind.fail(_not_loaded())
        return
    blind.item, blind.answers, blind.stage = item, {}, QUESTION
    messages = [{"role": turn.role, "content": turn.content} for turn in item.before]
    messages.append({"role": "user", "content": item.question})
    system: dict[str, Any] = {"system": test.system} if test.system is not None else {}
    asking = Operation(context).in_session(
        context.bridge.chat,
        "ask",
        run=str(run.path),
        columns=[column.plain() for column in context.talk.beside],
        messages=messages,
        sides=names,
        sampling=dict(test.sampling),
        drop=True,
        **system,
    )
    blind.asking = asking
    blind.work(ANSWERING)
    asking.on_success(lambda told: _both_said(context, names, told))
    asking.on_failure(blind.fail)


def _both_said(context: AppContext, names: list[str], told: dict[str, dict[str, Any]]) -> None:
    blind = context.blind
    blind.asking = None
    test = blind.test
    failure = next((found for name in names if (found := failure_of(told.get(name, {})))), None)
    if failure is not None or test is None:
        blind.fail(failure or _not_loaded())
        return
    if any(told[name].get("end") == "cancelled" for name in names):
        blind.fail(Failure("cancelled", say("Stopped.", "已停止。")))
        return
    for side, name in zip(test.sides, names, strict=True):
        blind.answers[side.name] = str(told[name].get("text", ""))
    blind.status.ready()
    blind.go(JUDGE)


def stop_asking(context: AppContext) -> None:
    """End answers that are being written; the question can be asked again."""
    blind = context.blind
    if blind.asking is not None:
        blind.asking.cancel()


def _drop_answers(context: AppContext) -> None:
    """Nobody waits for the answers any more."""
    asking = context.blind.asking
    if asking is not None:
        asking.cancel()
        asking.drop()
    context.blind.asking = None


def ask_once_more(context: AppContext) -> None:
    """Ask the present question again, after an error or a stop."""
    if context.blind.item is not None:
        ask_blindly(context, context.blind.item)
    else:
        next_question(context)


# ---------------------------------------------------------------------------------------------------------------- votes
def vote(context: AppContext, choice: str) -> None:
    """Keep a vote on the present question, then come to the next."""
    blind, run = context.blind, context.runs.run
    test, item, answers = blind.test, blind.item, dict(blind.answers)
    if run is None or test is None or item is None or blind.stage != JUDGE or _busy(context):
        return
    if not context.may_change():
        return

    def work() -> Vote:
        from engine.project.votes import cast_vote

        return cast_vote(
            run,
            test,
            question=item.question,
            choice=choice,
            answers=answers,
            where=item.where,
            reference=item.reference,
        )

    def done(cast: Vote) -> None:
        blind.last = cast
        blind.status.ready()
        next_question(context)

    blind.work(say("Keeping the vote…", "正在保存投票……"))
    Operation(context).in_background(work, changes=True).on_success(done).on_failure(blind.fail)


def _busy(context: AppContext) -> bool:
    from gui.state.phase import Phase

    return context.blind.status.phase is Phase.WORKING


def undo(context: AppContext) -> None:
    """Take the last vote back and judge that question again."""
    blind, run, test = context.blind, context.runs.run, context.blind.test
    if run is None or test is None or not test.votes or (_busy(context) and not blind.is_asking):
        return
    if not context.may_change():
        return
    _drop_answers(context)  # the next question is not wanted yet

    def work() -> Vote | None:
        from engine.project.votes import undo_vote

        return undo_vote(run, test)

    def done(taken: Vote | None) -> None:
        blind.last = None
        blind.status.ready()
        if taken is None:
            return
        known = next((item for item in blind.questions if item.question == taken.question), None)
        blind.item = known or HeldOutQuestion(taken.where, taken.question, (), taken.reference)
        blind.answers = dict(taken.answers)
        blind.go(JUDGE)

    blind.work(say("Taking it back…", "正在撤销……"))
    Operation(context).in_background(work, changes=True).on_success(done).on_failure(blind.fail)


def reveal(context: AppContext) -> None:
    """End the test and tell whose answers were whose."""
    blind, run, test = context.blind, context.runs.run, context.blind.test
    if run is None or test is None or _busy(context) or not context.may_change():
        return

    def work() -> None:
        from engine.project.votes import reveal_test

        reveal_test(run, test)

    def done(_: object) -> None:
        blind.newest = test if test.result.decided else blind.newest
        blind.status.ready()
        blind.go(RESULT)

    blind.work(say("Counting…", "正在统计……"))
    Operation(context).in_background(work, changes=True).on_success(done).on_failure(blind.fail)


def back_to_setup(context: AppContext) -> None:
    """Leave a test without being told; it can be gone on with."""
    _drop_answers(context)
    open_blind(context)


def _not_loaded() -> Failure:
    return Failure(
        "chat.blind_column",
        say(
            "One of the two models is not loaded any more, or has learned more since.",
            "其中一个模型已不再加载，或之后又训练过。",
        ),
        say("Add its column again, or begin a new test.", "请重新添加该栏，或开始新的测试。"),
        exit_code=2,
    )
