"""Agreement of two models: what counts, and what is a toss-up."""

from __future__ import annotations

import math

from engine.merge.compare import Agreement
from engine.merge.reference import Choice


def choices(*tokens: int, margin: float = 1.0) -> list[Choice]:
    return [Choice(token, margin) for token in tokens]


def test_a_difference_at_a_toss_up_is_counted_apart() -> None:
    agreement = Agreement()
    agreement.add_forced(choices(1, 2, 3, 4), [*choices(1, 2), Choice(9, 1.0), Choice(8, 0.04)])
    assert (agreement.tokens, agreement.same, agreement.near) == (4, 2, 1)
    assert agreement.share == 2 / 3


def test_a_margin_that_is_not_known_leaves_the_other_to_decide() -> None:
    agreement = Agreement()
    agreement.add_forced([Choice(1, 0.01), Choice(2, 0.5)], choices(7, 7, margin=math.inf))
    assert agreement.near == 1
    assert agreement.share == 0.0


def test_greedy_answers_must_be_equal_to_the_end() -> None:
    agreement = Agreement()
    agreement.add_greedy(choices(1, 2, 3), choices(1, 2, 3))
    agreement.add_greedy(choices(1, 2, 3), choices(1, 2))
    agreement.add_greedy(choices(1, 2, 3), choices(1, 5, 6))
    agreement.add_greedy([Choice(1, 0.03), Choice(2, 1.0)], choices(4, 5))
    assert (agreement.prompts, agreement.equal, agreement.near_prompts) == (4, 1, 1)
    assert agreement.different == [1, 2]
    assert agreement.greedy_share == 1 / 3


def test_nothing_compared_is_no_difference() -> None:
    assert Agreement().share == Agreement().greedy_share == 1.0
