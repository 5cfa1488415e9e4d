"""The Data page's view of the hub: an id or an address, what there is to choose, and the first rows before anything is
fetched."""

from __future__ import annotations

from functools import partial
from typing import Any

from PySide6.QtWidgets import QComboBox, QHBoxLayout, QLineEdit, QProgressBar, QVBoxLayout, QWidget

from engine.protocol.errors import Failure
from engine.protocol.text import Text, say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import count, size
from gui.operations import hub_data as operations
from gui.operations.data import shown_name
from gui.state.notices import details_of
from gui.state.phase import Phase
from gui.widgets.basic import button, clear, column, copy, holder, label, row
from gui.widgets.card import Card
from gui.widgets.chip import GOOD, PLAIN, WARN, Chip
from gui.widgets.editors import quiet_combo
from gui.widgets.footer import Footer
from gui.widgets.table import Column, Table

TITLE = say("A data set of the hub", "hub 数据集")
WHAT = say(
    "Its id, or the address of its page on huggingface.co or a mirror", "标识，或其在 huggingface.co 或镜像站的网页地址"
)
EXAMPLE = "owner/name"
PROMISE = say(
    "Nothing is kept before you import it. Then it is read from this machine, offline too.",
    "导入之前不会保存任何内容；导入后从本机读取，离线也可用。",
)
NONE_HERE = say(
    "Data sets that were fetched once are listed here and need no network. A private or gated one is opened with the "
    "token of the Model page's “Hub access…”, or of HF_TOKEN.",
    "取过的数据集会列在这里，无需联网。私有或受限的数据集使用“模型”页“Hub 访问…”中的令牌或 HF_TOKEN 打开。",
)
GATED = say("its owner wants to be asked first", "需要所有者许可")
MOST_LISTED, MOST_COLUMNS, ROWS_SHOWN = 6, 5, 12


