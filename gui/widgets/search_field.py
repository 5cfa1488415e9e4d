"""A line to search with: Enter searches, Esc clears."""

from __future__ import annotations

from PySide6.QtCore import QEvent, Qt, Signal
from PySide6.QtGui import QKeyEvent, QKeySequence, QShortcut
from PySide6.QtWidgets import QLineEdit

from engine.protocol.text import Text
from gui.i18n.language import tr


class SearchField(QLineEdit):
    """Nothing is searched while one types: going through millions of rows takes its time.

    Signals:
        asked(str): look for these words.
        cleared: show everything again.
    """

    asked = Signal(str)
    cleared = Signal()

    def __init__(self, words: Text, shortcut: str) -> None:
        super().__init__()
        keys = QKeySequence(shortcut)
        self.setPlaceholderText(tr(words))
        self.setAccessibleName(tr(words))
        self.setToolTip(f"{tr(words)} ({keys.toString(QKeySequence.SequenceFormat.NativeText)})")
        self.setClearButtonEnabled(True)
        self.returnPressed.connect(self._ask)
        self.textChanged.connect(self._emptied)
        QShortcut(keys, self, self._go_there)

    def _go_there(self) -> None:
        self.setFocus()
        self.selectAll()

    def _ask(self) -> None:
        self.asked.emit(self.text())

    def _emptied(self, text: str) -> None:
        if not text:
            self.cleared.emit()

    def event(self, event: QEvent) -> bool:
        """Esc is the field's own while it has something to clear."""
        is_key = event.type() == QEvent.Type.ShortcutOverride and isinstance(event, QKeyEvent)
        if is_key and event.key() == Qt.Key.Key_Escape and self.text():  # type: ignore[attr-defined]
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Esc clears."""
        if event.key() == Qt.Key.Key_Escape and self.text():
            self.clear()
            return
        super().keyPressEvent(event)
