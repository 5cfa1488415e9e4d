"""What the user can do about scores: have a model score the rows as a job, end it, look at what it found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.host.launch import start_job
from engine.project.atomic import read_json
from engine.project.run_folder import JobFolder
from engine.protocol.errors import UserError
from gui.context import AppContext
from gui.operations.jobs import stop_job
from gui.operations.operation import Operation, change

KIND = "score"
ROWS = "rows.jsonl"
ONLY_USED = ("order", "choice", "choice_share", "mixing", "temperature", "quality")
"""Settings of the data section that change no row's score, only what is made of it."""


def begin(context: AppContext) -> None:
    """Start the job on the draft as it stands; it goes on when the window closes."""
    project = context.project.project
    if project is None or context.scoring.is_running:
        return

    def start() -> JobFolder:
        folder = project.new_data_job(KIND)
        start_job(folder, KIND, {"recipe": _plain(context), "out": str(folder.path / ROWS)})
        return folder

    folder = change(context, start)
    if folder is not None:
        context.scoring.follow(folder)


def _plain(context: AppContext) -> dict[str, Any]:
    from engine.recipe.file import to_plain

    return to_plain(context.draft.recipe)


def end(context: AppContext) -> None:
    """End the job; what was scored by then is kept, and not asked again."""
    stop_job(context, context.scoring)


def find(context: AppContext) -> None:
    """Follow the newest job on the same rows and model: it may have been begun before the window was closed."""
    project = context.project.project
    if project is None or context.scoring.is_running:
        return
    folders = sorted((project.path / "jobs").glob(f"*-{KIND}"), reverse=True)
    folder = next((JobFolder(path) for path in folders if _is_of(context, JobFolder(path))), None)
    if folder is None or context.scoring.folder is None or folder.path != context.scoring.folder.path:
        context.scoring.follow(folder)
    elif not context.data.facts.get("scores"):
        read(context)  # the rows were read again since


def _is_of(context: AppContext, folder: JobFolder) -> bool:
    """Whether a job scores the rows of the draft as it stands, by the model of the draft."""
    try:
        recipe = read_json(folder.job)["arguments"]["recipe"]
    except (UserError, KeyError):
        return False
    return bool(_scored_by(recipe) == _scored_by(_plain(context)))


def _scored_by(recipe: dict[str, Any]) -> Any:
    data = {name: value for name, value in recipe.get("data", {}).items() if name not in ONLY_USED}
    return data, recipe.get("model")


def read(context: AppContext) -> None:
    """Give the data session what the job wrote, so that the rows can be looked at by it."""
    folder = context.scoring.folder
    file = str(context.scoring.state.result.get("out") or "")
    if folder is None or not file or not Path(file).is_file() or not _is_of(context, folder):
        return
    Operation(context).in_session(context.bridge.data, "scores", file=file).on_success(context.data.rows_changed)
