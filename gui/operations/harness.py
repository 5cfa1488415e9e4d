"""What the user can do with lm-evaluation-harness, where it is installed: run its tasks on base and tuned model."""

from __future__ import annotations

from gui.context import AppContext
from gui.operations.jobs import start_later_job, stop_job

QUESTIONS = 200
"""Questions per task at most: all of a task would take hours on a workstation."""


def run_tasks(context: AppContext, tasks: str, folder: str) -> None:
    """Run tasks (names with commas between them), of the user's folder where one is named."""
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    arguments = {"tasks": names, "folder": folder.strip(), "limit": QUESTIONS}
    start_later_job(context, context.runs.harness, "harness", arguments)


def stop_tasks(context: AppContext) -> None:
    """End it; the last figures stay."""
    stop_job(context, context.runs.harness)
