"""The project in the sidebar; pressed, it shows recent projects and this one's runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import QMenu, QMessageBox, QSizePolicy, QToolButton, QVBoxLayout

from engine.project.run_folder import RunFolder
from engine.protocol.text import NOTHING, Text, say
from gui.i18n.language import tr
from gui.i18n.numbers import count, day, percent
from gui.state.project import TRAINING, ProjectState
from gui.widgets.basic import ElidedLabel, menu_title, plain_tip

if TYPE_CHECKING:
    from engine.project.project import RunSummary

_RUN_STATUS: dict[str, Text] = {
    "done": say("done", "完成"),
    "stopped": say("stopped", "已停止"),
    "paused": say("paused", "已暂停"),
    "waiting": say("paused", "已暂停"),
    "failed": say("failed", "失败"),
    "working": say("training", "训练中"),
    "starting": say("starting", "启动中"),
}
GOES_WITH_IT = say(
    "Its checkpoints, its adapter and its evaluation go with it. What was exported to other folders stays.",
    "其检查点、适配器和评估会一并移走；已导出到其他文件夹的内容会保留。",
)
MOST_RUNS = 12
"""Runs that the menu shows at once; the others stand one level deeper."""


class ProjectCard(QToolButton):
    """Renders `ProjectState`.

    Args:
        looked_at: gives the run that is looked at.
        open_folder: asks for a folder and opens it.
        open_path: opens a recent project, and a run of it.
        move: asks for a folder and moves the project there; while it moves, ends that.
        forget: takes a recent project off the list.
        select_run: looks at a run.
        remove_run: moves a run to the trash; the user has been asked.
    """

    def __init__(
        self,
        state: ProjectState,
        *,
        looked_at: Callable[[], RunFolder | None],
        open_folder: Callable[[], object],
        open_path: Callable[[Path, RunFolder | None], object],
        move: Callable[[], object],
        forget: Callable[[Path], object],
        select_run: Callable[[RunFolder], object],
        remove_run: Callable[[RunFolder], object],
    ) -> None:
        super().__init__()
        self._state, self._looked_at = state, looked_at
        self._open_folder, self._open_path, self._move, self._forget = open_folder, open_path, move, forget
        self._select_run, self._remove_run = select_run, remove_run
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
        self._name.setText(self._state.name)
        self._words.setText(tr(self._inside()) + " ▾")
        where = "" if self._state.is_refused else str(self._state.path)
        self.setToolTip(plain_tip(f"{where} ({self.shortcut().toString()})".strip()))
        self.setAccessibleName(tr(say("Project {name}", "项目 {name}", name=self._state.name)))

    def _inside(self) -> Text:
        """What is in the project, in a word."""
        runs = len(self._state.runs)
        if self._state.is_refused:
            return say("choose a folder", "请选择文件夹")
        if self._state.moving is not None:
            return say("moving… {n}", "正在移动… {n}", n=percent(self._state.moving))
        if not runs:
            return say("no runs yet", "尚无训练")
        return say("1 run", "1 次训练") if runs == 1 else say("{n} runs", "{n} 次训练", n=count(runs))

    def menu_now(self) -> QMenu:
        """The menu as it stands: runs, projects, a folder, the way to forget."""
        menu = QMenu(self)
        menu.setAccessibleName(tr(say("Projects and runs", "项目与训练")))
        self._add_runs(menu)
        self._add_projects(menu)
        menu.addSeparator()
        menu.addAction(tr(say("Open, import or create a project…", "打开、导入或新建项目…")), self._open_folder)
        if self._state.project is not None:
            stop, start = say("Stop moving the project", "停止移动项目"), say("Move this project…", "移动此项目…")
            menu.addAction(tr(start if self._state.moving is None else stop), self._move)
        return menu

    def _show_menu(self) -> None:
        menu = self.menu_now()
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.popup(self.mapToGlobal(self.rect().bottomLeft()))

    def _add_runs(self, menu: QMenu) -> None:
        runs = self._state.runs
        if not runs:
            return
        menu_title(menu, say("Runs of this project", "本项目的训练"))
        for run in runs[:MOST_RUNS]:
            self._add_run(menu, run)
        if len(runs) > MOST_RUNS:
            words = say("{n} earlier runs", "更早的 {n} 次训练", n=count(len(runs) - MOST_RUNS))
            earlier = _inner(menu, tr(words))
            for run in runs[MOST_RUNS:]:
                self._add_run(earlier, run)
        remove = _inner(menu, tr(say("Remove a run", "移除训练")))
        for run in runs:
            action = remove.addAction(run_words(run), partial(self.ask_to_remove, run))
            action.setEnabled(run.status not in TRAINING)

    def _add_run(self, menu: QMenu, run: RunSummary) -> None:
        """A line that looks at a run; the one looked at has a tick."""
        action = menu.addAction(run_words(run), partial(self._select_run, run.folder))
        action.setCheckable(True)
        action.setChecked(run.folder == self._looked_at())

    def ask_to_remove(self, run: RunSummary) -> None:
        """Ask before a run goes to the trash; the usual answer keeps it."""
        box = QMessageBox(self)
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.setIcon(QMessageBox.Icon.Question)
        box.setTextFormat(Qt.TextFormat.PlainText)
        box.setText(tr(say("Move “{title}” to the trash?", "将“{title}”移到回收站？", title=run.named)))
        box.setInformativeText(tr(GOES_WITH_IT))
        move = box.addButton(tr(say("Move to the trash", "移到回收站")), QMessageBox.ButtonRole.DestructiveRole)
        keep = box.addButton(tr(say("Keep it", "保留")), QMessageBox.ButtonRole.RejectRole)
        box.setDefaultButton(keep)
        box.setEscapeButton(keep)
        move.clicked.connect(lambda: self._remove_run(run.folder))
        box.open()

    def _add_projects(self, menu: QMenu) -> None:
        others = [path for path in self._state.recent if path != self._state.path]
        if not others:
            return
        menu_title(menu, say("Recent projects", "最近的项目"))
        for path in others:
            self._add_project(_inner(menu, path.name), path)

    def _add_project(self, menu: QMenu, path: Path) -> None:
        """Open it, or a run of it at once; take it off the list."""
        menu.setToolTip(plain_tip(str(path)))
        menu.addAction(tr(say("Open", "打开")), partial(self._open_path, path, None))
        for run in self._state.others.get(path, ()):
            menu.addAction(run_words(run), partial(self._open_path, path, run.folder))
        menu.addSeparator()
        words = say("Remove from this list (the folder stays)", "从列表移除（保留文件夹）")
        menu.addAction(tr(words), partial(self._forget, path))


def run_words(run: RunSummary) -> str:
    """A run in one line of a menu: title, when, how it stands."""
    status = tr(_status(run))
    words = " · ".join(part for part in (run.named, day(run.created), status) if part)
    return words.replace("&", "&&")


def _status(run: RunSummary) -> Text:
    if run.status == "waiting" and run.waits_for == "disk":
        return say("waiting for the disk", "等待磁盘空间")
    if run.is_damaged and run.status not in TRAINING:
        return say("record damaged", "记录损坏")
    return _RUN_STATUS.get(run.status, NOTHING)


def _inner(menu: QMenu, words: str) -> QMenu:
    """A menu one level deeper that scrolls where it is longer than the screen."""
    made = menu.addMenu(words.replace("&", "&&"))
    made.setStyleSheet("QMenu { menu-scrollable: 1; }")
    return made
