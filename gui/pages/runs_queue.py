"""The Runs page's queue: what waits for its turn, in its order."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtWidgets import QCheckBox, QGridLayout, QToolButton, QWidget

from engine.protocol.text import Text, say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.operations import queue as operations
from gui.pages.runs_words import ABOUT_QUEUE, ONE_AT_A_TIME, entry_status
from gui.widgets.basic import ElidedLabel, clear, label, plain_tip, row, tool
from gui.widgets.card import Card
from gui.widgets.chip import Chip
from gui.widgets.scroll import Sheet, scrolled

if TYPE_CHECKING:
    from engine.project.queue import Entry

LINE, MOST_LINES = 34, 4
ONLY = say("It starts only if the one before it is done.", "仅当前一个训练完成时才开始。")


class QueueCard(Card):
    """Renders the queue; not seen while it is empty."""

    def __init__(self, context: AppContext) -> None:
        super().__init__(say("Queue", "队列"), " ", spacing=6)
        self._context = context
        self._shown: tuple[Entry, ...] | None = None
        self.note.setText(tr(ONE_AT_A_TIME))
        self.setToolTip(tr(ABOUT_QUEUE))
        self._clear = tool(say("Clear what is over", "清除已结束的"), partial(operations.clear_over, context))
        self.corner(self._clear)
        self._grid = QGridLayout()
        self._grid.setContentsMargins(0, 0, 8, 0)
        self._grid.setHorizontalSpacing(8)
        self._grid.setVerticalSpacing(2)
        self._grid.setColumnStretch(2, 1)
        self._area = scrolled(Sheet(self._grid))
        self.body.addWidget(self._area)
        self.hide()

    def fill(self) -> None:
        """Show the queue, where it is another."""
        queue = self._context.project.listed.queue
        self.setVisible(bool(queue))
        if queue == self._shown:
            return
        self._shown = queue
        self._clear.setVisible(any(item.is_over for item in queue))
        clear(self._grid)
        for line, item in enumerate(queue):
            for at, widget in enumerate(self._line(line, item, queue)):
                self._grid.addWidget(widget, line, at)
        self._area.setFixedHeight(LINE * min(MOST_LINES, len(queue)) + 4)

    def _line(self, number: int, item: Entry, queue: tuple[Entry, ...]) -> list[QWidget]:
        title = ElidedLabel(f"{item.named}  {tr(item.reason)}" if item.reason else item.named)
        only = QCheckBox(tr(say("only if done", "须完成")))
        only.setToolTip(tr(ONLY))
        only.setChecked(item.after == "done")
        only.setVisible(item.state in ("waiting", "held"))
        only.setAccessibleName(f"{item.named}: {tr(ONLY)}")
        only.clicked.connect(lambda on: self._set_after(item.id, on))
        words, tone = entry_status(item)
        return [label(f"{number + 1}.", "muted"), Chip(words, tone), title, only, self._moves(item, queue)]

    def _moves(self, item: Entry, queue: tuple[Entry, ...]) -> QWidget:
        waiting = [each.id for each in queue if each.state == "waiting"]
        up = self._tool("↑", say("Move {title} up", "上移 {title}", title=item.named), operations.move, item.id, -1)
        down = self._tool("↓", say("Move {title} down", "下移 {title}", title=item.named), operations.move, item.id, 1)
        out = self._tool("✕", say("Take {title} out", "移出 {title}", title=item.named), operations.take_out, item.id)
        up.setEnabled(item.id in waiting[1:])
        down.setEnabled(item.id in waiting[:-1])
        made = QWidget()
        made.setLayout(row(up, down, out, spacing=0))
        return made

    def _tool(self, sign: str, words: Text, action: Callable[..., object], *arguments: object) -> QToolButton:
        made = tool(sign, partial(action, self._context, *arguments))
        made.setAccessibleName(tr(words))
        made.setToolTip(plain_tip(tr(words)))
        return made

    def _set_after(self, id: str, only: bool) -> None:
        operations.set_after(self._context, id, "done" if only else "any")
