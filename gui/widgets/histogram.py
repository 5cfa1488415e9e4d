"""How long the rows are, with the limit drawn in: few bars, no plotting library."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from engine.protocol.text import say
from gui.i18n.language import tr
from gui.i18n.numbers import count
from gui.theme.apply import colour, palette, text_font

_FOOT = 18
_HEAD = 14


class Histogram(QWidget):
    """Bars of row counts by length in tokens; those beyond the limit have another colour and the limit's line."""

    def __init__(self) -> None:
        super().__init__()
        self._bins: list[int] = []
        self._edges: list[float] = []
        self._limit = 0
        self.setMouseTracking(True)
        self.setMinimumHeight(120)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)

    def put(self, bins: Sequence[int], edges: Sequence[float], limit: int) -> None:
        """Show other counts; ``edges`` has one more value than ``bins``."""
        self._bins, self._edges, self._limit = list(bins), list(edges), limit
        words = say(
            "Lengths of {n} rows; the limit is {limit} tokens",
            "{n} 行的长度；上限 {limit} 词元",
            n=sum(bins),
            limit=limit,
        )
        self.setAccessibleName(tr(words))
        self.update()

    def sizeHint(self) -> QSize:
        """As in the sketch."""
        return QSize(280, 140)

    def _x(self, length: float) -> float:
        """Where a length stands on the axis."""
        low, high = self._edges[0], max(self._edges[-1], 1.0)
        return (length - low) / max(high - low, 1e-9) * self.width()

    def _bar(self, number: int) -> QRectF:
        left, right = self._x(self._edges[number]), self._x(self._edges[number + 1])
        room = self.height() - _FOOT - _HEAD
        value = self._bins[number]
        high = max(2.0, room * value / max(self._bins)) if value else 0.0
        return QRectF(left + 1, self.height() - _FOOT - high, max(1.5, right - left - 2), high)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw bars, axis and limit."""
        if not self._bins or len(self._edges) != len(self._bins) + 1:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        inside, beyond = QColor(palette().series[1]), QColor(palette().series[3])
        for number in range(len(self._bins)):
            painter.setBrush(beyond if self._edges[number] >= self._limit else inside)
            painter.drawRoundedRect(self._bar(number), 2, 2)
        self._axis(painter)
        self._limit_line(painter)

    def _axis(self, painter: QPainter) -> None:
        foot = self.height() - _FOOT
        painter.setPen(QPen(colour("line"), 1))
        painter.drawLine(QPointF(0, foot + 0.5), QPointF(self.width(), foot + 0.5))
        painter.setFont(text_font(11))
        painter.setPen(colour("muted"))
        area = QRectF(0, foot + 2, self.width(), _FOOT - 2)
        first = tr(say("{n} tokens", "{n} 词元", n=count(self._edges[0])))
        painter.drawText(area, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, first)
        painter.drawText(area, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, count(self._edges[-1]))

    def _limit_line(self, painter: QPainter) -> None:
        if not self._edges[0] <= self._limit <= self._edges[-1]:
            return
        x = min(self._x(self._limit), self.width() - 1.0)
        painter.setPen(QPen(QColor(palette().series[3]), 1.5, Qt.PenStyle.DotLine))
        painter.drawLine(QPointF(x, 2), QPointF(x, self.height() - _FOOT))
        painter.setPen(colour("muted"))
        words = tr(say("limit {n}", "上限 {n}", n=count(self._limit)))
        width = painter.fontMetrics().horizontalAdvance(words)
        left = x - width - 6 if x > width + 8 else x + 6
        painter.drawText(QPointF(left, 11), words)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Say how many rows the bar under the pointer stands for."""
        for number in range(len(self._bins) if len(self._edges) == len(self._bins) + 1 else 0):
            bar = self._bar(number)
            if bar.left() - 1 <= event.position().x() <= bar.right() + 1:
                low, high = count(self._edges[number]), count(self._edges[number + 1])
                words = say(
                    "{n} rows of {low} to {high} tokens",
                    "{low} 至 {high} 词元：{n} 行",
                    n=count(self._bins[number]),
                    low=low,
                    high=high,
                )
                QToolTip.showText(event.globalPosition().toPoint(), tr(words), self)
                return
