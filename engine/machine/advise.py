"""The advice: a whole recipe for this machine, model and data, and why. Figures come from `table`, formulas from
`memory` and `time`; this file only tries them in order and takes the first that fits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from engine.machine import reasons, table
from engine.machine.detect import Machine
from engine.machine.dims import ModelDims
from engine.machine.forecast import DataFacts, Forecast, Room, forecast, room
from engine.machine.memory import Memory
from engine.machine.nearest import nearest_change
from engine.machine.table import Squeeze, look_up
from engine.methods.registry import METHODS
from engine.objectives.registry import OBJECTIVES
from engine.protocol.text import Text
from engine.recipe.recipe import DataSettings, MethodSettings, ModelSettings, Recipe, TrainSettings

LOW_RANK, FOUR_BIT = "lora", "qlora"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the advice needs to know of the model beside its widths.

    Attributes:
        source: as it stands in the recipe.
        parameters: counted in the weights' files; None to count by the widths.
        has_template: whether it has a chat template of its own.
    """

    source: str
    parameters: int | None = None
    has_template: bool = True


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user has decided; what is empty the advice decides.

    Attributes:
        method, objective: names.
        max_length: longest row in tokens; 0 when free.
    """

    method: str = ""
    objective: str = ""
    max_length: int = 0


@dataclass(frozen=True, slots=True)
class Option:
    """One method as a card shows it: the best recipe with it, and what that needs."""

    method: str
    label: Text
    summary: Text
    recipe: Recipe
    forecast: Forecast

    @property
    def fits(self) -> bool:
        """Whether it fits here."""
        return self.forecast.fits


@dataclass(frozen=True, slots=True)
class Advice:
    """A recipe, what it needs, and why it is so.

    Attributes:
        recipe: the recommended one; when nothing fits, the one that needs least.
        alternatives: every method there is, the recommended one first.
        reasons: sentences, most important first.
        nearest: when nothing fits, the smallest change that would, in numbers.
    """

    recipe: Recipe
    forecast: Forecast
    alternatives: tuple[Option, ...]
    reasons: tuple[Text, ...]
    nearest: Text | None

    @property
    def fits(self) -> bool:
        """Whether the recipe fits here."""
        return self.forecast.fits

    @property
    def memory(self) -> Memory:
        """Predicted peak memory."""
        return self.forecast.memory

    @property
    def seconds(self) -> float:
        """Predicted training time."""
        return self.forecast.seconds


@dataclass(frozen=True, slots=True)
class Case:
    """All that one piece of advice is about."""

    room: Room
    dims: ModelDims
    model: ModelFacts
    data: DataFacts
    wish: Wish

    @property
    def objective(self) -> str:
        """Preferences are learned by DPO, everything else by SFT, unless wished otherwise."""
        return self.wish.objective or ("dpo" if self.data.preference else "sft")


def advise(
    machine: Machine,
    dims: ModelDims,
    model: ModelFacts,
    data: DataFacts,
    wish: Wish | None = None,
    *,
    gpu_memory_gib: float | None = None,
    torch_cuda: bool = True,
) -> Advice:
    """The recipe to start with.

    Args:
        gpu_memory_gib: plan for a GPU with so much memory instead of this machine's; 0 for the CPU.
        torch_cuda: whether the installed torch can use a GPU (`versions.torch_build`).
    """
    where = room(machine, gpu_memory_gib=gpu_memory_gib, torch_cuda=torch_cuda)
    case = Case(where, dims, model, data, wish or Wish())
    recipe, needs, squeeze = recommend(case)
    alternatives = _alternatives(case, recipe, needs)
    return Advice(
        recipe=recipe,
        forecast=needs,
        alternatives=alternatives,
        reasons=reasons.reasons(case, recipe, needs, squeeze, alternatives),
        nearest=None if needs.fits else nearest_change(recipe, needs, dims, data),
    )


def recommend(case: Case, method: str = "") -> tuple[Recipe, Forecast, Squeeze]:
    """The first rung of `table.SQUEEZES` on which a recipe fits; when none does, the recipe that needs least.

    ``method`` restricts it to one; the wish restricts it too.
    """
    method = method or case.wish.method
    tried: list[tuple[Recipe, Forecast, Squeeze]] = []
    close: tuple[Recipe, Forecast, Squeeze] | None = None
    for rung, squeeze in enumerate(_rungs(case, method)):
        chosen = method or (FOUR_BIT if squeeze.four_bit else LOW_RANK)
        here = [
            (recipe, forecast(recipe, case.dims, case.data, case.room), squeeze)
            for recipe in _recipes(case, chosen, squeeze)
        ]
        tried += here
        roomy = [each for each in here if each[1].fits and not each[1].tight]
        if roomy:
            return _worthwhile(roomy)
        if close is None and any(each[1].fits for each in here):
            close = _worthwhile([each for each in here if each[1].fits])
        if close is not None and rung + 1 >= table.ONLY_TIME:
            return close
    return close or min(tried, key=lambda each: each[1].memory.total)


def _worthwhile(fitting: list[tuple[Recipe, Forecast, Squeeze]]) -> tuple[Recipe, Forecast, Squeeze]:
    """The one that needs least memory of those that are about as fast as the fastest."""
    fastest = min(each[1].seconds for each in fitting)
    enough = [each for each in fitting if each[1].seconds <= fastest * (1 + table.WORTH)]
    return min(enough, key=lambda each: each[1].memory.total)


def _rungs(case: Case, method: str) -> Iterator[Squeeze]:
    """The rungs that differ in this case: the CPU has no paged optimizers, a fixed method or length no choice."""
    seen = set()
    for squeeze in table.SQUEEZES:
        rung = squeeze
        if case.room.device == "cpu":
            rung = replace(rung, optimizer="adamw")
        if case.wish.max_length:
            rung = replace(rung, whole="longest")
        if rung not in seen and not (method and not rung.four_bit and replace(rung, four_bit=True) in seen):
            seen.add(rung)
            yield rung


def _recipes(case: Case, method: str, squeeze: Squeeze) -> Iterator[Recipe]:
    """The recipes of one rung: one for each micro-batch."""
    data = DataSettings(
        files=case.data.files, max_length=longest_row(case, squeeze), held_out=_held_out(case.data.rows)
    )
    epochs = look_up(table.PREFERENCE_EPOCHS if _is_preference(case) else table.EPOCHS, case.data.rows).value
    effective = _effective_batch(case.data.rows, epochs)
    settings = method_settings(method, squeeze.rank, case.data.rows)
    objective = OBJECTIVES[case.objective]
    for micro in _micro_batches(case, effective, data.max_length):
        yield Recipe(
            model=ModelSettings(source=case.model.source),
            data=data,
            method=settings,
            objective=objective.settings(name=objective.name),
            train=TrainSettings(
                epochs=epochs,
                learning_rate=learning_rate(case, method),
                batch_size=micro,
                accumulation=effective // micro,
                optimizer=squeeze.optimizer,
                checkpointing=squeeze.checkpointing,
            ),
        )


def longest_row(case: Case, squeeze: Squeeze) -> int:
    """The recipe's longest row: up to a multiple of 64 tokens, never above what the model knows."""
    if case.wish.max_length:
        return min(case.wish.max_length, case.dims.context)
    step = table.LENGTH_STEP.value
    wanted = int(getattr(case.data.lengths, squeeze.whole))
    return max(16, min(math.ceil(wanted / step) * step, case.dims.context))


