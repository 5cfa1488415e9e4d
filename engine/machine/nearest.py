"""When nothing fits: what would change that, in numbers, the smallest change first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from engine.machine import table
from engine.machine.forecast import DataFacts, Forecast, forecast
from engine.protocol.text import Text, say

if TYPE_CHECKING:
    from engine.machine.advise import Case, Pick
    from engine.machine.dims import ModelDims
    from engine.machine.known_models import KnownModel

# Models of one family share its vocabulary, but for rows that some pad it with.
SAME_VOCABULARY = 0.01


@dataclass(frozen=True, slots=True)
class Change:
    """One change that would make it fit.

    Attributes:
        kind: shorter rows, a smaller model, or more memory.
        words: what it is, in numbers.
        amount: tokens of the longest row; weights of the model; GiB that must be free.
        memory_gib: what would be needed then.
        name: of the model or the card, where one is known.
    """

    kind: Literal["rows", "model", "memory"]
    words: Text
    amount: float
    memory_gib: float
    name: str = ""


def changes(case: Case, pick: Pick, recommend: Callable[[Case], Pick]) -> tuple[Change, ...]:
    """What would make ``pick``, the smallest recipe that was found, fit: shorter rows, a smaller model, more memory.

    ``recommend`` finds a recipe for another model.
    """
    return (*_shorter(case, pick), *_smaller(case, pick, recommend), _more(pick.forecast))


def smaller_models(dims: ModelDims, known: Iterable[KnownModel]) -> tuple[tuple[str, ModelDims], ...]:
    """Known models of the family of ``dims`` with fewer weights: id and widths of each, the largest first."""
    here = dims.parameters()
    found = [
        (model.id, model.dims)
        for model in known
        if model.dims.family == dims.family
        and abs(model.dims.vocab / dims.vocab - 1) <= SAME_VOCABULARY
        and model.dims.parameters() < here
    ]
    return tuple(sorted(found, key=lambda each: -each[1].parameters()))


def nearest_change(found: tuple[Change, ...]) -> Text | None:
    """All changes in one text; None where there is nothing to change."""
    if not found:
        return None
    return Text(" ".join(each.words.en for each in found), "".join(each.words.zh for each in found))


def _shorter(case: Case, pick: Pick) -> Iterator[Change]:
    """The longest length in the table with which it fits."""
    data, recipe = case.data, pick.recipe
    for length in table.SHORTER:
        if length >= min(recipe.data.max_length, data.lengths.longest):
            continue
        shorter = recipe.model_copy(update={"data": recipe.data.model_copy(update={"max_length": length})})
        total = forecast(shorter, case.dims, data, case.room).memory.total
        if total <= case.room.usable_gib:
            words = say(
                "It would fit with rows cut at {length} tokens ({total:.1f} GiB); {share} of the rows are longer.",
                "若将每行截断为 {length} 个词元即可放下（{total:.1f} GiB）；{share}的行比这更长。",
                length=length,
                total=total,
                share=_share_above(length, data),
            )
            yield Change("rows", words, length, total)
            return


def _smaller(case: Case, pick: Pick, recommend: Callable[[Case], Pick]) -> Iterator[Change]:
    """The largest model of the family that fits; where none is known, about how large a model may be."""
    here = case.dims.parameters()
    for name, dims in case.model.smaller:
        model = replace(case.model, source=name, parameters=None, smaller=())
        needs = recommend(replace(case, dims=dims, model=model)).forecast
        if needs.fits:
            words = say(
                "{name} of the same family would fit ({total:.1f} GiB).",
                "同系列的 {name} 放得下（{total:.1f} GiB）。",
                name=name,
                total=needs.memory.total,
            )
            yield Change("model", words, dims.parameters(), needs.memory.total, name)
            return
    size = largest_model(pick.forecast, here)
    if size > 0:
        words = say(
            "A model with at most about {size} parameters would fit.",
            "参数量不超过约 {size} 的模型放得下。",
            size=amount(size),
        )
        yield Change("model", words, size, case.room.usable_gib)


def _more(needs: Forecast) -> Change:
    """The memory that must be free, and the smallest card that has it."""
    total, where = needs.memory.total, needs.room
    wanted = total * where.free_gib / where.usable_gib if where.usable_gib else total
    card = next((size for size in table.CARDS if size >= wanted), None)
    more = say(
        "It would need {wanted:.1f} GiB free, {more:.1f} more than there is",
        "需要 {wanted:.1f} GiB 可用，比现有多 {more:.1f} GiB",
        wanted=wanted,
        more=wanted - where.free_gib,
    )
    if card is None:
        words = say("{more}: more than any one card has.", "{more}：超过任何单张显卡。", more=more)
        return Change("memory", words, wanted, total)
    words = say("{more}: a card with {card} GiB.", "{more}，即 {card} GiB 的显卡。", more=more, card=card)
    return Change("memory", words, wanted, total, f"{card} GiB")


def largest_model(needs: Forecast, parameters: int) -> int:
    """About how many parameters would fit, all that depends on the model shrinking with it; 0 when none would."""
    fixed = needs.memory.parts["reserve"]
    per_parameter = (needs.memory.total - fixed) / parameters
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
