"""One job as the window sees it: its state computed from its events, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer, Signal

from engine.project.run_folder import JobFolder
from engine.protocol.text import say
from gui.bridge.bridge import Bridge

if TYPE_CHECKING:
    from engine.protocol.events import Event
    from engine.protocol.state import JobState

STOPPING = say("Stopping… (it may save first)", "正在停止…（可能会先保存）")
TELL_MS = 90
"""Shortest time between two `changed`: with drawing, at most ten a second."""


class JobView(QObject):
    """Follows one job at a time; replaying its events gives the same state again.

    Attributes:
        folder: the job that is followed, None when there is none.
        stopping: jobs that were told to end and have not ended yet; while one is followed its stage says so.

    Signals:
        changed: `state` or `folder` is another; at most ten times a second.
        finished: the job's terminal event has come while it was followed (also when it is replayed).
    """

    changed = Signal()
    finished = Signal()

    def __init__(self, bridge: Bridge, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.folder: JobFolder | None = None
        self.stopping: set[Path] = set()
        self._state: JobState | None = None
        self._bridge = bridge
        self._is_connected = False
        self._timer = QTimer(self)
        self._timer.setObjectName("job is told")
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.changed)

    def follow(self, folder: JobFolder | None) -> None:
        """Follow another job from its first event, or none."""
        if self.folder is not None:
            self._bridge.jobs.forget(self.folder)
        self.folder, self._state = folder, None
        self._timer.stop()
        if folder is not None:
            self._watch(folder)
        self.changed.emit()

    def _watch(self, folder: JobFolder) -> None:
        if not self._is_connected:
            self._bridge.jobs.happened.connect(self._take)
            self._is_connected = True
        self._bridge.jobs.watch(folder)

    @property
    def state(self) -> JobState:
        """What is known of the job; the blank state before its first event."""
        if self._state is None:
            from engine.protocol.state import JobState  # here and not above: the first frame needs no job

            self._state = JobState()
        if self.is_stopping and not self._state.is_over:
            return replace(self._state, stage=STOPPING, progress=None)
        return self._state

    @property
    def is_stopping(self) -> bool:
        """Whether the job that is followed was told to end and its process is still there."""
        return self.folder is not None and self.folder.path in self.stopping

    def set_stopping(self, folder: JobFolder, is_stopping: bool) -> None:
        """A job was told to end, or is gone."""
        (self.stopping.add if is_stopping else self.stopping.discard)(folder.path)
        self.changed.emit()

    @property
    def is_running(self) -> bool:
        """Whether a job is followed that has not ended."""
        return self.folder is not None and not self.state.is_over

    def _take(self, path: Path, events: list[Event]) -> None:
        if self.folder is None or path != self.folder.path:
            return
        from engine.protocol.state import JobState, apply_all

        before = self._state or JobState()
        self._state = apply_all(before, events)
        if self._state.is_over and not before.is_over:
            self._timer.stop()
            self.changed.emit()
            self.finished.emit()
        elif not self._timer.isActive():
            # Batches that come close together are shown together: a page that is slow to draw falls behind no queue.
            self._timer.start(TELL_MS)
