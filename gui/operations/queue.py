"""The queue while a window is open: runs are started when it is their turn, and what ended is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, QTimer

from engine.host.platform import config_folder
from engine.protocol.errors import Failure
from engine.protocol.text import say
from gui.context import AppContext
from gui.operations.operation import Operation
from gui.operations.project import is_open, refresh_lists
from gui.state.notices import INFO

if TYPE_CHECKING:
    from engine.project.queue import Advance, Entry
    from engine.project.run_folder import RunFolder

LOOK_MS = 2000
"""Time between two looks at the queue, which commands and other windows change, too."""


def watch_queue(context: AppContext) -> None:
    """From now on look after the queue."""
    if context.project.findChild(QueueWatch) is None:
        QueueWatch(context)


class QueueWatch(QObject):
    """Looks after the queue now and then; the claim on it keeps two windows from doing the same."""

    def __init__(self, context: AppContext) -> None:
        super().__init__(context.project)
        self._context = context
        self._is_looking = False
        self._timer = QTimer(self)
        self._timer.setObjectName("queue is looked after")
        self._timer.setInterval(LOOK_MS)
        self._timer.timeout.connect(self.look)
        self._timer.start()

    def look(self) -> None:
        """Look once, in the background."""
        if self._is_looking or not (config_folder() / "queue.json").exists():
            return
        self._is_looking = True
        looking = Operation(self._context).in_background(_look).on_failure(_told).on_success(self._take)
        looking.ended.connect(self._looked)

    def _looked(self) -> None:
        self._is_looking = False

    def _take(self, found: Any) -> None:
        looked, ended = found
        context = self._context
        if not is_open(context):
            return
        context.project.listed.put(queue=looked.entries)
        for entry, state in ended:
            context.bridge.jobs.forget(entry.folder)
            if context.runs.run != entry.folder:  # the end of the run that is looked at is told by itself
                context.project.run_ended.emit(entry.named, state)
        if looked.started is not None:
            self._tell_start(looked.started)
        if looked.started is not None or ended:
            refresh_lists(context)

    def _tell_start(self, entry: Entry) -> None:
        context = self._context
        if context.runs.run == entry.folder:
            context.runs.select(entry.folder)
            return
        # Followed although nobody looks: a training that the system ends for lack of memory is started again.
        context.bridge.jobs.watch(entry.folder)
        words = say(
            "“{title}” was next in the queue and has been started.", "队列中的“{title}”已启动。", title=entry.named
        )
        context.notices.tell(INFO, words)


def _look() -> tuple[Advance, list[tuple[Entry, Any]]]:
    from engine.host.follow import replay
    from engine.project.queue import advance

    looked = advance()
    return looked, [(entry, replay(entry.folder)) for entry in looked.ended]


def _told(failure: Failure) -> None:
    """Another window is at it just now, or the disk is full: it is looked again."""


def enqueue(context: AppContext, run: RunFolder) -> Operation:
    """Let a run wait for its turn, behind the one that trains now."""
    from engine.project.queue import add

    behind = context.runs.run if context.runs.train.is_running and context.runs.run != run else None
    behind = behind if behind is not None and behind.events.exists() else None

    def told(entry: Entry) -> None:
        words = say("“{title}” waits for its turn.", "“{title}”已排队。", title=entry.named)
        hint = say(
            "It starts by itself while a window is open; the queue is on the Runs page.",
            "只要有窗口打开就会自动开始；队列在“训练记录”页。",
        )
        context.notices.tell(INFO, words, hint)

    return _change(context, lambda: add(run, behind=behind), told)


def take_out(context: AppContext, id: str) -> Operation:
    """Take an entry out of the queue; its run stays."""
    from engine.project.queue import remove

    return _change(context, lambda: remove(id))


def move(context: AppContext, id: str, by: int) -> Operation:
    """Move an entry up or down."""
    from engine.project.queue import move as move_entry

    return _change(context, lambda: move_entry(id, by))


def set_after(context: AppContext, id: str, after: str) -> Operation:
    """Start it whenever the one before has ended ("any"), or only if that is done ("done")."""
    from engine.project.queue import set_after as set_entry

    return _change(context, lambda: set_entry(id, after))


def clear_over(context: AppContext) -> Operation:
    """Take out what is over."""
    from engine.project.queue import clear_over as clear

    return _change(context, clear)


def _change(
    context: AppContext, work: Callable[[], Any], told: Callable[[Any], object] = lambda value: None
) -> Operation:
    """Change the queue in the background, for another window may be at it; then show it as it stands."""

    def both() -> Any:
        from engine.project.queue import entries

        return work(), entries()

    def show(found: Any) -> None:
        context.project.listed.put(queue=found[1])
        told(found[0])

    return Operation(context).in_background(both, changes=True).on_success(show)


def show_queue(context: AppContext) -> None:
    """Read the queue again; a small file of Lorimer's own."""
    from engine.project.queue import entries

    context.project.listed.put(queue=entries())
