"""Questions of held-out rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.data.rows import ASSISTANT, SYSTEM, TOOL, USER, Message, Row, ToolCall, row_to_plain
from engine.project.held_out import read_questions
from engine.project.run_folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def hold_out(run: RunFolder, *rows: Row, more: str = "") -> None:
    lines = "".join(json.dumps(row_to_plain(row)) + "\n" for row in rows)
    run.held_out.write_text(lines + more, encoding="utf-8")


def row(n: int, *turns: Message, chosen: str | None = None, tools: str = "", text: str | None = None) -> Row:
    return Row(n, f"a:{n}", turns, chosen, "worse" if chosen else None, None, tools, text)


def test_the_last_question_with_what_stands_before_and_its_answer(run: RunFolder) -> None:
    hold_out(
        run,
        row(
            1,
            Message(SYSTEM, "Be kind."),
            Message(USER, "One?"),
            Message(ASSISTANT, "1"),
            Message(USER, "Two?"),
            Message(ASSISTANT, "2"),
        ),
        row(2, Message(USER, "Three?"), chosen="3"),
        row(3, text="plain text"),
        row(4, Message(USER, "One?"), Message(ASSISTANT, "again")),
        row(5, Message(USER, "One?"), Message(ASSISTANT, "a repeat")),
        more="no json\n{}\n",
    )
    questions, count = read_questions(run, most=10)
    assert count == 3
    assert [(q.question, q.reference) for q in questions] == [("Two?", "2"), ("Three?", "3"), ("One?", "again")]
    assert [m.role for m in questions[0].before] == [SYSTEM, USER, ASSISTANT]
    assert questions[1].before == ()
    assert questions[0].where == "a:1"
    assert len(read_questions(run, most=2)[0]) == 2


def test_an_order_of_its_own_for_each_seed(run: RunFolder) -> None:
    hold_out(run, *(row(n, Message(USER, f"{n}?"), Message(ASSISTANT, "x")) for n in range(20)))
    orders = [[q.question for q in read_questions(run, most=20, seed=seed)[0]] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])


def test_tools_are_left_out_and_that_is_told(run: RunFolder) -> None:
    call = Message(ASSISTANT, "", calls=(ToolCall("weather", "{}"),))
    hold_out(
        run,
        row(
            1,
            Message(USER, "Weather?"),
            call,
            Message(TOOL, "sunny", name="weather"),
            Message(ASSISTANT, "Sunny."),
            Message(USER, "And tomorrow?"),
            Message(ASSISTANT, "Rain."),
            tools="[]",
        ),
    )
    (question,), _ = read_questions(run, most=5)
    assert question.tools_left_out
    assert [(m.role, m.content) for m in question.before] == [(USER, "Weather?"), (ASSISTANT, "Sunny.")]


def test_no_file_no_questions(run: RunFolder) -> None:
    assert read_questions(run, most=5) == ([], 0)
