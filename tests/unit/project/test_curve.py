"""Reading the curve: each verdict on recorded curves of the real engine that show it, and on all others that do not."""

import math
import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest

from engine.catalogue import CATALOGUE
from engine.project.curve import (
    HEALTHY,
    LEVELLED_OFF,
    NOT_LEARNING,
    NOTHING_CHANGED,
    OVERFITTING,
    TOO_EARLY,
    UNSTABLE,
    WORDS,
    Reading,
    noise_of,
    rate_words,
    read_curve,
    reading_of,
    theil_sen,
)
from engine.protocol.errors import Failure
from engine.protocol.events import Finished, HeldOut, Note, StepDone
from engine.protocol.state import JobState, apply_all
from engine.protocol.text import NOTHING, say
from engine.recipe.file import loads
from tests.curves import Recorded, behaviours, held_out_of, notes_of, read, recipe_of, steps_of

SHOWN = {
    "healthy": {HEALTHY},
    "known": {HEALTHY, LEVELLED_OFF},
    "wavering": {HEALTHY, LEVELLED_OFF},
    "levelled": {LEVELLED_OFF},
    "overfit": {OVERFITTING},
    "unstable": {UNSTABLE},
    "not": {NOT_LEARNING},
    "nothing": {NOTHING_CHANGED},
    "short": {TOO_EARLY},
}
"""First word of a behaviour's name → what may be read from its curves."""
CURVES = [(f"{name} {curve['seed']}", name, curve) for name, curves in behaviours().items() for curve in curves]
SHARES = [share / 10 for share in range(1, 10)]
recorded = pytest.mark.parametrize(("name", "curve"), [item[1:] for item in CURVES], ids=[item[0] for item in CURVES])


def shown_by(name: str) -> set[str]:
    return SHOWN[name.split("_")[0]]


# ---------------------------------------------------------------------------------------------------- recorded curves
def test_every_verdict_has_recorded_curves_of_several_seeds() -> None:
    assert {verdict for name in behaviours() for verdict in shown_by(name)} == set(WORDS)
    assert all(len({curve["seed"] for curve in curves}) >= 3 for curves in behaviours().values())


@recorded
def test_a_curve_is_read_as_what_it_shows(name: str, curve: Recorded) -> None:
    assert read(curve).verdict in shown_by(name)


@recorded
def test_while_a_run_goes_on_nothing_is_said_that_it_does_not_show(name: str, curve: Recorded) -> None:
    """A healthy run is never alarming, and no run is told a trouble other than its own; before overfitting shows the
    run is healthy or level, and a loss that never falls is never called healthy."""
    quiet = {TOO_EARLY} if name.startswith("not") else {TOO_EARLY, HEALTHY, LEVELLED_OFF}
    for share in SHARES:
        assert read(curve, share).verdict in quiet | shown_by(name), f"at {share:.0%}"


@recorded
def test_a_verdict_does_not_flap(name: str, curve: Recorded) -> None:
    """Early, healthy, level, overfitting: that is the longest way there is, and it may waver once on it."""
    found = [read(curve, share).verdict for share in [*SHARES, 1.0]]
    changes = sum(before != after for before, after in pairwise(found))
    assert changes <= 5, found


THINNED = [item for item in CURVES if len(item[2]["steps"]) >= 100 and not item[1].startswith("unstable")]


@pytest.mark.parametrize(("name", "curve"), [item[1:] for item in THINNED], ids=[item[0] for item in THINNED])
def test_of_very_many_steps_every_other_one_does(name: str, curve: Recorded) -> None:
    """But for a burst in the very first steps, which lies between those that are kept."""
    steps = steps_of(curve)
    last = steps[-1].step
    notes = notes_of(curve, last)
    found = read_curve(steps[1::2], held_out_of(curve, last), notes, recipe=recipe_of(curve), is_over=True)
    assert found.verdict in shown_by(name)


@pytest.mark.parametrize("curve", [item[2] for item in CURVES if item[1].startswith("overfit")])
def test_overfitting_names_the_step_of_the_lowest_loss(curve: Recorded) -> None:
    found = read(curve)
    step, loss = min(curve["held_out"], key=lambda pair: pair[1])
    assert found.step == step
    assert f"lowest at step {step} ({loss:.2f})" in found.sentence.en
    assert found.advice[0].en == f"The checkpoint of step {step} is kept: nothing is lost."


