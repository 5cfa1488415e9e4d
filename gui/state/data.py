"""What is known of the data that the draft names: the answer of the data session, and which row is looked at."""

from __future__ import annotations

from pathlib import Path
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
        reading: the operation that reads, None while none does.
        counting: how far the exact lengths are; ready when nobody counts.
        counts: the operation that counts them.
        is_stopped: the user ended the reading, and nothing was read since.

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
        self.reading: Any = None
        self.counting = Status()
        self.counts: Any = None
        self.is_stopped = False
        self._good: dict[str, Any] = {}
        self._good_draft: Path | None = None

    def show_first(self, facts: dict[str, Any]) -> None:
        """The first rows of large files are there, while all of them are read."""
        self.facts = facts
        self.version += 1
        self.changed.emit()

    def count_again(self, facts: dict[str, Any]) -> None:
        """More is known of the same rows."""
        self.facts, self.counts = facts, None
        self.counting.ready()
        self.changed.emit()

    def set_facts(self, facts: dict[str, Any]) -> None:
        """The data are read."""
        self.facts, self.reading = facts, None
        self.version += 1
        self.status.ready()
        self.changed.emit()

    def clear(self, *, is_stopped: bool = False) -> None:
        """There are no data, or none any more because the user ended the reading."""
        self.facts, self.reading, self.is_stopped = {}, None, is_stopped
        self.version += 1
        self.status.clear()
        self.changed.emit()

    def keep_good(self, draft: Path | None, values: dict[str, Any]) -> None:
        """Data were read with these values of the draft that is kept at ``draft``."""
        self._good_draft, self._good = draft, values

    def good(self, draft: Path | None) -> dict[str, Any]:
        """The values with which data of this draft were last read well, empty where none were."""
        return self._good if draft == self._good_draft else {}
