"""The Data page's panel of rows by difficulty: a model scores them, and those that are hardest for it are opened."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from PySide6.QtWidgets import QProgressBar, QWidget

from engine.protocol.errors import Failure
from engine.protocol.text import Text, say
from engine.recipe.fields import settings
from engine.recipe.recipe import DataSettings
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import NONE, count, figure
from gui.operations import data as data_operations
from gui.operations import score as operations
from gui.pages.words import SCORES, capital
from gui.state.notices import details_of
from gui.widgets.banner import progress_words, show_progress
from gui.widgets.basic import button, column, copy, holder, label, row, rule
from gui.widgets.card import Card
from gui.widgets.editors import ChoiceEditor, Editor, PercentEditor
from gui.widgets.facts import Facts
from gui.widgets.scroll import scrolled

WIDTH = 312
WHAT = say(
    "A model reads every training row: how hard it is for the model (loss), and how unsure the model is (entropy). "
    "The hardest rows are often wrong ones, so they are worth a look.",
    "由模型读一遍训练数据：每行对它有多难（损失），以及它有多不确定（熵）。最难的行往往有错，值得一看。",
)
STARTING = say("Starting…", "正在启动…")
USED = say(
    "What the run makes of it. Neither is sure to help: compare two runs.",
    "训练时如何使用评分。不一定有益：请比较两次训练。",
)
KEYS = {"hardest": "Ctrl+Shift+1", "uncertain": "Ctrl+Shift+2", "easiest": "Ctrl+Shift+3"}


class ScorePanel(Card):
    """Renders the job that scores, the session's ``scores``, and the draft's settings that use them.

    Args:
        close: called when the user is done.
        show_only: shows only rows of a status.

    Attributes:
        name: the panel's.
    """

    name = "score"

    def __init__(self, context: AppContext, close: Callable[[], object], show_only: Callable[[str], object]) -> None:
        super().__init__(say("Rows by difficulty", "按难度查看"))
        self._context = context
        self.setFixedWidth(WIDTH)
        self.begin = button("", partial(operations.begin, context), "primary", shortcut="Ctrl+Shift+B")
        self.cancel = button(say("Cancel", "取消"), partial(operations.end, context), "small", shortcut="Ctrl+Shift+Z")
        self.doing, self.far = label("", "muted", wrap=True), label("", "facts")
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.wrong, self.hint = label("", "bad", wrap=True), label("", "muted", wrap=True)
        details = button(say("Copy details", "复制详情"), self._copy, "small", shortcut="Ctrl+Shift+C")
        self._working = holder(column(self.doing, self.bar, self.far, row(self.cancel, None)))
        self._failed = holder(column(self.wrong, self.hint, row(details, None)))
        self.found = Facts()
        self._links = holder(column(*(self._link(kind, show_only) for kind in SCORES), spacing=6))
        done = button(say("Close", "关闭"), close, shortcut="Ctrl+Shift+K")
        items = (label(WHAT, "muted", wrap=True), self._working, self._failed, self.found, self._links, rule())
        inner = column(
            *items, label(USED, "facts", wrap=True), *self._settings(), None, margins=(0, 0, 8, 0), spacing=10
        )
        self.body.addWidget(scrolled(holder(inner)), 1)
        self.body.addLayout(row(None, done, self.begin))
        context.scoring.changed.connect(self._tell)
        operations.find(context)

    @property
    def first(self) -> QWidget:
        """Where the keyboard begins."""
        return self.begin

    def _link(self, kind: str, show_only: Callable[[str], object]) -> Any:
        made = button(capital(SCORES[kind]), partial(show_only, f"score:{kind}"), "link", shortcut=KEYS[kind])
        return row(made, None)

    def _settings(self) -> list[QWidget]:
        about = settings(DataSettings)
        self._order = ChoiceEditor(list(about["order"].choices))
        self._choice = ChoiceEditor(list(about["choice"].choices))
        self._share = PercentEditor()
        made = {"order": self._order, "choice": self._choice, "choice_share": self._share}
        lines = {name: self._line(name, editor) for name, editor in made.items()}
        self._share_line = lines["choice_share"]
        return list(lines.values())

    def _line(self, name: str, editor: Editor) -> QWidget:
        about = settings(DataSettings)[name]
        unit = " (%)" if isinstance(editor, PercentEditor) else ""
        editor.control.setAccessibleName(tr(about.label))
        editor.setToolTip(tr(about.help))
        editor.edited.connect(lambda value: data_operations.choose(self._context, name, value))
        words = label(f"{tr(about.label)}{unit}", "facts")
        words.setBuddy(editor)
        return holder(column(words, editor, spacing=3))

    # --------------------------------------------------------------------------------------------------------- filling
    def fill(self, facts: dict[str, Any]) -> None:
        """Other facts are there."""
        data = self._context.draft.recipe.data
        self._order.put(data.order)
        self._choice.put(data.choice)
        self._share.put(data.choice_share)
        self._share_line.setVisible(data.choice != "all")
        self._tell()

    def _tell(self) -> None:
        """Where the job stands, and what it found."""
        view = self._context.scoring
        state, failure = view.state, view.state.failure if view.folder is not None else None
        self._working.setVisible(view.is_running)
        if view.is_running:
            self.doing.setText(tr(state.stage or STARTING))
            show_progress(self.bar, state.progress)
            self.far.setText(progress_words(state.progress))
            self.far.setVisible(bool(self.far.text()))
            self.cancel.setEnabled(not view.is_stopping)
        self._show_failure(failure)
        scores = self._context.data.facts.get("scores")
        for widget in (self.found, self._links):
            widget.setVisible(bool(scores))
        if scores:
            self.found.put(_facts(scores))
        can = self._context.data.is_scanned and not view.is_running and not self._context.data.doubtful
        self.begin.setEnabled(can)
        again, words = say("Score again", "重新评分"), say("Score the rows", "开始评分")
        self.begin.setText(tr(again if scores else words))
        self.begin.setShortcut("Ctrl+Shift+B")

    def _show_failure(self, failure: Failure | None) -> None:
        self._failed.setVisible(failure is not None)
        if failure is not None:
            self.wrong.setText(tr(failure.message))
            self.hint.setText(tr(failure.hint))

    def _copy(self) -> None:
        failure = self._context.scoring.state.failure
        if failure is not None:
            copy(details_of(failure))


def _facts(scores: dict[str, Any]) -> list[tuple[Text, Text | str]]:
    """How many rows were scored, and what is usual among them."""
    unit = say("nats a token", "奈特/词元")

    def usual(name: str) -> Text | str:
        value = scores.get(name)
        return NONE if value is None else f"{figure(value)} {tr(unit)}"

    return [
        (say("Scored", "已评分"), say("{n} rows", "{n} 行", n=count(scores["rows"]))),
        (say("Loss, median", "损失中位数"), usual("loss")),
        (say("Entropy, median", "熵中位数"), usual("uncertainty")),
    ]
