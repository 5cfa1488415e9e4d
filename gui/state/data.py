"""What is known of the data that the draft names: the answer of the data session, and which row is looked at."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QObject, Signal

from gui.state.phase import Status


class DataState(QObject):
    """The data as the model will see it.

    Attributes:
        status: nothing, reading, there, or wrong.
        facts: the answer to "open_data"; empty until it is there.
        is_new: the files were imported just now, and the answer about them may choose the objective.
        version: counts each newly read data set, so that late answers about an older one are known as such.

    Signals:
        changed: any of it.
    """

    changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.status = Status()
        self.facts: dict[str, Any] = {}
        self.is_new = False
        self.version = 0

    def set_facts(self, facts: dict[str, Any]) -> None:
        """The data are read."""
        self.facts = facts
        self.version += 1
        self.status.ready()
        self.changed.emit()

    def clear(self) -> None:
        """There are no data."""
        self.facts = {}
        self.version += 1
        self.status.clear()
        self.changed.emit()
