"""Follows jobs by their folders and tells the window what happened, in batches, at most ten times a second."""

from __future__ import annotations

import time
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from engine.host.follow import Follower
from engine.project.run_folder import JobFolder
from engine.protocol.events import Event
from gui.bridge.loop import Loop

POLL_SECONDS = 0.1
BATCH = 400
"""Events in one signal at most: a run of a million steps is replayed without a long frame."""
GATHER_SECONDS = 0.8
"""Of a long record nothing is told for so long: drawing what is not all yet takes the time that reading it needs."""
PATIENCE_MS = 2000
"""Nothing is lost with a follower: one whose drive does not answer is not waited for any longer."""


class JobWatcher(QObject):
    """A thread for each job that is looked at, so that a drive that stalls holds up nobody else.

    Signals:
        happened(Path, list[Event]): new events of the job in that folder, in order.
    """

    happened = Signal(object, object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._loops: dict[Path, _FollowLoop] = {}
        self._leaving: set[_FollowLoop] = set()
        self._is_closed = False

    def watch(self, folder: JobFolder) -> None:
        """Follow the job from its first event on. Watching one again starts again from the first.

        A training that the system ends for lack of memory meanwhile is started again.
        """
        self.forget(folder)
        if self._is_closed:
            return
        loop = self._loops[folder.path] = _FollowLoop(folder, self)
        loop.told.connect(self._hand_on)
        loop.post(loop.round)

    def keep(self, folder: JobFolder) -> None:
        """Follow the job unless it is followed already."""
        if folder.path not in self._loops:
            self.watch(folder)

    def forget(self, folder: JobFolder) -> None:
        """Stop following it; the job goes on."""
        loop = self._loops.pop(folder.path, None)
        if loop is not None:
            self._leaving.add(loop)
            loop.finished.connect(self._has_left)
            loop.ask_to_end()
            self._has_left()

    def ask_to_end(self) -> None:
        """Forget all jobs, without waiting for anything."""
        for loop in list(self._loops.values()):
            self.forget(loop.folder)

    def close(self) -> None:
        """Forget all jobs, and wait for what is being read."""
        self._is_closed = True
        self.ask_to_end()
        for loop in list(self._leaving):
            loop.close()
        self._leaving.clear()

    def _hand_on(self, loop: _FollowLoop, events: list[Event]) -> None:
        # What was on its way when a job was forgotten, or is followed anew, is told to nobody.
        if self._loops.get(loop.folder.path) is loop:
            self.happened.emit(loop.folder.path, events)

    def _has_left(self) -> None:
        for loop in [loop for loop in self._leaving if loop.isFinished()]:
            self._leaving.discard(loop)
            loop.deleteLater()


class _FollowLoop(Loop):
    """Follows one job.

    Signals:
        told(_FollowLoop, list[Event]): itself, and what is new.
    """

    told = Signal(object, object)
    patience_ms = PATIENCE_MS

    def __init__(self, folder: JobFolder, parent: QObject) -> None:
        super().__init__(f"follows {folder.path.name}", POLL_SECONDS, parent)
        self.folder = folder
        self._follower = Follower(folder, restarts=True)
        self._is_wanted = True

    def ask_to_end(self) -> None:
        """Have the thread end, also amid a long record."""
        self._is_wanted = False
        super().ask_to_end()

    def round(self) -> None:
        """Hand over what there is (in the thread)."""
        events, told = self._follower.poll(), time.monotonic()
        while self._follower.has_more and self._is_wanted:
            events += self._follower.poll()
            if time.monotonic() - told > GATHER_SECONDS:
                self._hand_over(events)
                events, told = [], time.monotonic()
        self._hand_over(events)

    def _hand_over(self, events: list[Event]) -> None:
        for start in range(0, len(events), BATCH):
            self.told.emit(self, events[start : start + BATCH])
