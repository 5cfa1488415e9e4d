"""Does a model prefer the better answer: log-probabilities of the chosen and the rejected answer of each row.

Sources: Rafailov et al. 2023 (DPO), section 4: the implicit reward of an answer is β·(log π(y|x) − log π_base(y|x));
TRL logs the share of rows whose chosen answer has the higher reward as ``rewards/accuracies``. Both sum over the
answer's tokens and do not divide by their number; neither does this. β > 0 does not change the order and is left out.

Of the base model that reward is 0 for every answer, so for it the plain log-probabilities are compared, which is the
"ranking accuracy" of Chen et al. 2024; the tuned model's is given beside its preference accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PairLoss:
    """Summed negative log-likelihoods of one row's two answers, in nats."""

    chosen: float
    rejected: float


def ranks(pair: PairLoss) -> bool:
    """The chosen answer is the likelier one; equal counts as not."""
    return pair.chosen < pair.rejected


def prefers(base: PairLoss, tuned: PairLoss) -> bool:
    """The chosen answer has the higher implicit reward: training raised it more (or lowered it less) than the other."""
    return (base.chosen - tuned.chosen) > (base.rejected - tuned.rejected)


def ranking_accuracy(pairs: Sequence[PairLoss]) -> float | None:
    """Share of rows whose chosen answer is the likelier one; None without rows."""
    return sum(ranks(pair) for pair in pairs) / len(pairs) if pairs else None


def preference_accuracy(base: Sequence[PairLoss], tuned: Sequence[PairLoss]) -> float | None:
    """Share of rows whose chosen answer has the higher implicit reward; None without rows."""
    if not base:
        return None
    return sum(prefers(b, t) for b, t in zip(base, tuned, strict=True)) / len(base)
