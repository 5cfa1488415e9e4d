"""What was dropped on data that are there: one line that asks what to do with it, and is in nobody's way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from PySide6.QtWidgets import QFrame

from engine.protocol.text import say
from gui.i18n.language import tr
from gui.i18n.numbers import count
from gui.widgets.basic import ElidedLabel, button, row
from gui.widgets.chip import ACCENT, Chip

Take = Callable[[list[Path]], object]


class DropStrip(QFrame):
    """Shown by `offer`, hidden by any of its buttons.

    Args:
        replace, add: called with what was dropped.
    """

    def __init__(self, replace: Take, add: Take) -> None:
        super().__init__()
        self.setProperty("role", "card")
        self.setProperty("tone", "good")
        self._replace, self._add = replace, add
        self._paths: list[Path] = []
        self._words = ElidedLabel("", "")
        line = row(
            Chip(say("new files", "新文件"), ACCENT),
            self._words,
            button(say("Replace the data", "替换数据"), lambda: self._take(self._replace), "small", shortcut="Alt+R"),
            button(say("Add to the data", "添加到数据"), lambda: self._take(self._add), "small", shortcut="Alt+A"),
            button(say("Leave them", "不导入"), self._leave, "small", shortcut="Alt+X"),
            spacing=10,
            margins=(14, 8, 10, 8),
        )
        line.setStretch(1, 1)
        self.setLayout(line)
        self.hide()

    def offer(self, paths: Sequence[Path]) -> None:
        """Ask what to do with these."""
        self._paths = list(paths)
        names = ", ".join(path.name for path in self._paths[:4])
        left = len(self._paths) - 4
        words = (
            names
            if left <= 0
            else tr(
                say("{names} and {n} more", "{names} 等 {m} 个", names=names, n=count(left), m=count(len(self._paths)))
            )
        )
        self._words.setText(words)
        self.setAccessibleName(words)
        self.show()

    def _take(self, take: Take) -> None:
        self.hide()
        take(self._paths)

    def _leave(self) -> None:
        self.hide()
