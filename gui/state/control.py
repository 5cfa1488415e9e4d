"""Whether this window controls the open project, or another does and this one watches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from engine.protocol.text import Text, say
from gui.bridge.bridge import Bridge

if TYPE_CHECKING:
    from engine.project.lease import Holder

WATCHES = say("Another window controls this project; this one watches.", "此项目由另一个窗口控制，本窗口仅供查看。")
TAKEN = say(
    "Another window has taken this project over; this one watches now.", "另一个窗口已接管此项目，本窗口现在仅供查看。"
)
TAKE_OVER_FIRST = say("Take it over first; what is changed here is not kept.", "请先接管；此处的更改不会保存。")


class ControlState(QObject):
    """Of several windows on one project one controls it; the others watch, and look at whatever they like.

    Attributes:
        other: who controls it instead of this window, None when this one does.
        was_taken: this window controlled it before.

    Signals:
        changed: another window controls it now, or this one.
        gained: this window controls what it watched until now.
    """

    changed = Signal()
    gained = Signal()

    def __init__(self, bridge: Bridge, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.other: Holder | None = None
        self.was_taken = False
        self._path: Path | None = None
        self._has_answer = False
        self._bridge = bridge

    @property
    def controls(self) -> bool:
        """Whether this window may change the project; it may until it is known that another one does."""
        return self.other is None

    @property
    def sentence(self) -> Text:
        """Why this window only watches."""
        return TAKEN if self.was_taken else WATCHES

    def begin(self, path: Path) -> None:
        """This project is open now."""
        if self._path is None:
            self._bridge.control.told.connect(self._take)
        if path != self._path:
            self._path, self._has_answer = path, False
        self._bridge.control.keep(path)

    def take_over(self) -> None:
        """Control the project from now on; the window that did watches."""
        self._bridge.control.take_over()

    def _take(self, path: Path, holder: Holder | None) -> None:
        if path != self._path:
            return
        before, had = self.other, self._has_answer
        self.other, self._has_answer = holder, True
        if (before is None) != (holder is None):
            self.was_taken = had and holder is not None
            self.changed.emit()
            if had and holder is None:
                self.gained.emit()
