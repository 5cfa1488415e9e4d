"""What is known of a judge before it is asked: whether there is a key for it, and about what it will cost."""

from __future__ import annotations

from PySide6.QtCore import QObject, Signal

from engine.protocol.errors import Failure
from engine.protocol.text import NOTHING, Text


class JudgingState(QObject):
    """Attributes:
    key: "" (not looked for yet), "none", "kept" in the keyring, or "variable" (the environment gives it).
    cost: what asking will cost, in a sentence; empty while nothing can be said.
    failure: what was wrong with the address, the key or the prompt.

    Signals:
        changed: any of them is another.
    """

    changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.key = ""
        self.cost: Text = NOTHING
        self.failure: Failure | None = None

    def put(self, *, key: str, cost: Text = NOTHING, failure: Failure | None = None) -> None:
        """What was found out."""
        if (key, cost, failure) != (self.key, self.cost, self.failure):
            self.key, self.cost, self.failure = key, cost, failure
            self.changed.emit()
