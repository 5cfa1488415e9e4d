"""The Data page's rows: a table of all of them, searched and filtered, and the chosen one below it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QMenu, QSplitter

from engine.data.registry import SHAPES
from engine.protocol.text import NOTHING, Text, as_text, say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import count, figure
from gui.operations import rows as operations
from gui.operations.operation import Operation
from gui.pages.data_row import RowView
from gui.pages.words import SCORES, STATUSES, reason_label, rows_expected, status_label
from gui.widgets.basic import menu_title, rename, tool
from gui.widgets.card import Card
from gui.widgets.chip import BAD, GOOD, PLAIN, WARN
from gui.widgets.search_field import SearchField
from gui.widgets.table import PAGE, Column, Table

STATUS: dict[str, tuple[Text, str]] = {
    "ready": (say("trains", "参与训练"), GOOD),
    "held_out": (say("held out", "留出"), PLAIN),
    "cut": (say("cut", "截断"), WARN),
    "set_aside": (say("set aside", "搁置"), BAD),
}
FILTERS = ("", "ready", "held_out", "over", "set_aside")
SEARCH = say("Search the rows", "搜索数据行")
BY_DIFFICULTY = say("By difficulty for the model…", "按对模型的难度…")
FIRST_ONES = say(
    "Searches the first rows now, and all as soon as they are read (Ctrl+F)",
    "现在搜索开头的行，全部读取后再搜索所有行 (Ctrl+F)",
)
WAITS = say("Possible when every row is read", "全部读取后可用")
MARKED = {True: (say("good", "好"), GOOD), False: (say("avoid", "避免"), BAD)}
CELLS_SHARE = 0.58
AT_ONCE, NEWEST = 2, 4
"""Requests for pages under way, and those that wait: where one scrolls quickly, what was passed is not asked for."""


class RowsCard(Card):
    """A table of all rows, filtered and searched on request, and below it the chosen one.

    Signals:
        scores_wanted: the user wants to know what a model makes of the rows.
    """

    scores_wanted = Signal()

    def __init__(self, context: AppContext) -> None:
        super().__init__(say("Rows", "数据行"), " ")
        self._context = context
        self._facts: dict[str, Any] = {}
        self._status, self._words = "", ""
        self._look = ("", 0, "")
        self._sizes: list[int] = []
        self._files: list[Any] = []
        self._limit = self._decided = 0
        self._asked: Operation | None = None
        self._under_way: dict[int, Operation] = {}
        self._waiting: list[int] = []
        self._build_head()
        self.table = Table(self._columns("conversation"), say("Rows", "数据行"))
        self.table.paged.wanted.connect(self._fetch)
        self.table.chosen.connect(self._choose)
        self.row = RowView(context)
        self.row.tabs.moved.connect(self._make_room)
        split = self._split = QSplitter(Qt.Orientation.Vertical)
        split.setChildrenCollapsible(False)
        split.addWidget(self.table)
        split.addWidget(self.row)
        split.setStretchFactor(0, 5)
        split.setStretchFactor(1, 4)
        split.setSizes([320, 220])
        self.table.setMinimumHeight(92)
        self.row.setMinimumHeight(130)
        self.body.addWidget(split, 1)

    def _make_room(self, view: str) -> None:
        """Cells need more room than tokens; the table gets it back afterwards."""
        room = sum(self._split.sizes())
        if view == "cells" and self._split.sizes()[1] < CELLS_SHARE * room:
            self._sizes = self._split.sizes()
            self._split.setSizes([int((1 - CELLS_SHARE) * room), int(CELLS_SHARE * room)])
        elif view == "seen" and self._sizes:
            self._split.setSizes(self._sizes)
            self._sizes = []

    def _build_head(self) -> None:
        self.search = SearchField(SEARCH, "Ctrl+F")
        self.search.setProperty("role", "search")
        self.search.asked.connect(lambda words: operations.find(self._context, words))
        self.search.cleared.connect(self._clear_search)
        self.filter = tool("", self._show_menu)
        self.filter.setToolTip(tr(say("Show only some rows (Ctrl+L)", "只显示部分行 (Ctrl+L)")))
        self.filter.setShortcut("Ctrl+L")
        self.search.setMinimumWidth(130)
        self.head.insertWidget(1, self.search, 3)
        self.corner(self.filter)

    def _enable(self, is_scanned: bool) -> None:
        """Filters need every row, the search goes through the first ones; until all are read they say so."""
        for control, waits in ((self.search, FIRST_ONES), (self.filter, WAITS)):
            tip = str(control.property("tip") or control.toolTip())
            control.setProperty("tip", tip)
            control.setToolTip(tip if is_scanned else tr(waits))
            control.setAccessibleDescription("" if is_scanned else tr(waits))
        self.filter.setEnabled(is_scanned)

    # -------------------------------------------------------------------------------------------------------- columns
    def _columns(self, kind: str) -> tuple[Column, ...]:
        """What is worth seeing of rows of one kind."""
        width = 26 + 7 * len(count(max(100, int(self._facts.get("total", 0)))))
        number = Column("#", lambda r: count(r.get("index", 0) + 1), width, muted=True, tip=_where)
        tokens = _SCORE_COLUMNS.get(self._status, Column(say("Tokens", "词元"), _tokens, 62, right=True))
        tone = lambda r: STATUS[r.get("status", "ready")][1]  # noqa: E731  one of many small functions of a row
        stands = Column(say("Stands", "状态"), self._stands, 122, tone=tone, tip=self._why)
        return (number, *self._texts(kind), tokens, stands)

    @staticmethod
    def _texts(kind: str) -> Iterator[Column]:
        if kind == "text":
            yield Column(say("Text", "文本"), _said("answer"))
            return
        words = say("Text", "文本") if kind == "classification" else say("Question", "提问")
        yield Column(words, _said("question"))
        if kind == "preference":
            yield Column(say("Better answer", "较好的回答"), _said("answer"))
            yield Column(say("Worse answer", "较差的回答"), _said("rejected"), spare=True)
            return
        answers = say("Label", "标签") if kind == "classification" else say("Answer", "回答")
        yield Column(answers, _said("answer"), 120 if kind == "classification" else 0)
        if kind == "kto":
            yield Column(say("Marked", "标记"), _marked, 70, tone=_mark_tone)

    def _stands(self, line: dict[str, Any]) -> str:
        status = str(line.get("status", "ready"))
        if status == "set_aside":
            return tr(reason_label(str(line.get("reason", "")), self._facts.get("reasons")))
        if status == "cut":
            return tr(say("cut at {n}", "截断于 {n}", n=count(self._limit)))
        return tr(STATUS[status][0])

    @staticmethod
    def _why(line: dict[str, Any]) -> str:
        reason, hint = tr(as_text(line.get("reason_text") or "")), tr(as_text(line.get("hint") or ""))
        return " ".join(filter(None, (_where(line) + (":" if reason else ""), reason, hint)))

    # ---------------------------------------------------------------------------------------------------------- rows
    def fill(self, facts: dict[str, Any]) -> None:
        """Another data set is there; of the same files one stays where one was."""
        files = [(file.get("path"), file.get("shape")) for file in facts.get("files", [])]
        was_here = files == self._files and bool(files)
        at, scrolled = self.table.currentIndex().row(), self.table.verticalScrollBar().value()
        self._limit = int(facts.get("limit", 0))
        self._facts, self._files, self._decided = facts, files, self._context.data.decided
        self._fit_columns(facts)
        self._enable(self._context.data.is_scanned)
        self.show_only(self._status if was_here else "")
        if was_here and 0 <= at < self.table.paged.rowCount():
            self.table.selectRow(at)
            self.table.verticalScrollBar().setValue(scrolled)

    def know_more(self, facts: dict[str, Any]) -> None:
        """More is known of the same rows; what was decided about them, or what the search found, may be another."""
        self._facts = facts
        self.row.show_undo()
        data = self._context.data
        if data.words != self._words:
            self.show_only(self._status)
        elif data.decided != self._decided:
            self._decided = data.decided
            self._forget_requests()
            self.table.paged.renew()
            self._choose(self.table.currentIndex().row())

    def _fit_columns(self, facts: dict[str, Any]) -> None:
        look = (
            _kind_of(facts),
            len(str(facts.get("total", 0))),
            self._status if self._status in _SCORE_COLUMNS else "",
        )
        if look != self._look:
            self._look = look
            self.table.set_columns(self._columns(look[0]))

    def show_only(self, status: str) -> None:
        """Show only rows that stand so (a status, a reason for being set aside, or what a check found); all for ""."""
        self._status, self._words = status, self._context.data.words
        self._decided = self._context.data.decided
        self._fit_columns(self._facts)
        rename(self.filter, tr(status_label(status, self._facts)) + " ▾")
        self._forget_requests()
        self.table.paged.reset(rows_expected(status, self._facts))
        self._note()
        if self.table.paged.rowCount():
            self.table.selectRow(0)
        else:
            self.row.clear()
            self.table.paged.row(0)  # the session says it exactly

    def _note(self) -> None:
        shown, total = self.table.paged.rowCount(), int(self._facts.get("total", 0))
        if not self._context.data.is_scanned:
            self.note.setText(tr(say("the first {n} rows", "前 {n} 行", n=count(total))))
        elif shown == total:
            self.note.setText(tr(say("{n} rows", "{n} 行", n=count(total))))
        else:
            self.note.setText(tr(say("{m} of {n} rows", "{n} 行中的 {m} 行", m=count(shown), n=count(total))))

    # ---------------------------------------------------------------------------------------------------------- pages
    def _fetch(self, start: int) -> None:
        """A page is needed. The newest wish counts most."""
        self._waiting.append(start)
        for old in self._waiting[:-NEWEST]:
            self.table.paged.forget(old)
        self._waiting = self._waiting[-NEWEST:]
        self._ask_next()

    def _ask_next(self) -> None:
        while self._waiting and len(self._under_way) < AT_ONCE:
            start = self._waiting.pop()
            version = self._context.data.version
            done = partial(self._came, version, start)
            self._under_way[start] = operations.fetch_rows(self._context, start, PAGE, self._status, done)
            self._under_way[start].ended.connect(partial(self._landed, start, self._under_way[start]))

    def _landed(self, start: int, operation: Operation) -> None:
        if self._under_way.get(start) is operation:
            del self._under_way[start]
            self._ask_next()

    def _forget_requests(self) -> None:
        for operation in self._under_way.values():
            operation.drop()
        self._under_way, self._waiting = {}, []

    def _came(self, version: int, start: int, value: dict[str, Any]) -> None:
        if version != self._context.data.version:
            return
        paged, current = self.table.paged, self.table.currentIndex().row()
        paged.resize(int(value.get("total", 0)))
        self._note()
        paged.put(start, list(value.get("rows", [])))
        if not paged.rowCount():
            self.row.clear()
        elif not self.table.currentIndex().isValid():
            self.table.selectRow(min(max(current, 0), paged.rowCount() - 1))
        elif start <= self.table.currentIndex().row() < start + PAGE:
            self._choose(self.table.currentIndex().row())

    def _show_menu(self) -> None:
        self._menu().popup(self.filter.mapToGlobal(self.filter.rect().bottomLeft()))

    def _menu(self) -> QMenu:
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        for status in FILTERS:
            menu.addAction(tr(STATUSES[status]), partial(self.show_only, status))
        reasons, quality = dict(self._facts.get("set_aside", {})), dict(self._facts.get("quality") or {})
        checks = {name: found["rows"] for name, found in dict(quality.get("checks", {})).items() if found["rows"]}
        self._add_group(menu, say("Set aside", "搁置"), "", reasons)
        self._add_group(menu, say("Checks", "检查"), "check:", checks)
        self._add_group(menu, say("Languages", "语言"), "language:", dict(quality.get("languages", {})))
        self._add_group(menu, say("Tasks", "任务"), "task:", dict(quality.get("tasks", {})))
        scores = dict(self._facts.get("scores") or {})
        self._add_group(
            menu, say("For the model", "对模型而言"), "score:", {name: scores.get(name, 0) for name in SCORES}
        )
        if self._context.data.is_scanned:
            menu.addSeparator()
            menu.addAction(tr(BY_DIFFICULTY), self.scores_wanted.emit)
        return menu

    def _add_group(self, menu: QMenu, title: Text, prefix: str, rows: dict[str, int]) -> None:
        rows = {name: number for name, number in rows.items() if number}
        if rows:
            menu_title(menu, title)
        for name, number in rows.items():
            words = tr(status_label(prefix + name, self._facts))
            menu.addAction(f"{words} · {count(number)}", partial(self.show_only, prefix + name))

    def _clear_search(self) -> None:
        if self._context.data.words or self._context.data.finding.is_working:
            operations.stop_finding(self._context)

    # ------------------------------------------------------------------------------------------------------- one row
    def _choose(self, number: int) -> None:
        line = self.table.paged.row(number) if number >= 0 else None
        if line is None:
            return
        if self._asked is not None:
            self._asked.drop()
        index = int(line.get("index", number))
        self._asked = operations.fetch_row(self._context, index, self.row.put)
        self._asked.ended.connect(self._forget)

    def _forget(self) -> None:
        if self.sender() is self._asked:
            self._asked = None


def _kind_of(facts: dict[str, Any]) -> str:
    """What the rows are, where all files agree."""
    shapes = {str(file.get("shape", "")) for file in facts.get("files", [])} or {str(facts.get("shape", ""))}
    if shapes == {"classification"}:
        return "classification"
    kinds = {SHAPES[name].kind for name in shapes if name in SHAPES}
    kind = kinds.pop() if len(kinds) == 1 else "conversation"
    return "conversation" if kind == "preference" and not facts.get("preference") else kind


def _said(name: str) -> Any:
    return lambda line: str(line.get(name) or "")


def _where(line: dict[str, Any]) -> str:
    return str(line.get("where", ""))


def _tokens(line: dict[str, Any]) -> str:
    return "" if line.get("tokens") is None else count(line["tokens"])


def _figure(name: str) -> Any:
    return lambda line: "" if line.get(name) is None else figure(line[name])


_LOSS = Column(say("Loss", "损失"), _figure("loss"), 62, right=True)
_SCORE_COLUMNS = {
    "score:hardest": _LOSS,
    "score:uncertain": Column(say("Entropy", "熵"), _figure("uncertainty"), 62, right=True),
    "score:easiest": _LOSS,
}
"""What stands in the place of the tokens where rows are shown by their scores."""


def _marked(line: dict[str, Any]) -> str:
    return tr(_mark(line)[0])


def _mark_tone(line: dict[str, Any]) -> str:
    return _mark(line)[1]


def _mark(line: dict[str, Any]) -> tuple[Text, str]:
    liked = line.get("liked")
    return (NOTHING, PLAIN) if liked is None else MARKED[bool(liked)]
