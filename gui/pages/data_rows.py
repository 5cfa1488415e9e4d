"""The Data page's rows, and the chosen row as the model will see it."""

from __future__ import annotations

from functools import partial
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QMenu, QSplitter

from engine.protocol.text import Text, as_text, say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import count
from gui.operations import data as operations
from gui.operations.operation import Operation
from gui.pages.words import reason_label
from gui.widgets.basic import ElidedLabel, column, holder, label, rename, row, tool
from gui.widgets.card import Card
from gui.widgets.chip import BAD, GOOD, PLAIN, WARN
from gui.widgets.table import PAGE, Column, Table
from gui.widgets.tokens import TokenView

STATUS: dict[str, tuple[Text, str]] = {
    "ready": (say("trains", "参与训练"), GOOD),
    "held_out": (say("held out", "留出"), PLAIN),
    "cut": (say("cut", "截断"), WARN),
    "set_aside": (say("set aside", "搁置"), BAD),
}
FILTERS: tuple[tuple[str, Text], ...] = (
    ("", say("all rows", "所有行")),
    ("ready", say("rows that train", "参与训练的行")),
    ("held_out", say("rows held out", "留出的行")),
    ("cut", say("rows that are cut", "被截断的行")),
    ("set_aside", say("rows set aside", "搁置的行")),
)
IN_TRAINING = say("held-out rows also in training", "训练中也有的留出行")


