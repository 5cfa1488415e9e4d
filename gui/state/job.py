"""One job as the window sees it: its state computed from its events, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer, Signal

from engine.project.run_folder import JobFolder
from engine.protocol.text import NOTHING, Text, say
from gui.bridge.bridge import Bridge

if TYPE_CHECKING:
    from engine.protocol.events import Event
    from engine.protocol.state import JobState

STOPPING = say("Stopping… (it may save first)", "正在停止…（可能会先保存）")
RUNGS = {
    "asked": say("Asked it to save and stop…", "已要求保存并停止…"),
    "terminated": say("It does not answer: ending it…", "没有响应：正在结束…"),
    "killed": say("Ending it by force…", "正在强制结束…"),
}
"""Rung of the stop ladder that was reached → what is being done."""
OBEYED = frozenset({"waiting", "continued", "finished", "launched"})
"""Events by which a job shows that it did what it was told; it shows a save by its checkpoint."""
TELL_MS = 90
"""Shortest time between two `changed`: with drawing, at most ten a second."""


class JobView(QObject):
    """Follows one job at a time; replaying its events gives the same state again.

    Attributes:
        folder: the job that is followed, None when there is none.
        stopping: jobs that were told to end and have not ended yet; while one is followed its stage says so.
        asked: the last command that was sent to the job that is followed, empty when it was obeyed or there was none.

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
        self.asked = ""
        self._rungs: dict[Path, tuple[str, float]] = {}
        self._freed: dict[Path, Text] = {}
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
        self.folder, self._state, self.asked = folder, None, ""
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
            return replace(self._state, stage=RUNGS.get(self.rung, STOPPING), progress=None)
        return self._state

    @property
    def is_stopping(self) -> bool:
        """Whether the job that is followed was told to end and its process is still there."""
        return self.folder is not None and self.folder.path in self.stopping

    def set_stopping(self, folder: JobFolder, is_stopping: bool) -> None:
        """A job was told to end, or is gone."""
        (self.stopping.add if is_stopping else self.stopping.discard)(folder.path)
        self._rungs.pop(folder.path, None)
        if is_stopping:
            self._freed.pop(folder.path, None)
        self.changed.emit()

    @property
    def rung(self) -> str:
        """The rung of the stop ladder that the job which is followed was ended with so far; empty before the first."""
        return self._rung[0]

    @property
    def next_rung_at(self) -> float:
        """When the next rung comes, on the monotonic clock; 0 where none is known."""
        return self._rung[1]

    @property
    def _rung(self) -> tuple[str, float]:
        return self._rungs.get(self.folder.path, ("", 0.0)) if self.folder is not None else ("", 0.0)

    @property
    def freed(self) -> Text:
        """What memory the job that is followed gave back when it was stopped; empty where nothing is known."""
        return self._freed.get(self.folder.path, NOTHING) if self.folder is not None else NOTHING

    def climb(self, folder: JobFolder, rung: str, next_at: float) -> None:
        """A job that ends stands on this rung; the next one comes at ``next_at`` on the monotonic clock."""
        self._rungs[folder.path] = (rung, next_at)
        self.changed.emit()

    def set_freed(self, folder: JobFolder, freed: Text) -> None:
        """A job's process is gone, and this is what it gave back."""
        self._freed[folder.path] = freed

    def ask(self, command: str) -> None:
        """A command is sent to the job that is followed; empty when the disk did not take it."""
        self.asked = command
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
        shows = OBEYED | {"checkpoint"} if self.asked == "save" else OBEYED
        if self.asked and any(event.type in shows for event in events):
            self.asked = ""
        if self._state.is_over and not before.is_over:
            self._timer.stop()
            self.changed.emit()
            self.finished.emit()
        elif not self._timer.isActive():
            # Batches that come close together are shown together: a page that is slow to draw falls behind no queue.
            self._timer.start(TELL_MS)
