"""The Evaluate page's words: the verdict, how it was measured, and figures as they are read."""

from __future__ import annotations

from engine.project.evaluation import EvaluatedRow, Evaluation, SideOfRow
from engine.project.measures import INTERVALS, TESTS, Estimate, Group, Measure
from engine.project.verdict import decisive
from engine.protocol.text import Text, say
from gui.i18n.language import tr
from gui.i18n.numbers import count, duration, figure, percent
from gui.widgets.chip import BAD, GOOD, PLAIN

EARLIER = say(
    "The run has learned on since these figures were made: measure again.", "得出这些数字之后训练又有进展：请重新评估。"
)
OLD = say(
    "An earlier version made these figures, without intervals: measure again to have them.",
    "这些数字由较早版本得出，没有区间：请重新评估。",
)
NONE = "—"


def how_measured(found: Evaluation) -> Text:
    """Which test, how much the adapter changes, how answers were made."""
    p_value = decisive(found).p_value
    if found.verdict.changed is None:
        return say(
            "by the loss, row by row · paired sign test {p} · answers were not asked for",
            "逐行比较损失 · 配对符号检验 {p} · 未要求回答",
            p=probability(p_value),
        )
    return say(
        "paired sign test {p} · the adapter changes {share} of answers · greedy, seed {seed}",
        "配对符号检验 {p} · 适配器改变了 {share} 的回答 · 贪心解码，种子 {seed}",
        p=probability(p_value),
        share=percent(found.verdict.changed),
        seed=found.seed,
    )


def probability(p_value: float | None) -> str:
    """A p-value as it is written: "p < 0.001"."""
    if p_value is None:
        return NONE
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def shown(measure: Measure, value: float | None) -> str:
    """A figure of a measure: shares in percent, the others as they are."""
    return percent(value, 1) if _in_percent(measure) else _figure(measure, value)


def changed(measure: Measure) -> tuple[Text | str, str]:
    """The difference, in percentage points of a share, and its role: coloured only where the test finds more than
    chance."""
    change = measure.difference.value
    if change is None:
        return NONE, "muted"
    size = _size(measure, change)
    sign = "−" if change < 0 and size.strip("0.") else "+"
    words = f"{sign}{size}"
    if measure.is_better is None or not (measure.is_clear or measure.p_value is None):
        return words, "muted"
    return words, "good" if measure.is_better else "bad"


def give_or_take(measure: Measure) -> str:
    """Half of the difference's interval, in the difference's own unit: "± 6.0"."""
    half, change = measure.difference.half_width, measure.difference.value
    if half is None:
        return ""
    whole = not _in_percent(measure) and abs(change or 0.0) >= 1000
    return f"± {figure(half, 0) if whole else _size(measure, half)}"


def _in_percent(measure: Measure) -> bool:
    """ROUGE is a share, too, but is read as 0 to 1 everywhere."""
    return measure.kind.full == 1.0 and not measure.name.startswith("rouge")


def _size(measure: Measure, difference: float) -> str:
    return f"{abs(100 * difference):.1f}" if _in_percent(measure) else _figure(measure, abs(difference))


def _figure(measure: Measure, value: float | None) -> str:
    digits = 1 if measure.kind.full == 100.0 else 2
    return figure(value, 0 if value is not None and abs(value) >= 1000 else digits)


def explained(measure: Measure) -> str:
    """Everything behind a line of the table, for its tip."""
    kind = measure.kind
    lines = [f"{tr(kind.label)} ({kind.term})", tr(kind.help)]
    for name, estimate in (
        (say("Base", "基础"), measure.base),
        (say("Tuned", "微调"), measure.tuned),
        (say("Change", "变化"), measure.difference),
    ):
        lines.append(f"{tr(name)}: {_between(measure, estimate)}")
    rests = tr(say("on {n} rows", "基于 {n} 行", n=count(measure.rows)))
    test = TESTS.get(measure.test)
    lines.append(f"{probability(measure.p_value)}, {tr(test)}, {rests}" if test is not None else rests)
    if measure.interval in INTERVALS:
        lines.append(tr(say("95% interval: {how}", "95% 区间：{how}", how=INTERVALS[measure.interval])))
    return "\n".join(lines)


