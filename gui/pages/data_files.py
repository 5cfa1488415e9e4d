"""The Data page's panel of files: what each brings to a pass over the data, and how they are mixed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from PySide6.QtWidgets import QFileDialog, QVBoxLayout, QWidget

from engine.protocol.text import Text, say
from engine.recipe.fields import settings
from engine.recipe.recipe import DataSettings, FileSettings
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import count, percent, short
from gui.operations import data as operations
from gui.widgets.basic import ElidedLabel, add_shortcut, button, clear, column, holder, label, row, rule, tool
from gui.widgets.card import Card
from gui.widgets.editors import ChoiceEditor, NumberEditor, PercentEditor, TextEditor
from gui.widgets.scroll import scrolled

WIDTH = 340
WEIGHT_WIDTH = 64
NO_GENERAL = say(
    "Conversations of many kinds, mixed in so that the model keeps what it could before.",
    "混入各类通用对话，使模型保持原有能力。",
)
LATER = say("Known when every row is read.", "全部读取后可知。")
LEAVE_OUT = say("Leave this file out; it stays on the disk", "不使用此文件；磁盘上的文件不变")


class FilesPanel(Card):
    """Renders the facts of the files; what is chosen goes into the draft at once.

    Args:
        close: called when the user is done.

    Attributes:
        name: the panel's.
        boxes: one per file, by path.
    """

    name = "files"

    def __init__(self, context: AppContext, close: Callable[[], object]) -> None:
        super().__init__(say("Files", "文件"), " ")
        self._context = context
        self.setFixedWidth(WIDTH)
        self.boxes: dict[str, FileBox] = {}
        self._shown: list[tuple[str, bool]] = []
        self._list, self._general = QVBoxLayout(), QVBoxLayout()
        for made in (self._list, self._general):
            made.setSpacing(12)
        self.mixing = self._choice("mixing")
        self.temperature = NumberEditor()
        self._heat = self._setting("temperature", self.temperature)
        self._pass = label("", "strong")
        done = button(say("Close", "关闭"), close, shortcut="Ctrl+Shift+K")
        self._mixing = self._setting("mixing", self.mixing)
        inner = column(self._list, self._mixing, self._heat, rule(), *self._general_part(), None, margins=(0, 0, 8, 0))
        inner.setSpacing(12)
        self.body.addWidget(scrolled(holder(inner)), 1)
        self.body.addWidget(rule())
        self.body.addLayout(row(self._pass, None, done))

    def _general_part(self) -> tuple[QWidget | QVBoxLayout, ...]:
        """Files of general data: their share of what is trained on, and the way to more."""
        self.share = PercentEditor()
        self._share = self._setting("general_share", self.share, unit=" (%)")
        self._reached = label("", "facts", wrap=True)
        add = button(say("Add general data…", "添加通用数据…"), self._ask_for_general, "small", shortcut="Ctrl+Shift+G")
        title = label(say("General data, against forgetting", "通用数据，防止遗忘"), "card")
        return (title, self._reached, self._general, self._share, holder(row(add, None)))

    @property
    def first(self) -> QWidget:
        """Where the keyboard begins."""
        return next(iter(self.boxes.values())).weight if self.boxes else self.mixing

    @staticmethod
    def _choice(name: str) -> ChoiceEditor:
        return ChoiceEditor(list(settings(DataSettings)[name].choices))

    def _setting(self, name: str, editor: ChoiceEditor | NumberEditor, unit: str = "") -> QWidget:
        about = settings(DataSettings)[name]
        editor.control.setAccessibleName(tr(about.label))
        editor.setToolTip(tr(about.help))
        editor.edited.connect(lambda value: operations.choose(self._context, name, value))
        words = label(f"{tr(about.label)}{unit}")
        words.setBuddy(editor)
        return holder(row(words, None, editor))

    def _ask_for_general(self) -> None:
        kinds = " ".join(f"*{ending}" for ending in operations.ENDINGS)
        words = tr(say("Choose files of general data", "选择通用数据文件"))
        names, _ = QFileDialog.getOpenFileNames(self, words, "", f"{tr(say('Data', '数据'))} ({kinds})")
        if names:
            operations.add_general(self._context, names)

    def fill(self, facts: dict[str, Any]) -> None:
        """Other facts are there. Boxes are kept while the files are the same: one of them may have the focus."""
        files = [file for file in facts.get("files", []) if "trained" in file or not self._context.data.is_scanned]
        if [_identity(file) for file in files] != self._shown:
            self._rebuild(files)
        for file in files:
            self.boxes[str(file["path"])].put(file)
        general = [file for file in files if file.get("general")]
        own = len(files) - len(general)
        self.note.setText(tr(say("1 file", "1 个文件") if own == 1 else _number(own)))
        data = self._context.draft.recipe.data
        self.mixing.put(data.mixing)
        self.temperature.put(data.temperature)
        self.share.put(data.general_share)
        self._mixing.setVisible(own > 1)
        self._heat.setVisible(own > 1 and data.mixing == "temperature")
        self._share.setVisible(bool(general))
        self._reached.setText(tr(_reached(general, data.general_share)))
        self._pass.setText(tr(_a_pass(files)) if self._context.data.is_scanned else tr(LATER))

    def _rebuild(self, files: list[dict[str, Any]]) -> None:
        clear(self._list)
        clear(self._general)
        self._shown = [_identity(file) for file in files]
        several = len([file for file in files if not file.get("general")]) > 1
        self.boxes = {str(file["path"]): FileBox(self._context, file, several) for file in files}
        for file in files:
            (self._general if file.get("general") else self._list).addWidget(self.boxes[str(file["path"])])


class FileBox(QWidget):
    """One file: its share of a pass, its weight and its task prefix.

    Args:
        file: the session's facts.
        several: whether there are others that it is mixed with.
    """

    def __init__(self, context: AppContext, file: dict[str, Any], several: bool) -> None:
        super().__init__()
        self._context, self._path = context, str(file["path"])
        self._name = ElidedLabel(str(file.get("shown") or file["name"]), "strong", middle=True)
        self._share = label("", "strong")
        self._rows = label("", "facts")
        self.weight, self.prefix = NumberEditor(), TextEditor()
        self.weight.setFixedWidth(WEIGHT_WIDTH)
        is_general = bool(file.get("general"))
        leave = operations.leave_general_out if is_general else operations.leave_out
        self.leave = tool("✕", partial(leave, context, self._path))
        add_shortcut(self.leave, "", tr(LEAVE_OUT))
        self.leave.setAccessibleName(f"{tr(LEAVE_OUT)}: {file['name']}")
        self.leave.setVisible(several or is_general)
        head = row(self._name, self._share, self.leave)
        head.setStretch(0, 1)
        weight = holder(row(*self._field("weight", self.weight), 6))
        weight.setVisible(not is_general)  # all files of general data are seen alike
        fields = row(weight, *self._field("prefix", self.prefix))
        fields.setStretch(2, 1)
        self.setLayout(column(head, self._rows, fields, spacing=5))
        self.setAccessibleName(str(file["name"]))

    def _field(self, name: str, editor: NumberEditor | TextEditor) -> tuple[QWidget, QWidget]:
        about = settings(FileSettings)[name]
        editor.setToolTip(tr(about.help))
        editor.control.setAccessibleName(f"{tr(about.label)}: {self._name.text()}")
        editor.edited.connect(lambda value: operations.choose_of_file(self._context, self._path, name, value))
        words = label(about.label, "facts")
        words.setBuddy(editor)
        return words, editor

    def put(self, file: dict[str, Any]) -> None:
        """Show a file's figures and settings."""
        own = operations.settings_of_file(self._context, self._path) or FileSettings()
        self.weight.put(own.weight)
        self.prefix.put(own.prefix)
        known = "seen" in file
        self._share.setText(_share(float(file["share"])) if known else "")
        self._rows.setText(tr(_of_file(file) if known else LATER))


