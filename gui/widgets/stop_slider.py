"""A slider over stops of unlike distance, whose groove shows at which of them a run fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QWheelEvent
from PySide6.QtWidgets import QSizePolicy, QSlider, QToolTip

from gui.theme.apply import colour
from gui.widgets.chip import BAD, WARN

_HANDLE = 7
_HEIGHT = 22


@dataclass(frozen=True, slots=True)
class Stop:
    """One stop.

    Attributes:
        value: what it stands for.
        words: what it needs, for the tip and for those who cannot see the groove.
        tone: "" where it fits, WARN where closely, BAD where it does not.
    """

    value: Any
    words: str
    tone: str = ""


class StopSlider(QSlider):
    """The slider. A stop that does not fit is crossed out, one that fits closely a ring: colour does not stand alone.

    Signals:
        chosen(object): the user moved to a stop; its value.
    """

    chosen = Signal(object)

    def __init__(self) -> None:
        super().__init__(Qt.Orientation.Horizontal)
        self._stops: tuple[Stop, ...] = ()
        self.setRange(0, 0)
        self.setPageStep(2)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFixedHeight(_HEIGHT)
        self.valueChanged.connect(self._tell)

    @property
    def stops(self) -> tuple[Stop, ...]:
        """The stops there are now."""
        return self._stops

    def put(self, stops: Sequence[Stop], value: Any) -> None:
        """Show other stops and stand at the one with ``value``, else where it stood; nothing is told."""
        self._stops = tuple(stops)
        self.blockSignals(True)
        self.setRange(0, max(0, len(stops) - 1))
        self.setValue(next((at for at, stop in enumerate(stops) if stop.value == value), self.value()))
        self.blockSignals(False)
        self.setAccessibleDescription(self._words(self.value()))
        self.update()

    def sizeHint(self) -> QSize:
        """Wide enough for a handful of stops."""
        return QSize(120, _HEIGHT)

    def minimumSizeHint(self) -> QSize:
        """Narrower where there is no room."""
        return QSize(60, _HEIGHT)

    def _tell(self, at: int) -> None:
        if at < len(self._stops):
            self.chosen.emit(self._stops[at].value)

    def _words(self, at: int) -> str:
        return self._stops[at].words if at < len(self._stops) else ""

    # -------------------------------------------------------------------------------------------------------- pointing
    def _x(self, at: int) -> float:
        """Where a stop lies."""
        room = self.width() - 2 * _HANDLE - 2
        return _HANDLE + 1 + room * (at / self.maximum() if self.maximum() else 0.5)

    def _nearest(self, x: float) -> int:
        return min(range(self.maximum() + 1), key=lambda at: abs(self._x(at) - x))

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Go to the stop under the pointer."""
        if event.button() == Qt.MouseButton.LeftButton:
            self.setFocus(Qt.FocusReason.MouseFocusReason)
            self.setValue(self._nearest(event.position().x()))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Follow the pointer while it is pressed; else say what the stop under it needs."""
        at = self._nearest(event.position().x())
        if event.buttons() & Qt.MouseButton.LeftButton:
            self.setValue(at)
        elif self._words(at):
            QToolTip.showText(event.globalPosition().toPoint(), self._words(at), self)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Nothing more is to be done."""

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Leave the wheel to the page unless the slider has the focus."""
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Arrow keys move by one stop, in the direction that they point."""
        steps = {Qt.Key.Key_Up: 1, Qt.Key.Key_Right: 1, Qt.Key.Key_Down: -1, Qt.Key.Key_Left: -1}
        step = steps.get(Qt.Key(event.key()))
        if step is None:
            super().keyPressEvent(event)
        else:
            self.setValue(self.value() + step)

    # -------------------------------------------------------------------------------------------------------- painting
    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the groove, the stops, and the handle."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        middle = self.height() / 2
        self._groove(painter, middle)
        for at, stop in enumerate(self._stops):
            if at != self.value():
                _mark(painter, QPointF(self._x(at), middle), stop.tone, passed=at < self.value())
        self._handle(painter, middle)

    def _groove(self, painter: QPainter, middle: float) -> None:
        first, here, last = self._x(0), self._x(self.value()), self._x(self.maximum())
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(colour("track"))
        painter.drawRoundedRect(QRectF(first - 2, middle - 2, last - first + 4, 4), 2, 2)
        painter.setBrush(colour("accent" if self.isEnabled() else "faint"))
        painter.drawRoundedRect(QRectF(first - 2, middle - 2, here - first + 4, 4), 2, 2)

    def _handle(self, painter: QPainter, middle: float) -> None:
        tone = self._stops[self.value()].tone if self.value() < len(self._stops) else ""
        ink = {BAD: "bad", WARN: "warn"}.get(tone, "accent")
        at = QPointF(self._x(self.value()), middle)
        if self.hasFocus():
            painter.setPen(QPen(colour("text"), 1.4))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawEllipse(at, _HANDLE + 0.5, _HANDLE + 0.5)
        painter.setPen(QPen(colour("card"), 2))
        painter.setBrush(colour(ink if self.isEnabled() else "faint"))
        painter.drawEllipse(at, _HANDLE - 1, _HANDLE - 1)


def _mark(painter: QPainter, at: QPointF, tone: str, *, passed: bool) -> None:
    """A dot, a ring or a cross on the groove."""
    if tone == BAD:
        painter.setPen(QPen(colour("bad"), 1.4))
        for slope in (1, -1):
            painter.drawLine(QPointF(at.x() - 3, at.y() - 3 * slope), QPointF(at.x() + 3, at.y() + 3 * slope))
        return
    painter.setPen(QPen(colour("warn"), 1.4) if tone == WARN else Qt.PenStyle.NoPen)
    painter.setBrush(colour("card" if tone == WARN or passed else "edge"))
    painter.drawEllipse(at, 2.5 if tone == WARN else 1.5, 2.5 if tone == WARN else 1.5)
