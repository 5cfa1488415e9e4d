"""Agreement of two models: what counts, and what is a toss-up."""

from __future__ import annotations

import math

import pytest

from engine.export.parity import LIMITS, Parity
from engine.merge.compare import Agreement, counting, judged
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


def test_an_end_on_one_side_only_is_no_difference_of_weights() -> None:
    agreement = Agreement()
    agreement.add_greedy(choices(1, 2), choices(1, 2, 3), ended=(True, False))
    agreement.add_greedy(choices(1, 2, 3), choices(1, 2), ended=(False, True))
    agreement.add_greedy(choices(1, 2), choices(1, 2), ended=(True, False))
    agreement.add_greedy(choices(1, 2), choices(1, 2), ended=(False, True))
    assert agreement.equal == agreement.prompts == 4
    assert agreement.late == [2, 2]
    assert agreement.early == [2, 2]


def test_what_was_cut_short_did_not_end() -> None:
    agreement = Agreement()
    agreement.add_greedy(choices(1, 2, 3), choices(1, 2), ended=(True, False))
    agreement.add_greedy(choices(1, 2), choices(1, 2, 3), ended=(False, True))
    agreement.add_greedy(choices(1, 2), choices(1, 2), ended=(True, True))
    assert agreement.late == agreement.early == []


def test_a_reference_in_bf16_makes_more_near_ties() -> None:
    found = counting("bf16")
    found.add_forced([Choice(1, 0.2)], choices(2))
    assert found.near == 1
    exact = counting("fp32")
    exact.add_forced([Choice(1, 0.2)], choices(2))
    assert exact.near == 0


def given(*values: float) -> list[Choice]:
    return [Choice(1, 5.0, value) for value in values]


def result(agreement: Agreement | None, kind: str = "F16") -> Parity:
    return judged(Parity(type=kind, reference="fp32"), agreement, [], str)


def test_perplexity_is_of_places_that_both_know() -> None:
    agreement = Agreement()
    agreement.add_forced(given(-1.0, -2.0, math.nan, -9.0), given(-1.0, -2.2, -5.0, math.nan))
    ours, theirs = agreement.perplexities or (0.0, 0.0)
    assert ours == pytest.approx(math.exp(1.5))
    assert theirs == pytest.approx(math.exp(1.6))
    assert Agreement().perplexities is None


@pytest.mark.parametrize(("change", "kind", "passed"), [
    (1.004, "F16", True), (1.006, "F16", False), (0.994, "F16", False), (1.006, "Q8_0", True), (1.02, "Q8_0", False),
    (1.05, "Q4_K_M", True), (1.07, "Q4_K_M", False),
])  # fmt: skip
def test_perplexity_is_held_against_the_limit_of_the_type(change: float, kind: str, passed: bool) -> None:
    agreement = Agreement()
    agreement.add_forced(given(-1.0), given(-1.0 - math.log(change)))
    found = result(agreement, kind)
    assert found.passed is passed
    assert found.kinds == (() if passed else ("weights",))
    assert found.limits == LIMITS[kind]


def test_one_place_and_one_answer_may_differ_but_not_two() -> None:
    for places, passed in ((1, True), (2, False)):
        forced, greedy = Agreement(), Agreement()
        forced.add_forced(choices(*range(40)), choices(*range(40 - places), *([99] * places)))
        greedy.add_forced(choices(1), choices(1))
        for at in range(10):
            greedy.add_greedy(choices(1, 2), choices(1, 7 if at < places else 2))
        assert result(forced).passed is passed
        assert result(greedy).passed is passed
    assert result(greedy, "Q4_K_M").passed is True  # told only


def test_without_a_measurement_nothing_is_passed() -> None:
    assert result(None).passed is None
    found = result(Agreement())
    assert (found.passed, found.reason.en) == (None, "there was nothing to ask")
