"""What the user can do with a training run."""

from __future__ import annotations

from PySide6.QtCore import QUrl
from PySide6.QtGui import QDesktopServices

from engine.host.launch import is_alive, start_job
from engine.project.showing import folder_to_show
from engine.protocol.events import CONTINUE, FREE, PAUSE, SAVE
from gui.context import AppContext
from gui.operations.jobs import end_now, stop_job, tell_job
from gui.operations.operation import change
from gui.operations.project import refresh_lists


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
        start_job(run, "resume", {"run": str(run.path)})
        return True

    if change(context, resume):
        job.follow(run)
        refresh_lists(context)


def another_that_trains(context: AppContext) -> str:
    """Title of another run of the project whose process is alive, empty when there is none: two would share the
    memory that each was planned to have alone."""
    others = (item for item in context.project.runs if item.folder != context.runs.run)
    return next((item.title or item.folder.id for item in others if is_alive(item.folder)), "")


def save_checkpoint(context: AppContext) -> None:
    """Save a checkpoint now and go on."""
    tell_job(context, context.runs.train, SAVE)


def free_run(context: AppContext) -> None:
    """End the process of a paused run, so that its memory is free; it goes on from its checkpoint."""
    tell_job(context, context.runs.train, FREE)


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
