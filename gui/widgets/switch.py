"""A choice among very few, all of them in view side by side."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QButtonGroup, QFrame, QHBoxLayout, QToolButton

from engine.protocol.text import Text
from gui.i18n.language import tr
from gui.widgets.basic import add_shortcut, tool


class Switch(QFrame):
    """The choice. Arrow keys move within it.

    Args:
        name: what is chosen, for those who cannot see it.
        choices: name, words and shortcut of each.

    Signals:
        chosen(str): the user chose another.
    """

    chosen = Signal(str)

    def __init__(self, name: Text, choices: Sequence[tuple[str, Text, str]]) -> None:
        super().__init__()
        self.setProperty("role", "segments")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(2, 2, 2, 2)
        layout.setSpacing(2)
        self._group = QButtonGroup(self)
        self.buttons: dict[str, QToolButton] = {}
        for each, words, shortcut in choices:
            made = tool(words, role="segment")
            made.setCheckable(True)
            made.setAccessibleName(f"{tr(name)}: {tr(words)}")
            add_shortcut(made, shortcut)
            self._group.addButton(made)
            self.buttons[each] = made
            layout.addWidget(made)
        self.setAccessibleName(tr(name))
        self._group.buttonClicked.connect(self._tell)

    @property
    def current(self) -> str:
        """Name of what is chosen, empty when nothing is."""
        return next((name for name, made in self.buttons.items() if made.isChecked()), "")

    def put(self, name: str) -> None:
        """Show what is chosen; nothing is told."""
        self.buttons[name].setChecked(True)

    def _tell(self) -> None:
        self.chosen.emit(self.current)
