"""The Plan page's comparison: the recipe kept as A beside the draft, B: memory, time, disk, and what differs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QLabel, QWidget

from engine.methods.registry import METHODS
from engine.protocol.text import Text, say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import count, duration, gib, size
from gui.operations import plan_compare as operations
from gui.pages.plan_words import bar_parts, change_words, label_of, value_words, verdict
from gui.widgets.bars import StackedBar
from gui.widgets.basic import ElidedLabel, button, clear, column, holder, label, row, rule
from gui.widgets.chip import Chip
from gui.widgets.scroll import Sheet, scrolled

if TYPE_CHECKING:
    from engine.machine.forecast import Forecast
    from engine.recipe.recipe import Recipe

OFFER = say(
    "Keep the recipe as it stands as A. Then change what you like: here A and B stand side by side, with the memory, "
    "the time and the disk that each needs, and every setting that differs. Or take another recipe as A:",
    "先把当前配方存为 A，再随意修改：这里并排显示 A 与 B 的内存、时间、磁盘和不同的设置。也可用其他配方作 A：",
)
ALIKE = say("A and B are the same recipe.", "A 与 B 是同一个配方。")


class ComparePanel(QWidget):
    """Renders `gui.state.plan.PlanState.kept` beside the draft."""

    def __init__(self, context: AppContext) -> None:
        super().__init__()
        self._context = context
        self.keep = button(
            say("Keep as A", "存为 A"), partial(operations.keep, context), "small", shortcut="Ctrl+Shift+A"
        )
        self.swap = button(
            say("Swap A and B", "交换 A 与 B"), partial(operations.swap, context), "small", shortcut="Ctrl+Shift+S"
        )
        self.forget = button(
            say("Forget A", "清除 A"), partial(operations.forget, context), "small", shortcut="Ctrl+Shift+W"
        )
        self.others = {
            "advice": button(say("The advice as A", "以建议为 A"), partial(operations.keep_advice, context), "small"),
            "run": button(
                say("The run's recipe as A", "以训练的配方为 A"), partial(operations.keep_run, context), "small"
            ),
        }
        self._offer, self._change = label(OFFER, "muted", wrap=True), label("", "strong", wrap=True)
        self._offer.setAlignment(Qt.AlignmentFlag.AlignTop)
        self._sides = {name: _Side(name) for name in "AB"}
        self._rows = QGridLayout()
        self._rows.setContentsMargins(0, 0, 0, 0)
        self._rows.setHorizontalSpacing(12)
        self._rows.setVerticalSpacing(5)
        for at, share in enumerate((4, 3, 3)):
            self._rows.setColumnStretch(at, share)
        self._lay_out()

    def _lay_out(self) -> None:
        self._table = holder(column(self._change, rule(), holder(self._rows), spacing=8))
        self._offered = holder(column(self._offer, row(*self.others.values(), None), spacing=10))
        inner = column(*self._sides.values(), self._offered, self._table, None, margins=(0, 0, 8, 0))
        body = column(row(self.keep, self.swap, self.forget, None), scrolled(Sheet(inner)), spacing=10)
        body.setStretch(1, 1)
        self.setLayout(body)

    def controls(self) -> list[QWidget]:
        """What can have the focus, in reading order."""
        return [self.keep, self.swap, self.forget, *self.others.values()]

    @property
    def differences(self) -> list[tuple[str, ...]]:
        """The rows now shown below the head: setting, A's value, B's value."""
        found: list[tuple[str, ...]] = []
        for line in range(1, self._rows.rowCount()):
            items = [self._rows.itemAtPosition(line, at) for at in range(3)]
            widgets = [item.widget() for item in items if item is not None]
            if len(widgets) == 3:
                found.append(tuple(each.text() for each in widgets if isinstance(each, QLabel)))
        return found

    # ---------------------------------------------------------------------------------------------------------- filling
    def fill(self, forecast: Forecast) -> None:
        """The draft, what it needs, or A is another."""
        plan = self._context.plan
        kept, needs = plan.kept, plan.kept_forecast
        has = kept is not None and needs is not None
        for widget in (self._sides["A"], self._table, self.swap, self.forget):
            widget.setVisible(has)
        self._offered.setVisible(not has)
        self.others["run"].setVisible(operations.has_run(self._context))
        recipe = self._context.draft.recipe
        if kept is None or needs is None:
            self._sides["B"].put(recipe, forecast, max(forecast.room.usable_gib, forecast.memory.total))
            return
        whole = max(forecast.room.usable_gib, needs.memory.total, forecast.memory.total)
        self._sides["A"].put(kept.recipe, needs, whole)
        self._sides["B"].put(recipe, forecast, whole)
        differing = operations.differing(kept.recipe, recipe)
        words = say("B against A: {change}", "B 相比 A：{change}", change=change_words(needs, forecast))
        self._change.setText(tr(words if differing else ALIKE))
        self._fill_rows(kept.recipe, recipe, differing)

    def _fill_rows(self, one: Recipe, other: Recipe, differing: list[tuple[str, object, object]]) -> None:
        clear(self._rows)
        for at, text in enumerate(("A", "B") if differing else (), 1):
            self._rows.addWidget(label(text, "strong"), 0, at)
        for line, (name, before, after) in enumerate(differing, 1):
            words, about = label_of(other if after is not None else one, name)
            cells = [tr(words) or name]
            for value in (before, after):
                known = METHODS.get(str(value)) if name == "method.name" else None
                shown = known.label if known else value_words(about, value) if about else str(value)
                cells.append("—" if value is None else tr(shown))
            for at, text in enumerate(cells):
                self._rows.addWidget(ElidedLabel(text, "muted" if at == 0 else "value"), line, at)


class _Side(QWidget):
    """One recipe: its name, its memory bar without a legend, and its costs in a line."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = label(name, "strong")
        self._what = ElidedLabel("", "muted")
        self._chip = Chip()
        self._bar = StackedBar(legend=False)
        self._costs = label("", "facts", wrap=True)
        head = row(self._name, self._what, self._chip, spacing=8)
        head.setStretch(1, 1)
        self.setLayout(column(head, self._bar, self._costs, spacing=4))

    def put(self, recipe: Recipe, needs: Forecast, whole: float) -> None:
        """Show another recipe, its bar as a part of ``whole`` GiB."""
        self._what.setText(tr(METHODS[recipe.method.name].describe(recipe.method)))
        self._chip.put(*verdict(needs))
        self._bar.put(bar_parts(needs), whole)
        costs = costs_words(needs)
        self._costs.setText(tr(costs))


def costs_words(needs: Forecast) -> Text:
    """Memory, time, steps and disk in one line."""
    return say(
        "{memory} · {time} · {steps} steps · disk {disk}",
        "{memory} · {time} · {steps} 步 · 磁盘 {disk}",
        memory=gib(needs.memory.total),
        time=duration(needs.seconds),
        steps=count(needs.steps),
        disk=size(needs.disk_bytes),
    )
