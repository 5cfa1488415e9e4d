"""Measures by task, by column and by label, from rows made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.data.rows import ASSISTANT, USER, Message, Row
from engine.evaluate import figures
from engine.evaluate.answers import GreedyAnswer
from engine.evaluate.comparing import Measured, groups_of, labels_in, measures_of
from engine.evaluate.figures import SideLosses
from engine.evaluate.intervals import Lots
from engine.evaluate.labels import NONE, label_names, macro_f1, read_labels
from engine.evaluate.preference import PairLoss
from engine.evaluate.questions import Question
from engine.evaluate.score import TextLoss
from engine.project.evaluation import headline_of

LOTS = Lots(7, 300)


def _measured(rows: list[tuple[str, str, str]], pairs: Any = None) -> Measured:
    """Of rows of (right answer, base's answer, tuned answer)."""
    questions = [
        Question(Row(i, f"a:{i}", (Message(USER, "Q?"), Message(ASSISTANT, right))), (), [1], 3)
        for i, (right, _, _) in enumerate(rows)
    ]
    pairs = pairs or {"base": [], "tuned": []}
    losses: Any = {
        "base": SideLosses([TextLoss(3.0 + i % 2, 2, 0) for i in range(len(rows))], pairs["base"]),
        "tuned": SideLosses([TextLoss(1.0 + i % 2, 2, 1) for i in range(len(rows))], pairs["tuned"]),
    }
    asked: Any = {
        side: [GreedyAnswer(row[place], 3, False) for row in rows] for side, place in (("base", 1), ("tuned", 2))
    }
    return figures.measured(questions, losses, asked, "13a")


LABELS = (
    [("positive", "Positive.", "positive")] * 6
    + [("negative", "positive", "negative")] * 4
    + [
        ("neutral", "I think it is neutral", "negative"),
        ("neutral", "neutral", "neutral"),
    ]
)


def test_labels_are_read_as_they_are_meant() -> None:
    measured = _measured(LABELS)
    labels, of_row = labels_in(measured, LOTS)
    assert labels is not None
    assert [(label.name, label.rows) for label in labels.labels] == [("positive", 6), ("negative", 4), ("neutral", 2)]
    # "Positive." is the label, a sentence about it is none.
    assert labels.base == ((6, 0, 0, 0), (4, 0, 0, 0), (0, 0, 1, 1))
    assert labels.tuned == ((6, 0, 0, 0), (0, 4, 0, 0), (0, 1, 1, 0))
    assert [(label.base, label.tuned) for label in labels.labels] == [(1.0, 1.0), (0.0, 1.0), (0.5, 0.5)]
    assert (labels.accuracy.base.value, labels.accuracy.tuned.value) == (7 / 12, 11 / 12)
    # F1 of the tuned model: positive 1, negative 8/9, neutral 2/3.
    assert labels.macro_f1.tuned.value == pytest.approx((1 + 8 / 9 + 2 / 3) / 3)
    # Of the base: positive 12/16, negative 0, neutral 2/3.
    assert labels.macro_f1.base.value == pytest.approx((12 / 16 + 0 + 2 / 3) / 3)
    assert of_row[:2] == ["positive", "positive"]
    names = [measure.name for measure in measures_of(measured, LOTS, labels)]
    assert names[:3] == ["exact_match", "label_accuracy", "macro_f1"]
    assert headline_of(measures_of(measured, LOTS, labels), labels=True) == "label_accuracy"
    assert labels.share_of_first == 6 / 12
    assert not labels.no_better_than_one


@pytest.mark.parametrize(
    "references",
    [
        ["yes"] * 20,  # one label says nothing
        ["yes", "no"] * 4,  # too few rows
        [f"answer {i % 8}" for i in range(16)],  # two rows a label repeat by chance
        ["yes", "no"] * 10 + ["It depends on what you mean by that, and on whom you ask."],
        ["yes", "!"] * 10,
        [],
    ],
)
def test_right_answers_that_are_no_labels(references: list[str]) -> None:
    assert label_names(references) == ()


def test_labels_that_differ_by_case_alone_are_told_apart() -> None:
    names = label_names(["US", "us"] * 8)
    assert set(names) == {"US", "us"}
    assert read_labels(["US", " us ", "Us", None], names).tolist() == [
        names.index("US"),
        names.index("us"),
        NONE,
        NONE,
    ]


def test_macro_f1_counts_labels_that_occur() -> None:
    # Right, answered, there; the third label neither occurs nor is answered.
    assert float(macro_f1(np.array([2.0, 2, 2, 1, 3, 1, 0, 0, 0]))) == pytest.approx((1 + 0.5) / 2)


def test_groups_by_task_with_small_ones_together() -> None:
    long = "one two three four five six seven"
    rows = [(long, "no", long)] * 6 + [(long, "one two", "one two three")] * 7 + [("yes", "no", "yes")] * 5
    rows += [(long, "x", "y")] * 3 + [(long, "x", "one")] * 2
    keys = ["qa"] * 6 + ["translation"] * 7 + ["classification"] * 5 + ["code"] * 3 + ["summary"] * 2
    groups = groups_of(_measured(rows), keys, LOTS, tasks=True, labels=False)
    assert [(g.key, g.rows, g.measure.name) for g in groups] == [
        ("translation", 7, "chrf"),
        ("qa", 6, "exact_match"),  # long, but often met exactly
        ("classification", 5, "exact_match"),
        ("other", 5, "rouge_l"),
    ]
    assert groups[0].name.en == "translation"
    assert groups[1].measure.tuned.value == 1.0
    assert groups[3].measure.rows == 5
    assert all(g.measure.difference.low is None for g in groups)  # fewer than ten rows each


def test_groups_by_the_rows_own_column() -> None:
    rows = [("yes", "no", "yes")] * 12
    groups = groups_of(_measured(rows), ["heart"] * 6 + ["lungs"] * 6, LOTS, tasks=False, labels=False)
    assert [(g.key, g.name.zh) for g in groups] == [("heart", "heart"), ("lungs", "lungs")]


def test_preferences_are_paired_shares() -> None:
    pairs = {"base": [PairLoss(5.0, 4.0)] * 8 + [PairLoss(3.0, 4.0)] * 4, "tuned": [PairLoss(2.0, 6.0)] * 12}
    found = {m.name: m for m in measures_of(_measured([("a b", "c", "a b")] * 12, pairs), LOTS)}
    ranking = found["ranking_accuracy"]
    assert (ranking.base.value, ranking.tuned.value, ranking.test) == (4 / 12, 1.0, "mcnemar")
    assert ranking.p_value == pytest.approx(2 / 2**8)
    assert found["preference_accuracy"].tuned.value == 1.0


def test_measures_and_their_tests() -> None:
    rows = [("one two three four five", "five", "one two three four five")] * 20
    found = {m.name: m for m in measures_of(_measured(rows), LOTS)}
    assert found["loss"].difference.value == pytest.approx(-1.0)
    assert found["loss"].is_better
    assert found["loss"].is_clear
    assert found["perplexity"].base.value == pytest.approx(np.exp(1.75))
    assert found["token_accuracy"].tuned.value == 0.5
    assert found["bleu"].tuned.value == pytest.approx(100)
    assert found["bleu"].tuned.low is not None
    assert found["bleu"].tuned.low < 90  # twenty rows that are right promise no 100
    assert found["exact_match"].p_value == pytest.approx(2 / 2**20)
    assert all(measure.rows == 20 for measure in found.values())
