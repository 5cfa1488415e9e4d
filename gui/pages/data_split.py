"""The Data page's panel of held-out rows: how they are chosen, and what comes of it before it is taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6.QtWidgets import QFileDialog, QProgressBar, QWidget

from engine.protocol.text import NOTHING, Text, say
from engine.recipe.fields import settings
from engine.recipe.recipe import DataSettings
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import count, percent
from gui.operations import split as operations
from gui.operations.data import ENDINGS, shown_name
from gui.state.phase import Phase
from gui.widgets.basic import ElidedLabel, button, column, holder, label, row
from gui.widgets.card import Card
from gui.widgets.editors import ChoiceEditor, Editor, IntegerEditor, PercentEditor
from gui.widgets.facts import Facts
from gui.widgets.scroll import scrolled

WIDTH = 312
WHAT = say("They are never trained on: the model is measured with them.", "这些行不参与训练，只用来评估模型。")
A_FILE = say("a file of its own", "单独的文件")
BY_COLUMN = ("group", "time", "column", "stratified")
BY_SHARE = ("random", "group", "time", "stratified")
BY_LOT = ("random", "group", "stratified")
FILE = "file"


class SplitPanel(Card):
    """Renders `gui.state.data.DataState.splitting`, and the draft's settings of the split.

    Args:
        close: called when the user is done.
        show_only: shows only rows of a status.

    Attributes:
        name: the panel's.
    """

    name = "split"

    def __init__(self, context: AppContext, close: Callable[[], object], show_only: Callable[[str], object]) -> None:
        super().__init__(say("Rows held out", "留出的行"))
        self._context = context
        self.setFixedWidth(WIDTH)
        about = settings(DataSettings)
        self.way = ChoiceEditor([*about["split"].choices, (FILE, A_FILE)])
        self.column, self.share = ChoiceEditor([]), PercentEditor()
        self.seed = IntegerEditor(DataSettings, "seed", about["seed"])
        self._lines = {
            "split": self._line("split", self.way, self._set_way),
            "split_column": self._line("split_column", self.column, self._set("split_column")),
            "held_out": self._line("held_out", self.share, self._set("held_out"), unit=" (%)"),
            "seed": self._line("seed", self.seed, self._set("seed")),
            FILE: self._file_line(),
        }
        self._trying = QProgressBar()
        self._trying.setRange(0, 0)
        self._trying.setTextVisible(False)
        self.wrong, self.hint = label("", "bad", wrap=True), label("", "muted", wrap=True)
        self.result = Facts()
        words = say("Show the held-out rows", "显示留出的行")
        self.show_rows = button(words, lambda: show_only("held_out"), "link", shortcut="Ctrl+Shift+J")
        done = button(say("Close", "关闭"), close, shortcut="Ctrl+Shift+K")
        items = (
            label(WHAT, "muted", wrap=True),
            *self._lines.values(),
            self._trying,
            self.wrong,
            self.hint,
            self.result,
        )
        inner = column(*items, row(self.show_rows, None), None, spacing=10, margins=(0, 0, 8, 0))
        self.body.addWidget(scrolled(holder(inner)), 1)
        self.body.addLayout(row(None, done))

    @property
    def first(self) -> QWidget:
        """Where the keyboard begins."""
        return self.way

    def _line(self, name: str, editor: Editor, edited: Callable[[object], object], unit: str = "") -> QWidget:
        about = settings(DataSettings)[name]
        editor.control.setAccessibleName(tr(about.label))
        editor.setToolTip(tr(about.help))
        editor.edited.connect(edited)
        words = label(f"{tr(about.label)}{unit}", "facts")
        words.setBuddy(editor)
        return holder(column(words, editor, spacing=3))

    def _file_line(self) -> QWidget:
        self._file = ElidedLabel("", "strong", middle=True)
        choose = button(say("Choose a file…", "选择文件…"), self._ask_for_file, "small", shortcut="Ctrl+Shift+E")
        return holder(column(self._file, row(choose, None), spacing=6))

    # --------------------------------------------------------------------------------------------------------- filling
    def fill(self, facts: dict[str, Any]) -> None:
        """Other facts are there, or the try went on."""
        data, tried = self._context.draft.recipe.data, self._context.data.splitting
        wished = {"split": data.split, "split_column": data.split_column} | tried.wished
        way = FILE if data.held_out_file and "split" not in tried.wished else str(wished["split"])
        self.way.put(way)
        self._fill_columns(facts, str(wished["split_column"]))
        self.share.put(tried.wished.get("held_out", data.held_out))
        self.seed.put(tried.wished.get("seed", data.seed))
        self._file.setText(shown_name(data.held_out_file) if data.held_out_file else "")
        self._file.setVisible(bool(data.held_out_file))
        kinds = {"split_column": BY_COLUMN, "held_out": BY_SHARE, "seed": BY_LOT, FILE: (FILE,)}
        for name, ways in kinds.items():
            self._lines[name].setVisible(way in ways)
        self._tell(facts)

    def _fill_columns(self, facts: dict[str, Any], chosen: str) -> None:
        """The columns that all files have; a prompt's own is of no use, but a person may know better."""
        files = facts.get("files", [])
        shared = [c for c in (files[0]["columns"] if files else []) if all(c in file["columns"] for file in files)]
        self.column.put_choices([("", say("choose…", "请选择…")), *((name, name) for name in shared)])
        self.column.put(chosen)

    def _tell(self, facts: dict[str, Any]) -> None:
        """What comes of it, or why it is not taken."""
        tried = self._context.data.splitting
        failure = tried.errand.status.failure
        self._trying.setVisible(tried.errand.is_working)
        is_wrong = tried.errand.status.phase is Phase.WRONG and failure is not None
        asks = not is_wrong and "split" in tried.wished and not tried.errand.is_working
        self.wrong.setText(tr(failure.message) if is_wrong and failure is not None else "")
        self.wrong.setVisible(is_wrong)
        hint: Text = failure.hint if is_wrong and failure is not None else CHOOSE if asks else NOTHING
        self.hint.setText(" ".join(filter(None, (tr(hint), tr(AS_BEFORE) if is_wrong else ""))))
        self.hint.setVisible(bool(self.hint.text()))
        held = int(facts.get("held_out", 0))
        self.show_rows.setVisible(bool(held))
        if not self._context.data.is_scanned:
            self.result.put([(say("Rows", "行数"), say("known when every row is read", "全部读取后可知"))])
            return
        train = int(facts.get("train", 0))
        share = percent(held / max(1, held + train), 1)
        asked = int(facts.get("in_training", 0))
        self.result.put(
            [
                (say("Train", "训练"), say("{n} rows", "{n} 行", n=count(train))),
                (say("Held out", "留出"), say("{n} rows ({x})", "{n} 行（{x}）", n=count(held), x=share)),
                (say("Also asked in training", "训练中也有同样提问"), count(asked), "warn" if asked else "good"),
            ]
        )

    # --------------------------------------------------------------------------------------------------------- actions
    def _set(self, name: str) -> Callable[[object], object]:
        return lambda value: operations.try_split(self._context, {name: value})

    def _set_way(self, way: object) -> None:
        if way == FILE:
            self._ask_for_file()
            self.fill(self._context.data.facts)
        else:
            operations.try_split(self._context, {"split": way, "held_out_file": ""})

    def _ask_for_file(self) -> None:
        kinds = " ".join(f"*{ending}" for ending in ENDINGS)
        words = tr(say("Choose the held-out file", "选择留出文件"))
        name, _ = QFileDialog.getOpenFileName(self, words, "", f"{tr(say('Data', '数据'))} ({kinds})")
        if name:
            operations.measure_with(self._context, Path(name))


CHOOSE = say("Choose the column.", "请选择列。")
AS_BEFORE = say("Until then it stays as it was.", "在此之前保持原样。")
