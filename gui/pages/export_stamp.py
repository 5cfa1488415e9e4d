"""The stamp of an export: whether it is what was trained, with figures and limits, and what to do with the file."""

from __future__ import annotations

from PySide6.QtWidgets import QWidget

from engine.protocol.text import say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import day, size
from gui.operations.export import check_again, remove, show_in_folder
from gui.pages.export_words import differences_of, kind_of, parity_facts, said_of, verdict_of
from gui.state.takeaway import Taken
from gui.widgets.basic import ElidedLabel, button, copy, label, rename, row
from gui.widgets.card import Card
from gui.widgets.chip import BAD, GOOD, Chip
from gui.widgets.facts import Facts

REMOVE, SURE = say("Remove", "移除"), say("To the trash?", "移到回收站？")


class Stamp(Card):
    """The export that is looked at.

    Attributes:
        chip: the judgement.
        said: why it was not passed, or not checked.
        figures: of the check.
    """

    def __init__(self, context: AppContext) -> None:
        super().__init__()
        self._context = context
        self._name, self.chip = ElidedLabel("", "strong", middle=True), Chip()
        self._facts = label("", "facts")
        self.said = label("", "strong", wrap=True, selectable=True)
        self._more = label("", "muted", wrap=True, selectable=True)
        self.figures = Facts(spacing=5)
        self._where = ElidedLabel("", "mono", middle=True)
        head = row(self._name, self.chip)
        head.setStretch(0, 1)
        foot = row(self._where, *self._buttons())
        foot.setStretch(0, 1)
        for item in (head, self._facts, self.said, self._more, self.figures, foot):
            self.body.addWidget(item) if isinstance(item, QWidget) else self.body.addLayout(item)

    def _buttons(self) -> tuple[QWidget, ...]:
        path = button(say("Copy path", "复制路径"), self._copy, "small", shortcut="Ctrl+Shift+C")
        show = button(say("Show in folder", "在文件夹中显示"), self._show, "small", shortcut="Ctrl+O")
        self._again = button(say("Check again", "重新核对"), self._check, "small", shortcut="Ctrl+R")
        self._remove = button(REMOVE, self._take_away, "small", shortcut="Ctrl+Del")
        self._path_buttons = (path, show, self._again)
        return (path, show, self._again, self._remove)

    def fill(self, item: Taken, earlier: bool) -> None:
        """Show an export; ``earlier``: the run has learned on since it was written."""
        verdict, tone = verdict_of(item, earlier)
        self._name.setText(item.path.name)
        self.chip.put(verdict, tone)
        self._facts.setText(f"{kind_of(item)} · {size(item.export.bytes)} · {day(item.export.time)[5:]}")
        self.said.setText(tr(said_of(item)))
        self.said.setVisible(bool(said_of(item)))
        more = differences_of(item.parity)
        self._more.setText(more)
        self._more.setVisible(bool(more))
        self.figures.put(parity_facts(item))
        self._where.setText(item.export.file)
        self.set_tone({GOOD: "good", BAD: "bad"}.get(tone, ""))
        for each in self._path_buttons:
            each.setVisible(item.is_there)
        is_busy = self._context.runs.export.is_running
        self._again.setEnabled(not is_busy)
        self._again.setVisible(item.is_there and item.export.kind != "ollama")
        self._remove.setEnabled(not is_busy)
        rename(self._remove, SURE if self._context.takeaway.removing == item.path else REMOVE)

    @property
    def _item(self) -> Taken | None:
        return self._context.takeaway.looked_at

    def _copy(self) -> None:
        if self._item is not None:
            copy(self._item.export.file)

    def _show(self) -> None:
        if self._item is not None:
            show_in_folder(self._item.path)

    def _check(self) -> None:
        if self._item is not None:
            check_again(self._context, self._item)

    def _take_away(self) -> None:
        """Ask once more by the button's own words; the second press does it."""
        item = self._item
        if item is None:
            return
        if self._context.takeaway.removing == item.path:
            remove(self._context, item)
        else:
            self._context.takeaway.set(removing=item.path)
