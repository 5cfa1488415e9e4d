"""Which batches a rehearsal runs, and what they tell of all."""

from typing import Any

import numpy as np
import pytest

from engine.catalogue import CATALOGUE
from engine.recipe.file import from_plain
from engine.recipe.recipe import Recipe
from engine.train.listing import TYPICAL, Line, listing

LENGTHS = np.random.default_rng(3).integers(5, 200, 101)


def recipe(**train: Any) -> Recipe:
    return from_plain({"train": {"batch_size": 4, "accumulation": 8, **train}}, CATALOGUE)


def test_the_longest_rows_come_when_all_is_held() -> None:
    found = listing(LENGTHS, recipe())
    assert (found.batch_size, found.accumulation) == (4, 2)
    assert found.steps == 2 + TYPICAL // 2
    steps = found.places.reshape(found.steps, 8)
    ordered = sorted(LENGTHS.tolist())
    assert sorted(LENGTHS[steps[0][:4]].tolist()) == ordered[:4]
    assert sorted(LENGTHS[steps[1][:4]].tolist()) == sorted(LENGTHS[steps[1][4:]].tolist()) == ordered[-4:]
    assert found.tokens[2] == 4 * ordered[-1]
    # Usual batches are those of a real pass, from short to long.
    assert set(found.tokens[4:]) <= set(found.every)
    assert max(found.tokens[4:]) > 2 * min(found.tokens[4:])


@pytest.mark.parametrize("order", ["grouped", "shuffled", "packed"])
def test_every_row_of_a_pass_is_counted(order: str) -> None:
    found = listing(LENGTHS, recipe(short_rows=order))
    assert len(found.every) == 26
    if order == "packed":
        assert found.every.sum() == LENGTHS.sum()
    else:
        assert found.every.sum() >= LENGTHS.sum()
    assert found.tokens.max() == found.tokens[2]


def test_fewer_rows_than_a_batch() -> None:
    found = listing(np.array([7, 9, 5]), recipe(accumulation=1))
    assert (found.batch_size, found.accumulation) == (3, 1)
    assert found.tokens.tolist() == [27.0, 27.0, 27.0]
    assert len(found.places) == 9


def test_seconds_follow_a_line() -> None:
    line = Line.through([100, 200, 400], [1.1, 2.1, 4.1])
    assert (line.fixed, line.per_token) == (pytest.approx(0.1), pytest.approx(0.01))
    assert line.all(np.array([100.0, 300.0])) == pytest.approx(4.2)
    # Of one length nothing is known but the rate; neither part is below zero.
    assert Line.through([50, 50], [1.0, 3.0]) == Line(0.0, 0.04)
    assert Line.through([10, 20], [0.1, 0.4]) == Line(0.0, pytest.approx(0.5 / 30))
    assert Line.through([10, 20], [0.4, 0.2]) == Line(pytest.approx(0.3), 0.0)
