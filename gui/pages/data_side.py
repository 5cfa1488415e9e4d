"""The Data page's right side: how long the rows are, what happens to over-long ones, and what the checks found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PySide6.QtWidgets import QHBoxLayout

from engine.protocol.text import Text, say
from engine.recipe.fields import settings
from engine.recipe.recipe import DataSettings
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import count, percent
from gui.operations import rows as operations
from gui.operations.operation import attempt
from gui.pages.data_checks import Checks
from gui.widgets.basic import ElidedLabel, button, label, rename, row, rule
from gui.widgets.card import Card
from gui.widgets.editors import ChoiceEditor
from gui.widgets.histogram import Histogram

WIDTH = 312
NO_MODEL = say("Estimated from the characters until a model is chosen.", "选择模型之前按字符估算。")
COUNT = say("Count exactly", "精确计算")


class SideCard(Card):
    """Renders the data's facts.

    Args:
        show_only: shows only the rows of a status, a reason or a check.
    """

    def __init__(self, context: AppContext, show_only: Callable[[str], object]) -> None:
        super().__init__(say("Length in tokens", "长度（词元）"), " ")
        self._context = context
        self._facts: dict[str, Any] = {}
        self.setFixedWidth(WIDTH)
        self.histogram = Histogram()
        self.histogram.setMinimumHeight(64)
        self.histogram.setMaximumHeight(130)
        self._over = button("", lambda: show_only("over"), "link", shortcut="Ctrl+Shift+V", tip=OVER_TIP)
        self.corner(self._over)
        self._lengths = ElidedLabel("", "facts")
        self._estimated = label("", "facts", wrap=True)
        self._count = button(COUNT, lambda: operations.count_tokens(context), "link", shortcut="Ctrl+Shift+M")
        guess = row(self._estimated, self._count)
        guess.setStretch(0, 1)
        self.checks = Checks(context, show_only)
        for item in (self.histogram, self._lengths):
            self.body.addWidget(item)
        self.body.addLayout(guess)
        self.body.addLayout(self._over_long())
        self.body.addWidget(rule())
        self.body.addWidget(self.checks, 1)

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
        """Other facts are there."""
        self._facts = facts
        lengths, limit = dict(facts.get("lengths", {})), int(facts.get("limit", 0))
        self.histogram.put(list(lengths.get("counts", [])), list(lengths.get("edges", [])), limit)
        self._lengths.setText(tr(_in_a_line(lengths)))
        self._show_over(limit)
        self._choice.put(self._context.draft.recipe.data.over_long)
        self.checks.fill(facts)
        self.show_work()

    def _show_over(self, limit: int) -> None:
        over = int(self._facts.get("over", self._facts.get("cut", 0)))
        self._over.setVisible(bool(over))
        self.note.setVisible(not over)
        rename(self._over, say("{n} over {limit}", "{n} 行超过 {limit}", n=count(over), limit=count(limit)))
        none = say("none over {limit}", "均未超过 {limit}", limit=count(limit))
        first = say("of the first {n} rows", "前 {n} 行", n=count(self._facts.get("total", 0)))
        self.note.setText(tr(none if self._context.data.is_scanned else first))

    def show_work(self) -> None:
        """How exact the lengths are, and how far the checks are."""
        error = self._facts.get("error")
        words: Text | str = NO_MODEL if self._facts.get("estimate") else ""
        if error is not None:
            share = percent(error)
            words = say("Estimated: 95 of 100 rows within {n}.", "估算值：95% 的行误差在 {n} 以内。", n=share)
        self._estimated.setText(tr(words))
        self._estimated.setVisible(bool(words))
        self._count.setVisible(error is not None and not self._context.data.counting.is_working)
        self.checks.show_work()


OVER_TIP = say("Show the rows that are longer than the limit", "显示超过上限的行")


def _in_a_line(lengths: dict[str, Any]) -> Text:
    values = {name: count(lengths.get(name, 0)) for name in ("p50", "p95", "longest")}
    return say(
        "half ≤ {p50} · 95% ≤ {p95} · longest {longest}", "半数 ≤ {p50} · 95% ≤ {p95} · 最长 {longest}", **values
    )
