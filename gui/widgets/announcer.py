"""Says that a run has ended, or waits for the disk, to someone who is not looking: a notification of the system, or a
notice in the window."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer, Signal
from PySide6.QtWidgets import QApplication, QSystemTrayIcon, QWidget

from engine.protocol.text import NOTHING, Text, say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import figure
from gui.state.notices import ERROR, GOOD, INFO, WARNING
from gui.state.run import ending, unsaved
from gui.theme.icon import app_icon

if TYPE_CHECKING:
    from engine.protocol.events import Waiting
    from engine.protocol.state import JobState

SHOWN_MS = 15_000
"""How long a notification may stay; the icon that it hangs on goes with it."""
_LEVELS = {"done": GOOD, "failed": ERROR}
_SIGNS = {ERROR: QSystemTrayIcon.MessageIcon.Warning, WARNING: QSystemTrayIcon.MessageIcon.Warning}
FOR_DISK = {
    "disk.full": say("The run waits: the disk is full.", "训练正在等待：磁盘已满。"),
    "disk.gone": say("The run waits: its disk is gone.", "训练正在等待：磁盘已断开。"),
}
"""Code of what a run waits for → the notice."""
DISK_REFUSES = say("The run waits: the disk refuses.", "训练正在等待：磁盘拒绝写入。")


class RunAnnouncer(QObject):
    """Tells that a run has ended, or that the one which is followed waits for the disk, where the Train page does not
    show it.

    A window in the background asks for attention in the task bar and, where the desktop has a place for it, shows a
    notification; a click on that brings the window back to the run. What ended before the window opened is not news.

    Signals:
        announced(str): the sentence that was shown outside the window.
    """

    announced = Signal(str)

    def __init__(self, context: AppContext, window: QWidget) -> None:
        super().__init__(window)
        self._context, self._window = context, window
        self._opened = time.monotonic()
        self._tray: QSystemTrayIcon | None = None
        self._gone = QTimer(self)
        self._gone.setObjectName("notification goes")
        self._gone.setSingleShot(True)
        self._gone.timeout.connect(self.dismiss)
        self._waiting: Waiting | None = None
        self._told: set[tuple[int, float]] = set()
        self._place = "train"
        context.project.run_ended.connect(self._ended_unseen)
        context.runs.train.finished.connect(self._ended)
        context.runs.train.changed.connect(self._look)

    def _ended(self) -> None:
        state = self._context.runs.train.state
        # When the window opened, by the clock as it is set now: it may have been set since.
        if state.ended < time.time() - (time.monotonic() - self._opened) or self._is_told(state):
            return
        self._tell(_level(state), ending(state), what_came_out(state))

    def _is_told(self, state: JobState) -> bool:
        """Whether this end was told already: a run that ends while one turns to another is noticed twice."""
        end = (state.pid, state.ended)
        if end in self._told:
            return True
        self._told.add(end)
        return False

    def _look(self) -> None:
        """Tell once that a run waits for the disk, also since before the window opened: until someone makes room it
        does not go on."""
        waiting = self._context.runs.train.state.waiting
        if waiting is self._waiting:
            return
        self._waiting = waiting
        if waiting is not None and waiting.reason == "disk":
            self._tell(WARNING, FOR_DISK.get(waiting.code, DISK_REFUSES), waiting.text)

    def _ended_unseen(self, title: str, state: JobState) -> None:
        """A run that nobody looks at has ended, maybe one of another project."""
        if not state.is_over or self._is_told(state):
            return
        words = say("“{title}”: {ending}", "“{title}”：{ending}", title=title, ending=ending(state))
        self._tell(_level(state), words, what_came_out(state), place="runs")

    def _tell(self, level: str, sentence: Text, more: Text, *, place: str = "train") -> None:
        """``place`` is the page that a click on the notification leads to; the Train page shows the end by itself."""
        self._place = place
        if not self._window.isActiveWindow():
            self._announce(f"{tr(sentence)} {tr(more)}".strip(), level)
        if place != "train" or self._context.wizard.current != "train":
            self._context.notices.tell(level, sentence, more)

    def _announce(self, words: str, level: str) -> None:
        QApplication.alert(self._window)
        if QSystemTrayIcon.isSystemTrayAvailable():
            self._show(words, level)
        self.announced.emit(words)

    def _show(self, words: str, level: str) -> None:
        if self._tray is None:
            self._tray = QSystemTrayIcon(app_icon(), self)
            self._tray.messageClicked.connect(self._come_back)
            self._tray.activated.connect(self._come_back)
        self._tray.show()
        sign = _SIGNS.get(level, QSystemTrayIcon.MessageIcon.Information)
        self._tray.showMessage(f"{self._context.project.name} · Lorimer", words, sign, SHOWN_MS)
        self._gone.start(SHOWN_MS)

    def _come_back(self) -> None:
        self.dismiss()
        self._context.wizard.go(self._place)
        self._window.show()
        self._window.raise_()
        self._window.activateWindow()

    def dismiss(self) -> None:
        """Take the notification's icon away again."""
        self._gone.stop()
        if self._tray is not None:
            self._tray.hide()


def _level(state: JobState) -> str:
    if state.status == "stopped" and unsaved(state) is not None:
        return WARNING
    return _LEVELS.get(state.status, INFO)


def what_came_out(state: JobState) -> Text:
    """The result in one clause: why it failed, or the loss that was reached; nothing where no step was done."""
    if state.failure is not None:
        return state.failure.message
    if state.best is not None:
        return say("Best held-out loss {n}.", "最佳留出损失 {n}。", n=figure(state.best.loss))
    if state.latest is not None:
        return say("Training loss {n}.", "训练损失 {n}。", n=figure(state.latest.loss))
    return NOTHING
