"""Views of one thing that take each other's place, with their names above them."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QButtonGroup, QHBoxLayout, QStackedLayout, QToolButton, QWidget

from engine.protocol.text import Text
from gui.widgets.basic import add_shortcut, tool


class Tabs(QWidget):
    """The views; `bar` holds their names and is put where there is room for it.

    Signals:
        moved(str): another view is in front.
    """

    moved = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._stack = QStackedLayout(self)
        self._stack.setContentsMargins(0, 0, 0, 0)
        self._group = QButtonGroup(self)
        self._names: list[str] = []
        self.buttons: dict[str, QToolButton] = {}
        self.bar = QHBoxLayout()
        self.bar.setSpacing(2)

    def add(self, name: str, words: Text, view: QWidget, *, shortcut: str) -> None:
        """One more view; the first one added is in front."""
        made = tool(words, lambda: self.show_view(name))
        made.setCheckable(True)
        made.setChecked(not self._names)
        add_shortcut(made, shortcut)
        self._group.addButton(made)
        self.bar.addWidget(made)
        self._stack.addWidget(view)
        self._names.append(name)
        self.buttons[name] = made

    @property
    def current(self) -> str:
        """Name of the view in front."""
        return self._names[self._stack.currentIndex()]

    def show_view(self, name: str) -> None:
        """Bring a view to the front."""
        self.buttons[name].setChecked(True)
        self._stack.setCurrentIndex(self._names.index(name))
        self.moved.emit(name)
