"""Two shares of the same thing, one bar each: before and after."""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from engine.protocol.text import Text
from gui.i18n.language import tr
from gui.i18n.numbers import percent
from gui.theme.apply import colour, text_font
from gui.widgets.basic import plain_tip

_LINE = 30
_BAR = 7
_NAME, _VALUE = 0.34, 58


class PairBars(QWidget):
    """Lines of a name, a grey bar for before, a coloured one for after below it, and the share after."""

    def __init__(self) -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._lines: list[tuple[str, float, float]] = []

    def put(self, lines: list[tuple[Text | str, float, float]]) -> None:
        """Show (name, before, after), each share 0 to 1."""
        self._lines = [(tr(name), before, after) for name, before, after in lines]
        words = [f"{name}: {percent(before)} → {percent(after)}" for name, before, after in self._lines]
        self.setAccessibleName("; ".join(words))
        self.setToolTip(plain_tip("\n".join(words)))
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        """A line for each."""
        return QSize(200, _LINE * len(self._lines))

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the lines."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        for number, line in enumerate(self._lines):
            self._line(painter, QRectF(0, number * _LINE, self.width(), _LINE), *line)

    def _line(self, painter: QPainter, area: QRectF, name: str, before: float, after: float) -> None:
        left = area.width() * _NAME
        bars = QRectF(left, area.top() + 6, area.width() - left - _VALUE, _BAR)
        for share, ink, top in ((before, "faint", 0), (after, "accent", _BAR + 3)):
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(colour("track"))
            painter.drawRoundedRect(bars.translated(0, top), 3, 3)
            painter.setBrush(colour(ink))
            width = max(3.0, bars.width() * min(1.0, max(0.0, share)))
            painter.drawRoundedRect(QRectF(bars.left(), bars.top() + top, width, _BAR), 3, 3)
        self._words(painter, area, name, percent(after))

    def _words(self, painter: QPainter, area: QRectF, name: str, value: str) -> None:
        painter.setPen(colour("text"))
        painter.setFont(text_font(12))
        middle = Qt.AlignmentFlag.AlignVCenter
        shown = painter.fontMetrics().elidedText(name, Qt.TextElideMode.ElideRight, int(area.width() * _NAME) - 8)
        painter.drawText(area, Qt.AlignmentFlag.AlignLeft | middle, shown)
        painter.drawText(area, Qt.AlignmentFlag.AlignRight | middle, value)
