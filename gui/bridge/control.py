"""Holds the lease of the open project, or waits for it, away from the window's thread: a network drive may stall."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QObject, Signal

from engine.project.lease import Holder, Lease, myself
from gui.bridge.loop import Loop

LOOK_SECONDS = 1.0
PATIENCE_MS = 2000


class ControlKeeper(Loop):
    """Looks once a second who controls the project; takes the lease when nobody does, gives it back at the end.

    Signals:
        told(Path, Holder | None): who else controls that project now, None when this window does. Told at first and
            when the answer is another.
    """

    told = Signal(object, object)
    patience_ms = PATIENCE_MS

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__("control", LOOK_SECONDS, parent)
        self._path: Path | None = None
        self._lease: Lease | None = None
        self._me: Holder | None = None
        self._answer: list[Holder | None] = []

    def keep(self, path: Path) -> None:
        """Look after this project, and no longer after the one before."""
        self.post(lambda: self._begin(path))

    def take_over(self) -> None:
        """Take the lease from whoever has it."""
        self.post(self._take)

    def _begin(self, path: Path) -> None:
        if path != self._path:
            self.closing()
            # One and the same in every project: a folder that was moved brings this window's own lease along.
            self._me = self._me or myself()
            self._path, self._lease = path, Lease(path, me=self._me)
        self._answer = []
        self.round()

    def _take(self) -> None:
        if self._lease is not None:
            self._tell(self._lease.take())

    def round(self) -> None:
        """Look once (in the thread)."""
        if self._lease is not None:
            self._tell(self._lease.look())

    def _tell(self, holder: Holder | None) -> None:
        if self._answer != [holder]:
            self._answer = [holder]
            self.told.emit(self._path, holder)

    def closing(self) -> None:
        """Let the next window control it at once."""
        if self._lease is not None:
            self._lease.give_back()
