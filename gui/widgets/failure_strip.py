"""What went wrong, above what still stands: the sentence, what to do, and the details to copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtWidgets import QPushButton

from engine.protocol.text import say
from gui.i18n.language import tr
from gui.state.notices import details_of
from gui.widgets.basic import button, column, copy, label, row
from gui.widgets.card import Card

if TYPE_CHECKING:
    from engine.protocol.errors import Failure


class FailureStrip(Card):
    """A card that is seen only while there is a failure. Other buttons stand before "Copy details"."""

    def __init__(self, *buttons: QPushButton) -> None:
        super().__init__()
        self._message, self._hint = label("", "strong", wrap=True), label("", "muted", wrap=True)
        self._failure: Failure | None = None
        details = button(say("Copy details", "复制详情"), self._copy, "small", shortcut="Ctrl+Shift+D")
        line = row(column(self._message, self._hint, spacing=3), *buttons, details)
        line.setStretch(0, 1)
        self.body.addLayout(line)
        self.set_tone("bad")
        self.hide()

    @property
    def sentence(self) -> str:
        """The main sentence now shown."""
        return self._message.text()

    def put(self, failure: Failure | None) -> None:
        """Show what went wrong, or nothing."""
        self._failure = failure
        self.setVisible(failure is not None)
        if failure is not None:
            self._message.setText(tr(failure.message))
            self._hint.setText(tr(failure.hint))
            self._hint.setVisible(bool(failure.hint))

    def _copy(self) -> None:
        if self._failure is not None:
            copy(details_of(self._failure))
