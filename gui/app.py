"""Starts the window: early checks, what happens with errors nobody foresaw, and the first frame.

Until the first frame is painted only what it shows is imported; projects, recipes and sessions follow after it.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication

from engine.host.platform import config_folder
from engine.project.recent import recent
from engine.project.secrets import guard_output
from engine.project.settings import LANGUAGES, THEMES
from gui.bridge.garbage import GarbageCollector
from gui.bridge.loop import left_behind
from gui.context import AppContext
from gui.main_window import MainWindow
from gui.operations.start import begin
from gui.state.settings import AppSettings

if TYPE_CHECKING:
    from typing import IO

log = logging.getLogger("lorimer.window")
DEFAULT_PROJECT = "Lorimer"


def run(arguments: list[str] | None = None) -> int:
    """Open the window and stay until it is closed; gives the exit code."""
    chosen = _arguments(arguments)
    evidence = _keep_evidence()
    app = QApplication.instance() or QApplication(sys.argv[:1])
    assert isinstance(app, QApplication)
    app.setApplicationName("Lorimer")
    app.setApplicationDisplayName("Lorimer")
    garbage = GarbageCollector()
    context = AppContext(AppSettings(language=chosen.lang, theme=chosen.theme), _project(chosen.project))
    _catch(context)
    window = MainWindow(context)
    if chosen.exit_after_first_frame:
        window.painted.connect(app.quit)
    else:
        window.painted.connect(lambda: begin(context))
    window.show()
    code = app.exec()
    context.close()
    garbage.close()
    if evidence is not None:
        faulthandler.disable()
        evidence.close()
    if left_behind():  # they wait for a drive and cannot be ended; taking Qt apart around them would abort
        logging.shutdown()
        os._exit(code)
    return code


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="lorimer", description="Fine-tune language models on this machine.")
    parser.add_argument("--project", type=Path, help="project folder; made when absent")
    parser.add_argument("--lang", choices=LANGUAGES, default="", help="language of the window")
    parser.add_argument("--theme", choices=THEMES, default="", help="theme of the window")
    parser.add_argument("--exit-after-first-frame", action="store_true", help="for measuring the start")
    return parser.parse_args(arguments)


def _project(asked: Path | None) -> Path:
    """The project that was asked for, else the last one, else a new one in the user's folder."""
    if asked is not None:
        return asked.expanduser().resolve()
    known = recent()
    return known[0] if known else Path.home() / DEFAULT_PROJECT


def _keep_evidence() -> IO[str] | None:
    """Log to Lorimer's own folder, and have a crash of the interpreter write there too."""
    folder = config_folder() / "logs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        logging.basicConfig(
            filename=folder / "window.log", level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s"
        )
        evidence = (folder / "window-crash.log").open("w", encoding="utf-8")
    except OSError as error:
        sys.stderr.write(f"Lorimer cannot write its log in {folder}: {error.strerror}.\n")
        return None
    faulthandler.enable(evidence)
    guard_output()
    return evidence


def _catch(context: AppContext) -> None:
    """Errors nobody foresaw go to the log and become a notice; the window stays."""

    def tell(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None or issubclass(kind, KeyboardInterrupt):
            QTimer.singleShot(0, QApplication.quit)
            return
        from gui.bridge.background import unexpected

        log.error("unexpected", exc_info=(kind, error, trace))
        QTimer.singleShot(0, context, lambda: context.notices.failure(unexpected(error)))

    sys.excepthook = tell
    threading.excepthook = lambda args: tell(args.exc_type, args.exc_value, args.exc_traceback)
