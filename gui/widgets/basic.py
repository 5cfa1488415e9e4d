"""Labels, buttons and layouts with the window's manners: one line each where pages need them."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import TypeVar

from PySide6 import QtGui
from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QGuiApplication, QKeySequence, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import (
    QBoxLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLayout,
    QMenu,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from engine.protocol.text import Text
from gui.i18n.language import tr

Item = QWidget | QLayout | int | None
LayoutT = TypeVar("LayoutT", bound=QBoxLayout)


def label(text: Text | str = "", role: str = "", *, wrap: bool = False, selectable: bool = False) -> QLabel:
    """A label. Roles: title, heading, strong, card, muted, small, facts, good, warn, bad, mono."""
    made = QLabel(tr(text))
    made.setTextFormat(Qt.TextFormat.PlainText)
    made.setProperty("role", role)
    made.setWordWrap(wrap)
    if wrap:
        made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
    if selectable:
        made.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return made


def plain_tip(text: str) -> str:
    """A tip that is shown as it is written. Qt takes what looks like HTML for HTML, in tips too, and would fetch the
    pictures that a name or a row of somebody's data asks for, from another computer even."""
    if not QtGui.Qt.mightBeRichText(text):
        return text
    return f'<div style="white-space:pre-wrap">{html.escape(text)}</div>'


def set_role(widget: QWidget, role: str) -> None:
    """Give a widget another role after it was shown."""
    if widget.property("role") != role:
        widget.setProperty("role", role)
        widget.style().unpolish(widget)
        widget.style().polish(widget)


def set_property(widget: QWidget, name: str, value: object) -> None:
    """Set a property that the style sheet looks at."""
    if widget.property(name) != value:
        widget.setProperty(name, value)
        widget.style().unpolish(widget)
        widget.style().polish(widget)


def button(
    text: Text | str,
    action: Callable[[], object],
    role: str = "",
    *,
    shortcut: str = "",
    tip: Text | str = "",
) -> QPushButton:
    """A push button. Roles: primary, danger, small, link. The shortcut works in the whole window; the tip names it."""
    made = QPushButton(tr(text))
    made.setProperty("role", role)
    made.setCursor(Qt.CursorShape.PointingHandCursor)
    made.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
    made.setAccessibleName(tr(text))
    made.clicked.connect(lambda: action())
    add_shortcut(made, shortcut, tr(tip))
    return made


def add_shortcut(made: QPushButton | QToolButton, shortcut: str, tip: str = "") -> None:
    """Let a key press the button, and say so in its tip."""
    if shortcut:
        sequence = QKeySequence(shortcut)
        made.setShortcut(sequence)
        keys = sequence.toString(QKeySequence.SequenceFormat.NativeText)
        tip = f"{tip} ({keys})" if tip else keys
    made.setToolTip(plain_tip(tip))


def rename(made: QPushButton | QToolButton, text: Text | str) -> None:
    """Put other words on a button; Qt would take its shortcut away with the old ones."""
    keys = made.shortcut()
    made.setText(tr(text))
    made.setShortcut(keys)


def tool(text: Text | str, action: Callable[[], object] | None = None, role: str = "quiet") -> QToolButton:
    """A small flat button, for corners of cards."""
    made = QToolButton()
    made.setText(tr(text))
    made.setProperty("role", role)
    made.setCursor(Qt.CursorShape.PointingHandCursor)
    made.setAccessibleName(tr(text))
    made.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    if action is not None:
        made.clicked.connect(lambda: action())
    return made


def rule() -> QFrame:
    """A thin horizontal line."""
    made = QFrame()
    made.setProperty("role", "rule")
    made.setFixedHeight(1)
    return made


def row(*items: Item, spacing: int = 8, margins: tuple[int, int, int, int] = (0, 0, 0, 0)) -> QHBoxLayout:
    """Things side by side; None stretches, a number is space in pixels."""
    return _fill(QHBoxLayout(), items, spacing, margins)


def column(*items: Item, spacing: int = 8, margins: tuple[int, int, int, int] = (0, 0, 0, 0)) -> QVBoxLayout:
    """Things below each other; None stretches, a number is space in pixels."""
    return _fill(QVBoxLayout(), items, spacing, margins)


def _fill(layout: LayoutT, items: tuple[Item, ...], spacing: int, margins: tuple[int, int, int, int]) -> LayoutT:
    layout.setSpacing(spacing)
    layout.setContentsMargins(*margins)
    for item in items:
        add(layout, item)
    return layout


def add(layout: QBoxLayout, item: Item) -> None:
    """Add a widget, a layout, a stretch (None) or a space (a number)."""
    if item is None:
        layout.addStretch(1)
    elif isinstance(item, int):
        layout.addSpacing(item)
    elif isinstance(item, QLayout):
        layout.addLayout(item)
    else:
        layout.addWidget(item)


def holder(layout: QLayout) -> QWidget:
    """A plain widget around a layout."""
    made = QWidget()
    made.setLayout(layout)
    return made


def clear(layout: QLayout) -> None:
    """Take everything out of a layout and delete it."""
    while (item := layout.takeAt(0)) is not None:
        widget, inner = item.widget(), item.layout()
        if widget is not None:
            widget.hide()
            widget.deleteLater()
        elif inner is not None:
            clear(inner)


def menu_title(menu: QMenu, text: Text | str) -> None:
    """A line above a group of a menu's actions; a style sheet draws no text of sections."""
    if menu.actions():
        menu.addSeparator()
    menu.addAction(tr(text)).setEnabled(False)


def copy(text: str) -> None:
    """Put text on the clipboard."""
    QGuiApplication.clipboard().setText(text)


class ElidedLabel(QLabel):
    """One line that ends in "…" where there is no room; the whole text is then in its tip."""

    def __init__(self, text: Text | str = "", role: str = "", *, middle: bool = False) -> None:
        super().__init__(tr(text))
        self._mode = Qt.TextElideMode.ElideMiddle if middle else Qt.TextElideMode.ElideRight
        self.setProperty("role", role)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.setMinimumWidth(20)

    def minimumSizeHint(self) -> QSize:
        """Narrow enough for any room."""
        return QSize(20, super().minimumSizeHint().height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Tell the whole text in the tip when it does not fit."""
        super().resizeEvent(event)
        fits = self.fontMetrics().horizontalAdvance(self.text()) <= self.width()
        self.setToolTip("" if fits else plain_tip(self.text()))

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the text, shortened where needed."""
        painter = QPainter(self)
        shown = self.fontMetrics().elidedText(self.text(), self._mode, self.width())
        painter.setPen(self.palette().color(self.foregroundRole()))
        painter.drawText(self.rect(), self.alignment() | Qt.AlignmentFlag.AlignVCenter, shown)
