"""What the user can do with jobs: start one on the run that is looked at, tell it something, end it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject

from engine.host.control import ASKED, TERMINATED, StopLadder, save_patience
from engine.host.launch import start_job
from engine.project.project import new_job
from engine.project.rebuilt import repair
from engine.project.run_folder import JobFolder
from engine.protocol.errors import Failure
from engine.protocol.text import Text
from gui.bridge.stopping import Clock
from gui.context import AppContext
from gui.operations.operation import change
from gui.state.job import JobView

TERMINATE_SECONDS = 10.0
"""What a job is given after the polite end."""


def start_later_job(context: AppContext, view: JobView, kind: str, arguments: dict[str, Any]) -> None:
    """Start "evaluate", "merge" or "export" on the run that is looked at, and follow it in ``view``."""
    run = context.runs.run
    if run is None:
        return

    def start() -> JobFolder:
        repair(run)
        folder = new_job(run, kind)
        start_job(folder, kind, {"run": str(run.path), **arguments})
        return folder

    folder = change(context, start)
    if folder is not None:
        view.follow(folder)


def tell_job(context: AppContext, view: JobView, command: str) -> None:
    """Send a command of the protocol to the job that is followed."""
    folder = view.folder
    if folder is None or not context.may_change():
        return

    def refused(failure: Failure) -> None:
        context.notices.failure(failure)
        if view.folder == folder and view.asked == command:
            view.ask("")  # it never heard of it

    view.ask(command)
    context.bridge.commands.tell(folder, command, refused)


def stop_job(context: AppContext, view: JobView) -> None:
    """End the job by the ladder: asked first, made to in the end. Its state says that it stops, and when it is over."""
    if view.folder is not None and not view.is_stopping and context.may_change():
        Stopping(view.folder, view, context)


def end_now(context: AppContext, view: JobView) -> None:
    """Do not wait any longer for a job that was told to end: the next rung of the ladder at once."""
    if view.folder is not None and view.is_stopping:
        context.bridge.commands.hurry(view.folder)


class Stopping(QObject):
    """Follows the stop ladder of one job until its process is gone, then deletes itself; the job's view says so."""

    def __init__(self, folder: JobFolder, view: JobView, context: AppContext) -> None:
        super().__init__(context)
        self._context, self._folder, self._view = context, folder, view
        self._patience = {TERMINATED: TERMINATE_SECONDS}
        view.set_stopping(folder, True)
        commands = context.bridge.commands
        commands.climbed.connect(self._climbed)
        commands.gone.connect(self._gone)
        commands.failed.connect(self._failed)
        commands.given_up.connect(self._given_up)
        commands.end(folder, self._made)

    def _made(self, clock: Clock) -> StopLadder:
        """In the thread of the commands: how long the job may take to save is read from its record."""
        seconds = self._patience[ASKED] = save_patience(self._folder)
        return StopLadder(self._folder, save_seconds=seconds, terminate_seconds=TERMINATE_SECONDS, now=clock)

    def _climbed(self, path: Path, rung: str) -> None:
        if path == self._folder.path:
            self._view.climb(self._folder, rung, time.monotonic() + self._patience.get(rung, 0.0))

    def _gone(self, path: Path, freed: Text) -> None:
        if path == self._folder.path:
            self._view.set_freed(self._folder, freed)
            self._end()

    def _failed(self, path: Path, failure: Failure) -> None:
        """Something is refused; the ladder goes on."""
        if path == self._folder.path:
            self._context.notices.failure(failure)

    def _given_up(self, path: Path) -> None:
        """Everything was refused for long: one may try again."""
        if path == self._folder.path:
            self._end()

    def _end(self) -> None:
        self._view.set_stopping(self._folder, False)
        self.deleteLater()
