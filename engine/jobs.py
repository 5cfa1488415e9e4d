"""A job that a command starts and follows to its end, and what the command's document says of that end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.host.launch import start_job
from engine.project.rebuilt import repair
from engine.project.recent import remember_project_of
from engine.project.run_folder import JobFolder, RunFolder
from engine.protocol.errors import EXIT_INTERRUPTED, Failure
from engine.protocol.events import DONE
from engine.protocol.text import NOTHING, Text, say
from engine.terminal import Outcome, Terminal, follow, quoted

AGAIN = say("Give the same command again.", "请重新运行同一命令。")


def run_job(folder: JobFolder, kind: str, arguments: dict[str, Any], terminal: Terminal) -> Outcome:
    """Start a job and show it until it ends; its project is remembered, so that the queue sees that something works
    there. Raises `UserError` when it cannot be started."""
    if isinstance(folder, RunFolder):
        repair(folder)
    remember_project_of(folder)
    offset = folder.events.stat().st_size if folder.events.exists() else 0
    start_job(folder, kind, arguments)
    return follow(folder, terminal, offset=offset)


def failure_of(outcome: Outcome, hint: Text) -> Failure | None:
    """Why the command about this job fails, None when it does not.

    Args:
        hint: how to go on where Ctrl+C interrupted.
    """
    if not outcome.interrupted:
        return outcome.failure
    if outcome.status == DONE:
        return interruption(say("The job was done by then.", "此前任务已完成。"))
    return interruption(hint, details=outcome.failure.details if outcome.failure else "")


def interruption(hint: Text = NOTHING, *, details: str = "") -> Failure:
    """The person pressed Ctrl+C."""
    message = say("Interrupted.", "已中断。")
    return Failure("interrupted", message, hint, details=details, exit_code=EXIT_INTERRUPTED)


def resume_with(run: Path) -> Text:
    """How to go on with a run whose training was interrupted."""
    return say("Go on with: lorimer resume {run}", "继续请用：lorimer resume {run}", run=quoted(run))


def english(value: Any) -> Any:
    """``value`` with English in place of texts in both languages: documents are in English."""
    if isinstance(value, Text):
        return value.en
    if isinstance(value, dict):
        return value["en"] if set(value) == {"en", "zh"} else {key: english(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [english(item) for item in value]
    return value
