"""A scroll area without a frame, which only scrolls down."""

from __future__ import annotations

from PySide6.QtCore import QEvent, Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QFrame, QLayout, QScrollArea, QWidget


def scrolled(inner: QWidget) -> QScrollArea:
    """``inner`` in a scroll area that is as wide as its place."""
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    area.setWidget(inner)
    return area


def read_by_scrolling(inner: QWidget) -> QScrollArea:
    """A part of a card that scrolls where it is higher than its place, also by keyboard."""
    made = scrolled(inner)
    made.setProperty("role", "read")
    made.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    return made


class Sheet(QWidget):
    """What lies in a scroll area: never lower than its contents need at its width. A scroll area asks for the least
    height alone, which texts that wrap cannot tell before they have a width.
    """

    def __init__(self, layout: QLayout) -> None:
        super().__init__()
        self.setLayout(layout)

    def event(self, event: QEvent) -> bool:
        """Contents that change may need another height."""
        handled = super().event(event)
        if event.type() in (QEvent.Type.LayoutRequest, QEvent.Type.Show):
            self._fit()
        return handled

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Another width may need another height."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        layout = self.layout()
        if layout is None:
            return
        needed = layout.totalHeightForWidth(self.width()) if layout.hasHeightForWidth() else -1
        self.setMinimumHeight(max(needed, layout.totalMinimumSize().height()))
        if layout.geometry().height() != self.height():
            layout.invalidate()  # it was asked for its size meanwhile, and thinks that it is laid out
            layout.activate()
