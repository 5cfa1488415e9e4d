"""The advice: a whole recipe for this machine, model, data and wish, and why. Figures come from `table`, formulas from
`memory` and `time`; this file only goes through the table's order and takes the first place at which a recipe fits.
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
from engine.machine.nearest import Change, changes, nearest_change
from engine.machine.table import Goal, Squeeze, Task, look_up
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
        smaller: models of the same family with fewer weights, (name, widths) of each, the largest first.
    """

    source: str
    parameters: int | None = None
    has_template: bool = True
    smaller: tuple[tuple[str, ModelDims], ...] = ()


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user has decided; what is empty the advice decides.

    Attributes:
        goal: what counts most.
        method, objective: names.
        max_length: longest row in tokens; 0 when free.
        task: what the rows teach, where what was recognised is not right.
    """

    goal: Goal = "quality"
    method: str = ""
    objective: str = ""
    max_length: int = 0
    task: Task | str = ""


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
class Pick:
    """A recipe that was found in the order.

    Attributes:
        recipe, forecast: the recipe, and what it needs.
        squeeze: what was given up for it.
        place: its place in `table.ORDER`, from 1; one more than there are when it has none of them.
    """

    recipe: Recipe
    forecast: Forecast
    squeeze: Squeeze
    place: int = 0


@dataclass(frozen=True, slots=True)
class Advice:
    """A recipe, what it needs, and why it is so.

    Attributes:
        recipe: the recommended one; when nothing fits, the one that needs least.
        alternatives: every method there is, the recommended one first.
        reasons: sentences, most important first.
        nearest: when nothing fits, what would change that, in numbers, the smallest change first.
        changes: the same, one by one.
        goal, place: for which wish, and at which place of its order, `table.ORDER`, from 1; one more than there are
            when the recipe has none of them.
    """

    recipe: Recipe
    forecast: Forecast
    alternatives: tuple[Option, ...]
    reasons: tuple[Text, ...]
    nearest: Text | None
    changes: tuple[Change, ...]
    goal: Goal
    place: int

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

    @property
    def task(self) -> Task:
        """What the rows teach: as wished, else as recognised, else dialogue."""
        named = self.wish.task or self.data.task
        return next((task for task in table.TASKS if task == named), "dialogue")


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
    pick = recommend(case)
    alternatives = _alternatives(case, pick)
    found = () if pick.forecast.fits else changes(case, pick, recommend)
    return Advice(
        recipe=pick.recipe,
        forecast=pick.forecast,
        alternatives=alternatives,
        reasons=reasons.reasons(case, pick, alternatives),
        nearest=nearest_change(found),
        changes=found,
        goal=case.wish.goal,
        place=pick.place,
    )


def recommend(case: Case, method: str = "") -> Pick:
    """The first place of `table.ORDER` at which a recipe fits; when none does, the recipe that needs least.

    ``method`` restricts it to one; the wish restricts it too.
    """
    method = method or case.wish.method
    tried: dict[Squeeze, list[Pick]] = {}
    order = table.ORDER[case.wish.goal]
    for number, place in enumerate(order, 1):
        squeeze = _here(case, method, place.squeeze)
        if squeeze not in tried:
            tried[squeeze] = _tried(case, method, squeeze)
        room_here = case.room.usable_gib * place.share
        fitting = [each for each in tried[squeeze] if each.forecast.memory.total <= room_here]
        if fitting:
            return replace(_best(case, fitting), place=number)
    every = [each for found in tried.values() for each in found]
    return replace(min(every, key=_memory), place=len(order) + 1)


def _memory(pick: Pick) -> float:
    return pick.forecast.memory.total


def _best(case: Case, fitting: list[Pick]) -> Pick:
    """The one that needs least memory of those that are about as fast as the fastest, or of all where memory counts."""
    fastest = min(each.forecast.seconds for each in fitting)
    longest = math.inf if case.wish.goal == "smallest" else fastest * (1 + table.WORTH.value)
    return min((each for each in fitting if each.forecast.seconds <= longest), key=_memory)


def _here(case: Case, method: str, squeeze: Squeeze) -> Squeeze:
    """What a place asks for in this case: the CPU has no paged optimizers, a fixed method or length no choice."""
    if case.room.device == "cpu":
        squeeze = replace(squeeze, optimizer="adamw")
    if case.wish.max_length:
        squeeze = replace(squeeze, whole="longest")
    return replace(squeeze, four_bit=METHODS[method].quantised) if method else squeeze


def _tried(case: Case, method: str, squeeze: Squeeze) -> list[Pick]:
    """The recipe for each micro-batch, smallest first; larger ones than the first that does not fit are not tried."""
    found: list[Pick] = []
    for recipe in _recipes(case, method or (FOUR_BIT if squeeze.four_bit else LOW_RANK), squeeze):
        found.append(Pick(recipe, forecast(recipe, case.dims, case.data, case.room), squeeze))
        if not found[-1].forecast.fits:
            break
    return found


def _recipes(case: Case, method: str, squeeze: Squeeze) -> Iterator[Recipe]:
    """The recipes of one place: one for each micro-batch, smallest first."""
    data = DataSettings(
        files=case.data.files, max_length=longest_row(case, squeeze), held_out=_held_out(case.data.rows)
    )
    most = _most_epochs(case)
    effective = _effective_batch(case.data.rows, most)
    epochs = _fewest_epochs(case, effective, most) if case.wish.goal == "speed" else most
    settings = method_settings(method, rank(case, squeeze.rank))
    objective = OBJECTIVES[case.objective]
    rate = learning_rate(case, method)
    for micro in _micro_batches(case, effective, data.max_length):
        yield Recipe(
            model=ModelSettings(source=case.model.source),
            data=data,
            method=settings,
            objective=objective.settings(name=objective.name),
            train=TrainSettings(
                epochs=epochs,
                learning_rate=rate,
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


def rank(case: Case, most: int = 0) -> int:
    """The rank that suits what the rows teach and how many they are; ``most`` above 0 is an upper bound."""
    suited = look_up(table.RANK[case.task], case.data.rows).value
    return min(suited, most) if most else suited


def method_settings(method: str, rank: int) -> MethodSettings:
    """The method's settings; of a method without a rank, its own."""
    declared = METHODS[method].settings
    values: dict[str, Any] = {"name": method}
    if "rank" in declared.model_fields:
        values |= {
            "rank": rank,
            "alpha": scale(rank),
            "rank_stabilised": table.RANK_STABILISED.value,
            "dropout": table.DROPOUT.value,
            "targets": table.TARGETS.value,
        }
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