def method_settings(method: str, rank: int, rows: int) -> MethodSettings:
    """The method's settings for so many rows; ``rank`` above 0 is an upper bound."""
    declared = METHODS[method].settings
    values: dict[str, Any] = {"name": method}
    if "rank" in declared.model_fields:
        suited = look_up(table.RANK, rows).value
        chosen = min(rank, suited) if rank else suited
        values |= {"rank": chosen, "alpha": scale(chosen), "rank_stabilised": True, "dropout": table.DROPOUT.value}
    return declared(**values)


def scale(rank: int) -> float:
    """alpha for which rank-stabilised alpha/√rank is the factor that the rate was tuned for (`table.SCALE`)."""
    return round(table.SCALE.value * math.sqrt(rank), 2)


def learning_rate(case: Case, method: str) -> float:
    """The method's rate, for this size of model, this many rows and this objective; two significant digits."""
    parameters = case.model.parameters or case.dims.parameters()
    rate = METHODS[method].default_learning_rate * look_up(table.RATE_FACTOR, parameters).value
    if case.data.rows < table.FEW_ROWS.value:
        rate *= table.FEW_ROWS_FACTOR.value
    rate *= OBJECTIVES[case.objective].default_learning_rate_factor
    return float(f"{min(rate, 1.0):.1e}")


def _effective_batch(rows: int, epochs: float) -> int:
    """Rows per update: the largest of the table that leaves enough updates, else the smallest."""
    sizes = table.EFFECTIVE_BATCHES.value
    return next((size for size in sizes if rows * epochs / size >= table.LEAST_STEPS.value), sizes[-1])


def _micro_batches(case: Case, effective: int, longest: int) -> Iterator[int]:
    """Rows at once that are worth trying: divisors of the effective batch, largest first; always 1."""
    sequences = OBJECTIVES[case.objective].rows_per_example
    most = table.MICRO_BATCH_TOKENS[case.room.device].value / (min(longest, case.data.lengths.longest) * sequences)
    limit = min(effective, table.LARGEST_MICRO_BATCH.value, max(1, int(most)))
    return (size for size in range(limit, 0, -1) if effective % size == 0)


def _held_out(rows: int) -> float:
    """The share held out: a tenth, at most a thousand rows."""
    share = min(table.HELD_OUT.value, table.HELD_OUT_ROWS.value / max(rows, 1))
    return float(f"{share:.2g}")


def _is_preference(case: Case) -> bool:
    return OBJECTIVES[case.objective].preference


def _alternatives(case: Case, recipe: Recipe, needs: Forecast) -> tuple[Option, ...]:
    """Every method, the recommended one first, each with its own best recipe."""
    found = [_option(recipe, needs)]
    for name in METHODS:
        if name != recipe.method.name:
            other, its_needs, _ = recommend(case, name)
            found.append(_option(other, its_needs))
    return tuple(found)


def _option(recipe: Recipe, needs: Forecast) -> Option:
    method = METHODS[recipe.method.name]
    summary = reasons.card(method.summary, recipe, needs)
    return Option(method.name, method.describe(recipe.method), summary, recipe, needs)
