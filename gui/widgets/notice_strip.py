"""Notices at the head of the page: what happened, what to do, copy, close."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from PySide6.QtCore import Qt, QUrl
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from engine.project.showing import folder_to_show
from engine.protocol.text import Text, say
from gui.i18n.language import sentences, tr
from gui.state.notices import ERROR, GOOD, WARNING, Notice, Notices
from gui.widgets.basic import button, clear, copy, label, row
from gui.widgets.chip import BAD, PLAIN, WARN, Chip
from gui.widgets.chip import GOOD as GOOD_TONE

_LEVELS = {
    ERROR: (say("problem", "问题"), BAD),
    WARNING: (say("note well", "请注意"), WARN),
    GOOD: (say("done", "完成"), GOOD_TONE),
}
MOST_SHOWN = 3
MOST_PROBLEMS = 5
# The keys speak of the newest notice, which stands first.
CLOSE_KEY, COPY_KEY, CLOSE_ALL_KEY = "Ctrl+W", "Ctrl+Shift+N", "Ctrl+Shift+W"


class NoticeStrip(QWidget):
    """Renders `Notices`, the newest first; takes no room when there is none."""

    def __init__(self, notices: Notices) -> None:
        super().__init__()
        self._notices = notices
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(24, 12, 24, 0)
        self._layout.setSpacing(6)
        notices.changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show the open notices."""
        clear(self._layout)
        notices = self._notices.open
        shown = notices[-MOST_SHOWN:][::-1]
        for number, notice in enumerate(shown):
            self._layout.addWidget(self._card(notice, has_keys=number == 0))
        if len(notices) > len(shown):
            self._layout.addLayout(self._hidden(len(notices) - len(shown), shown))
        self.setVisible(bool(shown))

    def _hidden(self, number: int, shown: list[Notice]) -> QHBoxLayout:
        """How many older notices wait behind the ones that are shown, and the way to them."""
        words = say("1 more notice", "还有 1 条提示") if number == 1 else None
        text = label(words or say("{n} more notices", "还有 {n} 条提示", n=number), "facts")
        close = partial(self._close_all, shown)
        next_ = button(say("Close these, show the next", "关闭以上，显示其余"), close, "small", shortcut=CLOSE_ALL_KEY)
        return row(None, text, next_, spacing=10)

    def _close_all(self, shown: list[Notice]) -> None:
        for notice in shown:
            self._notices.close(notice)

    def _card(self, notice: Notice, *, has_keys: bool) -> QFrame:
        card = QFrame()
        card.setProperty("role", "card")
        card.setProperty("tone", "bad" if notice.level == ERROR else "")
        word, tone = _LEVELS.get(notice.level, (say("note", "提示"), PLAIN))
        text = label(words_of(notice), wrap=True, selectable=True)
        text.setAlignment(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft)
        line = row(Chip(word, tone), text, spacing=10, margins=(14, 8, 10, 8))
        line.setStretch(1, 1)
        if notice.folder is not None:
            url = QUrl.fromLocalFile(str(folder_to_show(notice.folder)))
            line.addWidget(button(say("Open folder", "打开文件夹"), partial(QDesktopServices.openUrl, url), "small"))
        if notice.details:
            line.addWidget(_small(say("Copy details", "复制详情"), partial(copy, notice.details), COPY_KEY, has_keys))
        line.addWidget(_small(say("Close", "关闭"), partial(self._notices.close, notice), CLOSE_KEY, has_keys))
        card.setLayout(line)
        return card


def words_of(notice: Notice) -> str:
    """What a notice says: the sentence, and each of several problems in a line of its own."""
    sentence = sentences(notice.message, notice.hint)
    if len(notice.problems) < 2:
        return sentence
    lines = [f"• {tr(problem)}" for problem in notice.problems[:MOST_PROBLEMS]]
    left = len(notice.problems) - len(lines)
    if left:
        lines.append(tr(say("and {n} more, in the details", "另有 {n} 条，见详情", n=left)))
    return "\n".join([sentence, *lines])


def _small(words: Text, action: Callable[[], object], key: str, has_key: bool) -> QPushButton:
    return button(words, action, "small", shortcut=key if has_key else "")