def _most_epochs(case: Case) -> float:
    preference = OBJECTIVES[case.objective].preference
    return look_up(table.PREFERENCE_EPOCHS if preference else table.EPOCHS, case.data.rows).value


def _fewest_epochs(case: Case, effective: int, most: float) -> float:
    """The fewest whole passes that still make updates enough; never more than ``most``."""
    enough = math.ceil(table.LEAST_STEPS.value * effective / max(1, case.data.rows))
    return min(most, max(table.FEWEST_EPOCHS.value, float(enough)))


def _effective_batch(rows: int, epochs: float) -> int:
    """Rows per update: the largest of the table that leaves enough updates, else the smallest."""
    sizes = table.EFFECTIVE_BATCHES.value
    return next((size for size in sizes if rows * epochs / size >= table.LEAST_STEPS.value), sizes[-1])


def _micro_batches(case: Case, effective: int, longest: int) -> Iterator[int]:
    """Rows at once that are worth trying: divisors of the effective batch, smallest first; always 1."""
    sequences = OBJECTIVES[case.objective].rows_per_example
    most = table.MICRO_BATCH_TOKENS[case.room.device].value / (min(longest, case.data.lengths.longest) * sequences)
    limit = min(effective, table.LARGEST_MICRO_BATCH.value, max(1, int(most)))
    return (size for size in range(1, limit + 1) if effective % size == 0)


def _held_out(rows: int) -> float:
    """The share held out: a tenth, at most a thousand rows."""
    share = min(table.HELD_OUT.value, table.HELD_OUT_ROWS.value / max(rows, 1))
    return float(f"{share:.2g}")


def _alternatives(case: Case, pick: Pick) -> tuple[Option, ...]:
    """Every method, the recommended one first, each with its own best recipe."""
    found = [_option(pick)]
    for name in METHODS:
        if name != pick.recipe.method.name:
            found.append(_option(recommend(case, name)))
    return tuple(found)


def _option(pick: Pick) -> Option:
    method = METHODS[pick.recipe.method.name]
    summary = reasons.card(method.summary, pick.recipe, pick.forecast)
    return Option(method.name, method.describe(pick.recipe.method), summary, pick.recipe, pick.forecast)