class HubView(QWidget):
    """Renders `gui.state.data.HubLook`."""

    def __init__(self, context: AppContext) -> None:
        super().__init__()
        self._context = context
        self._told: list[Any] = []
        self._asked = ""
        self.id = QLineEdit()
        self.id.setPlaceholderText(EXAMPLE)
        self.id.setAccessibleName(tr(WHAT))
        self.id.setClearButtonEnabled(True)
        self.id.returnPressed.connect(self._ask)
        self._ask_button = button(say("Ask the hub", "查询 hub"), self._ask, shortcut="Ctrl+Return")
        self.config, self.split = quiet_combo(), quiet_combo()
        self._parts = self._choices()
        self._body = QVBoxLayout()
        self._body.setSpacing(10)
        self.table = Table((), say("First rows", "前几行"))
        line = row(self.id, self._ask_button)
        line.setStretch(0, 1)
        card = Card(TITLE, " ", label(WHAT, "muted", wrap=True), line, self._parts, self._body, self.table)
        card.body.addStretch(1)
        self._state = card.note
        body = column(card, self._foot(), spacing=14)
        body.setStretch(0, 1)
        self.setLayout(body)

    def _choices(self) -> QWidget:
        items: list[Any] = []
        for box, words in (
            (self.config, say("Configuration", "配置")),
            (self.split, say("Part (split)", "部分（划分）")),
        ):
            name = label(words, "facts")
            name.setBuddy(box)
            box.setAccessibleName(tr(words))
            items += [name, box]
            if box is self.config:
                self._config_name = name
        self.config.activated.connect(self._choose_config)
        self.split.activated.connect(self._choose_split)
        self._chips = QHBoxLayout()
        self._chips.setSpacing(5)
        return holder(row(*items, None, self._chips))

    def _foot(self) -> Footer:
        self._back = button(say("Back", "返回"), partial(operations.leave, self._context), shortcut="Alt+Left")
        self._add = button(say("Add to the data", "添加到数据"), partial(self._take, True), shortcut="Alt+A")
        self._import = button(
            say("Import", "导入"), partial(self._take, False), "primary", shortcut="Ctrl+Shift+Return"
        )
        footer = Footer(self._back, self._add, self._import)
        footer.say(PROMISE)
        return footer

    # ----------------------------------------------------------------------------------------------------- four states
    def refresh(self) -> None:
        """Show what the state says; widgets are kept where nothing changed: one of them may have the focus."""
        hub = self._context.data.hub
        if hub.text != self._asked:  # asked for by a drop, a paste or the list, not by typing
            self._asked = hub.text
            self.id.setText(hub.text)
        can_take = hub.wished is not None and hub.asking.status.phase is Phase.READY
        self._import.setEnabled(can_take)
        has_data = bool(self._context.draft.recipe.data.files)
        self._import.setText(tr(say("Replace the data", "替换数据") if has_data else say("Import", "导入")))
        self._import.setShortcut("Ctrl+Shift+Return")
        self._add.setVisible(has_data)
        self._add.setEnabled(can_take)
        told = [hub.asking.status.phase, hub.asking.status.failure, hub.peeking.status.phase, hub.about, hub.wished]
        if [*told, hub.first, hub.here] != self._told:
            self._told = [*told, hub.first, hub.here]
            self._fill()

    def _fill(self) -> None:
        hub = self._context.data.hub
        clear(self._body)
        phase = hub.asking.status.phase
        self._parts.setVisible(phase is Phase.READY)
        self.table.hide()
        self._state.setText("")
        if phase is Phase.WORKING:
            self._working(hub.asking.status.doing)
        elif phase is Phase.WRONG and hub.asking.status.failure is not None:
            self._wrong(hub.asking.status.failure)
        elif phase is Phase.READY:
            self._fill_parts()
            self._fill_rows()
        else:
            self._list()

    def _list(self) -> None:
        """What was fetched before; pressing it looks it up again."""
        here = self._context.data.hub.here
        self._body.addWidget(label(NONE_HERE, "muted", wrap=True))
        for item in here[:MOST_LISTED]:
            name = str(item["name"])
            link = button(shown_name(name), partial(operations.take_known, self._context, name), "link")
            self._body.addLayout(row(link, None, label(_rows(int(item.get("rows", 0))), "facts")))

    def _working(self, doing: Text) -> None:
        bar = QProgressBar()
        bar.setTextVisible(False)
        bar.setRange(0, 0)
        cancel = button(say("Cancel", "取消"), partial(operations.stop, self._context), shortcut="Esc")
        for item in (label(doing, "muted", wrap=True), bar):
            self._body.addWidget(item)
        self._body.addLayout(row(cancel, None))

    def _wrong(self, failure: Failure) -> None:
        details = details_of(failure)
        self._body.addWidget(label(failure.message, "bad", wrap=True))
        self._body.addWidget(label(failure.hint, "muted", wrap=True, selectable=True))
        own = button(say("Copy details", "复制详情"), lambda: copy(details), "small", shortcut="Ctrl+Shift+C")
        self._body.addLayout(row(own, None))

    def _fill_parts(self) -> None:
        """What there is to choose of it, and what is known of what is chosen."""
        hub = self._context.data.hub
        about, wished = hub.about, hub.wished
        assert wished is not None
        _put(self.config, {name: name for name in about["configs"]}, about["config"])
        rows = {name: f"{name} · {_rows(number)}" if number else name for name, number in about["splits"].items()}
        _put(self.split, rows, wished.split)
        for widget in (self._config_name, self.config):
            widget.setVisible(self.config.count() > 1)
        self.split.setEnabled(self.split.count() > 1)
        clear(self._chips)
        for words, tone in _known(about, wished.split):
            self._chips.addWidget(Chip(words, tone))

    def _fill_rows(self) -> None:
        hub = self._context.data.hub
        if hub.peeking.is_working:
            self._working(hub.peeking.status.doing)
        elif hub.peeking.status.failure is not None:
            self._wrong(hub.peeking.status.failure)
        elif hub.first:
            self._show_rows(list(hub.first["columns"]), list(hub.first["rows"]))

    def _show_rows(self, names: list[str], rows: list[list[str]]) -> None:
        columns = tuple(Column(name, partial(_cell, at), tip=partial(_cell, at)) for at, name in enumerate(names))
        self.table.set_columns(columns[:MOST_COLUMNS])
        self.table.paged.put_all([{"cells": cells} for cells in rows])
        self.table.fit_height(ROWS_SHOWN)
        self.table.show()
        self._state.setText(tr(say("the first {n} rows", "前 {n} 行", n=len(rows))))
        left = len(names) - MOST_COLUMNS
        if left > 0:
            more = say(
                "and {n} more columns: {names}", "另有 {n} 列：{names}", n=left, names=", ".join(names[MOST_COLUMNS:])
            )
            self._body.addWidget(label(more, "facts", wrap=True))

    # --------------------------------------------------------------------------------------------------------- actions
    def _ask(self) -> None:
        self._asked = self.id.text()
        if self._asked.strip():
            operations.ask(self._context, self._asked)

    def _choose_config(self) -> None:
        operations.choose_config(self._context, str(self.config.currentData()))

    def _choose_split(self) -> None:
        operations.choose_split(self._context, str(self.split.currentData()))

    def _take(self, add: bool) -> None:
        operations.take(self._context, add=add)


def _put(box: QComboBox, words: dict[str, str], chosen: str) -> None:
    box.blockSignals(True)
    box.clear()
    for value, text in words.items():
        box.addItem(text, value)
    box.setCurrentIndex(max(0, box.findData(chosen)))
    box.blockSignals(False)


def _known(about: dict[str, Any], split: str) -> list[tuple[Text | str, str]]:
    """Facts of the chosen part, as chips: (words, tone)."""
    found: list[tuple[Text | str, str]] = []
    if split in about["here"]:
        found.append((say("on this machine", "已在本机"), GOOD))
    elif about["bytes"].get(split):
        found.append((say("{n} to fetch", "需获取 {n}", n=size(about["bytes"][split])), PLAIN))
    if about.get("offline"):
        found.append((say("hub not reached", "无法连接 hub"), WARN))
    if about.get("gated"):
        found.append((GATED, WARN))
    if about.get("licence"):
        found.append((str(about["licence"]), PLAIN))
    return found


def _rows(number: int) -> str:
    return tr(say("{n} rows", "{n} 行", n=count(number)))


def _cell(at: int, line: dict[str, Any]) -> str:
    return str(line["cells"][at])
