"""A list of short lines to choose from, with a chip before each."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QRectF, QSize, Qt
from PySide6.QtGui import QPainter
from PySide6.QtWidgets import QListWidget, QListWidgetItem, QStyle, QStyledItemDelegate, QStyleOptionViewItem

from engine.protocol.text import Text
from gui.i18n.language import tr
from gui.theme.apply import colour, text_font
from gui.widgets.basic import plain_tip
from gui.widgets.chip import chip_width, paint_chip

Line = tuple[str, str, str]
_HEIGHT = 30
_CHIP, _TONE = Qt.ItemDataRole.UserRole, Qt.ItemDataRole.UserRole + 1


class RowList(QListWidget):
    """Lines with a chip each; `chosen` is called with the number of the one that is selected."""

    def __init__(self, name: Text, chosen: Callable[[int], object] | None = None) -> None:
        super().__init__()
        self._lines: list[Line] = []
        self.setProperty("role", "rows")
        self.setAccessibleName(tr(name))
        self.setVerticalScrollMode(QListWidget.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setItemDelegate(_Lines(self))
        if chosen is not None:
            self.currentRowChanged.connect(lambda number: chosen(number) if number >= 0 else None)

    def put(self, lines: list[Line], *, select: bool = True) -> None:
        """Show lines: (words of the chip, its tone, text); the first is selected unless told otherwise.

        Lines that come in front of those that are there are only added: a list that grows stays where one scrolled it.
        """
        added = _added(self._lines, lines)
        self.blockSignals(True)
        for number in reversed(range(len(lines) - added, self.count())):
            self.takeItem(number)
        for number, line in enumerate(lines[:added]):
            self.insertItem(number, _item(line))
        self._lines = list(lines)
        if select:
            self.setCurrentRow(-1)
        self.blockSignals(False)
        if lines and select:
            self.setCurrentRow(0)


def _added(before: list[Line], after: list[Line]) -> int:
    """How many lines of ``after`` stand before those that were there; all of them where it is another list."""
    return next(k for k in range(len(after) + 1) if after[k:] == before[: len(after) - k])


def _item(line: Line) -> QListWidgetItem:
    words, tone, text = line
    item = QListWidgetItem(" ".join(text.split()))
    item.setData(_CHIP, words)
    item.setData(_TONE, tone)
    item.setToolTip(plain_tip(text[:400]))
    return item


class _Lines(QStyledItemDelegate):
    """Draws a line: chip, text, thin rule below."""

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> QSize:
        """One line high, as wide as there is room."""
        return QSize(40, _HEIGHT)

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        """Draw the line."""
        rect = QRectF(option.rect)
        if option.state & QStyle.StateFlag.State_Selected:
            painter.fillRect(rect, colour("accent_soft"))
        words = str(index.data(_CHIP))
        width = chip_width(words)
        paint_chip(painter, QRectF(rect.left() + 6, rect.top(), width, rect.height()), words, str(index.data(_TONE)))
        room = rect.adjusted(width + 16, 0, -6, 0)
        painter.setFont(text_font(12))
        painter.setPen(colour("text"))
        metrics = painter.fontMetrics()
        shown = metrics.elidedText(str(index.data()), Qt.TextElideMode.ElideRight, int(room.width()))
        painter.drawText(room, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, shown)
        painter.setPen(colour("line"))
        painter.drawLine(rect.bottomLeft(), rect.bottomRight())
