"""How many steps, and where is measured and saved."""

import pytest

from engine.recipe.recipe import TrainSettings
from engine.train.plan import Schedule, schedule


def plan(rows: int, held_out: int = 10, **settings: object) -> Schedule:
    return schedule(TrainSettings.model_validate(settings), rows=rows, held_out=held_out)


@pytest.mark.parametrize(
    ("rows", "settings", "steps"),
    [
        (100, {"epochs": 1.0, "batch_size": 4, "accumulation": 1}, 25),
        (101, {"epochs": 1.0, "batch_size": 4, "accumulation": 1}, 26),
        (100, {"epochs": 2.0, "batch_size": 4, "accumulation": 4}, 14),
        (100, {"epochs": 0.5, "batch_size": 4, "accumulation": 1}, 13),
        (1, {"epochs": 0.01, "batch_size": 4, "accumulation": 4}, 1),
        (100, {"epochs": 9.0, "batch_size": 4, "accumulation": 1, "max_steps": 7}, 7),
    ],
)
def test_steps(rows: int, settings: dict[str, object], steps: int) -> None:
    assert plan(rows, **settings).steps == steps


def test_auto_measures_and_saves_ten_times() -> None:
    made = plan(400, epochs=1.0, batch_size=2, accumulation=1)
    assert sum(made.evaluates_at(step) for step in range(1, 201)) == 10
    assert made.save_every == made.evaluate_every == 20


def test_short_runs_are_not_measured_at_every_step() -> None:
    assert plan(40, epochs=1.0, batch_size=4, accumulation=1).evaluate_every == 5


def test_last_step_is_always_measured_and_saved() -> None:
    made = plan(100, epochs=1.0, batch_size=4, accumulation=1, evaluate_every=7, save_every=9)
    assert [step for step in range(1, 26) if made.evaluates_at(step)] == [7, 14, 21, 25]
    assert [step for step in range(1, 26) if made.saves_at(step)] == [9, 18, 25]
    assert [made.evaluations_after(step) for step in (0, 6, 7, 24, 25)] == [4, 4, 3, 1, 0]


def test_without_held_out_rows_nothing_is_measured_but_saved() -> None:
    made = plan(400, 0, epochs=1.0, batch_size=2, accumulation=1)
    assert not any(made.evaluates_at(step) for step in range(1, 201))
    assert made.evaluations_after(0) == 0
    assert made.save_every == 20


def test_warm_up_is_a_share_of_the_steps() -> None:
    assert plan(400, epochs=1.0, batch_size=2, accumulation=1, warmup_ratio=0.03).warmup == 6
    assert plan(400, epochs=1.0, batch_size=2, accumulation=1, warmup_ratio=0.0).warmup == 0


def test_passes_may_be_parts() -> None:
    assert plan(100, epochs=0.5, batch_size=4, accumulation=1).epochs == pytest.approx(13 / 25)
