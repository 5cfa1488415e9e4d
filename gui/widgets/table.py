"""A table that holds only the rows it shows: the others are fetched, a page at a time, when they come into view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QPainter, QPen, QResizeEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableView,
)

from engine.protocol.text import Text
from gui.i18n.language import tr
from gui.theme.apply import colour, text_font
from gui.widgets.basic import plain_tip
from gui.widgets.chip import PLAIN, paint_chip

PAGE = 100
MOST_PAGES = 60
"""Pages that are kept; the one that was looked at longest ago goes first."""
ROW_HEIGHT = 28
NARROW = 2.0
"""Pixels that a letter takes at least."""
LEAST = 120
"""Pixels that a column of text should have."""
Index = QModelIndex | QPersistentModelIndex
TONE = Qt.ItemDataRole.UserRole + 1


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        title: in the header.
        text: row → what the cell says.
        width: pixels; 0 for a share of what is left.
        right: numbers stand at the right.
        tone: row → tone of a chip; None for plain text.
        muted: grey letters.
        spare: left out where the others would have too little room.
        tip: row → tip of the cell.
    """

    title: Text | str
    text: Callable[[dict[str, Any]], str]
    width: int = 0
    right: bool = False
    tone: Callable[[dict[str, Any]], str] | None = None
    muted: bool = False
    spare: bool = False
    tip: Callable[[dict[str, Any]], str] | None = None


