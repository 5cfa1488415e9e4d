"""The white rounded box that everything on a page lies in."""

from __future__ import annotations

from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from engine.protocol.text import Text
from gui.i18n.language import tr
from gui.widgets.basic import Item, add, label, set_property


class Card(QFrame):
    """A card with an optional heading on the left and a note or small controls on the right of it.

    Attributes:
        body: the layout below the heading.
        head: the heading's layout; add small controls to it.
        note: the grey words on the right of the heading.
    """

    def __init__(self, title: Text | str = "", note: Text | str = "", *items: Item, spacing: int = 10) -> None:
        super().__init__()
        self.setProperty("role", "card")
        outer = QVBoxLayout(self)
        outer.setContentsMargins(16, 13, 16, 14)
        outer.setSpacing(spacing)
        self.title: QLabel = label(title, "card")
        self.note: QLabel = label(note, "facts")
        self.head = QHBoxLayout()
        self.head.setSpacing(8)
        if title or note:
            self.head.addWidget(self.title)
            self.head.addStretch(1)
            self.head.addWidget(self.note)
            outer.addLayout(self.head)
            self.setAccessibleName(tr(title))
        self.body = QVBoxLayout()
        self.body.setSpacing(spacing)
        self.body.setContentsMargins(0, 0, 0, 0)
        outer.addLayout(self.body, 1)
        for item in items:
            add(self.body, item)

    def set_tone(self, tone: str) -> None:
        """ "" (plain), "good", "bad" or "drop"."""
        set_property(self, "tone", tone)

    def corner(self, widget: QWidget) -> None:
        """Put a small control at the right end of the heading."""
        self.head.addWidget(widget)
