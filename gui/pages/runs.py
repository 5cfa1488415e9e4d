"""The Runs page: every run of the project, found, described, compared, repeated, gone on with and removed."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QItemSelection, QItemSelectionModel, QTimer
from PySide6.QtGui import QHideEvent, QShowEvent
from PySide6.QtWidgets import QAbstractItemView, QStackedLayout, QWidget

from engine.protocol.text import Text, say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import NONE, day, duration, figure
from gui.operations import runs as operations
from gui.operations.project import select_run
from gui.operations.queue import show_queue
from gui.pages.page import Page
from gui.pages.runs_details import Details
from gui.pages.runs_queue import QueueCard
from gui.pages.runs_words import (
    FILTERS,
    ORDERS,
    SEVERAL,
    gain_words,
    number_words,
    size_words,
    status_of,
    steps_words,
    titled,
)
from gui.state.phase import Phase
from gui.widgets.basic import ElidedLabel, button, column, holder, label, row
from gui.widgets.card import Card
from gui.widgets.editors import ChoiceEditor
from gui.widgets.search_field import SearchField
from gui.widgets.table import Column, Table

if TYPE_CHECKING:
    from engine.project.runs import RunRow
    from gui.pages.runs_compare import CompareView
    from gui.state.runs_list import Compared, RunsList

READ_MS = 2000
"""Time between two looks at runs that are under way, while the page is looked at."""
DETAILS_WIDTH, LEAST_CHOICE, STATE_WIDTH = 336, 118, 126
ALL_TAGS = say("every tag", "所有标签")


def _row(line: dict[str, Any]) -> RunRow:
    found: RunRow = line["row"]
    return found


COLUMNS = (
    Column(say("Run", "训练"), lambda line: titled(_row(line)), tip=lambda line: titled(_row(line))),
    Column(
        say("State", "状态"),
        lambda line: tr(status_of(_row(line))[0]),
        STATE_WIDTH,
        tone=lambda line: status_of(_row(line))[1],
    ),
    Column(say("Held-out loss", "留出损失"), lambda line: figure(_row(line).figures.best_loss, 3), 96, right=True),
    Column(
        say("When", "时间"),
        lambda line: day(_row(line).created)[5:],
        100,
        muted=True,
        tip=lambda line: day(_row(line).created),
    ),
    Column(say("Gained", "提升"), lambda line: gain_words(_row(line).measured), 74, right=True, spare=True),
    Column(say("On disk", "占用"), lambda line: size_words(line["sizes"]), 74, right=True, spare=True),
    Column(
        say("Time", "用时"),
        lambda line: duration(_row(line).figures.seconds) if _row(line).figures.seconds else NONE,
        86,
        right=True,
        spare=True,
    ),
    Column(say("Steps", "步数"), lambda line: steps_words(_row(line).figures), 92, right=True, spare=True),
    Column(say("Model", "模型"), lambda line: _row(line).model, 130, muted=True, spare=True),
)


class RunsPage(Page):
    """Renders `gui.state.runs_list.RunsList`."""

    title = say("Runs", "训练记录")

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self._shown: list[tuple[Any, ...]] | None = None
        earlier = say("Take back the earlier plan", "恢复原来的计划")
        self._earlier = button(earlier, lambda: operations.take_back_plan(context), shortcut="Ctrl+Shift+Z")
        self._back = button(say("← Back", "← 返回"), lambda: operations.compare_no_more(context), shortcut="Esc")
        for item in (self._earlier, self._back):
            self.head.addWidget(item)
        self._timer = QTimer(self)
        self._timer.setObjectName("runs under way are read again")
        self._timer.setInterval(READ_MS)
        self._timer.timeout.connect(self._read)
        self._listed.changed.connect(self._refill)
        context.project.changed.connect(self._project_changed)

    @property
    def _listed(self) -> RunsList:
        return self.context.project.listed

    def showEvent(self, event: QShowEvent) -> None:
        """Read what has happened meanwhile."""
        super().showEvent(event)
        self._read()
        show_queue(self.context)

    def hideEvent(self, event: QHideEvent) -> None:
        """Nobody looks."""
        super().hideEvent(event)
        self._timer.stop()

    def _read(self) -> None:
        operations.read_runs(self.context)

    def _project_changed(self) -> None:
        if self.isVisible():
            self._read()
        self._refill()

    def _refill(self) -> None:
        if self.isVisible():
            self.refresh()

    # -------------------------------------------------------------------------------------------------------- states
    def refresh(self) -> None:
        """Show nothing yet, reading, wrong, the comparison or the list."""
        listed, project = self._listed, self.context.project
        if project.project is not None and listed.project != project.project.path:
            self._read()
        status = listed.status
        if status.phase is Phase.WRONG and status.failure is not None:
            again = button(say("Try again", "重试"), self._read, "primary", shortcut="Ctrl+Return")
            self.show_banner().wrong(status.failure, again)
        elif listed.rows:
            self.show_body()
            self._fill()
        elif status.phase is Phase.WORKING or (project.project is None and not project.is_refused):
            self.show_banner().working(operations.READING, None)
        else:
            self._show_none()
        self._show_actions()
        self._watch()

    def _show_none(self) -> None:
        hint = say(
            "Each training is kept here with its recipe, curve and figures, to be found, compared and repeated.",
            "每次训练都会连同配方、曲线和结果保存在这里，便于查找、对比和重复。",
        )
        plan = button(
            say("Go to the plan", "前往计划"), lambda: self.context.wizard.go("plan"), "primary", shortcut="Ctrl+Return"
        )
        self.show_banner().empty(say("No run in this project yet.", "此项目还没有训练。"), hint, plan)

    def _show_actions(self) -> None:
        listed = self._listed
        compares = listed.compared is not None and self.is_ready
        self._earlier.setVisible(listed.has_earlier_plan and not compares)
        self._back.setVisible(compares)
        self.set_subtitle(number_words(len(listed.shown), len(listed.rows), listed.total_bytes))

    def _watch(self) -> None:
        if self.isVisible() and any(item.is_under_way for item in self._listed.rows):
            if not self._timer.isActive():
                self._timer.start()
        else:
            self._timer.stop()

    # ---------------------------------------------------------------------------------------------------------- body
    def build(self) -> QWidget:
        """The list with its queue, and beside it the details; over both the comparison."""
        self._details = Details(self.context)
        self._details.setFixedWidth(DETAILS_WIDTH)
        self._queue = QueueCard(self.context)
        left = column(self._list_card(), self._queue, spacing=14)
        left.setStretch(0, 1)
        both = row(left, self._details, spacing=14)
        both.setStretch(0, 1)
        self._compared: CompareView | None = None
        self._views = QStackedLayout()
        self._views.addWidget(holder(both))
        self._views.setContentsMargins(0, 0, 0, 0)
        both.setContentsMargins(0, 0, 0, 0)
        made = holder(self._views)
        order = [self._search, self._order.control, self._stands.control, self._tag.control, self.table]
        for before, after in pairwise([*order, *self._details.controls()]):
            QWidget.setTabOrder(before, after)
        return made

    def _list_card(self) -> Card:
        self._search = SearchField(say("Search title, model, data, note", "搜索标题、模型、数据、备注"), "Ctrl+F")
        self._search.textChanged.connect(lambda text: self._listed.put(text=text))
        self._stands = self._choice(FILTERS, say("State", "状态"), "stands")
        self._tag = self._choice((("", ALL_TAGS),), say("Tag", "标签"), "tag")
        self._order = self._choice(ORDERS, say("Order", "排序"), "order")
        self.table = Table(COLUMNS, say("Runs", "训练记录"))
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.table.selectionModel().selectionChanged.connect(self._chosen)
        self.table.activated.connect(self._open)
        self._none = label(say("No run is like that.", "没有符合条件的训练。"), "muted")
        first, second = (
            row(self._search, self._order),
            row(self._stands, self._tag, None, ElidedLabel(SEVERAL, "small")),
        )
        first.setStretch(0, 1)
        card = Card("", "", column(first, second, spacing=6), self._none, self.table, spacing=8)
        card.body.addStretch(0)
        card.body.setStretch(2, 1)
        return card

    def _choice(self, choices: tuple[tuple[str, Text], ...], name: Text, field: str) -> ChoiceEditor:
        made = ChoiceEditor(list(choices))
        made.control.setAccessibleName(tr(name))
        made.control.setToolTip(tr(name))
        made.control.setMinimumWidth(LEAST_CHOICE)
        made.edited.connect(lambda value: self._listed.put(**{field: value}))
        return made

    # ---------------------------------------------------------------------------------------------------------- fill
    def _fill(self) -> None:
        listed = self._listed
        if listed.compared is not None:
            self._show_compared(listed.compared)
            return
        self._views.setCurrentIndex(0)
        if self._search.text() != listed.text:
            self._search.setText(listed.text)
        self._tag.put_choices([("", tr(ALL_TAGS)), *((tag, f"#{tag}") for tag in listed.tags)])
        for editor, value in ((self._stands, listed.stands), (self._tag, listed.tag), (self._order, listed.order)):
            editor.put(value)
        self._fill_table()
        self._details.fill()
        self._queue.fill()

    def _show_compared(self, compared: Compared) -> None:
        """The view is made when it is first needed: it loads the plot library."""
        if self._compared is None:
            from gui.pages.runs_compare import CompareView

            self._compared = CompareView(self.context)
            self._views.addWidget(self._compared)
        self._compared.fill(compared)
        self._views.setCurrentIndex(1)

    def _fill_table(self) -> None:
        """Put the rows, where they are others, and choose those again that were chosen."""
        listed = self._listed
        shown = listed.shown
        lines: list[tuple[Any, ...]] = [(item, listed.sizes.get(item.folder.path)) for item in shown]
        self._none.setVisible(not shown)
        self.table.setVisible(bool(shown))
        if lines == self._shown:
            return
        places = [item[0].folder.path for item in self._shown or ()]
        self._shown = lines
        rows = [{"row": item, "sizes": taken} for item, taken in lines]
        if places == [item.folder.path for item in shown]:
            self.table.paged.put(0, rows[:100])  # only figures are others: what is chosen stays so
            for start in range(100, len(rows), 100):
                self.table.paged.put(start, rows[start : start + 100])
            return
        self._put_all(rows)

    def _put_all(self, rows: list[dict[str, Any]]) -> None:
        chosen = set(self._listed.chosen)
        numbers = [number for number, line in enumerate(rows) if _row(line).folder.path in chosen]
        model = self.table.selectionModel()
        model.blockSignals(True)
        self.table.paged.put_all(rows)
        selected = QItemSelection()
        for number in numbers or ([0] if rows and not chosen else []):
            selected.select(self.table.paged.index(number, 0), self.table.paged.index(number, len(COLUMNS) - 1))
        flags = QItemSelectionModel.SelectionFlag
        model.select(selected, flags.ClearAndSelect | flags.Rows)
        if selected.indexes():
            model.setCurrentIndex(selected.indexes()[0], flags.NoUpdate)
        model.blockSignals(False)
        self._chosen()

    def _paths(self) -> list[Path]:
        numbers = sorted({index.row() for index in self.table.selectionModel().selectedIndexes()})
        lines = [self.table.paged.row(number) for number in numbers]
        return [_row(line).folder.path for line in lines if line is not None]

    def _chosen(self) -> None:
        operations.choose(self.context, self._paths())

    def _open(self) -> None:
        rows = self._listed.chosen_rows
        if len(rows) == 1:
            select_run(self.context, rows[0].folder)