class PagedModel(QAbstractTableModel):
    """Rows by number, fetched in pages of `PAGE`; at most `MOST_PAGES` of them are kept.

    Signals:
        wanted(int): the page that begins at this row is needed; answer with `put`, or `forget` it.
    """

    wanted = Signal(int)

    def __init__(self, columns: tuple[Column, ...], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.columns = columns
        self._count = 0
        self._pages: dict[int, list[dict[str, Any]]] = {}  # the one that was looked at last stands last
        self._asked: set[int] = set()
        self._stale: set[int] = set()
        self._last = -1

    @property
    def kept(self) -> int:
        """How many pages are here."""
        return len(self._pages)

    def reset(self, count: int) -> None:
        """Another table with so many rows, none of them known yet."""
        self.beginResetModel()
        self._count, self._pages, self._asked, self._stale, self._last = count, {}, set(), set(), -1
        self.endResetModel()

    def set_columns(self, columns: tuple[Column, ...]) -> None:
        """Show other columns of the rows."""
        self.beginResetModel()
        self.columns = columns
        self.endResetModel()

    def put_all(self, rows: list[dict[str, Any]]) -> None:
        """Another table whose rows are all known; they are all kept."""
        self.beginResetModel()
        self._count = len(rows)
        self._pages = {start: rows[start : start + PAGE] for start in range(0, len(rows), PAGE)}
        self._asked, self._stale, self._last = set(), set(), -1
        self.endResetModel()

    def resize(self, count: int) -> None:
        """There are more rows, or fewer, than was thought; those that are here stay."""
        nowhere = QModelIndex()
        if count > self._count:
            self.beginInsertRows(nowhere, self._count, count - 1)
            self._count = count
            self.endInsertRows()
        elif count < self._count:
            self.beginRemoveRows(nowhere, count, self._count - 1)
            self._count = count
            self.endRemoveRows()

    def renew(self) -> None:
        """The rows may be others: each page is asked for again when it is looked at, and shown as it was until then."""
        self._stale, self._asked = set(self._pages), set()
        self._changed(0, self._count)

    def put(self, start: int, rows: list[dict[str, Any]]) -> None:
        """The page that begins at ``start`` has come."""
        self._asked.discard(start)
        self._stale.discard(start)
        self._pages.pop(start, None)
        self._pages[start] = rows
        self._last = -1
        while len(self._pages) > MOST_PAGES:
            oldest = next(iter(self._pages))
            del self._pages[oldest]
            self._stale.discard(oldest)
        self._changed(start, start + PAGE)

    def forget(self, start: int) -> None:
        """The page was asked for and will not come; it is asked for again when it is looked at."""
        self._asked.discard(start)

    def _changed(self, start: int, end: int) -> None:
        last = min(self._count, end) - 1
        if last >= start:
            self.dataChanged.emit(self.index(start, 0), self.index(last, len(self.columns) - 1))

    def row(self, number: int) -> dict[str, Any] | None:
        """A row, None while it is not here; it is then asked for."""
        start = number - number % PAGE
        page = self._pages.get(start)
        if (page is None or start in self._stale) and start not in self._asked:
            self._asked.add(start)
            self.wanted.emit(start)
        if page is None:
            return None
        if start != self._last:
            self._last = start
            self._pages[start] = self._pages.pop(start)
        return page[number - start] if number - start < len(page) else None

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008  Qt's own default
        """How many rows there are, here or not."""
        return 0 if parent.isValid() else self._count

    def columnCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008  Qt's own default
        """How many columns."""
        return 0 if parent.isValid() else len(self.columns)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Titles."""
        if orientation is not Qt.Orientation.Horizontal or section >= len(self.columns):
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return tr(self.columns[section].title)
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _alignment(self.columns[section])
        return None

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """What a cell says, its tip, its tone."""
        column = self.columns[index.column()]
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _alignment(column)
        if role not in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole, TONE):
            return None
        row = self.row(index.row())
        if row is None:
            return "…" if role == Qt.ItemDataRole.DisplayRole else None
        if role == TONE:
            return column.tone(row) if column.tone is not None else None
        if role == Qt.ItemDataRole.ToolTipRole:
            return plain_tip(str(column.tip(row) if column.tip is not None else column.text(row)))
        return column.text(row)


_LEFT = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter


def _alignment(column: Column) -> Qt.AlignmentFlag:
    return _RIGHT if column.right else _LEFT


class CellPainter(QStyledItemDelegate):
    """Draws cells: one line of text, or a chip, with a thin line below the row."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._font = text_font(12)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        """Draw one cell. It happens a thousand times a second while one scrolls, so it asks for nothing twice."""
        area = QRectF(option.rect)
        if option.state & QStyle.StateFlag.State_Selected:
            painter.fillRect(area, colour("accent_soft"))
        painter.setPen(QPen(colour("line"), 1))
        painter.drawLine(area.bottomLeft(), area.bottomRight())
        model = index.model()
        assert isinstance(model, PagedModel)
        column, row = model.columns[index.column()], model.row(index.row())
        area.adjust(8, 0, -8, -1)
        if row is None:
            self._write(painter, area, column, "…")
        elif column.tone is None:
            self._write(painter, area, column, column.text(row))
        elif words := column.text(row):
            paint_chip(painter, area, words, column.tone(row) or PLAIN)

    def _write(self, painter: QPainter, area: QRectF, column: Column, text: str) -> None:
        painter.setFont(self._font)
        painter.setPen(colour("muted" if column.muted else "text"))
        width = int(area.width())
        seen = text[: int(width / NARROW) + 1].replace("\n", " ")  # measuring what nobody sees takes most of the time
        shown = painter.fontMetrics().elidedText(seen, Qt.TextElideMode.ElideRight, width)
        painter.drawText(area, _RIGHT if column.right else _LEFT, shown)

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        """Every row is as high as every other."""
        return QSize(40, ROW_HEIGHT)


class Table(QTableView):
    """The view of a `PagedModel`: whole rows are selected, columns share the width.

    Signals:
        chosen(int): another row is selected, by mouse or keyboard.
    """

    chosen = Signal(int)

    def __init__(self, columns: tuple[Column, ...], name: Text | str) -> None:
        super().__init__()
        self.paged = PagedModel(columns, self)
        self.setModel(self.paged)
        self.setItemDelegate(CellPainter(self))
        self.setAccessibleName(tr(name))
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setShowGrid(False)
        self.setTabKeyNavigation(False)
        self.setWordWrap(False)
        self._headers()
        self.selectionModel().currentRowChanged.connect(self._tell)

    def _headers(self) -> None:
        rows = self.verticalHeader()
        rows.hide()
        rows.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        rows.setDefaultSectionSize(ROW_HEIGHT)
        head = self.horizontalHeader()
        head.setHighlightSections(False)
        head.setSectionsClickable(False)
        head.setMinimumSectionSize(24)
        head.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)

    def _tell(self, current: Index, _previous: Index) -> None:
        if current.isValid():
            self.chosen.emit(current.row())

    def set_columns(self, columns: tuple[Column, ...]) -> None:
        """Show other columns."""
        self.paged.set_columns(columns)
        self.share_width()

    def fit_height(self, most: int = 0) -> None:
        """Be exactly as high as the rows need, at most ``most`` rows when given."""
        rows = self.paged.rowCount()
        shown = min(rows, most) if most else rows
        self.setFixedHeight(self.horizontalHeader().sizeHint().height() + shown * ROW_HEIGHT + 4)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Share the width: fixed columns first, the others equally."""
        super().resizeEvent(event)
        self.share_width()

    def share_width(self) -> None:
        """Give every column its width; spare ones go where the shared ones would be narrow."""
        columns = self.paged.columns
        shown = list(columns)
        while _share(shown, self.viewport().width()) < LEAST and any(column.spare for column in shown):
            shown.remove([column for column in shown if column.spare][-1])
        share = max(60, _share(shown, self.viewport().width()))
        for number, column in enumerate(columns):
            self.setColumnHidden(number, column not in shown)
            self.setColumnWidth(number, column.width or share)


def _share(columns: list[Column], width: int) -> int:
    """Pixels for each column without a width of its own."""
    sharing = sum(1 for column in columns if not column.width)
    return (width - sum(column.width for column in columns)) // max(1, sharing)
