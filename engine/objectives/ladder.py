"""The way down when memory runs out: fewer rows at once, then recomputing, then shorter rows where the user allows it.

Arithmetic only; who computes takes the rung that `Ladder` is on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from engine.protocol.errors import EXIT_MACHINE, UserError
from engine.protocol.text import say
from engine.recipe.recipe import Recipe

SHORTEST = 32
"""Tokens below which no row is cut: what is left would teach nothing."""


@dataclass(frozen=True, slots=True)
class Rung:
    """With how much at once a run computes.

    Attributes:
        rows: rows of one micro-batch.
        held_out: held-out rows measured at once; never more than ``rows``.
        checkpointing: activations are computed again for the backward pass instead of kept.
        longest: tokens to which rows are cut; 0 leaves them as they are.
    """

    rows: int
    held_out: int
    checkpointing: bool = False
    longest: int = 0

    @classmethod
    def of(cls, recipe: Recipe) -> Rung:
        """Where a run by ``recipe`` begins, or goes on."""
        rows, last = recipe.train.batch_size, recipe.recovered[-1:]
        held_out = min([rows, *(item.held_out_rows for item in last)])
        return cls(rows, held_out, recipe.train.checkpointing, max((item.longest for item in last), default=0))

    def lower(self, longest: int, *, shorten: bool) -> Rung | None:
        """The next rung for training, None when there is none.

        Args:
            longest: tokens of the longest row that did not fit.
            shorten: rows may be cut.
        """
        if self.rows > 1:
            rows = divided(self.rows)
            return replace(self, rows=rows, held_out=min(rows, self.held_out))
        if not self.checkpointing:
            return replace(self, checkpointing=True)
        return self._shorter(longest) if shorten else None

    def lower_held_out(self, longest: int, *, shorten: bool) -> Rung | None:
        """The next rung for measuring, None when there is none; arguments as for `lower`."""
        if self.held_out > 1:
            return replace(self, held_out=divided(self.held_out))
        return self._shorter(longest) if shorten else None

    def _shorter(self, longest: int) -> Rung | None:
        cut = max(SHORTEST, longest * 3 // 4)
        return replace(self, longest=cut) if cut < longest else None


def divided(rows: int) -> int:
    """The largest true divisor of ``rows``: half of an even number.

    A divisor, because each batch that was loaded is computed in parts of so many rows: the parts are then the very
    batches that a run would load that begins with so many rows at once, and a resumed run repeats them exactly.
    """
    return max(part for part in range(1, rows) if rows % part == 0)


@dataclass(frozen=True, slots=True)
class Descent:
    """One step down.

    Attributes:
        before, after: the rungs; the same one where it is only tried once more.
        step: the optimizer step that is repeated, or the one that was measured after.
        measuring: it happened while the held-out rows were measured.
    """

    before: Rung
    after: Rung
    step: int
    measuring: bool


class Ladder:
    """Where a run stands, and the way down.

    Attributes:
        rung: where it stands.
    """

    def __init__(self, rung: Rung, *, shorten: bool, tell: Callable[[Descent], None]) -> None:
        """``shorten``: rows may be cut; ``tell`` is called at each step down, before anything is repeated."""
        self.rung = rung
        self._shorten = shorten
        self._tell = tell
        self._once_more: tuple[int, bool] | None = None

    def down(self, failure: UserError, *, step: int, longest: int, measuring: bool = False) -> None:
        """Take the next rung; below the last one the same is tried once more, with memory freed: another program may
        have needed it for a moment.

        Args:
            failure: what ran out.
            step: as in `Descent`.
            longest: tokens of the longest row that did not fit.

        Raises:
            UserError: there is no lower rung, and the step was tried once more.
        """
        way = self.rung.lower_held_out if measuring else self.rung.lower
        after = way(longest, shorten=self._shorten)
        if after is None:
            if self._once_more == (step, measuring):
                raise at_the_end(failure, step=step, longest=longest)
            self._once_more, after = (step, measuring), self.rung
        before, self.rung = self.rung, after
        self._tell(Descent(before, after, step, measuring))


def at_the_end(failure: UserError, *, step: int, longest: int) -> UserError:
    """What a person should know when nothing is left to give up."""
    return UserError(
        failure.problem.code,
        say(
            "Memory ran out at step {step}, with one row at once, recomputing on and rows of up to {longest} tokens.",
            "第 {step} 步内存不足：每批已只有一行，已开启重算，最长的行有 {longest} 个词元。",
            step=step,
            longest=longest,
        ),
        say(
            "Choose a lower longest length or let rows be shortened, take QLoRA or a smaller model, or close other "
            "programs; then continue from the last checkpoint or start again.",
            "请降低最大长度或允许缩短行，改用 QLoRA 或更小的模型，或关闭其他程序；然后从最后的检查点继续，或重新开始。",
        ),
        where=f"step {step}",
        exit_code=EXIT_MACHINE,
        details=failure.details,
    )
