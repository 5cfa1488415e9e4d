"""The cells of one row as its file holds them: texts can be changed, what is no text is shown as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtGui import QFontMetrics, QTextOption
from PySide6.QtWidgets import QPlainTextEdit, QVBoxLayout, QWidget

from engine.protocol.text import say
from gui.theme.apply import mono_font, text_font
from gui.widgets.basic import clear, column, holder, label, row
from gui.widgets.chip import ACCENT, WARN, Chip
from gui.widgets.scroll import scrolled

MOST_SHOWN = 200_000
"""Characters of a cell that are shown; one that is longer cannot be changed here."""
_MOST_LINES = 9
_ROOM = 22
_CHANGED = say("changed", "已修改")
_NOT_SAVED = say("not saved", "未保存")
_NO_TEXT = say("not a text", "非文本")


class Cell(QWidget):
    """One cell: its column, and its text to change.

    Signals:
        edited: the user typed.
    """

    edited = Signal()

    def __init__(self, cell: dict[str, Any]) -> None:
        super().__init__()
        self.column = str(cell["column"])
        self.editor = QPlainTextEdit()
        self.editor.setTabChangesFocus(True)
        self.editor.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        self.editor.setAccessibleName(self.column)
        self._chip = Chip()
        name = label(self.column, "facts")
        name.setBuddy(self.editor)
        self.setLayout(column(row(name, self._chip, None), self.editor, spacing=2))
        self.editor.textChanged.connect(self._typed)
        self.put(cell)

    def put(self, cell: dict[str, Any]) -> None:
        """Show what the cell holds now."""
        self._saved = str(cell["value"])
        self._was_changed, self._is_text = bool(cell.get("changed")), bool(cell.get("is_text"))
        can_edit = self._is_text and len(self._saved) <= MOST_SHOWN
        self.editor.setReadOnly(not can_edit)
        self.editor.setFont(text_font(12) if self._is_text else mono_font())
        self.editor.blockSignals(True)
        self.editor.setPlainText(self._saved[:MOST_SHOWN])
        self.editor.blockSignals(False)
        self._fit()
        self._mark()

    @property
    def text(self) -> str:
        """What stands there now."""
        return self.editor.toPlainText()

    @property
    def is_dirty(self) -> bool:
        """Whether the user typed something that is not saved."""
        return not self.editor.isReadOnly() and self.text != self._saved

    def _typed(self) -> None:
        self._mark()
        self.edited.emit()

    def _mark(self) -> None:
        words = _NOT_SAVED if self.is_dirty else _CHANGED if self._was_changed else "" if self._is_text else _NO_TEXT
        tone = WARN if self.is_dirty else ACCENT if self._was_changed else "plain"
        self._chip.put(words, tone)
        self._chip.setVisible(bool(words))

    def _fit(self) -> None:
        """As high as the text, within reason; a longer one scrolls."""
        line = QFontMetrics(self.editor.font()).lineSpacing()
        width = max(40, self.editor.viewport().width() // max(1, QFontMetrics(self.editor.font()).averageCharWidth()))
        lines = sum(1 + len(part) // width for part in self._saved[:4000].split("\n"))
        self.editor.setFixedHeight(min(_MOST_LINES, max(1, lines)) * line + _ROOM)


class CellList(QWidget):
    """All cells of a row below each other. What was typed is saved when the row is left.

    Args:
        save: called with the row's number, the column and its new text, for each changed cell.

    Signals:
        edited: there is something to save, or not any more.
    """

    edited = Signal()

    def __init__(self, save: Callable[[int, str, str], object]) -> None:
        super().__init__()
        self._save = save
        self._row = -1
        self.cells: list[Cell] = []
        self._list = QVBoxLayout()
        self._list.setSpacing(8)
        self._list.setContentsMargins(0, 0, 8, 0)
        inner = holder(column(self._list, None))
        self.setLayout(column(scrolled(inner), spacing=0))

    def put(self, number: int, cells: Sequence[dict[str, Any]]) -> None:
        """Show the cells of a row; texts of the same row that are not saved stay as they were typed."""
        if number == self._row and [str(cell["column"]) for cell in cells] == [cell.column for cell in self.cells]:
            for shown, cell in zip(self.cells, cells, strict=True):
                if not shown.is_dirty:
                    shown.put(cell)
            return
        self.save()
        clear(self._list)
        self._row, self.cells = number, [Cell(cell) for cell in cells]
        for made in self.cells:
            made.edited.connect(self.edited)
            self._list.addWidget(made)
        self.edited.emit()

    @property
    def is_dirty(self) -> bool:
        """Whether something was typed that is not saved."""
        return any(cell.is_dirty for cell in self.cells)

    def save(self) -> None:
        """Save every cell that was typed in."""
        for cell in [cell for cell in self.cells if cell.is_dirty]:
            text = cell.text
            cell.put({"column": cell.column, "value": text, "is_text": True, "changed": True})
            self._save(self._row, cell.column, text)
        self.edited.emit()
