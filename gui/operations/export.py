"""What the user can do with a trained run: take it away."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QUrl
from PySide6.QtGui import QDesktopServices

from engine.project.showing import folder_to_show
from gui.context import AppContext
from gui.operations.jobs import start_later_job
from gui.state.takeaway import Choice


def export(context: AppContext, choice: Choice) -> None:
    """Write what is chosen and hold it against the trained model."""
    run = context.runs.run
    if run is None:
        return
    out = str(context.takeaway.target(run, str(context.runs.facts.get("title", "")), choice.suffix))
    if choice.name == "merged":
        start_later_job(context, context.runs.export, "merge", {"out": out})
        return
    to = "gguf" if choice.suffix else choice.name
    start_later_job(context, context.runs.export, "export", {"to": to, "quantize": choice.name, "out": out})


def show_in_folder(path: Path) -> None:
    """Open the folder that holds an export in the system's file manager."""
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder_to_show(path))))