class RowsCard(Card):
    """A table of all rows, filtered on request, and below it the tokens of the chosen one."""

    def __init__(self, context: AppContext) -> None:
        super().__init__(say("Rows", "数据行"), " ")
        self._context = context
        self._status = ""
        self._limit = 0
        self._asked: Operation | None = None
        self.filter = tool("", self._show_menu)
        self.filter.setToolTip(tr(say("Show only some rows (Ctrl+L)", "只显示部分行 (Ctrl+L)")))
        self.filter.setShortcut("Ctrl+L")
        self.corner(self.filter)
        self.table = Table(self._columns(), say("Rows", "数据行"))
        self.table.paged.wanted.connect(self._fetch)
        self.table.chosen.connect(self._choose)
        self.tokens = TokenView()
        self._which = label("", "card")
        self._length = ElidedLabel("", "facts")
        legend = label(say("grey: context, green: learned", "灰色：上下文，绿色：学习"), "facts")
        below = holder(column(row(self._which, self._length, None, legend), self.tokens, margins=(0, 6, 0, 0)))
        split = QSplitter(Qt.Orientation.Vertical)
        split.setChildrenCollapsible(False)
        split.addWidget(self.table)
        split.addWidget(below)
        split.setStretchFactor(0, 5)
        split.setStretchFactor(1, 3)
        split.setSizes([340, 170])
        self.body.addWidget(split, 1)

    def _columns(self) -> tuple[Column, ...]:
        return (
            Column("#", lambda r: count(r.get("index", 0) + 1), 46, muted=True, tip=lambda r: str(r.get("where", ""))),
            Column(say("Question", "提问"), lambda r: str(r.get("question", ""))),
            Column(say("Answer", "回答"), lambda r: str(r.get("answer", ""))),
            Column(say("Tokens", "词元"), _tokens, 62, right=True),
            Column(
                say("Stands", "状态"), self._stands, 112, tone=lambda r: STATUS[r.get("status", "ready")][1], tip=_why
            ),
        )

    def _stands(self, line: dict[str, Any]) -> str:
        status = str(line.get("status", "ready"))
        if status == "set_aside":
            return tr(reason_label(str(line.get("reason", ""))))
        if status == "cut":
            return tr(say("cut at {n}", "截断于 {n}", n=count(self._limit)))
        return tr(STATUS[status][0])

    # ---------------------------------------------------------------------------------------------------------- rows
    def fill(self, facts: dict[str, Any]) -> None:
        """Another data set is there."""
        self._limit = int(facts.get("limit", 0))
        self._facts = facts
        self.show_only("")

    def show_only(self, status: str) -> None:
        """Show only rows that stand so (a status, or a reason for being set aside); all for ""."""
        self._status = status
        rename(self.filter, tr(self._filter_words()) + " ▾")
        self.table.paged.reset(self._expected())
        self._note(self.table.paged.rowCount())
        if self.table.paged.rowCount():
            self.table.selectRow(0)

    def _expected(self) -> int:
        """How many rows the filter finds, from the facts; the first page says it exactly."""
        facts = self._facts
        aside = dict(facts.get("set_aside", {}))
        known = {
            "": int(facts.get("total", 0)),
            "held_out": int(facts.get("held_out", 0)),
            "cut": int(facts.get("cut", 0)),
            "set_aside": sum(aside.values()),
            "ready": int(facts.get("total", 0)),
            "in_training": int(facts.get("in_training", 0)),
        }
        return known.get(self._status, int(aside.get(self._status, 0)))

    def _filter_words(self) -> Text:
        return {**dict(FILTERS), "in_training": IN_TRAINING}.get(self._status) or reason_label(self._status)

    def _note(self, rows: int) -> None:
        self.note.setText(tr(say("{n} rows", "{n} 行", n=count(rows))))

    def _fetch(self, start: int) -> None:
        version, status = self._context.data.version, self._status
        done = partial(self._came, version, status, start)
        operations.fetch_rows(self._context, start, PAGE, status, done)

    def _came(self, version: int, status: str, start: int, value: dict[str, Any]) -> None:
        if version != self._context.data.version or status != self._status:
            return
        if int(value.get("total", 0)) != self.table.paged.rowCount():
            self.table.paged.reset(int(value["total"]))
            self._note(int(value["total"]))
        self.table.paged.put(start, list(value.get("rows", [])))
        if start == 0 and self.table.paged.rowCount():
            if not self.table.currentIndex().isValid():
                self.table.selectRow(0)
            self._choose(self.table.currentIndex().row())

    def _show_menu(self) -> None:
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        for status, words in FILTERS:
            menu.addAction(tr(words), partial(self.show_only, status))
        reasons = dict(self._facts.get("set_aside", {}))
        if reasons:
            menu.addSeparator()
        for reason, rows in reasons.items():
            menu.addAction(f"{tr(reason_label(reason))} · {count(rows)}", partial(self.show_only, reason))
        menu.popup(self.filter.mapToGlobal(self.filter.rect().bottomLeft()))

    # ------------------------------------------------------------------------------------------------------- one row
    def _choose(self, number: int) -> None:
        line = self.table.paged.row(number)
        if line is None:
            return
        if self._asked is not None:
            self._asked.drop()
        index = int(line.get("index", number))
        self._asked = operations.fetch_row(self._context, index, self._show_row)
        self._asked.ended.connect(self._forget)

    def _forget(self) -> None:
        if self.sender() is self._asked:
            self._asked = None

    def _show_row(self, value: dict[str, Any]) -> None:
        number = count(int(value.get("index", 0)) + 1)
        self._which.setText(tr(say("What the model will see, row {n}", "模型看到的内容，第 {n} 行", n=number)))
        pieces = list(value.get("pieces", []))
        learned, length = count(value.get("learned_tokens", 0)), count(value.get("length", 0))
        words = say("{m} of {n} tokens learned", "{n} 个词元中学习 {m} 个", m=learned, n=length)
        self._length.setText(tr(words) if pieces else "")
        if not pieces:
            why = as_text(value.get("reason_text") or "")
            self.tokens.put([{"text": tr(why), "learned": False, "special": True}])
            return
        rejected = value.get("rejected_pieces")
        self.tokens.put(pieces, list(rejected) if rejected else None)


def _tokens(line: dict[str, Any]) -> str:
    return "" if line.get("tokens") is None else count(line["tokens"])


def _why(line: dict[str, Any]) -> str:
    where = str(line.get("where", ""))
    reason = tr(as_text(line.get("reason_text") or ""))
    return f"{where}: {reason}" if reason else where
