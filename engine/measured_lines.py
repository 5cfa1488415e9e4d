"""An evaluation as a table for the terminal: the verdict, every measure with intervals and test, by task, by label."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence

from engine.project.effect import Effect
from engine.project.evaluation import Evaluation
from engine.project.measures import INTERVALS, TESTS, Estimate, Group, Labels, Measure
from engine.project.verdict import verdict_of
from engine.protocol.text import Text, say

_MOST_LABELS = 12
Cells = Sequence[Text]


def measured_lines(found: Evaluation, effect: Effect | None = None) -> list[Text]:
    """All that a person should know of it, line by line.

    Args:
        effect: what the adapter does, which the verdict takes note of.
    """
    sentence, judgement, _ = verdict_of(found, effect)
    heads = (say("Measure", "指标"), say("Base", "基础"), say("Tuned", "微调"), say("Change", "变化"))
    table = [(*heads, say("p", "p")), *(_cells(measure.kind.label, measure) for measure in found.measures)]
    lines = [
        say("{sentence}: {judgement}.", "{sentence}：{judgement}。", sentence=sentence, judgement=judgement),
        *_aligned(table),
        *_groups(found.groups, found.grouped_by),
        *(_labels(found.labels) if found.labels is not None else ()),
        _how(found),
    ]
    if found.overlap is not None:
        lines.append(_overlap(found))
    return [*lines, *dict.fromkeys(found.notes.values())]


def figure(value: float | None, full: float | None) -> str:
    """A share in percent, a score with one place, any other figure with three places that count."""
    if value is None:
        return "—"
    if full == 1.0:
        return f"{value:.1%}"
    return f"{value:.1f}" if full else f"{value:,.3f}" if abs(value) < 100 else f"{value:,.0f}"


def change(value: float | None, full: float | None) -> str:
    """A difference with its sign; of shares in percentage points."""
    if value is None:
        return "—"
    value *= 100 if full == 1.0 else 1
    digits = 1 if full else 3 if abs(value) < 100 else 0
    return f"{round(value, digits) + 0.0:+,.{digits}f}"  # + 0.0: never "-0.0"


def p_value(value: float | None) -> str:
    """As papers write it."""
    return "—" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _cells(name: Text, measure: Measure) -> tuple[Text, ...]:
    full = measure.kind.full
    base, tuned = (_plain(_with_ends(figure, side, full)) for side in (measure.base, measure.tuned))
    return name, base, tuned, _plain(_with_ends(change, measure.difference, full)), _plain(p_value(measure.p_value))


def _with_ends(shown: Callable[[float | None, float | None], str], found: Estimate, full: float | None) -> str:
    value = shown(found.value, full)
    if found.low is None or found.high is None:
        return value
    return f"{value} [{shown(found.low, full)}, {shown(found.high, full)}]"


def _groups(groups: Sequence[Group], column: str) -> list[Text]:
    if not groups:
        return []
    head = say("By {column}:", "按 {column}：", column=column) if column else say("By task:", "按任务：")
    rows = [
        _cells(
            say(
                "{name}, {rows}, {by}", "{name}，{rows}，{by}", name=g.name, rows=_rows(g.rows), by=g.measure.kind.label
            ),
            g.measure,
        )
        for g in groups
    ]
    return [head, *_aligned(rows)]


def _labels(labels: Labels) -> list[Text]:
    rows = [
        (
            say("{name}, {rows}", "{name}，{rows}", name=label.name, rows=_rows(label.rows)),
            _plain(f"{label.base:.1%}"),
            _plain(f"{label.tuned:.1%}"),
        )
        for label in labels.labels[:_MOST_LABELS]
    ]
    return [say("By label, share answered right:", "按标签（答对比例）："), *_aligned(rows)]


def _rows(count: int) -> Text:
    return say("1 row", "1 行") if count == 1 else say("{n} rows", "{n} 行", n=count)


def _how(found: Evaluation) -> Text:
    intervals = list(dict.fromkeys(INTERVALS[m.interval] for m in found.measures if m.interval in INTERVALS))
    tests = list(dict.fromkeys(TESTS[m.test] for m in found.measures if m.test in TESTS))
    return say(
        "{n} of {all} held-out rows, seed {seed}. In brackets: 95% ({intervals}). p: {tests}.",
        "{all} 个留出行中的 {n} 行，种子 {seed}。方括号内：95%（{intervals}）。p：{tests}。",
        n=len(found.rows),
        all=found.held_out,
        seed=found.seed,
        intervals=_listed(intervals),
        tests=_listed(tests),
    )


def _overlap(found: Evaluation) -> Text:
    assert found.overlap is not None
    return say(
        "{n} of these rows occur in the training data; the questions of {questions} do.",
        "其中 {n} 行出现在训练数据中；提问出现的有 {questions} 行。",
        n=found.overlap.rows,
        questions=found.overlap.questions,
    )


def _listed(texts: Sequence[Text]) -> Text:
    none = say("none: too few rows", "无：行数太少")
    return Text(", ".join(t.en for t in texts), "、".join(t.zh for t in texts)) if texts else none


def _aligned(rows: Sequence[Cells]) -> list[Text]:
    """Rows of a table, each column as wide as its widest cell, in both languages."""
    sides = [_columns([[getattr(cell, language) for cell in row] for row in rows]) for language in ("en", "zh")]
    return [Text(en, zh) for en, zh in zip(*sides, strict=True)]


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(_width(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  " + "  ".join(_padded(*cell) for cell in zip(row, widths, strict=True)).rstrip() for row in rows]


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _width(text: str) -> int:
    """Columns of a terminal that a text takes: Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _plain(text: str) -> Text:
    return Text(text, text)
