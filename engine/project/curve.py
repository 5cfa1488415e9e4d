"""Reading the curve: what a run's losses say, computed from the run alone, and what to change.

A verdict never rests on a single point. Losses of single steps are noisy, so they are taken together in bins, of each
the median; how much is noise is estimated from the differences of neighbours, and a trend is Theil and Sen's slope with
its confidence interval (Sen 1968, J. Am. Stat. Assoc. 63:1379), which single wild values do not move. Held-out losses
are measured on the same rows each time, so that small changes of them count; still two in a row must say the same.

Time is measured by what could be learned in it: the sum of the learning rates so far. A schedule flattens every curve
at its end; measured so, the end of a cosine is no plateau.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import fmean, median

from engine.protocol.events import HeldOut, Note, StepDone
from engine.protocol.state import JobState
from engine.protocol.text import NOTHING, Text, say
from engine.recipe.recipe import Recipe

TOO_EARLY, HEALTHY, LEVELLED_OFF = "too_early", "healthy", "levelled_off"
OVERFITTING, UNSTABLE = "overfitting", "unstable"
NOT_LEARNING, NOTHING_CHANGED = "not_learning", "nothing_changed"

WORDS: dict[str, tuple[Text, str]] = {
    TOO_EARLY: (say("too early to say", "还看不出来"), "plain"),
    HEALTHY: (say("healthy", "正常"), "good"),
    LEVELLED_OFF: (say("levelled off", "已趋平"), "plain"),
    OVERFITTING: (say("overfitting", "过拟合"), "warn"),
    UNSTABLE: (say("unstable", "不稳定"), "bad"),
    NOT_LEARNING: (say("not learning", "没有学到"), "warn"),
    NOTHING_CHANGED: (say("nothing changed", "毫无变化"), "bad"),
}
"""Verdict → its word and tone ("plain", "good", "warn" or "bad")."""

ENOUGH = 20
"""Steps before anything is said."""
ENOUGH_FLAT = 40
"""Steps before it is said that nothing is learned: a rate rises first."""
BINS, IN_BIN = 24, 5
NORMAL = 1.4826
"""Standard deviation over median absolute deviation, of a normal distribution."""
OF_MEDIAN = 1.2533
"""Standard error of a median over that of a mean, of a normal distribution."""
SURE = 1.96
SIGMAS = 4.0
"""A difference of two levels counts from so many standard errors."""
RISE, HELD_RISE = 0.15, 0.02
"""Share of the level by which the training loss, or the held-out loss twice in a row, must have risen; the latter
also by so many nats."""
GAP = 0.75
"""Share of the held-out loss below which the training loss shows that rows are learned by heart, if it falls or not."""
FALL, SETTLED, LEAST = 0.01, 0.04, 0.002
"""Share of the level that the loss must have fallen by for something to be learned; share of the level, and of the
whole fall, up to which that of the last third is next to nothing; and so are so many nats."""
HIDDEN = 0.15
"""Share of the level that may have fallen unseen, at the most, where it is said that it has not."""
KNOWN = 0.25
"""A loss below this is that of a model that knows such rows, in nats a token: it gives the right token four
fifths of the chance."""
NO_GRADIENT, NO_REACH = 1e-6, 1e-6
"""Norm of a gradient, and way of a weight, below which they are none."""
GROWN = 10.0
"""Times that the gradient has grown where it explodes."""
BURST, VANISHED, STILL_HIGH = 3.0, 0.1, 1 / 3
"""Times its first size that a gradient bursts to, share of it that is left of one that vanished, and share of the first
loss that is still high."""
LATELY = 50
"""Steps for which a spike that was told counts."""
TROUBLE = ("train.spike", "train.rolled_back", "train.not_finite")
"""Codes of notes and failures that tell of a loss that broke away."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the curve says.

    Attributes:
        verdict: one of the names above.
        word, tone: for a chip.
        sentence: with figures.
        advice: what to change, the most useful first; empty where nothing need be changed.
        step: the step since which it is so, 0 where it belongs to none.
    """

    verdict: str
    sentence: Text
    advice: tuple[Text, ...] = ()
    step: int = 0

    @property
    def word(self) -> Text:
        """The verdict in a word or three."""
        return WORDS[self.verdict][0]

    @property
    def tone(self) -> str:
        """How it is meant: "plain", "good", "warn" or "bad"."""
        return WORDS[self.verdict][1]


def reading_of(state: JobState, recipe: Recipe | None) -> Reading:
    """What the curves of a run say, as far as it is known."""
    return read_curve(
        state.steps,
        state.held_out,
        state.notes,
        recipe=recipe,
        is_over=state.is_over,
        broke=state.failure is not None and state.failure.code in TROUBLE,
    )


def read_curve(
    steps: Sequence[StepDone],
    held_out: Sequence[HeldOut],
    notes: Sequence[Note] = (),
    *,
    recipe: Recipe | None = None,
    is_over: bool = False,
    broke: bool = False,
) -> Reading:
    """What these steps and measurements say.

    Args:
        steps: in order; of very many every second, fourth, … will do.
        held_out: in order.
        notes: what the run told beside them.
        recipe: as run, for what to change; without it the advice names no values.
        is_over: no more will come.
        broke: the run ended because its loss broke away.
    """
    curve = _Curve(steps, held_out, notes, recipe, is_over, broke)
    for look in (_unstable, _too_early, _overfitting, _flat, _levelled_off):
        found = look(curve)
        if found is not None:
            return found
    return _healthy(curve)


# -------------------------------------------------------------------------------------------------------- the numbers
@dataclass(frozen=True, slots=True)
class Trend:
    """A slope with the interval that it lies in with 95% confidence."""

    slope: float
    low: float
    high: float


def theil_sen(xs: Sequence[float], ys: Sequence[float]) -> Trend:
    """Median of the slopes of all pairs of points, and its confidence interval by Kendall's variance (Sen 1968).

    Args:
        xs, ys: some thirty points at most: it takes the square of their number. ``xs`` must rise.
    """
    pairs = [(i, j) for j in range(len(xs)) for i in range(j) if xs[j] > xs[i]]
    slopes = sorted((ys[j] - ys[i]) / (xs[j] - xs[i]) for i, j in pairs)
    if not slopes:
        return Trend(0.0, -math.inf, math.inf)
    n, m = len(xs), len(slopes)
    spread = SURE * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    low, high = math.floor((m - spread) / 2), math.ceil((m + spread) / 2)
    return Trend(
        median(slopes), slopes[low] if low >= 0 else -math.inf, slopes[high] if high < len(slopes) else math.inf
    )


def noise_of(values: Sequence[float]) -> float:
    """Standard deviation of what is noise in a slow curve: by the median size of the differences of neighbours, over √2
    because a difference has the noise of both."""
    gaps = [abs(after - before) for before, after in pairwise(values)]
    return NORMAL * median(gaps) / math.sqrt(2) if gaps else 0.0


@dataclass(frozen=True, slots=True)
class _Bin:
    """Some neighbouring steps.

    Attributes:
        first, last: steps.
        at: the sum of the rates in its middle.
        loss: the median.
    """

    first: int
    last: int
    at: float
    loss: float


class _Curve:
    """The series, and what is computed of them once.

    Attributes:
        bins: the training loss, taken together; levels: of each bin and the two before it, the median. Of many bins
            the lowest lies low by chance; of levels less so.
        noise: of one step's loss; error: of a bin's.
        start, now: levels of the training loss at its beginning and its end.
        lowest: the lowest level on the way.
        reach: how far a weight can have moved at most: Adam moves none by more than about the rate in a step (Kingma
            and Ba 2015, section 2.1).
    """

    def __init__(
        self,
        steps: Sequence[StepDone],
        held_out: Sequence[HeldOut],
        notes: Sequence[Note],
        recipe: Recipe | None,
        is_over: bool,
        broke: bool,
    ) -> None:
        self.steps = [step for step in steps if math.isfinite(step.loss)]
        self.lost = len(steps) - len(self.steps)
        self.held = [event for event in held_out if math.isfinite(event.loss)]
        self.lost += len(held_out) - len(self.held)
        self.notes, self.recipe, self.is_over, self.broke = notes, recipe, is_over, broke
        losses = [step.loss for step in self.steps]
        self.rates = [step.learning_rate for step in self.steps]
        self.path = list(accumulate(self.rates))
        self.bins = self._taken_together(losses)
        self.noise = noise_of(losses)
        size = len(losses) / max(1, len(self.bins))
        self.error = OF_MEDIAN * self.noise / math.sqrt(max(1.0, size))
        self.start = median(losses[:3]) if losses else 0.0
        self.levels = [median(each.loss for each in self.bins[max(0, k - 2) : k + 1]) for k in range(len(self.bins))]
        self.now = self.levels[-1] if self.bins else 0.0
        self.lowest = min([self.start, *self.levels])

    def _taken_together(self, losses: list[float]) -> list[_Bin]:
        number = min(BINS, len(losses) // IN_BIN)
        edges = [len(losses) * k // number for k in range(number + 1)] if number else []
        return [
            _Bin(self.steps[a].step, self.steps[b - 1].step, self.path[(a + b) // 2], median(losses[a:b]))
            for a, b in pairwise(edges)
        ]

    @property
    def last(self) -> int:
        """The last step, 0 before the first."""
        return self.steps[-1].step if self.steps else 0

    @property
    def reach(self) -> float:
        return fmean(self.rates) * self.last if self.rates else 0.0

    @property
    def norms(self) -> list[float]:
        """Norms of the gradient, as far as they are numbers."""
        return [step.grad_norm for step in self.steps if step.grad_norm is not None and math.isfinite(step.grad_norm)]

    @property
    def best(self) -> HeldOut:
        return min(self.held, key=lambda event: event.loss)

    @property
    def third(self) -> int:
        """The step at which the last third of what could be learned began."""
        return self.steps[bisect_left(self.path, self.path[-1] * 2 / 3)].step

    def level_at(self, step: int) -> float:
        """The training loss around a step."""
        return min(self.bins, key=lambda each: abs((each.first + each.last) / 2 - step)).loss

    def is_over_by(self, high: float, low: float, share: float) -> bool:
        """Whether a level of the training loss lies above another by more than noise and by this share of it."""
        return high - low > max(SIGMAS * math.sqrt(2) * self.error, share * abs(low))


# ------------------------------------------------------------------------------------------------------- the verdicts
def _unstable(curve: _Curve) -> Reading | None:
    told = [note for note in curve.notes if note.code in TROUBLE and curve.last - note.step < LATELY]
    if curve.broke or told or curve.lost:
        since = told[-1].step if told else curve.last
        sentence = say(
            "The loss broke away near step {n}; the last usable level was {loss:.2f}.",
            "损失在第 {n} 步附近失控；此前可用的水平为 {loss:.2f}。",
            n=since,
            loss=curve.lowest,
        )
        return Reading(UNSTABLE, sentence, _calmer(curve), since)
    if len(curve.steps) < ENOUGH:
        return None
    if thrown_off := _thrown_off(curve):
        return thrown_off
    if _is_explained(curve):
        return None
    growth = _growth(curve.norms)
    share = 0.0 if growth >= GROWN else RISE
    if not curve.is_over_by(curve.now, curve.lowest, share):
        return None
    low = curve.start == curve.lowest
    since = curve.steps[0].step if low else curve.bins[curve.levels.index(curve.lowest)].last
    sentence = say(
        "The training loss was at {low:.2f} around step {n} and has risen to {now:.2f}{norm}.",
        "训练损失在第 {n} 步附近为 {low:.2f}，之后升到 {now:.2f}{norm}。",
        low=curve.lowest,
        n=since,
        now=curve.now,
        norm=_norm_words(growth),
    )
    return Reading(UNSTABLE, sentence, _calmer(curve), since)


def _thrown_off(curve: _Curve) -> Reading | None:
    """A rate that is far too high throws a model off in its first steps: the gradient bursts, two steps in a row, and
    vanishes then although the loss is still high. What is learned after that is little more than which tokens are
    frequent, however evenly the loss falls."""
    norms = curve.norms[: max(ENOUGH, len(curve.norms) // 10)]
    if len(norms) < ENOUGH or norms[0] <= 0:
        return None
    burst = max(min(pair) for pair in pairwise(norms[1:])) / norms[0]
    left = median(curve.norms[-8:]) / norms[0]
    if burst < BURST or left > VANISHED or curve.now < STILL_HIGH * curve.start:
        return None
    sentence = say(
        "In the first steps the gradient grew to {burst:.0f} times its size and has vanished since, with the loss "
        "still at {now:.2f}: the model was thrown off and has not recovered.",
        "开头几步梯度增大到 {burst:.0f} 倍，之后几乎消失，而损失仍有 {now:.2f}：模型被打乱，没有恢复。",
        burst=burst,
        now=curve.now,
    )
    return Reading(UNSTABLE, sentence, _calmer(curve), curve.steps[0].step)


def _is_explained(curve: _Curve) -> bool:
    """Whether a training loss that rises is no sign: harder rows come later, or what is held out is at its best, and
    not worse than training rows were at the very first."""
    if len(curve.held) >= 3 and curve.held[-1].loss <= curve.best.loss * (1 + HELD_RISE):
        return not curve.is_over_by(curve.held[-1].loss, curve.start, RISE)
    return curve.recipe is not None and curve.recipe.data.order in ("shortest", "easiest") and not curve.held


def _growth(norms: list[float]) -> float:
    """How many times larger the gradient is now than it was in the first half."""
    if len(norms) < ENOUGH:
        return 1.0
    before = median(norms[: len(norms) // 2])
    return median(norms[-8:]) / before if before > 0 else 1.0


def _norm_words(growth: float) -> Text:
    if growth < GROWN:
        return NOTHING
    return say(", the gradient is {n:.0f} times as large", "，梯度增大到 {n:.0f} 倍", n=growth)


def _too_early(curve: _Curve) -> Reading | None:
    number = len(curve.steps)
    if number >= ENOUGH:
        return None
    if curve.is_over:
        sentence = say(
            "The run had {n} steps; a curve can be read from {enough} on.",
            "本次训练只有 {n} 步；至少 {enough} 步才能判断。",
            n=number,
            enough=ENOUGH,
        )
        return Reading(TOO_EARLY, sentence, (say("More passes or more rows give more steps.", "增加轮数或行数。"),))
    sentence = say(
        "After {n} steps noise and trend look alike; wait for {enough}.",
        "只有 {n} 步时分不清噪声与趋势；请等到第 {enough} 步。",
        n=number,
        enough=ENOUGH,
    )
    return Reading(TOO_EARLY, sentence)


def _overfitting(curve: _Curve) -> Reading | None:
    if len(curve.held) < 3:
        return None
    best = curve.best
    after = [event.loss for event in curve.held if event.step > best.step]
    limit = best.loss + max(HELD_RISE, HELD_RISE * best.loss, 3 * _held_noise(curve.held))
    if len(after) < 2 or min(after[-2:]) <= limit:
        return None
    fell = curve.is_over_by(curve.level_at(best.step), curve.now, FALL)
    if not fell and curve.now > GAP * after[-1]:
        return None  # the training loss wavers with it: that is noise of the weights
    sentence = say(
        "The held-out loss was lowest at step {n} ({best:.2f}) and has risen to {now:.2f} since, while the training "
        "loss went on to {train:.2f}.",
        "留出损失在第 {n} 步最低（{best:.2f}），之后升到 {now:.2f}，而训练损失继续降到 {train:.2f}。",
        n=best.step,
        best=best.loss,
        now=after[-1],
        train=curve.now,
    )
    return Reading(OVERFITTING, sentence, _less(curve, best.step), best.step)


def _held_noise(held: Sequence[HeldOut]) -> float:
    """How far measurements lie from the median of themselves and their neighbours: 0 where they rise or fall evenly."""
    losses = [event.loss for event in held]
    off = [abs(losses[i] - median(losses[i - 1 : i + 2])) for i in range(1, len(losses) - 1)]
    return NORMAL * median(off) if off else 0.0


def _flat(curve: _Curve) -> Reading | None:
    """Nothing changed, nothing learned, or nothing left to learn."""
    if _fell(curve):
        return None
    if len(curve.steps) < ENOUGH_FLAT:
        sentence = say(
            "The loss has not fallen yet; at first the rate rises, which takes a while.",
            "损失尚未下降；开始时学习率还在上升，需要一些时间。",
        )
        return Reading(TOO_EARLY, sentence)
    start, now = (curve.held[0].loss, curve.held[-1].loss) if len(curve.held) >= 2 else (curve.bins[0].loss, curve.now)
    if found := _nothing_changed(curve, now):
        return found
    if start < KNOWN:
        sentence = say(
            "The loss is about {now:.2f} from the beginning: the model knows such rows already.",
            "损失从一开始就在 {now:.2f} 左右：模型已经会这类内容。",
            now=now,
        )
        return Reading(LEVELLED_OFF, sentence, (say("Train on rows that it does not know.", "换用它还不会的行。"),))
    if _may_hide_a_fall(curve):
        sentence = say(
            "The losses vary so much that a fall could hide in them; more steps will tell.",
            "损失波动太大，可能掩盖了下降；步数更多才能判断。",
        )
        return Reading(TOO_EARLY, sentence)
    sentence = say(
        "After {n} steps the loss is still about where it began: {start:.2f} then, {now:.2f} now.",
        "{n} 步之后损失仍与开始时差不多：当时 {start:.2f}，现在 {now:.2f}。",
        n=curve.last,
        start=start,
        now=now,
    )
    return Reading(NOT_LEARNING, sentence, _faster(curve))


def _nothing_changed(curve: _Curve, now: float) -> Reading | None:
    norms = curve.norms
    if norms and median(norms) < NO_GRADIENT:
        sentence = say(
            "The loss is where it was ({now:.2f}) and the gradient is 0: nothing that is trained takes part in it.",
            "损失没有变化（{now:.2f}），梯度为 0：训练的权重没有参与计算。",
            now=now,
        )
        return Reading(NOTHING_CHANGED, sentence, _something(curve))
    if curve.reach < NO_REACH:
        sentence = say(
            "The loss is where it was ({now:.2f}): at a rate of {rate} no weight has moved noticeably.",
            "损失没有变化（{now:.2f}）：学习率只有 {rate}，权重几乎没有移动。",
            now=now,
            rate=rate_words(max(curve.rates)),
        )
        return Reading(NOTHING_CHANGED, sentence, _faster(curve))
    return None


def _fell(curve: _Curve) -> bool:
    """Whether the loss has come down: that of the held-out rows, or the training loss by more than its noise."""
    if len(curve.held) >= 2:
        first = curve.held[0]
        if first.loss - curve.best.loss > FALL * abs(first.loss):
            return True
        if len(curve.held) >= 3 and first.step > curve.last / 3:
            return False
    trend = theil_sen([each.at for each in curve.bins], [each.loss for each in curve.bins])
    fallen = curve.is_over_by(max(curve.start, curve.bins[0].loss), curve.now, FALL)
    return fallen and (trend.high < 0 or curve.is_over_by(curve.bins[0].loss, curve.lowest, FALL))


def _may_hide_a_fall(curve: _Curve) -> bool:
    """Whether the training loss alone must tell, and its trend is not known well enough to say that there is none."""
    if len(curve.held) >= 3:
        return False
    trend = theil_sen([each.at for each in curve.bins], [each.loss for each in curve.bins])
    return -trend.low * (curve.bins[-1].at - curve.bins[0].at) > HIDDEN * abs(curve.start)


def _levelled_off(curve: _Curve) -> Reading | None:
    held = [event for event in curve.held if event.step >= curve.third]
    if len(curve.held) >= 4 and len(held) >= 2:
        return _held_levelled_off(curve, held)
    if curve.held or len(curve.bins) < 9:
        return None
    last = [each for each in curve.bins if each.last >= curve.third]
    if len(last) < 3:
        return None
    trend = theil_sen([each.at for each in last], [each.loss for each in last])
    way, whole = last[-1].at - last[0].at, curve.start - curve.now
    # Both what is likely and the most that may be hidden in the noise must be little.
    limit = _next_to_nothing(whole, curve.now)
    if -trend.slope * way > limit or -trend.low * way > 4 * limit:
        return None
    sentence = say(
        "The training loss has stayed at {now:.2f} since step {n}; it came from {start:.2f}.",
        "训练损失自第 {n} 步起停在 {now:.2f}（开始时为 {start:.2f}）。",
        now=curve.now,
        n=last[0].first,
        start=curve.start,
    )
    return Reading(LEVELLED_OFF, sentence, _other(curve, last[0].first), last[0].first)


def _next_to_nothing(whole: float, level: float) -> float:
    """A fall that is little beside the whole fall and beside the level."""
    return max(min(SETTLED * whole, SETTLED * abs(level)), LEAST)


def _held_levelled_off(curve: _Curve, held: list[HeldOut]) -> Reading | None:
    before = next((event for event in reversed(curve.held) if event.step < held[0].step), held[0])
    whole = max(curve.start, curve.held[0].loss) - curve.best.loss
    gain = before.loss - min(event.loss for event in held)
    if gain > _next_to_nothing(whole, before.loss):
        return None
    goes_on = curve.is_over_by(curve.level_at(before.step), curve.now, FALL)
    figures = {"now": held[-1].loss, "n": before.step, "train": curve.now}
    more = (
        say(
            " The training loss still falls, to {train:.2f}: that is learning by heart.",
            "训练损失仍在下降（{train:.2f}）：那只是在死记。",
            **figures,
        )
        if goes_on
        else NOTHING
    )
    sentence = say(
        "The held-out loss has stayed at about {now:.2f} since step {n}.{more}",
        "留出损失自第 {n} 步起停在 {now:.2f} 左右。{more}",
        more=more,
        **figures,
    )
    return Reading(LEVELLED_OFF, sentence, _other(curve, before.step), before.step)


def _healthy(curve: _Curve) -> Reading:
    if len(curve.held) >= 2:
        best = curve.best
        sentence = say(
            "The held-out loss falls with the training loss: {first:.2f} at step {a}, {best:.2f} at step {n}.",
            "留出损失随训练损失一起下降：第 {a} 步 {first:.2f}，第 {n} 步 {best:.2f}。",
            first=curve.held[0].loss,
            a=curve.held[0].step,
            best=best.loss,
            n=best.step,
        )
        return Reading(HEALTHY, sentence, _go_on(curve))
    sentence = say(
        "The training loss falls: {start:.2f} at first, {now:.2f} now.",
        "训练损失在下降：开始时 {start:.2f}，现在 {now:.2f}。",
        start=curve.start,
        now=curve.now,
    )
    return Reading(HEALTHY, sentence, _go_on(curve))


# --------------------------------------------------------------------------------------------------- what to change
def rate_words(rate: float) -> str:
    """A learning rate as people write it: 2e-4, 0.01."""
    if rate >= 0.01 or rate <= 0:
        return f"{rate:g}"
    mantissa, exponent = f"{rate:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def _rounded(rate: float) -> float:
    """To one digit."""
    return float(f"{rate:.0e}")


def _rate(before: float, after: float) -> Text:
    return say(
        "Learning rate {after} instead of {before}.",
        "学习率 {before} → {after}。",
        before=rate_words(before),
        after=rate_words(after),
    )


def _calmer(curve: _Curve) -> tuple[Text, ...]:
    recipe = curve.recipe
    if recipe is None:
        return (say("A lower learning rate.", "降低学习率。"),)
    train, usual = recipe.train, type(recipe.train).model_fields
    tenfold = train.learning_rate > 10 * usual["learning_rate"].default
    advice = [_rate(train.learning_rate, _rounded(train.learning_rate / (10 if tenfold else 2)))]
    if train.warmup_ratio < usual["warmup_ratio"].default:
        ratio = usual["warmup_ratio"].default
        advice.append(say("Warm-up over {n:.0%} of the steps.", "预热 {n:.0%} 的步数。", n=ratio))
    if train.max_grad_norm > 1:
        limit = usual["max_grad_norm"].default
        advice.append(
            say(
                "Gradient limit {limit:g} instead of {now:g}.",
                "梯度上限 {now:g} → {limit:g}。",
                limit=limit,
                now=train.max_grad_norm,
            )
        )
    return tuple(advice)


def _less(curve: _Curve, step: int) -> tuple[Text, ...]:
    recipe = curve.recipe
    kept = say("The checkpoint of step {n} is kept: nothing is lost.", "第 {n} 步的检查点已保留：没有损失。", n=step)
    if recipe is None:
        return (kept, say("Fewer passes over the data.", "减少轮数。"))
    advice = [kept]
    passes, enough = recipe.train.epochs, _passes(curve, step)
    if not recipe.train.max_steps and enough < passes:
        advice.append(_fewer(enough, passes))
    if not recipe.train.patience:
        advice.append(
            say("Let it stop early, after 2 evaluations without gain.", "打开提前停止：2 次评估无改善即结束。")
        )
    advice.append(_rate(recipe.train.learning_rate, _rounded(recipe.train.learning_rate / 2)))
    dropout = getattr(recipe.method, "dropout", None)
    if dropout is not None and dropout < 0.1:
        advice.append(
            say(
                "Adapter dropout 0.1 instead of {n:g}; or more rows.",
                "适配器丢弃率 {n:g} → 0.1，或增加行数。",
                n=dropout,
            )
        )
    return tuple(advice)


def _passes(curve: _Curve, step: int) -> float:
    """Passes that reach a step, rounded up to halves below 2 and to whole ones above."""
    epoch = next((item.epoch for item in curve.steps if item.step >= step), curve.steps[-1].epoch)
    return max(0.5, math.ceil(epoch * 2) / 2 if epoch < 2 else math.ceil(epoch))


def _fewer(enough: float, passes: float) -> Text:
    return say(
        "Fewer passes: {enough:g} instead of {now:g}.", "减少轮数：{now:g} → {enough:g}。", enough=enough, now=passes
    )


def _faster(curve: _Curve) -> tuple[Text, ...]:
    data = say(
        "Look at a row on the Data page: are the answers what is learned?", "在“数据”页看一行：学习的是否是回答？"
    )
    if curve.recipe is None:
        return (say("A higher learning rate.", "提高学习率。"), data)
    rate = curve.recipe.train.learning_rate
    usual = type(curve.recipe.train).model_fields["learning_rate"].default
    return (_rate(rate, usual if rate < usual / 2 else _rounded(rate * 5)), data)


def _something(curve: _Curve) -> tuple[Text, ...]:
    targets = say(
        "Train more layers, or choose another method on the Plan page.", "在“计划”页训练更多层，或换一种方法。"
    )
    return (targets, *_faster(curve)[1:])


def _other(curve: _Curve, step: int) -> tuple[Text, ...]:
    recipe = curve.recipe
    advice = [say("More passes will hardly help.", "增加轮数基本没有帮助。")]
    if recipe is None:
        return tuple(advice)
    enough = _passes(curve, step)
    if not recipe.train.max_steps and enough < recipe.train.epochs:
        advice[0] = say(
            "More passes will hardly help; {enough:g} instead of {now:g} would do.",
            "增加轮数基本没有帮助；{now:g} 轮减为 {enough:g} 轮即可。",
            enough=enough,
            now=recipe.train.epochs,
        )
    rank = getattr(recipe.method, "rank", None)
    further = say("more varied rows or a larger model", "更多样的行或更大的模型")
    if isinstance(rank, int):
        further = say(
            "rank {after} instead of {now}, {other}",
            "秩 {now} → {after}、{other}",
            after=2 * rank,
            now=rank,
            other=further,
        )
    advice.append(say("To get lower: {further}.", "想再降低：{further}。", further=further))
    return tuple(advice)


def _go_on(curve: _Curve) -> tuple[Text, ...]:
    recipe = curve.recipe
    if not curve.is_over:
        if curve.held and recipe is not None and recipe.train.patience:
            return (
                say(
                    "If it turns up, the run stops by itself and keeps the best.",
                    "如果回升，训练会自动停止并保留最佳结果。",
                ),
            )
        return ()
    if curve.last < curve.steps[-1].steps:
        return ()  # it was ended: that it could go on is known
    if recipe is None or recipe.train.max_steps:
        return (
            say(
                "It was still falling at the end: a longer run may learn more.",
                "结束时仍在下降：再训练久一些可能更好。",
            ),
        )
    more = math.ceil(recipe.train.epochs * 1.5)
    return (
        say(
            "It was still falling at the end: {more:g} passes instead of {now:g} may learn more.",
            "结束时仍在下降：轮数 {now:g} → {more:g} 可能学到更多。",
            more=more,
            now=recipe.train.epochs,
        ),
    )
