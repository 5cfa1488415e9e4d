"""A short judgement or fact in a coloured pill. Colour never stands alone: the word says it too."""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from engine.protocol.text import Text
from gui.i18n.language import tr
from gui.theme.apply import colour, text_font

PLAIN, GOOD, WARN, BAD, ACCENT = "plain", "good", "warn", "bad", "accent"
_HEIGHT = 18
_PAD = 8


def tones(tone: str) -> tuple[QColor, QColor]:
    """Text and ground colour of a tone."""
    names = {
        GOOD: ("good", "good_soft"),
        WARN: ("warn", "warn_soft"),
        BAD: ("bad", "bad_soft"),
        ACCENT: ("accent", "accent_soft"),
    }.get(tone, ("muted", "chip"))
    return colour(names[0]), colour(names[1])


def chip_font() -> QFont:
    """The small letters of a chip."""
    return text_font(11, QFont.Weight.Medium)


def paint_chip(painter: QPainter, rect: QRectF, text: str, tone: str) -> None:
    """Draw a chip, left in ``rect`` and in the middle of its height; the text is shortened where needed."""
    ink, ground = tones(tone)
    metrics = QFontMetricsF(chip_font())
    shown = metrics.elidedText(text, Qt.TextElideMode.ElideRight, rect.width() - 2 * _PAD)
    width = min(rect.width(), metrics.horizontalAdvance(shown) + 2 * _PAD)
    pill = QRectF(rect.left(), rect.center().y() - _HEIGHT / 2, width, _HEIGHT)
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(ground)
    painter.drawRoundedRect(pill, _HEIGHT / 2, _HEIGHT / 2)
    painter.setPen(ink)
    painter.setFont(chip_font())
    painter.drawText(pill, Qt.AlignmentFlag.AlignCenter, shown)
    painter.restore()


def chip_width(text: str) -> int:
    """Pixels that a chip with this text needs."""
    return int(QFontMetricsF(chip_font()).horizontalAdvance(text) + 2 * _PAD + 2)


class Chip(QWidget):
    """A chip as a widget of its own."""

    def __init__(self, text: Text | str = "", tone: str = PLAIN) -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self._text, self._tone = "", tone
        self.put(text, tone)

    def put(self, text: Text | str, tone: str | None = None) -> None:
        """Show another text, in another tone."""
        self._text, self._tone = tr(text), tone or self._tone
        self.setAccessibleName(self._text)
        self.updateGeometry()
        self.update()

    @property
    def text(self) -> str:
        """What it says."""
        return self._text

    def sizeHint(self) -> QSize:
        """As wide as the text needs."""
        return QSize(chip_width(self._text), _HEIGHT + 2)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the pill."""
        if self._text:
            paint_chip(QPainter(self), QRectF(self.rect()), self._text, self._tone)
