"""The project that is open, its runs, and the projects opened lately."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

if TYPE_CHECKING:
    from engine.project.project import Project, RunSummary


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
