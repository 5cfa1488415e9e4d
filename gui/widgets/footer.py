"""The bar at the foot of a page: what stands, and the way on."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPushButton, QWidget

from engine.protocol.text import Text
from gui.i18n.language import tr
from gui.widgets.basic import label


class Footer(QFrame):
    """A sentence on the left, buttons on the right, the main one last.

    Attributes:
        words: the label on the left.
    """

    def __init__(self, *buttons: QPushButton) -> None:
        super().__init__()
        self.setProperty("role", "card")
        layout = self._layout = QHBoxLayout(self)
        layout.setContentsMargins(16, 12, 16, 12)
        layout.setSpacing(8)
        self.words = label("", "muted", wrap=True)
        self.words.setAlignment(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft)
        layout.addWidget(self.words, 1)
        for item in buttons:
            layout.addWidget(item)

    def say(self, text: Text | str) -> None:
        """Put another sentence."""
        self.words.setText(tr(text))

    def put_before_buttons(self, widget: QWidget) -> None:
        """Put something between the sentence and the first button."""
        self._layout.insertWidget(1, widget)
