"""A small table of figures: a few rows that do not scroll, with thin rules between them."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QLabel, QWidget

from engine.protocol.text import Text
from gui.i18n.language import tr
from gui.widgets.basic import clear, label, rule

Cell = Text | str | QWidget | tuple[Text | str, str]


class Figures(QWidget):
    """Rows of words, figures or small widgets below grey heads; the first column is left, the others right."""

    def __init__(self, *heads: Text | str) -> None:
        super().__init__()
        self._heads = heads
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(14)
        self._grid.setVerticalSpacing(6)
        self._grid.setColumnStretch(0, 1)
        self._texts: list[list[str]] = []

    def put(self, rows: list[tuple[Cell, ...]]) -> None:
        """Show these rows; a cell is a text, a text with its role, or a widget."""
        clear(self._grid)
        self._texts = [[_text(cell) for cell in row] for row in rows]
        self._line(0, tuple((head, "facts") for head in self._heads))
        for number, row in enumerate(rows):
            self._grid.addWidget(rule(), 2 * number + 1, 0, 1, len(self._heads))
            self._line(2 * number + 2, row)

    @property
    def texts(self) -> list[list[str]]:
        """What the rows say, without the heads."""
        return self._texts

    def _line(self, line: int, cells: tuple[Cell, ...]) -> None:
        for position, cell in enumerate(cells):
            widget = cell if isinstance(cell, QWidget) else _label(cell)
            side = Qt.AlignmentFlag.AlignLeft if position == 0 else Qt.AlignmentFlag.AlignRight
            self._grid.addWidget(widget, line, position, side | Qt.AlignmentFlag.AlignVCenter)


def _label(cell: Text | str | tuple[Text | str, str]) -> QLabel:
    text, role = cell if isinstance(cell, tuple) else (cell, "")
    return label(text, role)


def _text(cell: Cell) -> str:
    if isinstance(cell, QWidget):
        return cell.accessibleName()
    return tr(cell[0]) if isinstance(cell, tuple) else tr(cell)
