"""The Evaluate page's left side: every measure of base and tuned with its interval, by task, by label, and counts."""

from __future__ import annotations

from PySide6.QtWidgets import QLabel

from engine.project.evaluation import Evaluation
from engine.project.measures import Labels, Measure
from engine.protocol.text import Text, say
from gui.i18n.language import tr
from gui.i18n.numbers import count, percent
from gui.pages.evaluate_words import changed, counts, explained, give_or_take, group_name, of_full, shown
from gui.widgets.basic import column, label, plain_tip
from gui.widgets.card import Card
from gui.widgets.facts import Facts
from gui.widgets.figures import Cell, Figures
from gui.widgets.pair_bars import PairBars
from gui.widgets.scroll import Sheet, read_by_scrolling

MOST_LABELS = 12


class TaskCard(Card):
    """Renders an evaluation's figures."""

    def __init__(self) -> None:
        super().__init__(say("Your task", "你的任务"), say("base → tuned, 95% interval", "基础 → 微调，95% 区间"))
        self.figures = Figures(
            say("Measure", "指标"), say("Base", "基础"), say("Tuned", "微调"), say("Change", "变化"), ""
        )
        self._bars_title, self.bars = label("", "card"), PairBars()
        self._labels_title, self.labels = label(say("By label", "按标签"), "card"), _label_figures()
        self._confused = label("", "small", wrap=True, selectable=True)
        self.counts = Facts()
        self._notes = label("", "small", wrap=True, selectable=True)
        by = (self._bars_title, self.bars, self._labels_title, self.labels, self._confused)
        heading = label(say("How many rows", "行数统计"), "card")
        parts = column(self.figures, 4, *by, 4, heading, self.counts, self._notes, None, margins=(0, 0, 8, 0))
        self.body.addWidget(read_by_scrolling(Sheet(parts)))

    def put(self, found: Evaluation) -> None:
        """Show these figures."""
        self.figures.put([_line(measure) for measure in found.measures])
        self._put_bars(found)
        self._put_labels(found.labels)
        self.counts.put(counts(found))
        self._notes.setText("\n".join(dict.fromkeys(tr(text) for text in found.notes.values())))
        self._notes.setVisible(bool(found.notes))

    def _put_bars(self, found: Evaluation) -> None:
        """Each task where there are several; else the measures that have a highest value."""
        groups = found.groups if len(found.groups) > 1 else ()
        kinds = {group.measure.name for group in groups}
        lines = [(group_name(group, alike=len(kinds) == 1), of_full(group.measure)) for group in groups]
        if not groups:
            lines = [(tr(measure.kind.label), of_full(measure)) for measure in found.measures]
        self._bars_title.setText(tr(_bars_title(found)))
        self.bars.put([(name, *pair) for name, pair in lines if pair is not None])

    def _put_labels(self, labels: Labels | None) -> None:
        for widget in (self._labels_title, self.labels):
            widget.setVisible(labels is not None)
        confused = _most_confused(labels) if labels is not None else None
        self._confused.setVisible(confused is not None)
        if labels is not None:
            self.labels.put(
                [
                    (each.name, count(each.rows), percent(each.base), (percent(each.tuned), "strong"))
                    for each in labels.labels[:MOST_LABELS]
                ]
            )
        if confused is not None:
            self._confused.setText(tr(confused))


def _bars_title(found: Evaluation) -> Text:
    if len(found.groups) < 2:
        return say("At a glance: base above, tuned below", "一览：上为基础模型，下为微调模型")
    measures = {group.measure.name: group.measure.kind.label for group in found.groups}
    what = Text("", "")
    if len(measures) == 1:
        name = next(iter(measures.values()))
        what = Text(f", {name.en}", f"，{name.zh}")
    return say(
        "By {by}{what}: base above, tuned below",
        "按{by}{what}：上为基础模型，下为微调模型",
        by=found.grouped_by or say("task", "任务"),
        what=what,
    )


def _label_figures() -> Figures:
    return Figures(say("Right label", "正确标签"), say("Rows", "行数"), say("Base", "基础"), say("Tuned", "微调"))


def _line(measure: Measure) -> tuple[Cell, ...]:
    words, role = changed(measure)
    tip = explained(measure)
    return (
        _cell(measure.kind.label, "", tip),
        _cell(shown(measure, measure.base.value), "", tip),
        _cell(shown(measure, measure.tuned.value), "strong", tip),
        _cell(words, role, tip),
        _cell(give_or_take(measure), "facts", tip),
    )


def _cell(text: Text | str, role: str, tip: str) -> QLabel:
    made = label(text, role)
    made.setAccessibleName(tr(text))
    made.setToolTip(plain_tip(tip))
    return made


def _most_confused(labels: Labels) -> Text | None:
    """The wrong answer that the tuned model gives most often; None when it gives none."""
    worst: tuple[int, str, str] = (0, "", "")
    names = [each.name for each in labels.labels]
    for right, row in enumerate(labels.tuned):
        for answered, number in enumerate(row[:-1]):
            if answered != right and number > worst[0]:
                worst = (number, names[right], names[answered])
    if not worst[0]:
        return None
    return say(
        "Most often confused by the tuned model: “{right}” answered as “{answered}”, {n} times.",
        "微调模型最常混淆：将“{right}”答为“{answered}”，{n} 次。",
        right=worst[1],
        answered=worst[2],
        n=worst[0],
    )
