"""The Runs page's comparison: curves of several runs over each other, and a table of what is not the same in all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QGridLayout, QVBoxLayout, QWidget

from engine.methods.registry import METHODS
from engine.protocol.errors import Failure
from engine.protocol.text import Text, as_text, say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import NONE, count, duration, figure, gib
from gui.pages.plan_words import label_of, value_words
from gui.pages.runs_words import gain_words, status_of, steps_words
from gui.theme.apply import palette
from gui.widgets.basic import ElidedLabel, clear, column, holder, label, row, rule
from gui.widgets.card import Card
from gui.widgets.plots import LinePlot
from gui.widgets.scroll import Sheet, scrolled

if TYPE_CHECKING:
    from engine.project.runs import Difference, RunRow
    from engine.protocol.state import JobState
    from gui.state.runs_list import Compared

SMOOTH = 0.85
INKS = (0, 3, 5, 6, 1, 4)
"""Of the palette's series: neighbours can be told apart."""
LEAST_PLOT = 170
NAMES: dict[str, Text] = {
    "model.source": say("Base model", "基础模型"),
    "data.files": say("Data", "数据"),
    "method.name": say("Method", "方法"),
    "objective.name": say("Objective", "目标"),
}
"""Of settings whose field has no words of its own, because no form shows them."""


class Swatch(QWidget):
    """A dot in the colour of a curve."""

    def __init__(self, ink: int) -> None:
        super().__init__()
        self._ink = ink
        self.setFixedSize(QSize(12, 12))

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the dot."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(_colour(self._ink))
        painter.drawEllipse(1, 1, 10, 10)


def _colour(ink: int) -> Any:
    from PySide6.QtGui import QColor

    return QColor(palette().series[ink])


class CompareView(QWidget):
    """Renders `Compared`: training and held-out losses side by side, and below them the table."""

    def __init__(self, context: AppContext) -> None:
        super().__init__()
        self._context = context
        self._shown: Compared | None = None
        self._plots = QVBoxLayout()
        self._table = QGridLayout()
        self._table.setContentsMargins(0, 0, 8, 0)
        self._table.setHorizontalSpacing(14)
        self._table.setVerticalSpacing(6)
        self._same = label(say("The recipes are the same.", "配方完全相同。"), "muted")
        inner = column(holder(self._table), self._same, None, spacing=8)
        card = Card(say("What came of it, and what differs", "结果与不同的设置"), "", scrolled(Sheet(inner)))
        body = column(self._plots, card, spacing=14)
        body.setContentsMargins(0, 0, 0, 0)
        body.setStretch(0, 5)
        body.setStretch(1, 4)
        self.setLayout(body)

    @property
    def lines(self) -> list[list[str]]:
        """The table as it stands, line by line."""
        found = []
        for line in range(self._table.rowCount()):
            items = [self._table.itemAtPosition(line, at) for at in range(self._table.columnCount())]
            words = [item.widget().property("words") for item in items if item is not None]  # type: ignore[union-attr]
            found.append([text for text in words if isinstance(text, str)])
        return [line for line in found if line]

    def fill(self, compared: Compared) -> None:
        """Show other runs."""
        if compared is self._shown:
            return
        self._shown = compared
        clear(self._plots)
        curves = row(
            self._plot(say("Training loss", "训练损失"), compared, _steps, smooth=SMOOTH),
            self._plot(say("Held-out loss", "留出损失"), compared, _held_out, points=True),
            spacing=14,
        )
        for at in (0, 1):
            curves.setStretch(at, 1)
        self._plots.addLayout(curves)
        self._fill_table(compared)

    def _plot(
        self,
        name: Text,
        compared: Compared,
        values: Callable[[JobState], tuple[list[float], list[float]]],
        *,
        smooth: float = 0.0,
        points: bool = False,
    ) -> Card:
        plot = LinePlot(name, x_label=say("step", "步"))
        plot.setMinimumHeight(LEAST_PLOT)
        plot.not_saved.connect(lambda error: self._context.notices.failure(Failure.of(error)))
        for number, (item, state) in enumerate(zip(compared.rows, compared.states, strict=True)):
            plot.add(str(number), as_text(item.named), ink=INKS[number], smooth=smooth, points=points)
            plot.put(str(number), *values(state))
        card = Card(name, "", plot)
        card.body.setStretch(0, 1)
        return card

    # ----------------------------------------------------------------------------------------------------------- table
    def _fill_table(self, compared: Compared) -> None:
        clear(self._table)
        self._table.setColumnStretch(0, 4)
        for at, item in enumerate(compared.rows, 1):
            self._table.setColumnStretch(at, 3)
            self._table.addWidget(self._head(item, INKS[at - 1]), 0, at)
        line = self._put_lines(1, [self._figures(name, value, compared) for name, value in FIGURES])
        line = self._put_lines(line + 1, [self._setting(item, compared) for item in compared.differing])
        self._table.addWidget(rule(), 1 + len(FIGURES), 0, 1, len(compared.rows) + 1)
        self._same.setVisible(not compared.differing)

    def _head(self, item: RunRow, ink: int) -> QWidget:
        line = row(Swatch(ink), ElidedLabel(item.named, "strong"), spacing=6)
        line.setStretch(1, 1)
        made = holder(line)
        made.setProperty("words", item.named)
        return made

    def _put_lines(self, line: int, rows: list[list[str]]) -> int:
        for cells in rows:
            for at, text in enumerate(cells):
                self._table.addWidget(_cell(text, "muted" if at == 0 else "value"), line, at)
            line += 1
        return line

    def _figures(self, name: Text, value: Callable[[RunRow, JobState], Text | str], compared: Compared) -> list[str]:
        pairs = zip(compared.rows, compared.states, strict=True)
        return [tr(name), *(tr(value(item, state)) for item, state in pairs)]

    def _setting(self, item: Difference, compared: Compared) -> list[str]:
        cells = []
        name: Text | str = NAMES.get(item.name, item.name)
        for recipe, value in zip(compared.recipes, item.values, strict=True):
            words, about = label_of(recipe, item.name)
            name = words if tr(words) and about is not None else name
            known = METHODS.get(str(value)) if item.name == "method.name" else None
            shown = known.label if known else value_words(about, value) if about and value is not None else str(value)
            cells.append(NONE if value is None else tr(shown))
        return [tr(name), *cells]


