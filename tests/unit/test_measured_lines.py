"""The evaluation in a terminal."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

import pytest

from engine.measured_lines import change, figure, measured_lines, p_value
from engine.project.effect import Effect, Part
from engine.project.evaluation import Comparison, Evaluation, Scores, Verdict
from engine.project.measures import Estimate, Group, Label, Labels, Measure, Overlap
from engine.project.verdict import verdict_of
from engine.protocol.text import say

EXACT = Measure(
    "exact_match",
    Estimate(0.04, 0.02, 0.08),
    Estimate(0.423, 0.36, 0.49),
    Estimate(0.383, 0.32, 0.44),
    0.0001,
    253,
    "mcnemar",
    "score",
)
LOSS = Measure("loss", Estimate(2.286), Estimate(1.138), Estimate(-1.148), 0.0312, 253, "permutation", "")


def _evaluation(better: int = 187, worse: int = 21, p: float | None = 1e-9) -> Evaluation:
    compared = Comparison(better, worse, 45, p)
    scores = Scores(1.0, 2.7, 0.5, 0.04, 0.3)
    groups = (
        Group("qa", say("questions and answers", "问答"), 200, EXACT),
        Group("other", say("other", "其他"), 53, LOSS),
    )
    return Evaluation(
        scores,
        scores,
        Verdict(compared, compared, 0.94),
        (),
        {"bleu": say("Why.", "原因。")},
        held_out=500,
        measures=(EXACT, LOSS),
        groups=groups,
        overlap=Overlap(0, 2, 253),
        seed=42,
    )


def test_every_figure_stands_with_its_interval_and_test() -> None:
    lines = [line.en for line in measured_lines(_evaluation())]
    assert lines[0] == "Better on 187 of 253 held-out rows, worse on 21: worth keeping."
    exact = next(line for line in lines if line.startswith("  Exact match"))
    assert "4.0% [2.0%, 8.0%]" in exact
    assert "+38.3 [+32.0, +44.0]" in exact
    assert exact.endswith("< 0.001")
    loss = next(line for line in lines if line.startswith("  Loss"))
    assert "-1.148" in loss
    assert "[" not in loss
    assert any("questions and answers, 200 rows, Exact match" in line for line in lines)
    assert any("exact McNemar test, paired permutation test" in line for line in lines)
    assert "0 of these rows occur in the training data; the questions of 2 do." in lines
    assert lines[-1] == "Why."


@pytest.mark.parametrize("language", ["en", "zh"])
def test_columns_stand_in_line_also_in_chinese(language: str) -> None:
    table = [getattr(line, language) for line in measured_lines(_evaluation())[1:4]]
    exact, loss = table[1].index("4.0%"), table[2].index("2.286")
    assert _columns(table[1][:exact]) == _columns(table[2][:loss])


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def test_labels_are_listed() -> None:
    labels = Labels((Label("yes", 9, 0.5, 1.0), Label("no", 4, 0.0, 0.75)), EXACT, EXACT, (), ())
    lines = [line.en for line in measured_lines(replace(_evaluation(), labels=labels))]
    assert any(line.split() == ["yes,", "9", "rows", "50.0%", "100.0%"] for line in lines)


@pytest.mark.parametrize(
    ("better", "worse", "p", "judgement", "tone"),
    [
        (187, 21, 1e-9, "worth keeping", "good"),
        (21, 187, 1e-9, "worse than the base", "bad"),
        (30, 25, 0.6, "no clear difference", "warn"),
        (0, 0, None, "no clear difference", "warn"),
    ],
)
def test_verdicts(better: int, worse: int, p: float | None, judgement: str, tone: str) -> None:
    _, said, found = verdict_of(_evaluation(better, worse, p))
    assert (said.en, found) == (judgement, tone)


@pytest.mark.parametrize(("right", "judgement"), [(0.75, "no better than always “ham”"), (0.8, "worth keeping")])
def test_one_label_for_every_row_is_not_worth_keeping(right: float, judgement: str) -> None:
    accuracy = Measure("label_accuracy", Estimate(0.0), Estimate(right), Estimate(right), 1e-9, 20, "mcnemar", "score")
    labels = Labels((Label("ham", 15, 0.0, 1.0), Label("spam", 5, 0.0, 0.0)), accuracy, accuracy, (), ())
    assert verdict_of(replace(_evaluation(), labels=labels))[1].en == judgement


def test_an_adapter_that_does_nothing_is_said_first() -> None:
    nothing = Effect(Part("all", 1, 0.0, 1.0), (), (), variation=0.0)
    assert measured_lines(_evaluation(), nothing)[0].en.endswith("it does nothing.")


def test_few_rows_are_no_verdict() -> None:
    few = Comparison(3, 0, 1, 0.25)
    found = replace(_evaluation(), verdict=Verdict(few, few, 1.0))
    assert verdict_of(found)[1].en == "too few rows to tell"


@pytest.mark.parametrize(
    ("value", "full", "shown", "changed"),
    [
        (None, 1.0, "—", "—"),
        (0.5, 1.0, "50.0%", "+50.0"),
        (38.21, 100.0, "38.2", "+38.2"),
        (1.5, None, "1.500", "+1.500"),
        (10437.4, None, "10,437", "+10,437"),
    ],
)
def test_numbers(value: float | None, full: float | None, shown: str, changed: str) -> None:
    assert (figure(value, full), change(value, full)) == (shown, changed)


def test_what_rounds_to_nothing_has_no_minus() -> None:
    assert change(-0.0001, 1.0) == "+0.0"


def test_p_values() -> None:
    assert [p_value(p) for p in (None, 0.0002, 0.0312, 1.0)] == ["—", "< 0.001", "0.031", "1.000"]
