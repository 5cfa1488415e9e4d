"""Notices at the head of the page: what happened, what to do, copy, close."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QVBoxLayout, QWidget

from engine.protocol.text import say
from gui.i18n.language import tr
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
        shown = self._notices.open[-MOST_SHOWN:][::-1]
        for notice in shown:
            self._layout.addWidget(self._card(notice))
        self.setVisible(bool(shown))

    def _card(self, notice: Notice) -> QFrame:
        card = QFrame()
        card.setProperty("role", "card")
        card.setProperty("tone", "bad" if notice.level == ERROR else "")
        word, tone = _LEVELS.get(notice.level, (say("note", "提示"), PLAIN))
        text = label(f"{tr(notice.message)} {tr(notice.hint)}".strip(), wrap=True, selectable=True)
        text.setAlignment(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft)
        line = row(Chip(word, tone), text, spacing=10, margins=(14, 8, 10, 8))
        line.setStretch(1, 1)
        if notice.details:
            line.addWidget(button(say("Copy details", "复制详情"), lambda: copy(notice.details), "small"))
        line.addWidget(button(say("Close", "关闭"), lambda: self._notices.close(notice), "small"))
        card.setLayout(line)
        return card
