"""The project that is open, its runs, and the projects opened lately."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

if TYPE_CHECKING:
    from engine.project.project import Project, RunSummary
    from engine.project.run_folder import RunFolder
    from gui.state.run import RunState

TRAINING = frozenset({"starting", "working", "waiting"})
"""Statuses of a run that has not ended."""


class ProjectState(QObject):
    """Which project is open.

    Attributes:
        path: the folder that is or will be opened; known before anything is read.
        project: None until it is opened.
        runs: newest first.
        recent: other projects, newest first.

    Signals:
        opened: another project is open.
        changed: the runs, or the list of recent projects.
    """

    opened = Signal()
    changed = Signal()

    def __init__(self, path: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.path = path
        self.project: Project | None = None
        self.runs: list[RunSummary] = []
        self.recent: list[Path] = []

    @property
    def name(self) -> str:
        """What people call it."""
        return self.project.name if self.project is not None else self.path.name

    def trains(self, runs: RunState) -> bool:
        """Whether some run of this project trains: the one looked at by its events, the others by the list."""
        return runs_now(runs) or any(run.status in TRAINING for run in self.runs if run.folder != runs.run)

    def set_project(self, project: Project, runs: list[RunSummary], recent: list[Path]) -> None:
        """Another project is open."""
        self.path, self.project, self.runs, self.recent = project.path, project, runs, recent
        self.opened.emit()
        self.changed.emit()

    def set_lists(self, runs: list[RunSummary], recent: list[Path]) -> None:
        """What the disk holds now."""
        if (runs, recent) != (self.runs, self.recent):
            self.runs, self.recent = runs, recent
            self.changed.emit()


def runs_now(runs: RunState) -> bool:
    """Whether the run that is looked at trains; one that never came to a process has no events and does not."""
    run: RunFolder | None = runs.run
    return run is not None and runs.train.is_running and run.events.exists()
