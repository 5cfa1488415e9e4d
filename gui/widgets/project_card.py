"""The project in the sidebar; pressed, it shows recent projects and this one's runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import QMenu, QSizePolicy, QToolButton, QVBoxLayout

from engine.project.run_folder import RunFolder
from engine.protocol.text import Text, say
from gui.i18n.language import tr
from gui.i18n.numbers import count, day
from gui.state.project import ProjectState
from gui.widgets.basic import ElidedLabel

_RUN_STATUS: dict[str, Text] = {
    "done": say("done", "完成"),
    "stopped": say("stopped", "已停止"),
    "paused": say("paused", "已暂停"),
    "waiting": say("paused", "已暂停"),
    "failed": say("failed", "失败"),
    "working": say("training", "训练中"),
    "starting": say("starting", "启动中"),
}
MOST_RUNS = 12


class ProjectCard(QToolButton):
    """Renders `ProjectState`.

    Args:
        open_folder: asks for a folder and opens it.
        open_path: opens a recent project.
        forget: takes a recent project off the list.
        select_run: looks at a run.
    """

    def __init__(
        self,
        state: ProjectState,
        *,
        open_folder: Callable[[], object],
        open_path: Callable[[Path], object],
        forget: Callable[[Path], object],
        select_run: Callable[[RunFolder], object],
    ) -> None:
        super().__init__()
        self._state = state
        self._open_folder, self._open_path, self._forget, self._select_run = open_folder, open_path, forget, select_run
        self.setProperty("role", "sidecard")
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFixedHeight(52)
        self.setShortcut(QKeySequence("Ctrl+Shift+P"))
        self._name, self._words = ElidedLabel("", "strong"), ElidedLabel("", "small", middle=True)
        self._lay_out()
        self.clicked.connect(self._show_menu)
        state.changed.connect(self.refresh)
        self.refresh()

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(11, 7, 11, 8)
        layout.setSpacing(1)
        for widget in (self._name, self._words):
            widget.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
            layout.addWidget(widget)

    def refresh(self) -> None:
        """Show the project's name and what is in it."""
        runs = len(self._state.runs)
        words = say("no runs yet", "尚无训练") if not runs else say("{n} runs", "{n} 次训练", n=count(runs))
        if runs == 1:
            words = say("1 run", "1 次训练")
        self._name.setText(self._state.name)
        self._words.setText(tr(words) + " ▾")
        self.setToolTip(f"{self._state.path} ({self.shortcut().toString()})")
        self.setAccessibleName(tr(say("Project {name}", "项目 {name}", name=self._state.name)))

    def menu_now(self) -> QMenu:
        """The menu as it stands: runs, projects, a folder, the way to forget."""
        menu = QMenu(self)
        menu.setAccessibleName(tr(say("Projects and runs", "项目与训练")))
        self._add_runs(menu)
        self._add_projects(menu)
        menu.addSeparator()
        menu.addAction(tr(say("Open or create a project…", "打开或新建项目…")), self._open_folder)
        return menu

    def _show_menu(self) -> None:
        menu = self.menu_now()
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.popup(self.mapToGlobal(self.rect().bottomLeft()))

    def _add_runs(self, menu: QMenu) -> None:
        if self._state.runs:
            menu.addSection(tr(say("Runs of this project", "本项目的训练")))
        for run in self._state.runs[:MOST_RUNS]:
            status = tr(_RUN_STATUS.get(run.status, say("", "")))
            words = f"{run.title} · {day(run.created)} · {status}"
            menu.addAction(words, partial(self._select_run, run.folder))

    def _add_projects(self, menu: QMenu) -> None:
        others = [path for path in self._state.recent if path != self._state.path]
        if not others:
            return
        menu.addSection(tr(say("Recent projects", "最近的项目")))
        for path in others:
            inner = menu.addMenu(path.name)
            inner.setToolTip(str(path))
            inner.addAction(tr(say("Open", "打开")), partial(self._open_path, path))
            inner.addAction(
                tr(say("Remove from this list (the folder stays)", "从列表移除（保留文件夹）")),
                partial(self._forget, path),
            )
