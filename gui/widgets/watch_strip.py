"""Above everything else while another window controls the project: the sentence, and the way to take over."""

from __future__ import annotations

from PySide6.QtWidgets import QVBoxLayout, QWidget

from engine.protocol.text import say
from gui.i18n.language import tr
from gui.state.control import ControlState
from gui.widgets.basic import button, label, row
from gui.widgets.card import Card
from gui.widgets.chip import WARN, Chip

KEY = "Ctrl+Shift+T"


class WatchStrip(QWidget):
    """Renders `ControlState`; takes no room while this window controls the project."""

    def __init__(self, control: ControlState) -> None:
        super().__init__()
        self._control = control
        self._words = label("", "strong", wrap=True)
        take = button(say("Take over", "接管"), control.take_over, "small", shortcut=KEY)
        line = row(Chip(say("watching", "仅查看"), WARN), self._words, take, spacing=10)
        line.setStretch(1, 1)
        card = Card("", "", line)
        card.layout().setContentsMargins(14, 8, 10, 8)  # type: ignore[union-attr]
        layout = QVBoxLayout(self)
        layout.setContentsMargins(24, 12, 24, 0)
        layout.addWidget(card)
        control.changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show who controls the project, where it is another window."""
        self._words.setText(tr(self._control.sentence))
        self.setVisible(not self._control.controls)
