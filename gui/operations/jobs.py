"""What the user can do with jobs: start one on the run that is looked at, tell it something, end it."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QObject, QTimer

from engine.host.control import StopLadder, send
from engine.host.launch import start_job
from engine.project.project import new_job
from engine.project.run_folder import JobFolder
from gui.context import AppContext
from gui.operations.operation import attempt, change
from gui.state.job import JobView

POLL_MS = 100


def start_later_job(context: AppContext, view: JobView, kind: str, arguments: dict[str, Any]) -> None:
    """Start "evaluate", "merge" or "export" on the run that is looked at, and follow it in ``view``."""
    run = context.runs.run
    if run is None:
        return

    def start() -> JobFolder:
        folder = new_job(run, kind)
        start_job(folder, kind, {"run": str(run.path), **arguments})
        return folder

    folder = change(context, start)
    if folder is not None:
        view.follow(folder)


def tell_job(context: AppContext, view: JobView, command: str) -> None:
    """Send a command of the protocol to the job that is followed."""
    folder = view.folder
    if folder is not None:
        change(context, lambda: send(folder, command))


def stop_job(context: AppContext, view: JobView) -> None:
    """End the job by the ladder: asked first, made to in the end. Its state says that it stops, and when it is over."""
    if view.folder is not None and not view.is_stopping and context.may_change():
        Stopping(view.folder, view, context)


class Stopping(QObject):
    """Climbs the stop ladder of one job until its process is gone, then deletes itself; the job's view says so."""

    def __init__(self, folder: JobFolder, view: JobView, context: AppContext) -> None:
        super().__init__(context)
        self._context, self._folder, self._view = context, folder, view
        view.set_stopping(folder, True)
        self._ladder = StopLadder(folder)
        self._timer = QTimer(self)
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self._climb)
        self._timer.start()
        self._climb()

    def _climb(self) -> None:
        if attempt(self._context, self._ladder.poll) is not False:  # gone, or the disk refuses: nothing more to do
            self._timer.stop()
            self._view.set_stopping(self._folder, False)
            self.deleteLater()
