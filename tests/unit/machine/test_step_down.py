"""The next recipe down: what is given up, in which order, and when nothing is left."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from engine.catalogue import CATALOGUE
from engine.machine.detect import Machine
from engine.machine.dims import ModelDims
from engine.machine.forecast import DataFacts, Room, forecast, room
from engine.machine.memory import FIXED_GIB
from engine.machine.step_down import change, halved, step_down
from engine.recipe.file import changed, from_plain
from engine.recipe.recipe import Recipe


def recipe(**values: Any) -> Recipe:
    plain: dict[str, Any] = {"method": {"name": "lora", "rank": 16, "alpha": 8.0}, "data": {"max_length": 1024}}
    return changed(from_plain(plain, CATALOGUE), values, CATALOGUE)


@pytest.fixture
def card(with_gpu: Callable[[float], Machine]) -> Room:
    return room(with_gpu(24.0))


@pytest.mark.parametrize(
    ("rows", "batches", "expected"), [(8, 2, (4, 4)), (4, 4, (2, 8)), (3, 2, (1, 6)), (2, 1, (1, 2)), (6, 1, (3, 2))]
)
def test_half_the_rows_at_once_keep_the_rows_of_a_step(rows: int, batches: int, expected: tuple[int, int]) -> None:
    found = halved(recipe(**{"train.batch_size": rows, "train.accumulation": batches})).train
    assert (found.batch_size, found.accumulation) == expected


def test_what_is_given_up_comes_in_order(small_dims: ModelDims, rows: DataFacts, card: Room) -> None:
    """Each step is rehearsed and fails, in a card that is full but for a little."""
    now, seen = recipe(**{"train.batch_size": 2, "train.accumulation": 1}), []
    while True:
        needs = forecast(now, small_dims, rows, card).memory.total
        # Just too small: what comes next is predicted to fit.
        where = Room("cuda", "GPU", needs * 1.01, 24.0, card.speed)
        down = step_down(now, small_dims, rows, where)
        if down is None:
            break
        assert down.forecast.memory.total < needs
        assert down.recipe.effective_batch == now.effective_batch
        seen.append(down.change.en)
        now = down.recipe
    assert seen[0] == "Rows at once 2 → 1, Batches per step 1 → 2"
    assert seen[1] == "Recompute to save memory off → on"
    assert any("QLoRA" in words for words in seen[2:])
    assert any("Longest row" in words for words in seen), "rows are cut last"
    assert "Longest row" in seen[-1]
    assert now.train.checkpointing
    assert (now.method.name, now.train.optimizer) == ("qlora", "paged_adamw_8bit")
    settings: Any = now.method
    assert settings.rank < 16
    assert settings.alpha / math.sqrt(settings.rank) == pytest.approx(8 / math.sqrt(16), rel=0.01)


def test_steps_that_will_not_do_are_passed_over(small_dims: ModelDims, rows: DataFacts, card: Room) -> None:
    big = recipe(**{"train.batch_size": 64, "train.accumulation": 1})
    fixed = FIXED_GIB["cuda"]
    grows = forecast(big, small_dims, rows, card).memory.total - fixed

    def rows_at_once(free: float) -> int:
        down = step_down(big, small_dims, rows, Room("cuda", "GPU", free, 24.0, card.speed))
        assert down is not None
        return down.recipe.train.batch_size

    assert rows_at_once((fixed + 0.3 * grows) / 0.95) == 16, "32 rows would not fit"
    # More was free than told, and still it failed: 32 rows are taken to need half of that, not of what was told.
    assert rows_at_once((fixed + grows) * 2) == 32
    # Where nothing is predicted to fit, it is the next one.
    assert rows_at_once(fixed / 2) == 32


def test_on_the_cpu_nothing_is_paged(small_dims: ModelDims, rows: DataFacts, without_gpu: Machine) -> None:
    now, optimizers = recipe(), set()
    while down := step_down(now, small_dims, rows, Room("cpu", "CPU", 0.7, 24.0, room(without_gpu).speed)):
        now = down.recipe
        optimizers.add(now.train.optimizer)
    assert optimizers == {"adamw"}


def test_changes_are_told_in_the_users_words() -> None:
    old = recipe()
    new = changed(old, {"train.short_rows": "packed", "train.learning_rate": 1e-4}, CATALOGUE)
    assert (
        change(old, new).en == "Learning rate 0.0002 → 0.0001, Short rows grouped by length → packed, without padding"
    )
    assert change(old, new).zh.startswith("学习率 0.0002 → 0.0001，短行 按长度分组 → ")
    assert not change(old, old)
