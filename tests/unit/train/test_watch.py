"""When a loss has broken away, and when it has not."""

import math
import random

import pytest

from engine.train.watch import ENOUGH, PATIENCE, LossWatch, Trouble


def told(losses: list[float]) -> list[Trouble]:
    watch = LossWatch()
    found = (watch.look(step, loss) for step, loss in enumerate(losses, 1))
    return [trouble for trouble in found if trouble is not None]


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
def test_no_number_is_told_at_once(loss: float) -> None:
    (trouble,) = told([2.0, loss])
    assert (trouble.first, trouble.last, trouble.usual) == (2, 2, None)


def test_a_gradient_without_number_is_told_though_the_loss_has_one() -> None:
    watch = LossWatch()
    assert watch.look(1, 2.0, 0.3) is None
    assert watch.look(2, 2.0, None) is None
    assert watch.look(3, 2.0, float("inf")) == Trouble(3, 3, float("inf"), gradient=True)


def test_a_run_that_falls_apart_is_told_with_its_beginning() -> None:
    chance = random.Random(0)
    losses = [1.5 + chance.gauss(0, 0.2) for _ in range(40)] + [4.0, 7.0, 9.0, 9.5]
    (trouble,) = told(losses)
    assert (trouble.first, trouble.last, trouble.loss) == (41, 43, 9.0)
    assert trouble.usual == pytest.approx(1.5, abs=0.1)


def test_single_hard_batches_are_no_trouble() -> None:
    chance = random.Random(1)
    losses = [1.5 + chance.gauss(0, 0.2) for _ in range(200)]
    for place in (50, 90, 91, 130):
        losses[place] = 12.0
    assert told(losses) == []


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("spread", [0.05, 0.3, 0.8])
def test_usual_runs_are_no_trouble(seed: int, spread: float) -> None:
    """Losses that fall from 4 to 0.5 with noise of a lognormal, as short batches have it."""
    chance = random.Random(seed)
    losses = [(0.5 + 3.5 * math.exp(-step / 60)) * math.exp(chance.gauss(0, spread)) for step in range(400)]
    assert told(losses) == []


def test_losses_near_zero_may_double() -> None:
    """Memorised rows, and preferences: 0.01 to 0.1 is no instability."""
    assert told([0.01] * 50 + [0.1] * 50) == []


def test_rising_slowly_is_no_spike() -> None:
    """Rows from easy to hard."""
    assert told([0.5 + 0.01 * step for step in range(300)]) == []


def test_the_first_steps_are_not_judged() -> None:
    assert told([1.0] * (ENOUGH - 1) + [50.0] * PATIENCE) == []
    assert len(told([1.0] * ENOUGH + [50.0] * PATIENCE)) == 1


def test_after_a_spike_the_new_level_is_the_usual_one() -> None:
    assert len(told([1.0] * 30 + [9.0] * 100)) == 1
