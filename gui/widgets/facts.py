"""Facts as rows: what on the left, how much on the right."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QLabel, QSizePolicy, QWidget

from engine.protocol.text import Text
from gui.i18n.language import tr
from gui.widgets.basic import label, set_role

Fact = tuple[Text | str, Text | str] | tuple[Text | str, Text | str, str]
"""Name, value, and the value's role when it is not the usual one (\"good\", \"warn\", \"bad\")."""


class Facts(QWidget):
    """A list of facts; values wrap where they need two lines.

    Args:
        spacing: pixels between the lines.
        columns: facts side by side.
        inline: values stand right behind their names, not at the other end of their column.
    """

    def __init__(self, *, spacing: int = 7, columns: int = 1, inline: bool = False) -> None:
        super().__init__()
        self._columns, self._inline = columns, inline
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(14)
        self._grid.setVerticalSpacing(spacing)
        for number in range(columns):
            self._grid.setColumnStretch(2 * number + 1, 1)
        self._values: dict[str, QLabel] = {}

    def put(self, facts: Sequence[Fact]) -> None:
        """Show facts (name, value, role of the value); widgets are kept where the names stay the same."""
        names = [tr(fact[0]) for fact in facts]
        if names != list(self._values):
            self._rebuild(names)
        for fact in facts:
            value = self._values[tr(fact[0])]
            value.setText(tr(fact[1]))
            set_role(value, fact[2] if len(fact) > 2 else "value")

    def value(self, name: Text | str) -> str:
        """The value shown beside a name, empty when the name is not there."""
        found = self._values.get(tr(name))
        return found.text() if found is not None else ""

    def _rebuild(self, names: list[str]) -> None:
        while (item := self._grid.takeAt(0)) is not None:
            if (old := item.widget()) is not None:
                old.hide()
                old.deleteLater()
        self._values = {}
        for line, name in enumerate(names):
            key = label(name, "muted")
            key.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
            value = label("", "value", wrap=True, selectable=True)
            side = Qt.AlignmentFlag.AlignLeft if self._inline else Qt.AlignmentFlag.AlignRight
            value.setAlignment(side | Qt.AlignmentFlag.AlignTop)
            value.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
            value.setAccessibleName(name)
            at, place = divmod(line, self._columns)
            self._grid.addWidget(key, at, 2 * place)
            self._grid.addWidget(value, at, 2 * place + 1)
            self._values[name] = value
