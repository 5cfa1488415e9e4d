"""Lorimer's icon, painted: a falling curve in a ring, as sharp at 16 points as at 256."""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QIcon, QPainter, QPainterPath, QPen, QPixmap

from gui.theme.palette import LIGHT

SIZES = (16, 24, 32, 48, 64, 128, 256)


def app_icon() -> QIcon:
    """The icon of the window and of its notifications, the same in both themes: it stands on the system's ground."""
    icon = QIcon()
    for size in SIZES:
        icon.addPixmap(_painted(size))
    return icon


def _painted(size: int) -> QPixmap:
    pixmap = QPixmap(size, size)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.scale(size, size)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(LIGHT.accent))
    painter.drawRoundedRect(QRectF(0.03, 0.03, 0.94, 0.94), 0.22, 0.22)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.setPen(QPen(QColor("white"), 0.1, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap))
    curve = QPainterPath(QPointF(0.22, 0.22))
    curve.cubicTo(QPointF(0.30, 0.68), QPointF(0.48, 0.74), QPointF(0.80, 0.76))
    painter.drawPath(curve)
    painter.end()
    return pixmap
