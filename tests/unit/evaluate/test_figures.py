"""Figures and reasons from losses and answers, without a model."""

import math
from typing import Any

import pytest

from engine.data.rows import ASSISTANT, USER, Message, Row
from engine.evaluate import figures
from engine.evaluate.answers import GreedyAnswer
from engine.evaluate.comparing import Measured, measures_of
from engine.evaluate.figures import SideLosses
from engine.evaluate.intervals import Lots
from engine.evaluate.questions import Question
from engine.evaluate.score import TextLoss
from engine.project.evaluation import EvaluatedRow, Scores
from engine.protocol.text import Text


def _question(reference: str) -> Question:
    row = Row(0, "a.jsonl:1", (Message(USER, "Q?"), Message(ASSISTANT, reference)))
    return Question(row, (), [1], 3)


def _answer(text: str) -> GreedyAnswer:
    return GreedyAnswer(text, 3, False)


def _measured(questions: Any, losses: Any, asked: Any) -> Measured:
    return figures.measured(questions, losses, asked, "13a")


def _figures(
    questions: Any, losses: Any, asked: Any, *, plain: int = 0
) -> tuple[list[EvaluatedRow], Scores, Scores, dict[str, Text]]:
    """Rows, figures of both models, and notes."""
    measured = _measured(questions, losses, asked)
    base, tuned = figures.scores(measures_of(measured, Lots(0, 200)))
    return list(measured.rows), base, tuned, figures.notes(base, tuned, measured.rows, plain=plain)


def test_each_metric_from_its_rows() -> None:
    questions = [_question("red"), _question("two blue")]
    losses = {
        "base": SideLosses([TextLoss(6.0, 2, 0), TextLoss(6.0, 2, 1)], []),
        "tuned": SideLosses([TextLoss(1.0, 2, 2), TextLoss(3.0, 2, 1)], []),
    }
    asked = {"base": [_answer("blue"), _answer("blue")], "tuned": [_answer("red"), _answer("blue")]}
    measured, base, tuned, notes = _figures(questions, losses, asked)
    assert set(notes) == {"bleu", "intervals"}
    assert "four words" in notes["bleu"].en
    assert notes["intervals"].en.startswith("2 rows are too few")
    assert (base.loss, tuned.loss) == (3.0, 1.0)
    assert tuned.perplexity == pytest.approx(math.e)
    assert (base.token_accuracy, tuned.token_accuracy) == (0.25, 0.75)
    assert (base.exact_match, tuned.exact_match) == (0.0, 0.5)
    # "blue" against "two blue": precision 1, recall 1/2, F1 2/3.
    assert tuned.rouge_l == pytest.approx((1 + 2 / 3) / 2)
    verdict = figures.verdict(measured)
    assert (verdict.answers.better, verdict.answers.worse, verdict.answers.same) == (1, 0, 1)
    assert verdict.losses.better == 2
    assert verdict.changed == 0.5


def test_a_loss_beyond_measure_is_null_with_a_reason() -> None:
    losses = {"base": SideLosses([TextLoss(4000.0, 4, 0)], []), "tuned": SideLosses([TextLoss(math.nan, 4, 0)], [])}
    asked = {"base": [_answer("x")], "tuned": [_answer("red")]}
    measured, base, tuned, notes = _figures([_question("red")], losses, asked)
    assert base.loss == 1000.0
    assert base.perplexity is None
    assert tuned.loss is None
    assert measured[0].tuned.loss is None
    assert "(tuned model)" in notes["loss"].en
    assert "(both models)" in notes["perplexity"].en
    assert figures.verdict(measured).losses.p_value is None


def test_plain_text_is_scored_and_never_asked() -> None:
    questions = [Question(Row(0, "a.txt:1", (), text="Some words."), (), [], 0)]
    losses = {side: SideLosses([TextLoss(2.0, 2, 1)] * 2, []) for side in ("base", "tuned")}
    one = {side: SideLosses([TextLoss(2.0, 2, 1)], []) for side in ("base", "tuned")}
    none: dict[Any, Any] = {side: [None] for side in ("base", "tuned")}
    _, _, tuned, notes = _figures(questions, one, none, plain=1)
    assert (tuned.exact_match, tuned.rouge_l, tuned.chrf, tuned.loss) == (None, None, None, 1.0)
    assert {name for name, text in notes.items() if "has no questions" in text.en} == set(figures.OF_ANSWERS)
    both: dict[Any, Any] = {side: [None, _answer("red")] for side in ("base", "tuned")}
    _, _, tuned, notes = _figures([*questions, _question("red")], losses, both, plain=1)
    assert tuned.exact_match == 1.0
    assert notes["exact_match"].en.startswith("1 of 2 rows are plain text")


def test_rows_that_cannot_be_asked_are_left_out_and_counted() -> None:
    questions = [_question("red"), _question("red")]
    losses = {side: SideLosses([TextLoss(2.0, 2, 1)] * 2, []) for side in ("base", "tuned")}
    asked = {"base": [None, _answer("x")], "tuned": [None, _answer("red")]}
    measured, _, tuned, notes = _figures(questions, losses, asked)
    assert tuned.exact_match == 1.0
    assert notes["exact_match"].en.startswith("1 of 2 rows")
    assert figures.verdict(measured).changed == 1.0
    none = {side: [None, None] for side in ("base", "tuned")}
    _, _, tuned, notes = _figures(questions, losses, none)
    assert tuned.exact_match is None
    assert {name for name, text in notes.items() if "context" in text.en} == set(figures.OF_ANSWERS)


def test_empty_answers_are_told_and_measured() -> None:
    questions = [_question("one two three four five")] * 3
    losses = {side: SideLosses([TextLoss(2.0, 2, 1)] * 3, []) for side in ("base", "tuned")}
    silent = {"base": [_answer("one two")] * 3, "tuned": [_answer("")] * 3}
    _, base, tuned, notes = _figures(questions, losses, silent)
    assert (tuned.exact_match, tuned.bleu, tuned.chrf, tuned.rouge_l) == (0.0, 0.0, 0.0, 0.0)
    assert base.chrf is not None
    assert base.chrf > 0
    assert notes["answers"].en == "The tuned model gives empty answers only."
    both = {side: [_answer("")] * 3 for side in ("base", "tuned")}
    measured, _, _, notes = _figures(questions, losses, both)
    assert notes["answers"].en == "Both models give empty answers only."
    assert {row.outcome for row in measured} == {"same"}
