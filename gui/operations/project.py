"""What the user can do with projects and runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from PySide6.QtCore import QFile, QObject, QTimer

from engine.project.run_folder import RunFolder
from engine.protocol.errors import Failure, UserError
from engine.protocol.text import Text, as_text, say
from gui.context import AppContext
from gui.i18n.numbers import count
from gui.operations.operation import Operation, attempt
from gui.state.notices import WARNING
from gui.state.project import TRAINING

if TYPE_CHECKING:
    from engine.project.moving import Absent
    from engine.project.project import Project, RunSummary
    from engine.recipe.recipe import Recipe

BUSY = say("Something still works on this run, so it stays.", "仍有任务在处理这次训练，因此未移除。")
STOP_FIRST = say("Stop it first, or wait until it has ended.", "请先停止，或等待其结束。")
NO_TRASH = say(
    "The run could not be moved to the system's trash, so it stays.", "无法将这次训练移到系统回收站，因此未移除。"
)


def by_hand(run: RunFolder) -> Text:
    """What someone can do who wants a run gone for good."""
    return say("Delete {path} yourself to remove it for good.", "如需彻底删除，请自行删除 {path}。", path=run.path)


LEFT = say(
    "The project has moved, but its old folder could not be removed wholly.", "项目已移动，但原文件夹未能完全删除。"
)
MOST_NAMED = 12
"""Files that a notice names."""
MOVE_MS = 200
WATCH_MS = 2000
"""Time between two looks at runs that train and are not looked at."""


class Opened(NamedTuple):
    """A project as it was read; `troubles` are told and stop nobody."""

    project: Project
    runs: list[RunSummary]
    recent: list[Path]
    recipe: Recipe
    troubles: list[UserError]
    absent: list[Absent]


def open_project(context: AppContext, path: Path, run: RunFolder | None = None) -> Operation:
    """Open a project (made when absent): its draft, its runs, and ``run``, else the one that works or the newest."""
    context.draft.keep()

    def refused(failure: Failure) -> None:
        context.notices.failure(failure)
        context.project.refuse()

    operation = Operation(context).in_background(lambda: _read(path)).on_failure(refused)
    return operation.on_success(lambda found: _opened(context, found, run))


def open_run(context: AppContext, path: Path, run: RunFolder | None) -> None:
    """Open a recent project, and look at a run of it where one was chosen."""
    opening = open_project(context, path, run)
    if run is not None:
        opening.ended.connect(lambda: context.wizard.go("train") if context.runs.run == run else None)


def _read(path: Path) -> Opened:
    """In the background: everything that importing and reading takes time for."""
    from engine.project.moving import absent
    from engine.project.project import Project
    from engine.project.recent import recent, remember

    project = Project.open_or_create(path)
    comes_from_elsewhere = project.path not in recent()
    recipe, trouble = _draft(project.draft)
    troubles = [trouble] if trouble is not None else []
    try:
        remember(project.path)
    except UserError as error:  # the list of projects is elsewhere; this project can be worked in all the same
        troubles.append(error)
    missing = absent(project.path) if comes_from_elsewhere else []
    return Opened(project, project.runs(), recent(), recipe, troubles, missing)


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


def _opened(context: AppContext, found: Opened, run: RunFolder | None) -> None:
    context.project.set_project(found.project, found.runs, found.recent)
    context.draft.begin(found.recipe, found.project.draft)
    for trouble in found.troubles:
        context.notices.failure(Failure.of(trouble))
    _tell_absent(context, found.absent)
    working = next((item for item in found.runs if item.status in TRAINING), None)
    newest = working or (found.runs[0] if found.runs else None)
    context.runs.select(run or (newest.folder if newest is not None else None))
    watch_runs(context)
    _watch_queue(context)
    read_others(context)


def _tell_absent(context: AppContext, missing: list[Absent]) -> None:
    """What a project that comes from elsewhere names and that is not on this machine."""
    if not missing:
        return
    message = say(
        "Of the files and models that this project names, {n} could not be found on this machine.",
        "此项目引用的文件和模型中有 {n} 个不在本机上。",
        n=count(len(missing)),
    )
    hint = say(
        "Its runs can be looked at; to train, choose your own on the Data and Model pages.",
        "训练记录仍可查看；如需训练，请在“数据”和“模型”页重新选择。",
    )
    lines = tuple(as_text(f"{item.where}: {item.path}") for item in missing[:MOST_NAMED])
    context.notices.tell(WARNING, message, hint, problems=lines)


def move_project(context: AppContext, parent: Path) -> None:
    """Move the open project into another folder; to another disk by a copy, which can be stopped."""
    from engine.protocol.errors import Stopped

    project = context.project.project
    if project is None or context.project.moving is not None or not context.may_change():
        return
    source, target, copier = project.path, parent / project.path.name, context.bridge.copies
    context.draft.keep()
    context.draft.path = None  # nothing is written to the old place meanwhile
    context.runs.select(None)
    copier.stopped.clear()
    copier.done = copier.total = 0

    def work() -> tuple[Path, bool]:
        from engine.project.moving import move_project as move

        try:
            return target, move(source, target, progress=copier.tell)
        except Stopped:
            return source, True

    def failed(failure: Failure) -> None:
        context.notices.failure(failure)
        _moved(context, source)

    def done(found: tuple[Path, bool]) -> None:
        if not found[1]:
            context.notices.tell(WARNING, LEFT, say("Delete {path} yourself.", "请自行删除 {path}。", path=source))
        _moved(context, found[0])

    context.project.set_moving(0.0)
    _Moving(context)
    copier.call(work, done, failed)


class _Moving(QObject):
    """Tells how far a project is, until it is there."""

    def __init__(self, context: AppContext) -> None:
        super().__init__(context.project)
        self._context = context
        self._timer = QTimer(self)
        self._timer.setObjectName("moving is told")
        self._timer.setInterval(MOVE_MS)
        self._timer.timeout.connect(self._tell)
        self._timer.start()

    def _tell(self) -> None:
        copier, project = self._context.bridge.copies, self._context.project
        if project.moving is None:
            self._timer.stop()
            self.deleteLater()
        elif copier.total:
            project.set_moving(min(1.0, copier.done / copier.total))


def stop_moving(context: AppContext) -> None:
    """End the copy; the project stays where it was."""
    context.bridge.copies.stopped.set()


def is_open(context: AppContext) -> bool:
    """Whether the window is not closing: an answer that arrives late must start no thread again."""
    return context.bridge.background.isRunning()


def _moved(context: AppContext, where: Path) -> None:
    """Open the project where it lies now, with what was changed in its plan meanwhile."""
    if not is_open(context):
        return
    context.project.set_moving(None)
    context.draft.path = where / "draft.toml"
    open_project(context, where)


def _watch_queue(context: AppContext) -> None:
    from gui.operations.queue import watch_queue  # here and not above: that room builds on this one

    watch_queue(context)


def watch_runs(context: AppContext) -> None:
    """From now on notice the end of runs that nobody looks at."""
    if context.project.findChild(_RunsWatch) is None:
        _RunsWatch(context)


class _RunsWatch(QObject):
    """Reads the list of runs when the run that is looked at ends, and now and then while another trains.

    Those others are followed too: one that the system ends for lack of memory is started again. The end of each is told
    (`ProjectState.run_ended`); the queue tells of its own.
    """

    def __init__(self, context: AppContext) -> None:
        super().__init__(context.project)
        self._context = context
        self._trained: dict[Path, RunSummary] = {}
        self._kept: set[Path] = set()
        self._timer = QTimer(self)
        self._timer.setObjectName("runs are read again")
        self._timer.setInterval(WATCH_MS)
        self._timer.timeout.connect(self._read)
        for signal in (context.project.changed, context.runs.selected):
            signal.connect(self._wind)
        context.runs.train.finished.connect(self._read)
        self._wind()

    def _read(self) -> None:
        refresh_lists(self._context)

    def _wind(self) -> None:
        selected = self._context.runs.run
        others = {run.folder.path: run for run in self._context.project.runs if run.folder != selected}
        training = {path: run for path, run in others.items() if run.status in TRAINING}
        for path in self._trained.keys() & others.keys() - training.keys():
            self._tell_end(others[path])
        self._trained = training
        queued = {entry.folder.path for entry in self._context.project.listed.queue}
        self._follow({path for path, run in training.items() if run.status != "starting" and path not in queued})
        if training:
            self._timer.start()
        else:
            self._timer.stop()

    def _follow(self, training: set[Path]) -> None:
        """Those of the queue are followed by it; one that is being started is not known to train yet."""
        jobs, selected = self._context.bridge.jobs, self._context.runs.run
        for path in self._kept - training:
            if selected is None or selected.path != path:  # that one is followed by who looks at it
                jobs.forget(RunFolder(path))
        for path in training:
            jobs.keep(RunFolder(path))
        self._kept = training

    def _tell_end(self, run: RunSummary) -> None:
        context, folder = self._context, run.folder
        if any(entry.folder == folder for entry in context.project.listed.queue):
            return

        def read() -> Any:
            from engine.host.follow import replay

            return replay(folder)

        told = context.project.run_ended
        title = run.title or folder.id
        Operation(context).in_background(read).on_success(lambda state: told.emit(title, state))


def refresh_lists(context: AppContext) -> Operation:
    """Read the runs and the recent projects again."""
    project = context.project.project

    def read() -> Any:
        from engine.project.recent import recent

        return (project.runs() if project is not None else [], recent())

    def put(lists: Any) -> None:
        if context.project.project is project:
            context.project.set_lists(*lists)

    return Operation(context).in_background(read).on_success(put)


def read_others(context: AppContext) -> Operation:
    """Read the runs of the recent projects that are not open."""
    paths = [path for path in context.project.recent if path != context.project.path]

    def read() -> Any:
        from engine.project.project import Project

        return {path: Project(path).runs() for path in paths}

    return Operation(context).in_background(read).on_success(context.project.set_others)


def forget_project(context: AppContext, path: Path) -> None:
    """Take a project off the list; its folder stays."""
    from engine.project.recent import forget

    attempt(context, lambda: forget(path))
    refresh_lists(context)


def select_run(context: AppContext, run: RunFolder) -> None:
    """Look at another run of the project."""
    context.runs.select(run)
    context.wizard.go("train")


def remove_run(context: AppContext, run: RunFolder) -> None:
    """Move a run's folder to the system's trash; refused while something works on it, or where there is no trash."""
    from engine.project.project import is_busy

    if not context.may_change():
        return
    if is_busy(run):
        context.notices.tell(WARNING, BUSY, STOP_FIRST)
        return
    was_looked_at = context.runs.run == run
    if was_looked_at:
        context.runs.select(None)  # nothing of it is read while it moves
    if QFile.moveToTrash(str(run.path))[0]:
        refresh_lists(context).ended.connect(lambda: _look_at_newest(context))
        return
    context.notices.tell(WARNING, NO_TRASH, by_hand(run), details=str(run.path))
    if was_looked_at:
        context.runs.select(run)


def _look_at_newest(context: AppContext) -> None:
    if context.runs.run is None and context.project.runs:
        context.runs.select(context.project.runs[0].folder)
