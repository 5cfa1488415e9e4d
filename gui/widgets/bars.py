"""Bars that show a share of something: of the memory by part, or one figure of a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetrics, QPainter, QPainterPath, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from gui.theme.apply import colour, palette, text_font


class ThinBar(QWidget):
    """One share, 0 to 1, as a thin rounded bar; with a second, paler share behind it when given."""

    def __init__(self, height: int = 7) -> None:
        super().__init__()
        self._share, self._behind = 0.0, 0.0
        self.setFixedHeight(height)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def put(self, share: float | None, *, behind: float = 0.0) -> None:
        """Show another share."""
        self._share, self._behind = min(1.0, max(0.0, share or 0.0)), behind
        self.setAccessibleName(f"{round(self._share * 100)}%")
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the bar."""
        painter = QPainter(self)
        paint_shares(painter, QRectF(self.rect()), [(self._share, colour("accent"))], self._behind)


def paint_shares(painter: QPainter, rect: QRectF, shares: Sequence[tuple[float, QColor]], behind: float = 0.0) -> None:
    """Draw shares of a whole side by side in a rounded bar."""
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    path = QPainterPath()
    radius = min(4.0, rect.height() / 2)
    path.addRoundedRect(rect, radius, radius)
    painter.setClipPath(path)
    painter.fillRect(rect, colour("track"))
    if behind:
        pale = QColor(palette().series[4])
        painter.fillRect(QRectF(rect.left(), rect.top(), rect.width() * behind, rect.height()), pale)
    left = rect.left()
    for share, ink in shares:
        width = rect.width() * share
        painter.fillRect(QRectF(left, rect.top(), width, rect.height()), ink)
        left += width


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a stacked bar: its name, its size, and the size in words."""

    name: str
    value: float
    words: str


class StackedBar(QWidget):
    """Parts of a whole side by side, with a legend below that wraps where there is no room.

    Args:
        legend: leave it out where another bar beside this one has it.
    """

    _BAR = 20
    _LINE = 22
    _THIN = 12

    def __init__(self, *, legend: bool = True) -> None:
        super().__init__()
        self._has_legend = legend
        self._parts: list[Part] = []
        self._whole = 1.0
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)

    def put(self, parts: list[Part], whole: float) -> None:
        """Show other parts of another whole (same unit); parts beyond the whole shrink the bar's scale."""
        self._parts = parts
        self._whole = max(whole, sum(part.value for part in parts), 1e-9)
        self.setAccessibleName(", ".join(f"{part.name} {part.words}" for part in parts))
        self.updateGeometry()
        self.update()

    def heightForWidth(self, width: int) -> int:
        """The bar and as many legend lines as the width asks for."""
        if not self._has_legend:
            return self._THIN
        lines = 1 + max((line for _, line, _ in self._places(width)), default=0)
        return self._BAR + 10 + lines * self._LINE

    def sizeHint(self) -> QSize:
        """Height for the present width."""
        return QSize(400, self.heightForWidth(self.width() or 400))

    def _places(self, width: int) -> list[tuple[int, int, Part]]:
        """x, line and part of each legend entry."""
        plain, bold = QFontMetrics(text_font(12)), QFontMetrics(text_font(12, QFont.Weight.Bold))
        places, x, line = [], 0, 0
        for part in self._parts:
            needed = 15 + plain.horizontalAdvance(part.name) + 5 + bold.horizontalAdvance(part.words) + 22
            if x and x + needed - 22 > width:
                x, line = 0, line + 1
            places.append((x, line, part))
            x += needed
        return places

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw bar and legend."""
        inks = [QColor(ink) for ink in palette().series]
        shares = [(part.value / self._whole, inks[i % len(inks)]) for i, part in enumerate(self._parts)]
        painter = QPainter(self)
        paint_shares(painter, QRectF(0, 0, self.width(), self._BAR if self._has_legend else self._THIN), shares)
        if not self._has_legend:
            return
        painter.setClipping(False)
        for i, (x, line, part) in enumerate(self._places(self.width())):
            self._entry(painter, x, self._BAR + 10 + line * self._LINE, part, inks[i % len(inks)])

    def _entry(self, painter: QPainter, x: int, y: int, part: Part, ink: QColor) -> None:
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(ink)
        painter.drawRoundedRect(QRectF(x, y + 6, 9, 9), 2, 2)
        painter.setPen(colour("text"))
        painter.setFont(text_font(12))
        painter.drawText(x + 15, y + 15, part.name)
        offset = x + 15 + painter.fontMetrics().horizontalAdvance(part.name) + 5
        painter.setFont(text_font(12, QFont.Weight.Bold))
        painter.drawText(offset, y + 15, part.words)
