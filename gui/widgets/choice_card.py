"""A choice among few, each in a box of its own: name, what it is, what it costs. Radio buttons in card's clothes."""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QEnterEvent, QFont, QFontMetrics, QPainter, QPaintEvent, QPen, QResizeEvent, QTextLayout
from PySide6.QtWidgets import QAbstractButton, QButtonGroup, QSizePolicy, QVBoxLayout, QWidget

from engine.protocol.text import Text
from gui.i18n.language import tr
from gui.theme.apply import colour, text_font
from gui.widgets.basic import plain_tip
from gui.widgets.chip import chip_width, paint_chip

_PAD = 12
_INDENT = 22
LINE = 17
"""Height of a line of the explanation."""
TOP = 39
"""Height of all above and below it."""


class ChoiceCard(QAbstractButton):
    """One choice. The chosen one has an accent frame and a filled ring, so colour does not stand alone."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.setCheckable(True)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setSizePolicy(policy)
        self._title = self._words = self._right = self._chip = ""
        self._tone = "plain"

    def put(
        self, title: Text | str, words: Text | str, right: str = "", chip: Text | str = "", tone: str = "plain"
    ) -> None:
        """Show other words: title, explanation, costs at the right, a judgement."""
        self._title, self._words, self._right, self._chip, self._tone = tr(title), tr(words), right, tr(chip), tone
        self.setAccessibleName(f"{self._title} {self._chip} {self._right}".strip())
        self.setAccessibleDescription(self._words)
        self.setToolTip(plain_tip(self._words))
        self._fit()
        self.update()

    @property
    def right(self) -> str:
        """The costs shown at the right."""
        return self._right

    def sizeHint(self) -> QSize:
        """Two lines; `_fit` makes it higher where the explanation needs two of its own."""
        return QSize(300, TOP + LINE)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Be as high as the width asks for."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        fits = QFontMetrics(text_font(12)).horizontalAdvance(self._words) <= self._words_room
        self.setFixedHeight(TOP + LINE * (1 if fits else 2))

    @property
    def _room(self) -> int:
        """Pixels beside the ring."""
        return self.width() - 2 * _PAD - _INDENT

    @property
    def _is_chip_below(self) -> bool:
        """Whether the judgement stands beside the explanation, because title and costs leave no room for it."""
        title = QFontMetrics(text_font(13, QFont.Weight.DemiBold)).horizontalAdvance(self._title)
        costs = QFontMetrics(text_font(12)).horizontalAdvance(self._right)
        return bool(self._chip) and title + 8 + chip_width(self._chip) + 10 + costs > self._room

    @property
    def _words_room(self) -> int:
        return self._room - (chip_width(self._chip) + 10 if self._is_chip_below else 0)

    def enterEvent(self, event: QEnterEvent) -> None:
        """Show that it can be pressed."""
        super().enterEvent(event)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw frame, ring and words."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        chosen = self.isChecked()
        edge = colour("accent" if chosen or self.hasFocus() else "accent_line" if self.underMouse() else "line")
        painter.setPen(QPen(edge, 1.6 if self.hasFocus() else 1))
        painter.setBrush(colour("accent_soft" if chosen else "card"))
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(1, 1, -1, -1), 8, 8)
        self._ring(painter, chosen)
        self._write(painter)

    def _ring(self, painter: QPainter, chosen: bool) -> None:
        ring = QRectF(_PAD, 12, 14, 14)
        painter.setPen(QPen(colour("accent" if chosen else "edge"), 1.4))
        painter.setBrush(colour("card"))
        painter.drawEllipse(ring)
        if chosen:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(colour("accent"))
            painter.drawEllipse(ring.adjusted(3.5, 3.5, -3.5, -3.5))

    def _write(self, painter: QPainter) -> None:
        left, width = _PAD + _INDENT, self._room
        bold, plain = text_font(13, QFont.Weight.DemiBold), text_font(12)
        right_width = QFontMetrics(plain).horizontalAdvance(self._right)
        painter.setFont(plain)
        painter.setPen(colour("muted"))
        first = QRectF(left, 8, width, 22)
        painter.drawText(first, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, self._right)
        for number, words in enumerate(broken(self._words, QFontMetrics(plain), self._words_room)):
            line = QRectF(left, 30 + LINE * number, self._words_room, LINE)
            painter.drawText(line, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, words)
        painter.setFont(bold)
        painter.setPen(colour("text"))
        beside = chip_width(self._chip) + 8 if self._chip and not self._is_chip_below else 0
        room = width - right_width - 10 - beside
        title = QFontMetrics(bold).elidedText(self._title, Qt.TextElideMode.ElideRight, room)
        painter.drawText(first, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, title)
        if self._chip:
            x = left + QFontMetrics(bold).horizontalAdvance(title) + 8
            self._paint_chip(painter, x, first.top())

    def _paint_chip(self, painter: QPainter, x: float, top: float) -> None:
        """Behind the title at ``x``, or where that leaves no room, at the right below the costs."""
        width = chip_width(self._chip)
        if self._is_chip_below:
            x, top = _PAD + _INDENT + self._room - width, 29
        paint_chip(painter, QRectF(x, top, width, 22), self._chip, self._tone)


def broken(words: str, metrics: QFontMetrics, width: int) -> list[str]:
    """``words`` in at most two lines of ``width`` pixels; what the second cannot hold ends in "…"."""
    if metrics.horizontalAdvance(words) <= width:
        return [words]
    layout = QTextLayout(words, text_font(12))
    layout.beginLayout()
    first = layout.createLine()
    first.setLineWidth(width)
    layout.endLayout()
    end = first.textLength()
    return [words[:end].rstrip(), metrics.elidedText(words[end:].lstrip(), Qt.TextElideMode.ElideRight, width)]


class ChoiceList(QWidget):
    """Cards below each other, one of them chosen; arrow keys move between them."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.group = QButtonGroup(self)
        self.cards = {name: ChoiceCard(name) for name in names}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        for card in self.cards.values():
            self.group.addButton(card)
            layout.addWidget(card)

    def choose(self, name: str) -> None:
        """Mark one as chosen; nothing is told."""
        if name in self.cards:
            self.cards[name].setChecked(True)

    @property
    def chosen(self) -> str:
        """Name of the chosen card, empty when none is."""
        return next((name for name, card in self.cards.items() if card.isChecked()), "")