def _cell(text: str, role: str) -> ElidedLabel:
    made = ElidedLabel(text, role)
    made.setProperty("words", text)
    return made


def _steps(state: JobState) -> tuple[list[float], list[float]]:
    return [float(item.step) for item in state.steps], [item.loss for item in state.steps]


def _held_out(state: JobState) -> tuple[list[float], list[float]]:
    return [float(item.step) for item in state.held_out], [item.loss for item in state.held_out]


def _peak(item: RunRow, state: JobState) -> str:
    held = [step.memory_gib for step in state.steps if step.memory_gib is not None]
    return gib(max(held)) if held else NONE


def _speed(item: RunRow, state: JobState) -> str:
    told = [step.tokens_per_second for step in state.steps if step.tokens_per_second is not None]
    return count(sum(told) / len(told)) if told else NONE


FIGURES: tuple[tuple[Text, Callable[[Any, Any], Text | str]], ...] = (
    (say("State", "状态"), lambda item, state: status_of(item)[0]),
    (say("Best held-out loss", "最佳留出损失"), lambda item, state: figure(item.figures.best_loss, 3)),
    (say("Reached at step", "达到于第几步"), lambda item, state: count(item.figures.best_step) if state.best else NONE),
    (say("Training loss", "训练损失"), lambda item, state: figure(item.figures.loss, 3)),
    (say("Gained by tuning", "微调带来的提升"), lambda item, state: gain_words(item.measured)),
    (say("Steps", "步数"), lambda item, state: steps_words(item.figures)),
    (say("Time", "用时"), lambda item, state: duration(item.figures.seconds) if item.figures.seconds else NONE),
    (say("Tokens per second", "每秒词元"), _speed),
    (say("Peak memory", "内存峰值"), _peak),
)
