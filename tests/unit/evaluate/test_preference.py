"""Preference of one answer over another, against values worked out by hand."""

import pytest

from engine.evaluate.preference import PairLoss, preference_accuracy, prefers, ranking_accuracy, ranks


@pytest.mark.parametrize(
    ("pair", "expected"), [(PairLoss(1.0, 2.0), True), (PairLoss(2.0, 1.0), False), (PairLoss(1.0, 1.0), False)]
)
def test_ranks(pair: PairLoss, expected: bool) -> None:
    assert ranks(pair) is expected


@pytest.mark.parametrize(
    ("tuned", "expected"),
    [
        # Rewards against base (10, 8): chosen 10 − 9 = +1, rejected 8 − 8 = 0.
        (PairLoss(9.0, 8.0), True),
        # Both fell: chosen −1, rejected −2; still preferred, though it is the less likely answer.
        (PairLoss(11.0, 10.0), True),
        # Both rose by as much: not preferred.
        (PairLoss(9.0, 7.0), False),
        (PairLoss(10.0, 7.0), False),
    ],
)
def test_prefers_by_the_implicit_reward(tuned: PairLoss, expected: bool) -> None:
    assert prefers(PairLoss(10.0, 8.0), tuned) is expected


def test_accuracies() -> None:
    base = [PairLoss(10.0, 8.0)] * 4
    tuned = [PairLoss(7.0, 8.0), PairLoss(9.0, 8.0), PairLoss(9.0, 7.0), PairLoss(10.0, 7.0)]
    assert preference_accuracy(base, tuned) == 0.5
    assert ranking_accuracy(tuned) == 0.25
    assert ranking_accuracy(base) == 0.0
    assert preference_accuracy([], []) is None
    assert ranking_accuracy([]) is None
