"""What happens after the first frame: the project is opened, the helpers start, the states are kept true."""

from __future__ import annotations

from gui.context import AppContext
from gui.operations.models import list_models
from gui.operations.project import open_project


def begin(context: AppContext) -> None:
    """Open the project and look at the machine; the data session starts meanwhile."""
    context.bridge.data.warm_up()
    watch_machine(context)
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
