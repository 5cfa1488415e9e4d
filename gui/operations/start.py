"""What happens after the first frame: the project is opened, the helpers start, the states are kept true."""

from __future__ import annotations

from PySide6.QtCore import QObject, QTimer

from gui.context import AppContext
from gui.operations.models import list_models
from gui.operations.project import open_project, refresh_lists
from gui.operations.proof import Prover

WATCH_MS = 3000
"""Time between two looks at what the window that controls the project makes of it."""


def begin(context: AppContext) -> None:
    """Open the project and look at the machine; the data session starts meanwhile."""
    context.bridge.data.warm_up()
    watch_machine(context)
    Watching(context)
    Prover(context)
    # The follower imports the recipe's room: the background thread has done so by the time the project is open.
    open_project(context, context.project.path).ended.connect(lambda: _follow(context))


def _follow(context: AppContext) -> None:
    from gui.operations.follow import Follower

    Follower(context).catch_up()
    list_models(context)


def watch_machine(context: AppContext) -> None:
    """Find out what the machine is, and read its gauges from now on."""
    watcher = context.bridge.machine
    watcher.detected.connect(context.machine.set_machine)
    watcher.gauged.connect(context.machine.set_gauge)
    watcher.begin()


class Watching(QObject):
    """While another window controls the project its runs are listed again now and then; once this one does, all is
    read as the other left it."""

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self._context = context
        self._timer = QTimer(self)
        self._timer.setObjectName("what another window does is read")
        self._timer.setInterval(WATCH_MS)
        self._timer.timeout.connect(lambda: refresh_lists(context))
        context.control.changed.connect(self._wind)
        context.control.gained.connect(self._open_again)

    def _wind(self) -> None:
        if self._context.control.controls:
            self._timer.stop()
        else:
            self._timer.start()

    def _open_again(self) -> None:
        self._context.draft.let_go()
        open_project(self._context, self._context.project.path, self._context.runs.run)
