"""Counting how far two models say the same; differences at a toss-up are counted apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.merge.reference import NEAR, Choice


@dataclass(slots=True)
class Agreement:
    """Counts over all prompts.

    Attributes:
        tokens, same, near: places compared teacher-forced, of them equal, of them different at a toss-up.
        prompts, equal, near_prompts: greedy answers compared, of them equal, of them first different at a toss-up.
        different: indices of prompts whose greedy answers differ for real.
    """

    tokens: int = 0
    same: int = 0
    near: int = 0
    prompts: int = 0
    equal: int = 0
    near_prompts: int = 0
    different: list[int] = field(default_factory=list)

    def add_forced(self, reference: Sequence[Choice], other: Sequence[Choice]) -> None:
        """Count one prompt's places along the reference answer."""
        for ours, theirs in zip(reference, other, strict=True):
            self.tokens += 1
            if ours.token == theirs.token:
                self.same += 1
            elif min(ours.margin, theirs.margin) <= NEAR:
                self.near += 1

    def add_greedy(self, reference: Sequence[Choice], other: Sequence[Choice]) -> None:
        """Count one prompt's own answers, equal in every token and in length."""
        self.prompts += 1
        pairs = list(zip(reference, other, strict=False))
        first = next((pair for pair in pairs if pair[0].token != pair[1].token), None)
        if first is None and len(reference) == len(other):
            self.equal += 1
        elif first is not None and min(first[0].margin, first[1].margin) <= NEAR:
            self.near_prompts += 1
        else:
            self.different.append(self.prompts - 1)

    @property
    def share(self) -> float:
        """Equal places among those that are no toss-up, 0 to 1."""
        counted = self.tokens - self.near
        return self.same / counted if counted else 1.0

    @property
    def greedy_share(self) -> float:
        """Equal greedy answers among those that no toss-up parted, 0 to 1."""
        counted = self.prompts - self.near_prompts
        return self.equal / counted if counted else 1.0
