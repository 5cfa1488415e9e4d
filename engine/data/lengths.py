"""Lengths in tokens estimated from what a scan knows, with the error that the estimate has."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.data.dataset import DataSet

SAMPLE = 1000
_SEED = 7
_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class LengthEstimate:
    """Tokens of a row as a linear function of its characters, its guessed tokens and one.

    Attributes:
        weights: of these three.
        error: 95 of 100 rows are that near, as a share of their length; found on rows that were not fitted.
    """

    weights: tuple[float, float, float]
    error: float

    @classmethod
    def of(
        cls, rows: DataSet, usable: NDArray[np.int64], measure: Callable[[NDArray[np.int64]], NDArray[np.int32]]
    ) -> LengthEstimate | None:
        """Fit to a sample; None where too few of its rows have a length.

        Args:
            rows: the data set, scanned.
            usable: numbers of the rows to choose from.
            measure: numbers of rows, rising → their lengths, 0 for a row that has none.
        """
        count = min(SAMPLE, len(usable))
        sample = np.sort(np.random.default_rng(_SEED).choice(usable, count, replace=False))
        lengths = measure(sample)
        sample, lengths = sample[lengths > 0], lengths[lengths > 0]
        if len(sample) < 20:
            return None
        facts = _facts(rows, sample)
        # By relative error: a long row must not outweigh a hundred short ones.
        weights, *_ = np.linalg.lstsq(facts[::2] / lengths[::2, None], np.ones(len(lengths[::2])), rcond=None)
        off = np.abs(facts[1::2] @ weights - lengths[1::2]) / lengths[1::2]
        return cls((float(weights[0]), float(weights[1]), float(weights[2])), float(np.quantile(off, 0.95)))

    def lengths(self, rows: DataSet, indices: NDArray[np.int64]) -> NDArray[np.int32]:
        """Estimated tokens of rows, at least 1 each, shape (rows,)."""
        found = np.empty(len(indices), np.int32)
        for start in range(0, len(indices), _CHUNK):
            some = np.rint(_facts(rows, indices[start : start + _CHUNK]) @ np.array(self.weights))
            found[start : start + _CHUNK] = np.maximum(1, some)
        return found


def _facts(rows: DataSet, indices: NDArray[np.int64]) -> NDArray[np.float64]:
    columns = [rows.column(name)[indices].astype(np.float64) for name in ("characters", "tokens")]
    return np.stack([*columns, np.ones(len(indices))], axis=1)


def percentiles(lengths: array[int] | NDArray[np.int32]) -> dict[str, int]:
    """Median, 95th percentile and greatest of lengths, as `summary` ranks them; zeros for none."""
    if not len(lengths):
        return {"median": 0, "p95": 0, "longest": 0}
    found = summary(np.asarray(lengths, dtype=np.int32))
    return {"median": int(found["p50"]), "p95": int(found["p95"]), "longest": int(found["longest"])}


def summary(lengths: NDArray[np.int32]) -> dict[str, float]:
    """Mean, percentiles by nearest rank (``p50``, ``p90``, ``p95``, ``p99``) and the ``longest``; of none, all are 1.

    Args:
        lengths: tokens of each row, shape (rows,).
    """
    if not len(lengths):
        return {"mean": 1.0, "p50": 1, "p90": 1, "p95": 1, "p99": 1, "longest": 1}
    ordered = np.sort(lengths)

    def rank(share: float) -> int:
        return int(ordered[max(0, math.ceil(share * len(ordered)) - 1)])

    ranks = {f"p{round(100 * share)}": rank(share) for share in (0.5, 0.9, 0.95, 0.99)}
    return {"mean": float(ordered.mean()), **ranks, "longest": int(ordered[-1])}
