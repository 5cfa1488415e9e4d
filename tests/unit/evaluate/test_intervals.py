"""Intervals and tests: against values worked out by hand, against resampling the plain way, and in simulation."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest

from engine.evaluate.intervals import (
    Figure,
    Lots,
    bonett_price,
    compare,
    compare_shares,
    permutation_test,
    ratio,
    resampled,
    wilson,
)
from engine.evaluate.metrics import sign_test
from engine.evaluate.ngrams import bleu_of

MEAN = Figure(ratio)


def _means(values: Any) -> Any:
    found = np.asarray(values, dtype=float)
    return np.stack([found, np.ones_like(found)], -1)


def test_wilson_as_published() -> None:
    # Newcombe 1998, table I: 81 of 263 and 15 of 148, score without continuity correction.
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15 / 148, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(1, 29)[1] == 1.0


def test_bonett_price_is_wald_with_a_row_more_on_each_side() -> None:
    # (12 + 1)/(80 + 2) and (2 + 1)/(80 + 2) by hand.
    up, down = 13 / 82, 3 / 82
    half = 1.959964 * math.sqrt((up + down - (up - down) ** 2) / 82)
    assert bonett_price(12, 2, 80) == pytest.approx((up - down - half, up - down + half), abs=1e-6)


def test_shares_have_the_exact_mcnemar_test() -> None:
    base, tuned = np.zeros(40, bool), np.zeros(40, bool)
    base[:3], tuned[2:14] = True, True
    found = compare_shares(base, tuned, Lots(1, 500))
    assert (found.base.value, found.tuned.value, found.difference.value) == (3 / 40, 12 / 40, 9 / 40)
    assert found.p_value == sign_test(11, 2)
    assert found.test == "mcnemar"
    assert found.difference.low is not None
    assert found.difference.low > 0
    assert compare_shares(base, base, Lots(1, 500)).p_value == 1.0


def test_few_rows_have_no_interval_but_an_exact_test() -> None:
    base, tuned = _means(np.linspace(0.1, 0.3, 6)), _means(np.linspace(0.4, 0.7, 6))
    found = compare(base, tuned, MEAN, Lots(1, 2000))
    assert found.difference.value == pytest.approx(0.35)
    assert found.base.low is found.tuned.high is found.difference.low is None
    assert found.p_value == 2 / 64  # of all 64 ways to swap only none and all reach as far
    assert found.interval == ""


def test_the_same_seed_gives_the_same_and_another_one_nearly() -> None:
    lots = np.random.default_rng(2)
    base = lots.random(60)
    tuned = base + lots.normal(0.1, 0.1, 60)
    first, again, other = (compare(_means(base), _means(tuned), Figure(ratio, None), Lots(s, 1500)) for s in (5, 5, 6))
    assert first == again
    assert other != first
    assert other.difference.low == pytest.approx(first.difference.low, abs=0.01)


def test_errors_of_resamples_are_those_of_the_plain_formula() -> None:
    lots = np.random.default_rng(4)
    base, tuned = lots.random(25), lots.random(25)
    (values, errors, error), _, (changes, of_change, _) = resampled(_means(base), _means(tuned), MEAN, Lots(3, 300))
    assert error == pytest.approx(base.std() / 5)
    counts = np.concatenate(list(Lots(3, 300).draws(25)))
    for place in (0, 7, 299):
        drawn = np.repeat(base, counts[place].astype(int))
        assert values[place] == pytest.approx(drawn.mean())
        assert errors[place] == pytest.approx(drawn.std() / 5)
        change = np.repeat(tuned - base, counts[place].astype(int))
        assert (changes[place], of_change[place]) == pytest.approx((change.mean(), change.std() / 5))


def test_permutation_by_lot_is_near_the_exact_one() -> None:
    lots = np.random.default_rng(8)
    base = lots.random(11)
    tuned = base + lots.normal(0.02, 0.2, 11)
    exact = permutation_test(_means(base), _means(tuned), Figure(ratio, None), Lots(0, 2**11))
    by_lot = permutation_test(_means(base), _means(tuned), Figure(ratio, None), Lots(0, 2**11 - 1))
    assert 0.05 < exact < 0.95
    assert by_lot == pytest.approx(exact, abs=0.04)


def test_rows_that_are_all_alike_promise_no_certainty() -> None:
    """No row can be drawn that is not among them: a bootstrap would give an interval of no width."""
    found = compare(_means(np.zeros(50)), _means(np.ones(50)), MEAN, Lots(0, 500))
    assert found.tuned.low == pytest.approx(wilson(1, 50)[0])
    assert found.base.high == pytest.approx(wilson(0, 50)[1])
    assert found.difference.low is not None
    assert 0.8 < found.difference.low < 0.95
    assert found.difference.high == 1.0
    same = compare(_means([0.3, 0.6] * 10), _means([0.3, 0.6] * 10), MEAN, Lots(0, 500))
    assert same.p_value == 1.0
    assert same.difference.low is not None
    assert same.difference.low < 0 < (same.difference.high or 0)


def test_a_difference_that_hangs_on_a_few_rows_has_a_sane_interval() -> None:
    """All but three answers are right: resamples without these three have no spread to divide by."""
    lots = np.random.default_rng(3)
    base, tuned = _bleu_rows(lots, 40, 0.05), _bleu_rows(lots, 40, 1.0)
    tuned[:, 2:6] = tuned[:, 6:]
    tuned[:3, 2:6] = np.floor(tuned[:3, 2:6] / 3)
    found = compare(base, tuned, Figure(bleu_of, 100.0), Lots(1, 1000))
    assert found.tuned.low is not None
    assert found.difference.value is not None
    assert found.difference.low is not None
    assert found.difference.high is not None
    assert found.tuned.low - 5 < found.difference.low < found.difference.value < found.difference.high < 100


def test_a_figure_without_value_has_no_interval_and_no_test() -> None:
    base = np.stack([np.full(20, math.nan), np.ones(20)], -1)
    found = compare(base, _means(np.ones(20)), Figure(ratio, None), Lots(0, 300))
    assert (found.base.value, found.difference.value, found.p_value) == (None, None, None)
    assert found.tuned.value == 1.0


def _bleu_rows(lots: np.random.Generator, rows: int, share: float) -> Any:
    length = lots.integers(5, 30, rows)
    matched = lots.binomial(length, share)
    parts = [np.minimum(matched, np.maximum(length - n, 0)) for n in range(4)]
    right = [lots.binomial(part, 0.85**n) for n, part in enumerate(parts)]
    return np.stack([length, length, *right, *(np.maximum(length - n, 0) for n in range(4))], -1).astype(float)


@pytest.mark.parametrize(("kind", "rows"), [("mean", 12), ("share", 30), ("bleu", 25)])
def test_intervals_hold_the_truth_as_often_as_they_say(kind: str, rows: int) -> None:
    """300 data sets by seed; of 300, 95% are within 3.5 points with a probability of 0.995."""
    lots = np.random.default_rng(rows)
    everything = {
        "mean": lambda size: _means(np.where(lots.random(size) < 0.3, 1.0, lots.beta(2, 3, size))),
        "share": lambda size: _means(lots.random(size) < 0.06),
        "bleu": lambda size: _bleu_rows(lots, size, 0.6),
    }[kind]
    of: Any = bleu_of if kind == "bleu" else ratio
    population = everything(60_000)
    truth, held = float(of(population.sum(0))), 0
    for number in range(300):
        chosen = population[lots.integers(0, len(population), rows)]
        other = chosen[::-1].copy()
        if kind == "share":
            found = compare_shares(other[:, 0] > 0, chosen[:, 0] > 0, Lots(number, 300))
        else:
            found = compare(other, chosen, Figure(of, 100.0 if kind == "bleu" else 1.0), Lots(number, 400))
        assert found.tuned.low is not None
        assert found.tuned.high is not None
        held += found.tuned.low <= truth <= found.tuned.high
    assert 0.915 <= held / 300 <= 0.985


def test_a_thousand_rows_take_no_second() -> None:
    lots = np.random.default_rng(1)
    base, tuned = _bleu_rows(lots, 1000, 0.4), _bleu_rows(lots, 1000, 0.6)
    began = time.process_time()
    compare(base, tuned, Figure(bleu_of, 100.0), Lots(3, 2000))
    assert time.process_time() - began < 2  # 0.1 s on a quiet machine
