"""Why the advice is as it is, in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine.machine import table
from engine.machine.forecast import Forecast
from engine.machine.nearest import amount
from engine.machine.table import look_up
from engine.methods.registry import METHODS
from engine.objectives.registry import OBJECTIVES
from engine.protocol.text import Text, say
from engine.recipe.recipe import Recipe

if TYPE_CHECKING:
    from engine.machine.advise import Case, Option, Pick


# A run longer than a day deserves a warning.
LONG_SECONDS = 86_400


def reasons(case: Case, pick: Pick, alternatives: tuple[Option, ...]) -> tuple[Text, ...]:
    """All that people should know of the recommended recipe, most important first."""
    recipe, needs = pick.recipe, pick.forecast
    return (
        _fit(needs),
        *_wish(case),
        *_method(case, recipe, alternatives),
        *_given_up(case, pick),
        _length(case, pick),
        *_rank(case, pick),
        _rate(case, recipe),
        _passes(case, recipe, needs),
        *_template(case),
        *_time(needs),
    )


def _fit(needs: Forecast) -> Text:
    room = needs.room
    if needs.fits:
        return say(
            "Needs about {total:.1f} of the {usable:.1f} GiB that a run may use on {name}; {kept:.1f} GiB stay free.",
            "约需 {total:.1f} GiB，训练在 {name} 上可用 {usable:.1f} GiB，另留 {kept:.1f} GiB。",
            total=needs.memory.total,
            usable=room.usable_gib,
            kept=room.free_gib - room.usable_gib,
            name=room.name,
        )
    return say(
        "Does not fit: needs about {total:.1f} GiB; a run may use {usable:.1f} of the {free:.1f} GiB free on {name}.",
        "放不下：约需 {total:.1f} GiB，而 {name} 可用的 {free:.1f} GiB 中训练可用 {usable:.1f} GiB。",
        total=needs.memory.total,
        usable=room.usable_gib,
        free=room.free_gib,
        name=room.name,
    )


def _wish(case: Case) -> Iterator[Text]:
    if case.wish.goal == "speed":
        yield say(
            "You wish for speed: what costs least time comes first, and the fewest passes that make enough updates.",
            "你选择了速度优先：先取最省时间的办法，并用足够更新所需的最少轮数。",
        )
    elif case.wish.goal == "smallest":
        yield say(
            "You wish for the least memory: all that saves it is used, short of cutting rows.",
            "你选择了最省内存：用上所有省内存的办法，但不截断行。",
        )


def _method(case: Case, recipe: Recipe, alternatives: tuple[Option, ...]) -> Iterator[Text]:
    chosen = METHODS[recipe.method.name]
    if case.wish.method:
        yield say("{label} is your choice.", "{label} 是你的选择。", label=chosen.label)
        return
    exact = next((option for option in alternatives if option.method == "lora"), None)
    if chosen.quantised and exact is not None and not exact.fits:
        yield say(
            "Base weights in 4-bit, because 16-bit ones would need {total:.1f} GiB.",
            "基础权重用 4 位，因为 16 位需要 {total:.1f} GiB。",
            total=exact.forecast.memory.total,
        )
    elif chosen.quantised and case.wish.goal == "speed":
        yield say(
            "Base weights in 4-bit: that costs less time than computing activations again.",
            "基础权重用 4 位：比重算激活值更省时间。",
        )
    elif not chosen.quantised:
        yield say(
            "Base weights stay exact, because they fit: 4-bit ones would be slower and coarser.",
            "基础权重保持原精度，因为放得下：4 位更慢也更粗略。",
        )


def _given_up(case: Case, pick: Pick) -> Iterator[Text]:
    recipe = pick.recipe
    if recipe.train.checkpointing:
        yield say(
            "Activations are computed again to save memory; that takes about 30% more time.",
            "为节省内存会重新计算激活值，时间约增 30%。",
        )
    if recipe.train.optimizer != "adamw":
        yield say(
            "The optimizer keeps its state in 8 bits and may move it out of GPU memory.",
            "优化器状态以 8 位保存，必要时移出显存。",
        )
    suited = look_up(table.RANK[case.task], case.data.rows).value
    if getattr(recipe.method, "rank", suited) < suited:
        yield say(
            "The rank is lowered from {suited} to {rank} to save memory.",
            "为节省内存，秩从 {suited} 降为 {rank}。",
            suited=suited,
            rank=getattr(recipe.method, "rank", 0),
        )


def _length(case: Case, pick: Pick) -> Text:
    length, longest = pick.recipe.data.max_length, case.data.lengths.longest
    if length >= longest:
        return say(
            "All rows stay whole: the longest has {longest} tokens.",
            "所有行保持完整：最长 {longest} 个词元。",
            longest=longest,
        )
    return say(
        "Rows longer than {length} tokens are cut ({why}); half of the rows have at most {p50}, the longest {longest}.",
        "超过 {length} 个词元的行会被截断（{why}）；半数行不超过 {p50}，最长 {longest}。",
        length=length,
        why=_why_cut(case, length),
        p50=case.data.lengths.p50,
        longest=longest,
    )


def _why_cut(case: Case, length: int) -> Text:
    if length == case.wish.max_length:
        return say("your choice", "你的选择")
    if length >= case.dims.context:
        return say("the model knows no longer ones", "模型不支持更长")
    return say("longer ones would not fit", "更长则放不下")


def _rank(case: Case, pick: Pick) -> Iterator[Text]:
    recipe = pick.recipe
    rank, alpha = getattr(recipe.method, "rank", None), getattr(recipe.method, "alpha", None)
    if rank is None or alpha is None:
        return
    suited = look_up(table.RANK[case.task], case.data.rows)
    cell = suited if rank == suited.value else table.LOW_RANK
    yield say(
        "Rank {rank} for {rows:,} rows of {task} ({source}); alpha {alpha:g} keeps alpha/√rank at {factor:.2g}, the "
        "scale for which the rate was tuned.",
        "{rows:,} 行（{task}）用秩 {rank}（{source}）；alpha 取 {alpha:g}，使 alpha/√秩 保持为 {factor:.2g}，"
        "学习率正是按此缩放调得。",
        rank=rank,
        rows=case.data.rows,
        task=table.TASKS[case.task],
        source=cell.source,
        alpha=alpha,
        factor=alpha / math.sqrt(rank),
    )


def _rate(case: Case, recipe: Recipe) -> Text:
    parameters = case.model.parameters or case.dims.parameters()
    method = METHODS[recipe.method.name]
    parts = [f"{method.default_learning_rate:g}"]
    for factor in (
        look_up(table.RATE_FACTOR, parameters).value,
        table.FEW_ROWS_FACTOR.value if case.data.rows < table.FEW_ROWS.value else 1.0,
        OBJECTIVES[case.objective].default_learning_rate_factor,
    ):
        parts += [f"{factor:g}"] if factor != 1.0 else []
    if len(parts) == 1:
        return say("Learning rate {rate}: the method's own.", "学习率 {rate}：该方法的基准值。", rate=parts[0])
    return say(
        "Learning rate {rate:g} = {product}: the method's, for {size} parameters, {rows:,} rows and this objective.",
        "学习率 {rate:g} = {product}：方法的基准值，按 {size} 参数量、{rows:,} 行和训练目标调整。",
        rate=recipe.train.learning_rate,
        product=" × ".join(parts),
        size=amount(parameters),
        rows=case.data.rows,
    )


def _passes(case: Case, recipe: Recipe, needs: Forecast) -> Text:
    return say(
        "{passes} with {batch} rows per update make {steps:,} updates.",
        "训练 {passes}、每次更新 {batch} 行，共 {steps:,} 次更新。",
        passes=passes(recipe.train.epochs),
        batch=recipe.effective_batch,
        steps=needs.steps,
    )


def passes(epochs: float) -> Text:
    """How often the rows are seen: "1 pass", "3 passes"."""
    return say("{n:g} {word}", "{n:g} 轮", n=epochs, word="pass" if epochs == 1 else "passes")


def _template(case: Case) -> Iterator[Text]:
    if not case.model.has_template:
        yield say(
            "The model has no chat template of its own; one is chosen for it, and exported with it.",
            "模型没有自带对话模板；会为它选择一个，并随模型一起导出。",
        )


def _time(needs: Forecast) -> Iterator[Text]:
    if needs.seconds > LONG_SECONDS:
        yield say(
            "It would take about {days:.1f} days; a smaller model is the better choice here.",
            "约需 {days:.1f} 天；这里更适合选小一些的模型。",
            days=needs.seconds / 86_400,
        )
    if needs.room.speed.assumed:
        yield say(
            "The time is that of a card like {card}: the real one is not known.",
            "时间按 {card} 一类显卡估算：实际显卡未知。",
            card=needs.room.speed.of,
        )


def card(summary: Text, recipe: Recipe, needs: Forecast) -> Text:
    """The one line of a method's card: what it is good for, and whether it fits."""
    if not needs.fits:
        return say("{summary}; does not fit here", "{summary}；本机放不下", summary=summary)
    if recipe.train.checkpointing:
        return say("{summary}; fits with recomputation", "{summary}；需重算激活值才放得下", summary=summary)
    if needs.tight:
        return say("{summary}; fits closely", "{summary}；勉强放得下", summary=summary)
    return summary
