"""The chosen row of the Data page: as the model will see it, and as its cells, which can be changed."""

from __future__ import annotations

from typing import Any

from PySide6.QtWidgets import QWidget

from engine.protocol.text import as_text, say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import count
from gui.operations import rows as operations
from gui.widgets.basic import ElidedLabel, button, column, holder, label, plain_tip, rename, row
from gui.widgets.cells import CellList
from gui.widgets.tabs import Tabs
from gui.widgets.tokens import TokenView

SEEN = say("What the model will see", "模型看到的内容")
CELLS = say("Cells", "单元格")
NEVER_CHANGED = say(
    "The file on the disk is never changed: what you change here is kept in the project.",
    "磁盘上的文件不会改动：此处的修改保存在项目中。",
)
SAVED_ON_LEAVING = say("Saved also when you leave the row.", "离开该行时也会保存。")
AFTER_READING = say("The cells are there when every row is read.", "全部读取后即可查看单元格。")
LEGEND = say("grey: context, green: learned", "灰色：上下文，绿色：学习")
SET_ASIDE = say("Set aside", "搁置")
TAKE_BACK = say("Take back", "取回")


class RowView(QWidget):
    """Renders the answer to "row"; asks for decisions about it."""

    def __init__(self, context: AppContext) -> None:
        super().__init__()
        self._context = context
        self._index = -1
        self._is_aside = False
        self.tokens = TokenView()
        self.cells = CellList(self._change)
        self.cells.edited.connect(self._show_save)
        self.tabs = Tabs()
        self.tabs.add("seen", SEEN, self.tokens, shortcut="Ctrl+T")
        self.tabs.add("cells", CELLS, self._cells_view(), shortcut="F2")
        self.tabs.moved.connect(self._moved)
        self.aside = button(SET_ASIDE, self._set_aside, "small", shortcut="Del")
        self.undo = button(say("Undo", "撤销"), self._undo, "small", shortcut="Ctrl+Z")
        self._which = label("", "card")
        self._length = ElidedLabel("", "facts")
        self._legend = label(LEGEND, "facts")
        self._notes = label("", "facts", wrap=True)
        self._never = ElidedLabel(NEVER_CHANGED, "facts")
        head = row(self.tabs.bar, None, self.save, self.undo, self.aside, spacing=6)
        about = row(self._which, self._length, self._never, self._legend)
        about.setStretch(1, 1)
        about.setStretch(2, 1)
        self.setLayout(column(head, about, self._notes, self.tabs, margins=(0, 6, 0, 0), spacing=6))
        self._moved("seen")
        self.clear()

    def _cells_view(self) -> QWidget:
        self.save = button(say("Save", "保存"), self.cells.save, "small", shortcut="Ctrl+Return", tip=SAVED_ON_LEAVING)
        self._later = label(AFTER_READING, "muted", wrap=True)
        return holder(column(self._later, self.cells, spacing=6))

    # --------------------------------------------------------------------------------------------------------- filling
    def clear(self) -> None:
        """No row is chosen."""
        self._index = -1
        self._which.setText("")
        self._length.setText("")
        for widget in (self._notes, self.aside, self._later, self._legend):
            widget.hide()
        self.tokens.put([])
        self.cells.put(-1, [])
        self.show_undo()

    def show_undo(self) -> None:
        """The way back is there while there is a decision to take back."""
        self.undo.setVisible(int(self._context.data.facts.get("decisions") or 0) > 0)

    def put(self, value: dict[str, Any]) -> None:
        """Show a row."""
        self._index = int(value.get("index", 0))
        number = count(self._index + 1)
        self._which.setText(tr(say("Row {n}", "第 {n} 行", n=number)))
        self._which.setToolTip(plain_tip(str(value.get("where", ""))))
        self._show_decision(value)
        self._show_cells(list(value.get("cells", [])))
        self._show_notes(list(value.get("notes", [])))
        pieces = list(value.get("pieces", []))
        self._length.setText(tr(_lengths(value)) if pieces else "")
        self._show_legend(bool(pieces))
        if not pieces:
            why = as_text(value.get("reason_text") or "")
            self.tokens.put([{"text": tr(why), "learned": False, "special": True}])
            return
        rejected = value.get("rejected_pieces")
        self.tokens.put(pieces, list(rejected) if rejected else None)

    def _show_decision(self, value: dict[str, Any]) -> None:
        """A row that trains can be set aside; one that is set aside for a matter of opinion can be taken back."""
        self._is_aside = value.get("status") == "set_aside"
        rename(self.aside, TAKE_BACK if self._is_aside else SET_ASIDE)
        self.aside.setAccessibleName(self.aside.text())
        can = bool(value.get("can_take_back")) if self._is_aside else self._context.data.is_scanned
        self.aside.setVisible(can)
        self.show_undo()

    def _show_cells(self, cells: list[dict[str, Any]]) -> None:
        self.cells.put(self._index, cells)
        self._later.setVisible(not cells and not self._context.data.is_scanned)
        self._show_save()

    def _show_notes(self, notes: list[Any]) -> None:
        self._notes.setText("\n".join(tr(as_text(note)) for note in notes))
        self._notes.setVisible(bool(notes) and self.tabs.current == "seen")

    def _show_legend(self, has_tokens: bool) -> None:
        self._legend.setVisible(has_tokens and self.tabs.current == "seen")

    def _show_save(self) -> None:
        self.save.setVisible(self.cells.is_dirty)

    def _moved(self, name: str) -> None:
        self._notes.setVisible(name == "seen" and bool(self._notes.text()))
        self._length.setVisible(name == "seen")
        self._never.setVisible(name == "cells")
        self._show_legend(bool(self._length.text()))
        if name == "cells" and self.cells.cells:
            self.cells.cells[0].editor.setFocus()

    # --------------------------------------------------------------------------------------------------------- actions
    def _change(self, index: int, name: str, text: str) -> None:
        operations.change_cell(self._context, index, name, text)

    def _set_aside(self) -> None:
        if self._index >= 0:
            operations.set_aside(self._context, self._index, not self._is_aside)

    def _undo(self) -> None:
        operations.undo(self._context)


def _lengths(value: dict[str, Any]) -> Any:
    """How much of the row is learned, and where it is cut."""
    learned, length = count(value.get("learned_tokens", 0)), count(value.get("length", 0))
    if value.get("rejected_pieces"):
        return say("{n} tokens with the longer answer", "含较长回答共 {n} 个词元", n=length)
    about = say("about ", "约 ") if value.get("estimate") else ""
    if value.get("cut"):
        limit = count(value.get("limit", 0))
        words = "{about}{n} tokens, cut at {limit}; {m} learned"
        return say(
            words, "{about}{n} 个词元，截断于 {limit}；学习 {m} 个", n=length, m=learned, limit=limit, about=about
        )
    return say("{about}{m} of {n} tokens learned", "{about}{n} 个词元中学习 {m} 个", m=learned, n=length, about=about)
