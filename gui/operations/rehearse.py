"""What the user can do about a rehearsal: begin it on the draft, end it, take the recipe that it proposes."""

from __future__ import annotations

import shutil
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.host.launch import is_alive, start_job
from engine.project.run_folder import JobFolder
from gui.context import AppContext
from gui.operations.jobs import stop_job
from gui.operations.operation import attempt, change
from gui.operations.plan import compute
from gui.state.phase import Phase

if TYPE_CHECKING:
    from engine.project.project import Project
    from engine.protocol.events import Rehearsed

KIND = "rehearse"


class Standing(Enum):
    """Where the rehearsal of the draft stands."""

    NONE = "none"
    WORKING = "working"
    HELD = "held"
    FAILED = "failed"
    SETTLED = "settled"
    """The draft did not hold; a recipe further down did."""
    STALE = "stale"
    BROKEN = "broken"
    """It came to nothing, for another reason than memory."""


def begin(context: AppContext, *, settle: bool = False) -> None:
    """Rehearse the draft as it stands; with ``settle`` go on to the next recipes down until one holds."""
    project = context.project.project
    if project is None or not can_begin(context):
        return
    context.draft.keep()

    def start() -> JobFolder:
        folder = project.new_data_job(KIND)
        start_job(folder, KIND, {"recipe": _plain(context), "folder": str(folder.path), "settle": settle})
        return folder

    folder = change(context, start)
    if folder is not None:
        context.rehearsal.follow(folder)
        for old in _folders(project)[:-1]:  # only the newest is ever looked at
            if not is_alive(JobFolder(old)):
                shutil.rmtree(old, ignore_errors=True)


def _folders(project: Project) -> list[Path]:
    """Folders of the project's rehearsals, the newest last."""
    return sorted((project.path / "jobs").glob(f"*-{KIND}"))


def can_begin(context: AppContext) -> bool:
    """Whether there is something to rehearse on this machine, and nothing else that wants the memory."""
    planned = context.plan.forecast is not None and context.plan.imagined_gib is None
    ready = planned and context.data.status.phase is Phase.READY
    return ready and not context.rehearsal.is_running and not context.project.trains(context.runs)


def end(context: AppContext) -> None:
    """End it; nothing is kept of a rehearsal that was not finished."""
    stop_job(context, context.rehearsal)


def give_way(context: AppContext) -> None:
    """Another run is looked at: where it has just been started, it needs the memory more."""
    run = context.runs.run
    if run is not None and context.rehearsal.is_running and is_alive(run):
        end(context)


def find(context: AppContext) -> None:
    """Follow the newest rehearsal of the project: it may have been begun before the window was closed."""
    project = context.project.project
    if project is None or context.rehearsal.is_running:
        return
    folders = _folders(project)
    newest = JobFolder(folders[-1]) if folders else None
    if newest != context.rehearsal.folder:
        context.rehearsal.follow(newest)


def finished(context: AppContext) -> None:
    """Plan anew: the machine's forecasts are corrected by what was measured."""
    if context.rehearsal.state.rehearsed:
        compute(context)


def standing(context: AppContext) -> Standing:
    """Where the rehearsal of the draft stands."""
    view = context.rehearsal
    if view.is_running:
        return Standing.WORKING
    if view.folder is not None and view.state.failure is not None:
        return Standing.BROKEN
    tried = view.state.rehearsed if view.folder is not None else ()
    if not tried:
        return Standing.NONE
    now = _fingerprint(context)
    if tried[-1].about == now:
        return Standing.HELD if tried[-1].held else Standing.FAILED
    if any(each.about == now for each in tried[:-1]):
        return Standing.SETTLED if tried[-1].held else Standing.FAILED
    return Standing.STALE


def last(context: AppContext) -> Rehearsed | None:
    """What came of the last recipe that was rehearsed."""
    tried = context.rehearsal.state.rehearsed
    return tried[-1] if tried else None


def take(context: AppContext, plain: dict[str, Any]) -> None:
    """Make a recipe that the rehearsal found or proposes the draft."""
    from engine.catalogue import CATALOGUE
    from engine.recipe.file import from_plain

    recipe = attempt(context, lambda: from_plain(plain, CATALOGUE))
    if recipe is not None:
        context.draft.replace(recipe)


def _plain(context: AppContext) -> dict[str, Any]:
    from engine.recipe.file import to_plain

    return to_plain(context.draft.recipe)


def _fingerprint(context: AppContext) -> str:
    from engine.project.fingerprint import fingerprint

    return fingerprint(_plain(context), Path(str(context.models.chosen.get("path", ""))))