def _identity(file: dict[str, Any]) -> tuple[str, bool]:
    return str(file["path"]), bool(file.get("general"))


def _reached(general: list[dict[str, Any]], wanted: float) -> Text:
    """What share general data have, or what they are good for."""
    if not general:
        return NO_GENERAL
    share = sum(float(file.get("share", 0)) for file in general)
    if share < wanted - 0.01:
        words = "{n} of what is trained on: there are too few rows for {m}, none is seen more than four times a pass."
        return say(
            words, "占训练数据的 {n}：行数不足以达到 {m}，每轮中同一行最多出现四次。", n=_share(share), m=_share(wanted)
        )
    return say("{n} of what is trained on.", "占训练数据的 {n}。", n=_share(share))


def _share(share: float) -> str:
    """A share that is never rounded to nothing."""
    return "< 1%" if 0 < share < 0.005 else percent(share)


def _of_file(file: dict[str, Any]) -> Text:
    """ "4,812 rows train · 2,406 a pass, each 0.5 times"."""
    trained, seen = int(file["trained"]), int(file["seen"])
    if not trained or seen == trained:
        return say("{n} rows train, each once a pass", "{n} 行训练，每轮各一次", n=count(trained))
    return say(
        "{n} rows train · {m} a pass ({x} ×)",
        "{n} 行训练 · 每轮 {m} 行（{x} 倍）",
        n=count(trained),
        m=count(seen),
        x=short(round(seen / trained, 2)),
    )


def _a_pass(files: list[dict[str, Any]]) -> Text:
    seen = sum(int(file.get("seen", 0)) for file in files)
    return say("{n} rows a pass", "每轮 {n} 行", n=count(seen))


def _number(files: int) -> Text:
    return say("{n} files", "{n} 个文件", n=count(files))
