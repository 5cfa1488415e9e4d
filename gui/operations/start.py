"""What happens after the first frame: the project is opened, and the helpers start."""

from __future__ import annotations

from gui.context import AppContext
from gui.operations.project import open_project


def begin(context: AppContext) -> None:
    """Open the project and look at the machine; the data session starts meanwhile."""
    context.bridge.data.warm_up()
    open_project(context, context.project.path)
    watch_machine(context)


def watch_machine(context: AppContext) -> None:
    """Find out what the machine is, and read its gauges from now on."""
    watcher = context.bridge.machine
    watcher.detected.connect(context.machine.set_machine)
    watcher.gauged.connect(context.machine.set_gauge)
    watcher.begin()
