"""One step in the sidebar: its number, its sign or a tick, its name, and where it stands in a word."""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QEnterEvent, QFont, QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QAbstractButton, QSizePolicy

from engine.protocol.text import Text
from gui.i18n.language import tr
from gui.state.wizard import Step
from gui.theme.apply import colour, text_font
from gui.widgets.basic import plain_tip

_CIRCLE = 18


class StepButton(QAbstractButton):
    """Checked while its step is looked at.

    Args:
        sign: what stands in the circle of a page beside the wizard, in place of the number.
    """

    def __init__(self, number: int, name: Text, sign: str = "") -> None:
        super().__init__()
        self._sign = sign or str(number)
        self._read = "" if sign else f"{number}. "
        self._step = Step()
        self.setText(tr(name))
        self.setCheckable(True)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def put(self, step: Step) -> None:
        """Show where the step stands."""
        self._step = step
        keys = self.shortcut().toString()
        self.setToolTip(plain_tip(tr(step.waits) or (f"{self.text()} ({keys})" if keys else "")))
        done = "✓ " if step.done else ""
        self.setAccessibleName(f"{self._read}{self.text()} {done}{tr(step.word)}".strip())
        self.setAccessibleDescription(tr(step.waits))
        self.update()

    def sizeHint(self) -> QSize:
        """As high as the sketch has it."""
        return QSize(180, 35)

    def enterEvent(self, event: QEnterEvent) -> None:
        """Show that it can be pressed."""
        super().enterEvent(event)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw ground, circle, name and word."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._ground(painter)
        circle = QRectF(10, (self.height() - _CIRCLE) / 2, _CIRCLE, _CIRCLE)
        (self._tick if self._step.done and not self.isChecked() else self._circled)(painter, circle)
        self._words(painter)

    def _ground(self, painter: QPainter) -> None:
        rect = QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5)
        painter.setPen(Qt.PenStyle.NoPen)
        if self.isChecked():
            painter.setPen(QPen(colour("line"), 1))
            painter.setBrush(colour("card"))
        elif self.underMouse():
            painter.setBrush(colour("hover"))
        else:
            painter.setBrush(Qt.BrushStyle.NoBrush)
        if self.hasFocus():
            painter.setPen(QPen(colour("accent"), 1.5))
        painter.drawRoundedRect(rect, 8, 8)

    def _tick(self, painter: QPainter, circle: QRectF) -> None:
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(colour("accent"))
        painter.drawEllipse(circle)
        x, y = circle.left(), circle.top()
        painter.setPen(QPen(colour("on_accent"), 1.7, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawPolyline(QPolygonF([QPointF(x + 5.4, y + 9.4), QPointF(x + 8, y + 12), QPointF(x + 12.8, y + 6.6)]))

    def _circled(self, painter: QPainter, circle: QRectF) -> None:
        ink: QColor = colour("accent") if self.isChecked() else colour("muted")
        painter.setPen(QPen(ink if self.isChecked() else colour("edge"), 1.2))
        painter.setBrush(colour("card"))
        painter.drawEllipse(circle)
        painter.setPen(ink)
        painter.setFont(text_font(10, QFont.Weight.DemiBold))
        painter.drawText(circle, Qt.AlignmentFlag.AlignCenter, self._sign)

    def _words(self, painter: QPainter) -> None:
        right = self.rect().adjusted(0, 0, -10, 0)
        painter.setFont(text_font(11))
        painter.setPen(colour("muted"))
        word = tr(self._step.word)
        painter.drawText(right, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight, word)
        left = self.rect().adjusted(38, 0, -14 - painter.fontMetrics().horizontalAdvance(word), 0)
        painter.setFont(text_font(13, QFont.Weight.DemiBold if self.isChecked() else QFont.Weight.Medium))
        waiting = bool(self._step.waits) and not self.isChecked()
        painter.setPen(colour("faint") if waiting else colour("text"))
        name = painter.fontMetrics().elidedText(self.text(), Qt.TextElideMode.ElideRight, left.width())
        painter.drawText(left, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, name)
