"""Equal fingerprints among many, and their places."""

from __future__ import annotations

import numpy as np
import pytest

from engine.data import repeats as module
from engine.data.repeats import asked_too, places_of, repeats


@pytest.mark.parametrize("part", [1 << 18, 50])
def test_later_ones_are_told_with_the_first(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PART", part)
    monkeypatch.setattr(module, "_CHUNK", 37)
    random = np.random.default_rng(3)
    keys = random.integers(0, 2**64, 120, dtype=np.uint64)[random.integers(0, 120, 1000)]
    wanted = random.random(1000) < 0.8
    first: dict[int, int] = {}
    expected = {}
    for row in range(100, 900):
        if wanted[row]:
            seen = first.setdefault(int(keys[row]), row)
            if seen != row:
                expected[row] = seen
    again, of = repeats(keys, wanted, 100, 900)
    assert len(again) == len(expected)
    assert dict(zip(again.tolist(), of.tolist(), strict=True)) == expected


def test_nothing_is_there_twice() -> None:
    again, of = repeats(np.arange(5, dtype=np.uint64), np.ones(5, bool), 0, 5)
    assert (len(again), len(of)) == (0, 0)


def test_places_among_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 2)
    among = np.array([3, 7, 9], np.uint64)
    assert places_of(np.array([9, 4, 3, 10, 7], np.uint64), among).tolist() == [2, -1, 0, -1, 1]
    assert places_of(np.array([1, 2], np.uint64), among[:0]).tolist() == [-1, -1]


def test_held_out_rows_that_training_asks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 3)
    prompts = np.array([1, 2, 3, 1, 4, 2, 5, 1], np.uint64)
    held_out = np.array([1, 1, 0, 0, 1, 0, 0, 1], bool)
    trained = np.array([0, 0, 1, 1, 0, 0, 1, 0], bool)
    assert asked_too(prompts, held_out, trained).tolist() == [True, False, False, False, False, False, False, True]
    assert not asked_too(prompts, np.zeros(8, bool), trained).any()
