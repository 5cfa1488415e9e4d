"""The Data page's right side: how long the rows are, what happens to over-long ones, and what the checks found."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QScrollArea, QVBoxLayout

from engine.protocol.text import NOTHING, Text, as_text, say
from engine.recipe.fields import settings
from engine.recipe.recipe import DataSettings
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import count
from gui.operations.operation import attempt
from gui.pages.data_rows import IN_TRAINING
from gui.pages.words import reason_label
from gui.widgets.basic import button, clear, holder, label, row, rule
from gui.widgets.card import Card
from gui.widgets.editors import ChoiceEditor
from gui.widgets.facts import Facts
from gui.widgets.histogram import Histogram

WIDTH = 312
FLATTERS = say(
    "Their questions are trained on too: what is measured on them flatters the model.",
    "其提问也用于训练，据此评估会高估模型。",
)
MEASURE_FAIRLY = say(
    "Name a held-out file with other questions on the Plan page to measure fairly.",
    "请在“计划”页指定提问不同的留出文件，以便公正评估。",
)


class SideCard(Card):
    """Renders the data's facts; a check with rows behind it opens them.

    Args:
        show_only: shows only the rows of a status or a reason.
    """

    def __init__(self, context: AppContext, show_only: Callable[[str], object]) -> None:
        super().__init__(say("Length in tokens", "长度（词元）"), " ")
        self._context, self._show_only = context, show_only
        self.setFixedWidth(WIDTH)
        self.histogram = Histogram()
        self.histogram.setMinimumHeight(90)
        self.histogram.setMaximumHeight(160)
        self._lengths = Facts(spacing=4)
        self.body.addWidget(self.histogram)
        self.body.addWidget(self._lengths)
        self.body.addLayout(self._over_long())
        self.body.addWidget(rule())
        self.body.addWidget(label(say("Checks", "检查"), "card"))
        self._checks = QVBoxLayout()
        self._checks.setSpacing(4)
        self._checks.setContentsMargins(0, 0, 8, 0)
        self._template = Facts()
        self._reason = label("", "facts", wrap=True)
        inner = QVBoxLayout()
        inner.setContentsMargins(0, 0, 0, 0)
        inner.setSpacing(8)
        inner.addLayout(self._checks)
        inner.addWidget(rule())
        inner.addWidget(self._template)
        inner.addWidget(self._reason)
        inner.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(holder(inner))
        self.body.addWidget(scroll, 1)

    def _over_long(self) -> QHBoxLayout:
        about = settings(DataSettings)["over_long"]
        self._choice = ChoiceEditor(list(about.choices))
        self._choice.control.setAccessibleName(tr(about.label))
        self._choice.setToolTip(tr(about.help))
        self._choice.edited.connect(self._set_over_long)
        name = label(about.label)
        name.setBuddy(self._choice)
        return row(name, None, self._choice)

    def _set_over_long(self, value: object) -> None:
        attempt(self._context, lambda: self._context.draft.set({"data.over_long": value}))

    def fill(self, facts: dict[str, Any]) -> None:
        """Another data set is there."""
        lengths = dict(facts.get("lengths", {}))
        limit = int(facts.get("limit", 0))
        self.histogram.put(list(lengths.get("counts", [])), list(lengths.get("edges", [])), limit)
        over = int(facts.get("cut", 0)) + int(dict(facts.get("set_aside", {})).get("too_long", 0))
        words = say("{n} over {limit}", "{n} 行超过 {limit}", n=count(over), limit=count(limit))
        self.note.setText(tr(words if over else say("none over {limit}", "均未超过 {limit}", limit=count(limit))))
        self._lengths.put(
            [
                (say("Half of the rows at most", "半数行不超过"), _tokens(lengths.get("p50", 0))),
                (say("95 of 100 rows at most", "95% 的行不超过"), _tokens(lengths.get("p95", 0))),
                (say("Longest", "最长"), _tokens(lengths.get("longest", 0))),
            ]
        )
        self._choice.put(self._context.draft.recipe.data.over_long)
        self._fill_checks(facts)
        self._fill_template(facts)

    def _fill_checks(self, facts: dict[str, Any]) -> None:
        clear(self._checks)
        aside = dict(facts.get("set_aside", {}))
        for reason, rows in aside.items():
            self._check(reason_label(reason), int(rows), reason)
        if facts.get("cut"):
            self._check(say("cut at the end", "结尾被截断"), int(facts["cut"]), "cut")
        for problem in facts.get("problems", []):
            self._remark(problem, aside)
        if facts.get("held_out"):
            self._check_held_out(int(facts.get("in_training", 0)))
        for reason in ("duplicate", "empty_answer"):
            if reason not in aside:
                self._fine(reason_label(reason))

    def _check_held_out(self, asked_in_training: int) -> None:
        if asked_in_training:
            self._check(IN_TRAINING, asked_in_training, "in_training", FLATTERS)
        else:
            self._fine(IN_TRAINING)

    def _fine(self, words: Text) -> None:
        """A check that found nothing."""
        name = tr(words)
        self._checks.addLayout(row(label(name[:1].upper() + name[1:], "muted"), None, label("✓ 0", "good")))

    def _check(self, words: Text, rows: int, status: str, warning: Text = NOTHING) -> None:
        """One line with how many rows it is about; pressing it shows them. A warning stands below it."""
        name = tr(words)
        link = button(name[:1].upper() + name[1:], partial(self._show_only, status), "link")
        link.setToolTip(tr(say("Show these rows", "显示这些行")))
        number = label(f"⚠ {count(rows)}" if warning else count(rows), "warn" if warning else "strong")
        self._checks.addLayout(row(link, None, number))
        if warning:
            self._checks.addWidget(self._warning(warning))

    def _warning(self, words: Text) -> QLabel:
        made = label(words, "facts", wrap=True)
        made.setToolTip(tr(MEASURE_FAIRLY))
        return made

    def _remark(self, problem: dict[str, Any], aside: dict[str, int]) -> None:
        """What the checks say of the data as a whole; rows set aside are counted above."""
        code = str(problem.get("code", "")).removeprefix("data.")
        if code in aside or code == "cut":
            return
        text = label(as_text(problem.get("message", "")), "", wrap=True)
        text.setToolTip(tr(as_text(problem.get("hint", ""))))
        self._checks.addWidget(text)

    def _fill_template(self, facts: dict[str, Any]) -> None:
        template = facts.get("template")
        if not template:
            self._template.put([])
            self._reason.setText("")
            return
        name = str(template["name"])
        own = say("the model's own", "模型自带")
        self._template.put([(say("Chat template", "对话模板"), own if name == "model" else name)])
        self._reason.setText(tr(as_text(template.get("reason", ""))))


def _tokens(number: float) -> Text:
    return say("{n} tokens", "{n} 词元", n=count(number))