@pytest.mark.parametrize("curve", [item[2] for item in CURVES if item[1].startswith("healthy")])
def test_single_wild_values_change_no_verdict(curve: Recorded) -> None:
    """One held-out loss twice as high, at the end, and single losses five times as high."""
    steps, chance = steps_of(curve), random.Random(1)
    for number in chance.sample(range(5, len(steps)), len(steps) // 40):
        steps[number] = StepDone(
            step=steps[number].step,
            steps=steps[number].steps,
            epoch=steps[number].epoch,
            loss=5 * steps[number].loss,
            learning_rate=steps[number].learning_rate,
            grad_norm=steps[number].grad_norm,
        )
    held = held_out_of(curve, steps[-1].step)
    if held:
        held[-1] = HeldOut(step=held[-1].step, loss=2 * held[-2].loss)
    assert read_curve(steps, held, is_over=True).verdict in (HEALTHY, LEVELLED_OFF)


# ------------------------------------------------------------------------------------------------- curves by formula
Loss = Callable[[int], float]


def falling(floor: float, height: float, over: float) -> Loss:
    return lambda step: floor + height * math.exp(-step / over)


def made(
    loss: Loss,
    held: Loss | None = None,
    *,
    steps: int = 300,
    noise: float = 0.05,
    rate: float = 2e-4,
    norm: float | None = 0.4,
    recipe: str = "",
    **rest: Any,
) -> Reading:
    """What is read from a run of 3 passes whose losses are given by formulas, under a cosine."""
    chance = random.Random(0)
    done = [
        StepDone(
            step=n,
            steps=steps,
            epoch=3 * n / steps,
            loss=loss(n) + chance.gauss(0, noise),
            learning_rate=rate * (1 + math.cos(math.pi * n / steps)) / 2,
            grad_norm=norm,
        )
        for n in range(1, steps + 1)
    ]
    measured = [HeldOut(step=n, loss=held(n)) for n in range(30, steps + 1, 30)] if held else []
    return read_curve(done, measured, recipe=loads(recipe, CATALOGUE), **rest)


def told(found: Reading) -> str:
    return " ".join(line.en for line in found.advice)


OVERFIT = (falling(0.1, 2.0, 80), lambda step: falling(0.8, 1.2, 60)(step) + 0.002 * max(0, step - 100))


def test_what_to_change_names_the_values_of_the_recipe() -> None:
    found = made(*OVERFIT, recipe="[train]\nepochs = 3.0\npatience = 0\n")
    assert found.verdict == OVERFITTING
    assert found.step == 150
    assert [line.en for line in found.advice] == [
        "The checkpoint of step 150 is kept: nothing is lost.",
        "Fewer passes: 1.5 instead of 3.",
        "Let it stop early, after 2 evaluations without gain.",
        "Learning rate 1e-4 instead of 2e-4.",
        "Adapter dropout 0.1 instead of 0.05; or more rows.",
    ]
    assert found.advice[1].zh == "减少轮数：3 → 1.5。"


def test_overfitting_is_not_said_of_one_measurement() -> None:
    def turns(at: int) -> Reading:
        return made(falling(0.1, 2.0, 80), lambda step: 1.0 - step / 1000 if step < at else 1.2)

    assert turns(300).verdict != OVERFITTING
    assert turns(270).verdict == OVERFITTING


def test_where_the_training_loss_rises_too_it_is_unstable() -> None:
    def rises(step: int) -> float:
        return falling(0.6, 1.5, 50)(step) + 0.01 * max(0, step - 150)

    found = made(rises, rises, recipe="[train]\nlearning_rate = 0.03\nwarmup_ratio = 0.0\nmax_grad_norm = 5.0\n")
    assert found.verdict == UNSTABLE
    assert told(found) == (
        "Learning rate 3e-3 instead of 0.03. Warm-up over 3% of the steps. Gradient limit 0.3 instead of 5."
    )
    assert made(rises).verdict == UNSTABLE


def test_a_gradient_that_explodes_tells_it_sooner() -> None:
    def slowly(step: int) -> float:
        return falling(1.0, 1.0, 30)(step) + 0.1 * (step > 200)

    steps = [
        StepDone(step=n, steps=300, epoch=0, loss=slowly(n), learning_rate=1e-4, grad_norm=0.5 if n < 250 else 30.0)
        for n in range(1, 301)
    ]
    found = read_curve(steps, [])
    assert found.verdict == UNSTABLE
    assert "the gradient is 60 times as large" in found.sentence.en
    calm = [StepDone(step=s.step, steps=300, epoch=0, loss=s.loss, learning_rate=1e-4, grad_norm=0.5) for s in steps]
    assert read_curve(calm, []).verdict != UNSTABLE


def test_harder_rows_later_are_not_unstable() -> None:
    assert made(lambda step: 1.0 + step / 300).verdict == UNSTABLE
    assert made(lambda step: 1.0 + step / 300, recipe='[data]\norder = "shortest"\n').verdict != UNSTABLE
    assert made(lambda step: 1.0 + step / 300, falling(0.8, 1.3, 120)).verdict == HEALTHY


def test_what_broke_away_is_told_until_it_lies_behind() -> None:
    steps = [StepDone(step=n, steps=300, epoch=0, loss=2 - n / 100, learning_rate=1e-4) for n in range(1, 101)]

    def noted(step: int) -> str:
        return read_curve(
            steps, [], [Note(code="train.rolled_back", level="recovery", text=NOTHING, step=step)]
        ).verdict

    assert noted(80) == UNSTABLE
    assert noted(20) == HEALTHY
    lost = [*steps, StepDone(step=101, steps=300, epoch=0, loss=math.nan, learning_rate=1e-4)]
    assert read_curve(lost, []).verdict == UNSTABLE


def test_nothing_changed_says_why() -> None:
    slow = made(lambda step: 2.0, rate=1e-12, recipe="[train]\nlearning_rate = 1e-12\n")
    assert slow.verdict == NOTHING_CHANGED
    assert "at a rate of 1e-12" in slow.sentence.en
    assert told(slow).startswith("Learning rate 2e-4 instead of 1e-12.")
    cut_off = made(lambda step: 2.0, norm=0.0)
    assert cut_off.verdict == NOTHING_CHANGED
    assert "the gradient is 0" in cut_off.sentence.en


def test_not_learning_is_not_said_where_noise_could_hide_a_fall() -> None:
    assert made(lambda step: 2.0, lambda step: 2.0 - 1e-5 * step, rate=1e-6).verdict == NOT_LEARNING
    assert made(falling(0.6, 1.5, 120), steps=60, noise=0.9).verdict == TOO_EARLY


def test_what_is_known_already_is_no_failure_to_learn() -> None:
    found = made(lambda step: 0.01, noise=0.003)
    assert found.verdict == LEVELLED_OFF
    assert "knows such rows already" in found.sentence.en


def test_the_end_of_a_schedule_is_no_plateau() -> None:
    """The loss follows what could be learned; under a cosine its last steps bring nothing for want of a rate."""

    def path(step: int) -> float:
        return step / 300 + math.sin(math.pi * step / 300) / math.pi

    assert made(lambda step: 2.0 - path(step), lambda step: 2.1 - path(step)).verdict == HEALTHY
    assert made(lambda step: 2.0 - path(step)).verdict == HEALTHY


def test_levelled_off_says_since_when_and_what_would_have_done() -> None:
    found = made(
        falling(0.6, 1.5, 20), falling(0.8, 1.3, 20), recipe='[method]\nname = "lora"\nrank = 8\n', is_over=True
    )
    assert found.verdict == LEVELLED_OFF
    assert found.sentence.en == "The held-out loss has stayed at about 0.80 since step 90."
    assert told(found) == (
        "More passes will hardly help; 1 instead of 3 would do. "
        "To get lower: rank 16 instead of 8, more varied rows or a larger model."
    )
    by_heart = made(lambda step: 1.6 - step / 250, falling(0.8, 1.3, 20))
    assert by_heart.verdict == LEVELLED_OFF
    assert "that is learning by heart" in by_heart.sentence.en


def test_a_healthy_run_is_told_to_go_on_only_where_it_came_to_its_end() -> None:
    losses = (falling(0.6, 1.5, 120), falling(0.8, 1.3, 120))
    assert told(made(*losses)) == "If it turns up, the run stops by itself and keeps the best."
    assert told(made(*losses, is_over=True)) == (
        "It was still falling at the end: 5 passes instead of 3 may learn more."
    )
    stopped = [StepDone(step=n, steps=900, epoch=0, loss=2 - n / 200, learning_rate=1e-4) for n in range(1, 200)]
    assert read_curve(stopped, [], is_over=True).advice == ()


def test_a_short_run_says_that_it_was_short() -> None:
    assert "wait for 20" in made(lambda step: 2.0, steps=9).sentence.en
    assert "The run had 9 steps" in made(lambda step: 2.0, steps=9, is_over=True).sentence.en
    assert read_curve([], []).verdict == TOO_EARLY


def test_a_state_is_read() -> None:
    steps = [StepDone(step=n, steps=300, epoch=0, loss=2 - n / 100, learning_rate=1e-4) for n in range(1, 101)]
    assert reading_of(apply_all(JobState(), steps), None).verdict == HEALTHY
    broke = Finished(status="failed", failure=Failure("train.spike", say("It broke.", "失控。")))
    assert reading_of(apply_all(JobState(), [*steps, broke]), None).verdict == UNSTABLE


def test_every_verdict_is_told_without_a_recipe_too() -> None:
    for _, _, curve in CURVES:
        steps = steps_of(curve)
        found = read_curve(steps, held_out_of(curve, steps[-1].step), is_over=True)
        assert found.sentence.en
        assert found.sentence.zh
        assert found.word.zh
        assert found.tone in ("plain", "good", "warn", "bad")


# ---------------------------------------------------------------------------------------------------------- figures
def test_the_slope_is_that_of_the_line_whatever_single_points_do() -> None:
    xs = [float(n) for n in range(24)]
    ys = [3 - 0.25 * x for x in xs]
    ys[5], ys[17] = 40.0, -40.0
    found = theil_sen(xs, ys)
    assert found.slope == pytest.approx(-0.25)
    assert found.low <= found.slope <= found.high < 0


def slopes(noise: float, slope: float) -> Sequence[bool]:
    """Whether the interval holds the true slope, for many curves."""
    held = []
    for seed in range(200):
        chance = random.Random(seed)
        xs = [float(n) for n in range(24)]
        found = theil_sen(xs, [slope * x + chance.gauss(0, noise) for x in xs])
        held.append(found.low <= slope <= found.high)
    return held


def test_the_interval_holds_the_true_slope_nearly_always() -> None:
    assert sum(slopes(0.5, -0.1)) >= 0.92 * 200


def test_too_few_points_have_no_certain_slope() -> None:
    assert theil_sen([1.0], [1.0]).high == math.inf
    assert theil_sen([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]).high == math.inf


def test_noise_is_told_apart_from_the_curve() -> None:
    chance = random.Random(0)
    values = [5 * math.exp(-n / 200) + chance.gauss(0, 0.1) for n in range(1000)]
    assert noise_of(values) == pytest.approx(0.1, rel=0.15)
    assert noise_of([]) == 0.0


@pytest.mark.parametrize(
    ("rate", "words"), [(2e-4, "2e-4"), (1.5e-5, "1.5e-5"), (0.01, "0.01"), (0.3, "0.3"), (1e-12, "1e-12")]
)
def test_rates_are_written_as_people_write_them(rate: float, words: str) -> None:
    assert rate_words(rate) == words


def test_a_very_low_rate_is_raised_to_the_usual_and_a_low_one_by_some() -> None:
    usual = made(lambda step: 2.0, lambda step: 2.0, rate=1e-6, recipe="[train]\nlearning_rate = 1e-6\n")
    some = made(lambda step: 2.0, lambda step: 2.0, recipe="[train]\nlearning_rate = 4e-4\n")
    assert told(usual).startswith("Learning rate 2e-4 instead of 1e-6.")
    assert told(some).startswith("Learning rate 2e-3 instead of 4e-4.")
