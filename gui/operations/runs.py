"""What the user can do on the Runs page: find, describe, compare, repeat, go on with and remove runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QFile, QUrl
from PySide6.QtGui import QDesktopServices

from engine.project.remarks import Remarks, read_remarks, write_remarks
from engine.project.run_folder import RunFolder
from engine.project.showing import folder_to_show
from engine.protocol.errors import Failure
from engine.protocol.text import NOTHING, say
from gui.context import AppContext
from gui.operations.operation import Operation, change
from gui.operations.project import BUSY, NO_TRASH, STOP_FIRST, by_hand, is_open, refresh_lists
from gui.operations.queue import enqueue
from gui.state.notices import INFO, WARNING
from gui.state.phase import Phase

if TYPE_CHECKING:
    from engine.project.kept import Kept
    from engine.project.runs import RunRow
    from gui.state.runs_list import RunsList

READING = say("Reading the runs…", "正在读取训练记录…")


# ---------------------------------------------------------------------------------------------------------------- list
def read_runs(context: AppContext) -> Operation | None:
    """Read the list again; sizes follow. None while it is being read, or no project is open."""
    listed, project = context.project.listed, context.project.project
    if project is None or listed.is_reading:
        return None
    if listed.project != project.path:
        listed.begin(project.path)
    listing = listed.listing
    assert listing is not None
    listed.is_reading = True
    if not listed.rows:
        listed.status.work(READING)
        listed.changed.emit()

    def failed(failure: Failure) -> None:
        listed.status.fail(failure)
        listed.changed.emit()

    operation = Operation(context).in_background(listing.read).on_failure(failed)
    operation.ended.connect(lambda: _read(listed))
    return operation.on_success(lambda rows: _take(context, listed, project.path, rows))


def _read(listed: RunsList) -> None:
    listed.is_reading = False


def _take(context: AppContext, listed: RunsList, project: Path, rows: list[RunRow]) -> None:
    if listed.project != project:
        return
    was, has_plan = listed.status.phase, earlier_plan(context).is_file()
    listed.status.ready()
    if was is not Phase.READY or (rows, has_plan) != (listed.rows, listed.has_earlier_plan):
        listed.rows, listed.has_earlier_plan = rows, has_plan
        listed.changed.emit()
    if is_open(context):
        measure_sizes(context, [row.folder for row in rows])


def measure_sizes(context: AppContext, runs: Sequence[RunFolder]) -> Operation:
    """What runs take on disk, and which checkpoints those keep that are chosen."""
    listed = context.project.listed
    chosen = [RunFolder(path) for path in listed.chosen]

    def measure() -> Any:
        from engine.project.kept import kept
        from engine.project.runs import sizes

        return {run.path: sizes(run) for run in runs}, {run.path: kept(run) for run in chosen}

    def put(found: Any) -> None:
        listed.put(sizes={**listed.sizes, **found[0]}, kept={**listed.kept, **found[1]})

    return Operation(context).in_background(measure).on_success(put)


def choose(context: AppContext, runs: Sequence[Path]) -> None:
    """Choose runs; their checkpoints are looked up."""
    listed = context.project.listed
    if tuple(runs) != listed.chosen:
        listed.put(chosen=tuple(runs))
        if len(runs) == 1:
            measure_sizes(context, [RunFolder(runs[0])])
            read_curve(context, RunFolder(runs[0]))


def read_curve(context: AppContext, run: RunFolder) -> Operation:
    """What the curve of a run says."""
    listed = context.project.listed

    def read() -> Any:
        from engine.catalogue import CATALOGUE
        from engine.host.follow import replay
        from engine.project.curve import reading_of
        from engine.recipe.file import load

        state = replay(run)
        if state.latest is None:
            return None
        return reading_of(state, load(run.recipe_as_run if run.recipe_as_run.is_file() else run.recipe, CATALOGUE))

    def put(found: Any) -> None:
        listed.put(readings={**listed.readings, run.path: found})

    # A recipe that cannot be read is told where somebody wants to use it.
    return Operation(context).in_background(read).on_success(put).on_failure(lambda failure: put(None))


# ------------------------------------------------------------------------------------------------------------- remarks
def describe(context: AppContext, row: RunRow, **changes: Any) -> None:
    """Change a run's title, tags or note, on disk and in the list."""
    kept = change(context, lambda: write_remarks(row.folder, replace(read_remarks(row.folder), **changes)))
    if isinstance(kept, Remarks):
        listed = context.project.listed
        now = replace(row, tags=kept.tags, note=kept.note, title=kept.title or row.title)
        listed.put(rows=[now if item.folder == row.folder else item for item in listed.rows])
        if "title" in changes:
            refresh_lists(context)
            read_runs(context)


