"""When nothing fits: the smallest change that would make it fit, in numbers."""

from __future__ import annotations

from engine.machine import table
from engine.machine.dims import ModelDims
from engine.machine.forecast import DataFacts, Forecast, forecast
from engine.protocol.text import Text, say
from engine.recipe.recipe import Recipe


def nearest_change(recipe: Recipe, needs: Forecast, dims: ModelDims, data: DataFacts) -> Text:
    """What would make ``recipe``, the smallest that was found, fit: shorter rows, else more memory or a smaller
    model."""
    shorter = _shorter(recipe, dims, data, needs)
    if shorter is not None:
        length, total = shorter
        return say(
            "It would fit with rows cut at {length} tokens ({total:.1f} GiB); {share} of the rows are longer.",
            "若将每行截断为 {length} 个词元即可放下（{total:.1f} GiB）；{share}的行比这更长。",
            length=length,
            total=total,
            share=_share_above(length, data),
        )
    wanted = needs.memory.total * needs.room.free_gib / needs.room.usable_gib
    size = largest_model(needs, dims)
    more = say(
        "It would need {wanted:.1f} GiB free, {more:.1f} more than there is",
        "需要 {wanted:.1f} GiB 可用，比现有多 {more:.1f} GiB",
        wanted=wanted,
        more=wanted - needs.room.free_gib,
    )
    if size <= 0:
        return say("{more}.", "{more}。", more=more)
    return say(
        "{more}; or a model with at most about {size} parameters.",
        "{more}；或改用参数量不超过约 {size} 的模型。",
        more=more,
        size=amount(size),
    )


def _shorter(recipe: Recipe, dims: ModelDims, data: DataFacts, needs: Forecast) -> tuple[int, float] | None:
    """The longest length in the table with which it fits, and what it then needs."""
    for length in table.SHORTER:
        if length >= min(recipe.data.max_length, data.lengths.longest):
            continue
        shorter = recipe.model_copy(update={"data": recipe.data.model_copy(update={"max_length": length})})
        tried = forecast(shorter, dims, data, needs.room)
        if tried.fits:
            return length, tried.memory.total
    return None


def largest_model(needs: Forecast, dims: ModelDims) -> int:
    """About how many parameters would fit, all that depends on the model shrinking with it; 0 when none would."""
    fixed = needs.memory.parts["reserve"]
    per_parameter = (needs.memory.total - fixed) / dims.parameters()
    room = needs.room.usable_gib - fixed
    return max(0, int(room / per_parameter))


def amount(parameters: int) -> str:
    """A number of parameters as people say it: "7.6 B", "135 M", "0.3 M"."""
    if parameters >= 1e9:
        return f"{parameters / 1e9:.1f} B"
    return f"{parameters / 1e6:.0f} M" if parameters >= 10e6 else f"{parameters / 1e6:.1f} M"


def _share_above(length: int, data: DataFacts) -> Text:
    """About how many rows are longer, as far as the percentiles tell."""
    lengths = data.lengths
    for percentile, text in (
        (lengths.p99, say("under 1%", "不到 1% ")),
        (lengths.p95, say("1 to 5%", "1% 至 5% ")),
        (lengths.p90, say("5 to 10%", "5% 至 10% ")),
        (lengths.p50, say("10 to 50%", "10% 至 50% ")),
    ):
        if length >= percentile:
            return text
    return say("more than half", "超过一半")
