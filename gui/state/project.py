"""The project that is open, its runs, and the projects opened lately."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from engine.protocol.text import say
from gui.i18n.language import tr

if TYPE_CHECKING:
    from engine.project.project import Project, RunSummary
    from gui.state.run import RunState
    from gui.state.runs_list import RunsList

TRAINING = frozenset({"starting", "working", "waiting"})
"""Statuses of a run that has not ended."""


class ProjectState(QObject):
    """Which project is open.

    Attributes:
        path: the folder that is or will be opened; known before anything is read.
        project: None until it is opened.
        runs: newest first.
        recent: other projects, newest first.
        others: runs of recent projects, newest first, as far as they were read.
        is_refused: `path` could not be opened, and nothing else is open.
        moving: how far the project is copied to another disk, 0 to 1; None while it is not.

    Signals:
        opened: another project is open.
        changed: the runs, or the list of recent projects.
        run_ended(str, JobState): a run that is not looked at has ended, of this project or, from the queue, of another;
            its title, and how.
    """

    opened = Signal()
    changed = Signal()
    run_ended = Signal(str, object)

    def __init__(self, path: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.path = path
        self.project: Project | None = None
        self.runs: list[RunSummary] = []
        self.recent: list[Path] = []
        self.others: dict[Path, list[RunSummary]] = {}
        self.is_refused = False
        self.moving: float | None = None

    @property
    def name(self) -> str:
        """What people call it."""
        if self.is_refused:
            return tr(say("No project", "未打开项目"))
        return self.project.name if self.project is not None else self.path.name

    @cached_property
    def listed(self) -> RunsList:
        """What is known of every run; made when a page first asks for it, because the first frame does not."""
        from gui.state.runs_list import RunsList

        return RunsList(self)

    def refuse(self) -> None:
        """The folder that was asked for is not opened; a project that is open stays."""
        self.is_refused = self.project is None
        self.changed.emit()

    def set_moving(self, share: float | None) -> None:
        """The project is being moved, or no more."""
        if share != self.moving:
            self.moving = share
            self.changed.emit()

    def set_others(self, others: dict[Path, list[RunSummary]]) -> None:
        """Runs of other projects are known."""
        self.others = others

    def trains(self, runs: RunState) -> bool:
        """Whether some run of this project trains: the one looked at by its events, the others by the list."""
        if runs.run is not None and runs.train.is_running and runs.run.events.exists():
            return True  # without events no process was ever started: it waits for nothing
        return any(run.status in TRAINING for run in self.runs if run.folder != runs.run)

    def set_project(self, project: Project, runs: list[RunSummary], recent: list[Path]) -> None:
        """Another project is open."""
        self.path, self.project, self.runs, self.recent = project.path, project, runs, recent
        self.is_refused = False
        self.opened.emit()
        self.changed.emit()

    def set_lists(self, runs: list[RunSummary], recent: list[Path]) -> None:
        """What the disk holds now."""
        if (runs, recent) != (self.runs, self.recent):
            self.runs, self.recent = runs, recent
            self.changed.emit()