# ------------------------------------------------------------------------------------------------------------- compare
def compare(context: AppContext) -> Operation | None:
    """Show the chosen runs side by side."""
    from gui.state.runs_list import MOST_COMPARED

    listed = context.project.listed
    rows = listed.chosen_rows
    if not 2 <= len(rows) <= MOST_COMPARED:
        return None
    listed.put(doing=say("Reading the curves…", "正在读取曲线…"))
    operation = Operation(context).in_background(lambda: _compared(rows))
    operation.ended.connect(lambda: listed.put(doing=NOTHING))
    return operation.on_success(lambda found: listed.put(compared=found))


def _compared(rows: list[RunRow]) -> Any:
    from engine.catalogue import CATALOGUE
    from engine.host.follow import replay
    from engine.project.runs import differing
    from engine.recipe.file import load
    from gui.state.runs_list import Compared

    recipes = [load(row.folder.recipe, CATALOGUE) for row in rows]
    states = tuple(replay(row.folder) for row in rows)
    return Compared(tuple(rows), states, tuple(recipes), tuple(differing(recipes)))


def compare_no_more(context: AppContext) -> None:
    """Show the list again."""
    context.project.listed.put(compared=None)


# ---------------------------------------------------------------------------------------------------------- its recipe
def earlier_plan(context: AppContext) -> Path:
    """Where the plan is kept that a run's recipe took the place of."""
    project = context.project.project
    return (project.path if project is not None else context.project.path) / "draft.earlier.toml"


def use_recipe(context: AppContext, run: RunFolder) -> None:
    """Make a run's recipe the plan; the plan of before is kept, and can be taken back."""
    from engine.catalogue import CATALOGUE
    from engine.recipe.file import load, save

    def exchange() -> bool:
        recipe = load(run.recipe, CATALOGUE)
        save(context.draft.recipe, earlier_plan(context))
        _put_plan(context, recipe)
        return True

    if change(context, exchange):
        context.project.listed.put(has_earlier_plan=True)
        hint = say(
            "Your plan of before is kept: take it back on the Runs page.", "原来的计划已保留，可在“训练记录”页恢复。"
        )
        context.notices.tell(
            INFO, say("The plan has the recipe of {run} now.", "计划已采用 {run} 的配方。", run=run.id), hint
        )
        context.wizard.go("plan")


def take_back_plan(context: AppContext) -> None:
    """The plan of before is the plan again."""
    from engine.catalogue import CATALOGUE
    from engine.recipe.file import load

    recipe = change(context, lambda: load(earlier_plan(context), CATALOGUE))
    if recipe is not None:
        _put_plan(context, recipe)
        earlier_plan(context).unlink(missing_ok=True)
        context.project.listed.put(has_earlier_plan=False)
        context.wizard.go("plan")


def _put_plan(context: AppContext, recipe: Any) -> None:
    # It was chosen, not advised: the advice must not take its place.
    context.plan.advised_for = (recipe.data.files, recipe.model.source, recipe.objective.name)
    context.draft.replace(recipe)
    context.draft.keep()


# --------------------------------------------------------------------------------------------------------------- go on
def go_on_from(context: AppContext, run: RunFolder, step: int) -> Operation:
    """Train on from a checkpoint, as a new run; where something trains, it waits for its turn."""
    listed = context.project.listed

    def work() -> Any:
        from engine.project.fork import fork

        return fork(run, step)

    listed.put(doing=say("Copying the checkpoint…", "正在复制检查点…"))
    operation = Operation(context).in_background(work, changes=True)
    operation.ended.connect(lambda: listed.put(doing=NOTHING))
    return operation.on_success(lambda made: _begin(context, made))


def _begin(context: AppContext, run: RunFolder) -> None:
    from engine.host.launch import start_job
    from engine.project.recent import remember_project_of

    if not is_open(context):
        return  # the new run waits in the list
    if context.project.trains(context.runs):
        enqueue(context, run)
        read_runs(context)
        return

    def start() -> bool:
        remember_project_of(run)
        start_job(run, "resume", {"run": str(run.path)})
        return True

    if change(context, start):
        context.runs.select(run)
        context.wizard.go("train")
    refresh_lists(context)


# -------------------------------------------------------------------------------------------------------------- remove
def remove_checkpoints(context: AppContext, run: RunFolder, spare: Sequence[Kept]) -> None:
    """Move checkpoints that a run can do without to the system's trash."""
    from engine.project.project import is_busy

    if not context.may_change():
        return
    if is_busy(run):
        context.notices.tell(WARNING, BUSY, STOP_FIRST)
        return
    if not all(QFile.moveToTrash(str(item.path))[0] for item in spare):
        context.notices.tell(WARNING, NO_TRASH, by_hand(run), details=str(run.path))
    measure_sizes(context, [run])


def open_folder_of(context: AppContext, run: RunFolder) -> None:
    """Show a run's folder in the system's file manager."""
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder_to_show(run.path))))


def save_bundle(context: AppContext, run: RunFolder) -> None:
    """Write what helps to understand a run into one file, without its data."""
    from gui.operations import bundle

    bundle.save_bundle(context, run)
