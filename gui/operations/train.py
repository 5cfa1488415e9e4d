"""What the user can do with a training run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QUrl
from PySide6.QtGui import QDesktopServices

from engine.host.launch import is_alive, start_job
from engine.project.rebuilt import repair
from engine.project.recent import remember_project_of
from engine.project.showing import folder_to_show
from engine.protocol.events import CONTINUE, FREE, PAUSE, SAVE
from gui.context import AppContext
from gui.operations.jobs import end_now, stop_job, tell_job
from gui.operations.operation import Operation, change
from gui.operations.project import refresh_lists
from gui.state.run import Looked

if TYPE_CHECKING:
    from engine.project.project import RunSummary


def pause_run(context: AppContext) -> None:
    """Save, then wait in place with the memory held."""
    tell_job(context, context.runs.train, PAUSE)


def continue_run(context: AppContext) -> None:
    """Go on after a pause; resume from the last checkpoint where the process has ended."""
    run, job = context.runs.run, context.runs.train
    if run is None:
        return
    if job.is_running:
        tell_job(context, job, CONTINUE)
        return
    if another_that_trains(context):
        return

    def resume() -> bool:
        repair(run)
        remember_project_of(run)
        start_job(run, "resume", {"run": str(run.path)})
        return True

    if change(context, resume):
        job.follow(run)
        refresh_lists(context)


def another_that_trains(context: AppContext) -> str:
    """Title of another run of the project whose process is alive, empty when there is none: two would share the
    memory that each was planned to have alone."""
    return _that_trains(_others(context))


def _others(context: AppContext) -> list[RunSummary]:
    return [item for item in context.project.runs if item.folder != context.runs.run]


def _that_trains(others: list[RunSummary]) -> str:
    return next((item.title or item.folder.id for item in others if is_alive(item.folder)), "")


def look_at_run(context: AppContext) -> None:
    """Read in the background what only the disk knows of the run that is looked at: a drive may stall."""
    runs, run, others = context.runs, context.runs.run, _others(context)
    if run is None:
        return

    def look() -> Looked:
        return Looked(run.events.exists(), run.adapter_written > 0, _that_trains(others))

    looking = Operation(context).in_background(look).on_failure(lambda failure: None)  # it stands as it is known
    looking.on_success(lambda found: runs.set_looked(run, found))


def save_checkpoint(context: AppContext) -> None:
    """Save a checkpoint now and go on."""
    tell_job(context, context.runs.train, SAVE)


def free_run(context: AppContext) -> None:
    """End the process of a paused run, so that its memory is free; it goes on from its checkpoint."""
    tell_job(context, context.runs.train, FREE)


def retry_run(context: AppContext) -> None:
    """Have a run that waits for the disk try it at once."""
    tell_job(context, context.runs.train, CONTINUE)


def stop_run(context: AppContext) -> None:
    """Save what was learned and end the run."""
    stop_job(context, context.runs.train)


def end_run_now(context: AppContext) -> None:
    """Wait no longer for a run that was told to stop."""
    end_now(context, context.runs.train)


def open_folder(context: AppContext) -> None:
    """Show the run's folder in the system's file manager."""
    if context.runs.run is not None:
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder_to_show(context.runs.run.path))))