def _between(measure: Measure, estimate: Estimate) -> str:
    value = shown(measure, estimate.value)
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} [{shown(measure, estimate.low)}, {shown(measure, estimate.high)}]"


def of_full(measure: Measure) -> tuple[float, float] | None:
    """Base and tuned as shares of the highest value, 0 to 1; None where a measure has none, or no value."""
    base, tuned, full = measure.base.value, measure.tuned.value, measure.kind.full
    return None if base is None or tuned is None or full is None else (base / full, tuned / full)


def group_name(group: Group, *, alike: bool) -> str:
    """A group with how many rows it has, and what is measured where groups are not alike in it: "Q&A · 47 · chrF"."""
    name = tr(group.name)
    words = f"{name[:1].upper()}{name[1:]} · {count(group.rows)}"
    return words if alike else f"{words} · {tr(group.measure.kind.label)}"


def counts(found: Evaluation) -> list[tuple[Text | str, Text | str]]:
    """How many rows are exact, better, worse."""
    exact = sum(bool(item.tuned.exact) for item in found.rows)
    total = count(len(found.rows))
    facts: list[tuple[Text | str, Text | str]] = []
    if found.verdict.changed is not None:
        facts.append((say("Answered exactly by the tuned model", "微调模型完全答对"), f"{count(exact)} / {total}"))
        facts.append((say("Answers that changed", "有变化的回答"), f"{count(len(found.changed()))} / {total}"))
    losses = found.verdict.losses
    compared = losses.better + losses.worse + losses.same
    facts.append((say("Loss lower", "损失更低"), f"{count(losses.better)} / {count(compared)}"))
    return facts


def footing(found: Evaluation) -> Text:
    """What stands at the foot: how many rows, how long, and whether any of them was trained on."""
    return say(
        "{n} of {all} held-out rows in {time}. {overlap}",
        "{all} 个留出行中的 {n} 行，用时 {time}。{overlap}",
        n=count(len(found.rows)),
        all=count(found.held_out),
        time=duration(found.seconds),
        overlap=_overlap(found),
    )


def _overlap(found: Evaluation) -> Text:
    overlap = found.overlap
    if overlap is None:
        return say("None of them was trained on.", "均未参与训练。")
    if overlap.rows:
        return say(
            "{n} of them also occur in the training data: for these the figures flatter.",
            "其中 {n} 行也出现在训练数据中：这些行的结果偏高。",
            n=count(overlap.rows),
        )
    if overlap.questions:
        return say(
            "None was trained on; {n} questions also occur there, with other answers.",
            "均未参与训练；其中 {n} 个提问也出现在训练数据中，但答案不同。",
            n=count(overlap.questions),
        )
    return say("0 of them occur in the training data.", "训练数据中不含其中任何一行。")


OUTCOMES: dict[str, tuple[Text, str]] = {
    "better": (say("better", "变好"), GOOD),
    "worse": (say("worse", "变差"), BAD),
    "same": (say("the same", "相同"), PLAIN),
}


def line_of(item: EvaluatedRow) -> tuple[str, str, str]:
    """A row in a list: chip, tone, text."""
    if item.tuned.exact:
        return tr(say("exact", "完全正确")), GOOD, item.prompt
    words, tone = OUTCOMES[item.outcome]
    return tr(words), tone, item.prompt


def answer_of(side: SideOfRow) -> str:
    """What a side answered, in full."""
    if side.answer is None:
        return tr(say("not asked: the row is too long, or asks nothing", "未提问：该行过长，或没有提问"))
    cut = tr(say(" … (cut there)", " …（在此截断）")) if side.cut else ""
    return (side.answer or tr(say("(nothing)", "（空）"))) + cut


def row_figures(side: SideOfRow) -> str:
    """A side's figures for one row."""
    parts = []
    for name, value, digits in (
        ("ROUGE-L", side.rouge_l, 2),
        ("chrF", side.chrf, 1),
        (tr(say("loss", "损失")), side.loss, 2),
    ):
        if value is not None:
            parts.append(f"{name} {figure(value, digits)}")
    return " · ".join(parts)
