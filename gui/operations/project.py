"""What the user can do with projects and runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.project.run_folder import RunFolder
from engine.protocol.errors import Failure, UserError
from gui.context import AppContext
from gui.operations.operation import Operation, attempt

if TYPE_CHECKING:
    from engine.project.project import Project, RunSummary
    from engine.recipe.recipe import Recipe

Opened = tuple["Project", "list[RunSummary]", "list[Path]", "Recipe", "UserError | None"]


def open_project(context: AppContext, path: Path) -> Operation:
    """Open a project (made when absent): its draft, its runs, and the newest run or the one that works."""
    context.draft.keep()
    return Operation(context).in_background(lambda: _read(path)).on_success(lambda found: _opened(context, found))


def _read(path: Path) -> Opened:
    """In the background: everything that importing and reading takes time for."""
    from engine.project.project import Project
    from engine.project.recent import recent, remember

    project = Project.open_or_create(path)
    remember(project.path)
    recipe, trouble = _draft(project.draft)
    return project, project.runs(), recent(), recipe, trouble


def _draft(path: Path) -> tuple[Recipe, UserError | None]:
    """The kept draft; the defaults and what is wrong when it cannot be read."""
    from engine.catalogue import CATALOGUE
    from engine.recipe.file import from_plain, load

    if not path.exists():
        return from_plain({}, CATALOGUE), None
    try:
        return load(path, CATALOGUE), None
    except UserError as error:
        return from_plain({}, CATALOGUE), error


def _opened(context: AppContext, found: Opened) -> None:
    project, runs, recent, recipe, trouble = found
    context.project.set_project(project, runs, recent)
    context.draft.begin(recipe, project.draft)
    if trouble is not None:
        context.notices.failure(Failure.of(trouble))
    working = next((run for run in runs if run.status in ("starting", "working", "waiting")), None)
    newest = working or (runs[0] if runs else None)
    context.runs.select(newest.folder if newest is not None else None)


def refresh_lists(context: AppContext) -> Operation:
    """Read the runs and the recent projects again."""
    project = context.project.project

    def read() -> Any:
        from engine.project.recent import recent

        return (project.runs() if project is not None else [], recent())

    return Operation(context).in_background(read).on_success(lambda lists: context.project.set_lists(*lists))


def forget_project(context: AppContext, path: Path) -> None:
    """Take a project off the list; its folder stays."""
    from engine.project.recent import forget

    attempt(context, lambda: forget(path))
    refresh_lists(context)


def select_run(context: AppContext, run: RunFolder) -> None:
    """Look at another run of the project."""
    context.runs.select(run)
    context.wizard.go("train")
