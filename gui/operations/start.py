"""What happens after the first frame: the project is opened, and the helpers start."""

from __future__ import annotations

from gui.context import AppContext
from gui.operations.project import open_project


def begin(context: AppContext) -> None:
    """Open the project and look at the machine; the data session starts meanwhile."""
    context.bridge.data.warm_up()
    open_project(context, context.project.path)
    context.bridge.machine.begin()
