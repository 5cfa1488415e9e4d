"""Follows jobs by their folders and tells the window what happened, in batches, at most ten times a second."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QObject, Signal

from engine.host.follow import Follower
from engine.project.run_folder import JobFolder
from engine.protocol.events import Event
from gui.bridge.loop import Loop

POLL_SECONDS = 0.1
BATCH = 400
"""Events in one signal at most: a run of a million steps is replayed without a long frame."""


class JobWatcher(Loop):
    """One thread for all jobs that are looked at.

    Signals:
        happened(Path, list[Event]): new events of the job in that folder, in order.
    """

    happened = Signal(object, object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__("jobs", POLL_SECONDS, parent)
        self._followers: dict[Path, Follower] = {}

    def watch(self, folder: JobFolder) -> None:
        """Follow the job from its first event on. Watching one again starts again from the first.

        A training that the system ends for lack of memory meanwhile is started again.
        """
        self.post(lambda: self._followers.__setitem__(folder.path, Follower(folder, restarts=True)))

    def forget(self, folder: JobFolder) -> None:
        """Stop following it; the job goes on."""
        if self.isRunning():
            self.post(lambda: self._forget(folder.path))

    def _forget(self, path: Path) -> None:
        self._followers.pop(path, None)

    def round(self) -> None:
        """Poll every follower once."""
        for path, follower in list(self._followers.items()):
            events = follower.poll()
            self._hand_over(path, events)
            while follower.has_more:
                self._hand_over(path, follower.poll())

    def _hand_over(self, path: Path, events: list[Event]) -> None:
        for start in range(0, len(events), BATCH):
            self._emit(path, events[start : start + BATCH])

    def _emit(self, path: Path, events: list[Event]) -> None:
        self.happened.emit(path, events)
