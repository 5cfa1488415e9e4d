"""What the user can do with an evaluation: save it as one file that can be sent."""

from __future__ import annotations

import re
from pathlib import Path

from PySide6.QtCore import QUrl
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QApplication, QFileDialog

from engine.protocol.text import say
from gui.context import AppContext
from gui.i18n.language import language, tr
from gui.operations.operation import Operation
from gui.state.notices import GOOD

TITLE = say("Save the report", "保存报告")
KINDS = say("Web page (*.html)", "网页 (*.html)")


def save_report(context: AppContext) -> Operation | None:
    """Ask where to, write the report in the background and show it; None where the user thinks better of it."""
    run = context.runs.run
    if run is None:
        return None
    name = re.sub(r"[^\w.-]+", "-", f"report-{run.id}") + ".html"
    chosen, _ = QFileDialog.getSaveFileName(QApplication.activeWindow(), tr(TITLE), name, tr(KINDS))
    if not chosen:
        return None
    out = Path(chosen if chosen.lower().endswith((".html", ".htm")) else f"{chosen}.html")
    spoken = language()

    def write() -> None:
        from engine.report.write import write_report

        write_report(run, out, spoken)

    return Operation(context).in_background(write).on_success(lambda nothing: _saved(context, out))


def _saved(context: AppContext, out: Path) -> None:
    told = say(
        "The report is saved to {path}: one file with figures, rows and answers, to send or to print.",
        "报告已保存到 {path}：单个文件，含数字、数据行与回答，可发送或打印。",
        path=str(out),
    )
    context.notices.tell(GOOD, told, folder=out.parent)
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(out)))
