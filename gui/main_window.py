"""The window: puts sidebar, notices and pages together, and nothing else."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QEvent, Qt, QTimer, Signal
from PySide6.QtGui import QCloseEvent, QKeySequence, QPaintEvent, QShortcut
from PySide6.QtWidgets import QApplication, QFileDialog, QHBoxLayout, QMainWindow, QStackedWidget, QVBoxLayout, QWidget

from engine.protocol.text import say
from gui.context import AppContext
from gui.i18n.language import speak, tr
from gui.operations import project as projects
from gui.pages.page import Page
from gui.pages.registry import PAGES, Entry
from gui.theme.apply import apply, speak_qt
from gui.theme.icon import app_icon
from gui.widgets.announcer import RunAnnouncer
from gui.widgets.machine_box import MachineBox
from gui.widgets.notice_strip import NoticeStrip
from gui.widgets.project_card import ProjectCard
from gui.widgets.sidebar import Sidebar
from gui.widgets.watch_strip import WatchStrip

SMALLEST = (1100, 700)
USUAL = (1280, 800)


class MainWindow(QMainWindow):
    """Composition only. Pages are built when first looked at, and anew when language or theme change.

    Signals:
        painted: the first frame is on the screen.
    """

    painted = Signal()

    def __init__(self, context: AppContext) -> None:
        super().__init__()
        self._context = context
        self._was_painted = False
        self._pages: dict[str, Page] = {}
        self.setMinimumSize(*SMALLEST)
        self.resize(*USUAL)
        self.setObjectName("window")
        self.setWindowIcon(app_icon())
        RunAnnouncer(context, self)
        context.settings.changed.connect(self.rebuild)
        context.wizard.moved.connect(self._show_current)
        context.runs.changed.connect(self._name_window)
        context.project.changed.connect(self._name_window)
        QShortcut(QKeySequence("Ctrl+Q"), self, self.close)
        self.rebuild()

    # --------------------------------------------------------------------------------------------------- composition
    def rebuild(self) -> None:
        """Build the content anew, in the language and theme that are chosen now. The states live on."""
        values = self._context.settings.values
        app = QApplication.instance()
        if isinstance(app, QApplication):
            speak_qt(app, speak(values.language))
            apply(app, values.theme)
        self._pages = {}
        content = self._content()
        self.setCentralWidget(content)
        # Nothing is marked until the user presses Tab, which then goes to the sidebar first.
        content.setFocus()
        self._show_current()
        self._name_window()

    def _content(self) -> QWidget:
        content = QWidget()
        content.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        layout = QHBoxLayout(content)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._sidebar())
        right = QVBoxLayout()
        right.setSpacing(0)
        self._stack = QStackedWidget()
        right.addWidget(WatchStrip(self._context.control))
        right.addWidget(NoticeStrip(self._context.notices))
        right.addWidget(self._stack, 1)
        layout.addLayout(right, 1)
        return content

    def _sidebar(self) -> Sidebar:
        context = self._context
        card = ProjectCard(
            context.project,
            looked_at=lambda: context.runs.run,
            open_folder=self._ask_for_project,
            open_path=lambda path, run: projects.open_run(context, path, run),
            move=self._ask_where_to_move,
            forget=lambda path: projects.forget_project(context, path),
            select_run=lambda run: projects.select_run(context, run),
            remove_run=lambda run: projects.remove_run(context, run),
        )
        steps = [(entry.name, entry.label, entry.sign) for entry in PAGES]
        sidebar = Sidebar(steps, context.wizard, context.settings, card, MachineBox(context.machine))
        sidebar.pressed.connect(context.wizard.go)
        return sidebar

    # --------------------------------------------------------------------------------------------------------- pages
    def page(self, name: str) -> Page | None:
        """The page of a step, None while nobody has looked at it."""
        return self._pages.get(name)

    def _show_current(self) -> None:
        entry = _entry(self._context.wizard.current)
        page = self._pages.get(entry.name)
        if page is None:
            page = self._pages[entry.name] = entry.build(self._context)
            self._stack.addWidget(page)
        page.refresh()
        self._stack.setCurrentWidget(page)

    def _name_window(self) -> None:
        name = self._context.project.name
        step = self._context.wizard.step("train")
        share = f"{tr(step.word)} · " if self._context.runs.train.is_running else ""
        self.setWindowTitle(f"{share}{name} · Lorimer")

    def _ask_for_project(self) -> None:
        words = tr(say("Choose a project folder, or an empty one", "选择项目文件夹或空文件夹"))
        chosen = QFileDialog.getExistingDirectory(self, words, str(self._context.project.path.parent))
        if chosen:
            projects.open_project(self._context, Path(chosen))

    def _ask_where_to_move(self) -> None:
        if self._context.project.moving is not None:
            projects.stop_moving(self._context)
            return
        words = tr(say("Choose the folder to move the project into", "选择要将项目移入的文件夹"))
        chosen = QFileDialog.getExistingDirectory(self, words, str(self._context.project.path.parent))
        if chosen:
            projects.move_project(self._context, Path(chosen))

    # ------------------------------------------------------------------------------------------------------------ Qt
    def paintEvent(self, event: QPaintEvent) -> None:
        """Say when the first frame is there: children are painted in the same turn of the event loop."""
        super().paintEvent(event)
        if not self._was_painted:
            self._was_painted = True
            QTimer.singleShot(0, self.painted.emit)

    def changeEvent(self, event: QEvent) -> None:
        """Follow the system's theme while it is asked for."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.ThemeChange and self._context.settings.values.theme == "auto":
            QTimer.singleShot(0, self.rebuild)

    def closeEvent(self, event: QCloseEvent) -> None:
        """Keep the draft and end sessions; a run goes on. Nobody looks at a window that waits for a slow drive."""
        self.hide()
        self._context.close()
        super().closeEvent(event)


def _entry(name: str) -> Entry:
    return next((entry for entry in PAGES if entry.name == name), PAGES[0])
