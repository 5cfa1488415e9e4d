"""Which batches a rehearsal runs, and what all batches of a run cost by those that ran."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.objectives.trainer import EpochSampler
from engine.recipe.recipe import Recipe

TYPICAL = 6
"""Batches of usual length that are run where the time suffices."""
MOST_ACCUMULATED = 2
"""Batches that a rehearsed step has at the most: from the second on gradients are held while activations grow, and
nothing is added by a third."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Batches in the order in which they are rehearsed, and the cost of each batch of a real pass.

    The first step has short rows: with it the optimizer's states are made, so that the longest rows, in the second
    step, come while all that a run ever holds is held.

    Attributes:
        places: rows, batch after batch.
        batch_size: rows of each.
        accumulation: batches of a step.
        tokens: of each batch that is run, padding included, shape (batches,).
        every: the same of each batch of a real pass.
    """

    places: NDArray[np.int64]
    batch_size: int
    accumulation: int
    tokens: NDArray[np.float64]
    every: NDArray[np.float64]

    @property
    def steps(self) -> int:
        """Optimizer steps that are listed."""
        return len(self.tokens) // self.accumulation


def listing(lengths: NDArray[np.int64], recipe: Recipe) -> Listing:
    """What to rehearse of rows with ``lengths`` (tokens)."""
    settings = recipe.train
    size = min(settings.batch_size, len(lengths))
    accumulation = min(settings.accumulation, MOST_ACCUMULATED)
    packed = settings.short_rows == "packed"
    order = list(
        EpochSampler(
            lengths.tolist(),
            group=settings.batch_size * settings.accumulation,
            grouped=settings.short_rows == "grouped",
            seed=settings.seed,
            as_given=recipe.data.order != "shuffled",
        )
    )
    real = in_batches(np.array(order, dtype=np.int64), settings.batch_size)
    every = padded(lengths, real, packed)
    by_length = np.argsort(lengths, kind="stable")
    shortest, longest = by_length[:size], by_length[-size:][::-1]
    whole = [batch for batch in real if len(batch) == size] or [longest]
    chosen = [whole[place] for place in _spread(padded(lengths, whole, packed))]
    chosen += chosen[: -len(chosen) % accumulation]
    batches = [shortest] * accumulation + [longest] * accumulation + chosen
    return Listing(np.concatenate(batches), size, accumulation, padded(lengths, batches, packed), every)


def in_batches(places: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """Places in batches; the last may be short."""
    return [places[start : start + size] for start in range(0, len(places), size)]


def padded(lengths: NDArray[np.int64], batches: Sequence[NDArray[np.int64]], packed: bool) -> NDArray[np.float64]:
    """Tokens computed for each batch: of packed rows their sum, else all are as long as the longest."""
    found = (lengths[batch].sum() if packed else len(batch) * lengths[batch].max() for batch in batches)
    return np.fromiter(found, np.float64, len(batches))


def _spread(tokens: NDArray[np.float64]) -> list[int]:
    """Places of batches at even distances between the shortest and the longest, the one in the middle first."""
    by_tokens = np.argsort(tokens, kind="stable")
    count = min(TYPICAL, len(by_tokens))
    places = [int(by_tokens[int((number + 0.5) * len(by_tokens) / count)]) for number in range(count)]
    middle = count // 2
    return [places[middle], *places[:middle], *places[middle + 1 :]]


@dataclass(frozen=True, slots=True)
class Line:
    """Seconds of a batch as a linear function of its tokens.

    Attributes:
        fixed: seconds of a batch whatever its length; per_token: of each token.
    """

    fixed: float
    per_token: float

    @classmethod
    def through(cls, tokens: Sequence[float], seconds: Sequence[float]) -> Line:
        """The line nearest to what was measured; neither part is below zero."""
        if len(set(tokens)) > 1:
            per_token, fixed = statistics.linear_regression(tokens, seconds)[:2]
            if per_token >= 0 and fixed >= 0:
                return cls(fixed, per_token)
            if per_token < 0:  # a noisy machine: length did not count
                return cls(statistics.fmean(seconds), 0.0)
        return cls(0.0, sum(seconds) / max(sum(tokens), 1.0))

    def all(self, tokens: NDArray[np.float64]) -> float:
        """Seconds of all batches."""
        return float(len(tokens) * self.fixed + self.per_token * tokens.sum())
