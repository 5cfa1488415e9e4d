"""Whether the loss breaks away: it is no number, or it stays far above what it was. Knows nothing of torch.

A single high loss says little: a batch may be hard. So a spike is `PATIENCE` steps in a row (axolotl's default for its
loss watchdog) that lie more than `DEVIATIONS` robust standard deviations above the median of the last `WINDOW` steps,
at least double that median, and at least `LEAST` nats above it. Median and median absolute deviation, because the high
values that are looked for must not move what they are compared with (Leys et al. 2013, J. Exp. Soc. Psychol. 49:764).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from engine.protocol.text import Text, say

WINDOW = 50
ENOUGH = 20
PATIENCE = 3
DEVIATIONS = 6.0
LEAST = 0.5
NORMAL = 1.4826
"""Standard deviation over median absolute deviation, of a normal distribution."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A loss that broke away.

    Attributes:
        first, last: optimizer steps, from 1.
        loss: of the last; where the gradient is what is no number, its norm.
        usual: the median before; None where something is no number.
        gradient: it is the gradient that is no number, and so are the weights after it.
    """

    first: int
    last: int
    loss: float
    usual: float | None = None
    gradient: bool = False


class Unstable(Exception):
    """The loss broke away.

    Attributes:
        trouble: how.
    """

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(f"loss {trouble.loss} at step {trouble.last}")
        self.trouble = trouble


@dataclass
class LossWatch:
    """Looks at one loss after the other."""

    _window: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _high: list[tuple[int, float]] = field(default_factory=list)

    def plain(self) -> dict[str, list[Any]]:
        """What it has seen, for a checkpoint."""
        return {"window": list(self._window), "high": [list(item) for item in self._high]}

    @classmethod
    def of(cls, plain: Mapping[str, Sequence[Any]]) -> LossWatch:
        """A watch that has seen what `plain` tells."""
        watch = cls()
        watch._window.extend(float(value) for value in plain.get("window", ()))
        watch._high.extend((int(step), float(loss)) for step, loss in plain.get("high", ()))
        return watch

    def look(self, step: int, loss: float, norm: float | None = None) -> Trouble | None:
        """What is wrong now, None while nothing is. After a spike was told, what follows is measured anew.

        Args:
            norm: of the gradient; None where it is not known, or where updates without numbers are passed over anyway.
        """
        if not math.isfinite(loss):
            return Trouble(step, step, loss)
        if norm is not None and not math.isfinite(norm):
            return Trouble(step, step, norm, gradient=True)
        if len(self._window) < ENOUGH or loss <= self._limit():
            # What was high for a moment belongs to how this loss is.
            self._window.extend([*(value for _, value in self._high), loss])
            self._high.clear()
            return None
        self._high.append((step, loss))
        if len(self._high) < PATIENCE:
            return None
        trouble = Trouble(self._high[0][0], step, loss, median(self._window))
        self._window.clear()
        self._high.clear()
        return trouble

    def _limit(self) -> float:
        middle = median(self._window)
        deviation = NORMAL * median(abs(value - middle) for value in self._window)
        return middle + max(DEVIATIONS * deviation, abs(middle), LEAST)


def what_happened(trouble: Trouble) -> Text:
    """What the loss did, without an end to the sentence."""
    if trouble.usual is None:
        name = "NaN" if math.isnan(trouble.loss) else "∞"
        what = say("gradient", "梯度") if trouble.gradient else say("loss", "损失")
        return say(
            "The {what} became {name} at step {n}", "第 {n} 步的{what}变为 {name}", what=what, name=name, n=trouble.last
        )
    return say(
        "From step {first} on the loss rose from about {usual:.2f} to {loss:.2f}",
        "从第 {first} 步起，损失由约 {usual:.2f} 升至 {loss:.2f}",
        first=trouble.first,
        usual=trouble.usual,
        loss=trouble.loss,
    )
