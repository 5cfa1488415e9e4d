"""Below the columns of the Compare page: the question, how answers are drawn, system prompt, reference answer."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import (
    QDoubleSpinBox,
    QGridLayout,
    QLineEdit,
    QMenu,
    QPlainTextEdit,
    QSizePolicy,
    QSpinBox,
    QWidget,
)

from engine.protocol.text import Text, say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.operations.talk import ask_again, ask_all, edit_last, stop_answers
from gui.pages.compare_words import SETTINGS, newest_words, summary_words
from gui.widgets.basic import ElidedLabel, add_shortcut, button, column, holder, label, plain_tip, row, tool
from gui.widgets.card import Card

MOST_LINES = 4
SPIN_WIDTHS = {"seed": 100, "max_new_tokens": 80}


class QuestionEdit(QPlainTextEdit):
    """A question of one line or a few. Return sends it, Shift+Return begins a line.

    Signals:
        sent: the person wants it asked.
    """

    sent = Signal()

    def __init__(self, hint: Text) -> None:
        super().__init__()
        self.setPlaceholderText(tr(hint))
        self.setAccessibleName(tr(say("Question", "提问")))
        self.setTabChangesFocus(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.textChanged.connect(self._fit)
        self.document().setDocumentMargin(4)

    @property
    def words(self) -> str:
        """What was written."""
        return self.toPlainText()

    def _fit(self) -> None:
        """Grow with the text; a longer one scrolls."""
        is_long = self._lines > MOST_LINES
        policy = Qt.ScrollBarPolicy.ScrollBarAsNeeded if is_long else Qt.ScrollBarPolicy.ScrollBarAlwaysOff
        self.setVerticalScrollBarPolicy(policy)
        self.updateGeometry()

    @property
    def _lines(self) -> int:
        return max(1, round(self.document().size().height()))

    def put(self, text: str) -> None:
        """Write a question and go to its end."""
        self.setPlainText(text)
        self.moveCursor(self.textCursor().MoveOperation.End)
        self.setFocus()

    def sizeHint(self) -> QSize:
        """As many lines as it has, up to four."""
        return QSize(super().sizeHint().width(), 18 + min(MOST_LINES, self._lines) * self.fontMetrics().lineSpacing())

    def minimumSizeHint(self) -> QSize:
        """One line."""
        return QSize(80, 18 + self.fontMetrics().lineSpacing())

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Return sends."""
        is_return = event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        if is_return and not event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            self.sent.emit()
        else:
            super().keyPressEvent(event)


class AskCard(Card):
    """The question and everything that it is asked with."""

    def __init__(self, context: AppContext) -> None:
        super().__init__("", "", spacing=8)
        self._context = context
        self.question = QuestionEdit(say("Ask all…", "同时提问……"))
        self.question.sent.connect(self.send)
        self.send_button = button(say("Send", "发送"), self.send, "primary", shortcut="Ctrl+Return")
        self.stop_button = button(say("Stop", "停止"), lambda: stop_answers(context), "danger", shortcut="Esc")
        self.again = button(say("Ask again", "重新回答"), lambda: ask_again(context), shortcut="Ctrl+R")
        self.again.setToolTip(
            plain_tip(tr(say("The same question with the same seed (Ctrl+R)", "同一提问，相同种子（Ctrl+R）")))
        )
        self._more = self._more_button()
        asking = row(self.question, self.send_button, self.stop_button, self.again, self._more)
        asking.setStretch(0, 1)
        self._summary = ElidedLabel("", "facts")
        self._reference_switch = self._toggle(say("Reference answer", "参考答案"), "Ctrl+J", self._show_reference)
        self._settings_switch = self._toggle(say("Settings", "设置"), "Ctrl+G", self._show_settings)
        self._newest = ElidedLabel("", "facts")
        line = row(self._summary, self._newest, self._reference_switch, self._settings_switch)
        line.setStretch(0, 1)
        self._settings = holder(column(self._sampling_grid(), self._system_row(), spacing=6))
        self._settings.hide()
        self._reference = label("", "muted", wrap=True, selectable=True)
        self._reference.hide()
        for item in (self._reference, asking, line, self._settings):
            self.body.addWidget(item) if isinstance(item, QWidget) else self.body.addLayout(item)

    def _toggle(self, text: Text, keys: str, action: Any) -> Any:
        made = tool(text)
        made.setCheckable(True)
        add_shortcut(made, keys)
        made.toggled.connect(action)
        return made

    def _more_button(self) -> Any:
        made = tool("⋯")
        made.setAccessibleName(tr(say("More ways to ask", "更多提问方式")))
        menu = QMenu(self)
        context = self._context
        for text, keys, action in (
            (
                say("Ask again with a new seed", "换一个种子重新回答"),
                "Ctrl+Shift+R",
                lambda: ask_again(context, new_seed=True),
            ),
            (say("Change the last question", "修改上一个提问"), "Ctrl+E", self.edit),
            (
                say("Ask again without the oldest turns", "省去最早几轮后重新回答"),
                "Ctrl+D",
                lambda: ask_again(context, drop=True),
            ),
        ):
            item = menu.addAction(tr(text))
            item.setShortcut(keys)
            item.triggered.connect(action)
            self.addAction(item)  # its key works while the menu is closed
        made.setMenu(menu)
        made.setPopupMode(made.ToolButtonPopupMode.InstantPopup)
        return made

    # ------------------------------------------------------------------------------------------------------ settings
    def _sampling_grid(self) -> QWidget:
        """Same seed and settings for all."""
        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(14)
        grid.setVerticalSpacing(4)
        for place, (name, text, tip, low, high, step) in enumerate(SETTINGS):
            caption = label(text, "facts")
            caption.setToolTip(plain_tip(tr(tip)))
            grid.addWidget(caption, 0, place)
            grid.addWidget(self._spin(name, tr(text), tr(tip), low, high, step), 1, place)
        grid.setColumnStretch(len(SETTINGS), 1)
        return holder(grid)

    def _spin(self, name: str, text: str, tip: str, low: float, high: float, step: float) -> QWidget:
        spin: Any = QSpinBox() if isinstance(low, int) else QDoubleSpinBox()
        spin.setRange(low, high)
        spin.setSingleStep(step)
        sampling = self._context.talk.sampling
        spin.setValue(type(low)(sampling[name]))
        spin.setAccessibleName(text)
        spin.setToolTip(plain_tip(tip))
        spin.setFixedWidth(SPIN_WIDTHS.get(name, 76))
        # WORKAROUND: a style sheet's padding does not reach the line edit inside a spin box.
        spin.lineEdit().setTextMargins(7, 0, 0, 0)
        spin.valueChanged.connect(lambda value: self._set(name, value))
        spin.setObjectName(name)
        return spin  # type: ignore[no-any-return]

    def _set(self, name: str, value: float) -> None:
        self._context.talk.sampling[name] = value
        self._summarise()

    def _system_row(self) -> QWidget:
        talk = self._context.talk
        self._system = QLineEdit(talk.system or "")
        self._system.setAccessibleName(tr(say("System prompt", "系统提示")))
        self._system.textEdited.connect(self._set_system)
        self._as_trained = tool(say("As in training", "与训练相同"), self._reset_system)
        line = row(label(say("System prompt", "系统提示"), "facts"), self._system, self._as_trained)
        line.setStretch(1, 1)
        return holder(line)

    def _set_system(self, text: str) -> None:
        self._context.talk.system = text
        self._summarise()

    def _reset_system(self) -> None:
        self._context.talk.system = None
        self._fill_system()
        self._summarise()

    def _fill_system(self) -> None:
        """What stands there when nothing else is wanted is that of training."""
        talk = self._context.talk
        trained = str(talk.facts.get("system", ""))
        wanted = trained if talk.system is None else talk.system
        if self._system.text() != wanted:
            self._system.setText(wanted)
        self._as_trained.setEnabled(talk.system is not None)
        self._system.setPlaceholderText(tr(say("none", "无")))

    def _summarise(self) -> None:
        talk = self._context.talk
        self._summary.setText(summary_words(talk.sampling, talk.system))
        self._as_trained.setEnabled(talk.system is not None)

    # ---------------------------------------------------------------------------------------------------------- fill
    def fill(self) -> None:
        """Show what can be done now."""
        talk = self._context.talk
        self.stop_button.setVisible(talk.is_speaking)
        self.send_button.setVisible(not talk.is_speaking)
        can_repeat = bool(talk.turns) and not talk.is_speaking
        for item in (self.again, self._more):
            item.setEnabled(can_repeat)
        newest = self._context.blind.newest
        self._newest.setText(newest_words(newest) if newest is not None else "")
        self._fill_system()
        self._fill_seed()
        self._summarise()
        row_ = talk.turns[-1].row if talk.turns else None
        self._reference_switch.setVisible(row_ is not None and bool(row_.reference))
        self._show_reference()

    def _fill_seed(self) -> None:
        """A new seed may have been taken."""
        spin: Any = self.findChild(QSpinBox, "seed")
        if spin is not None and spin.value() != int(self._context.talk.sampling["seed"]):
            spin.setValue(int(self._context.talk.sampling["seed"]))

    def _show_settings(self, wanted: bool) -> None:
        self._settings.setVisible(wanted)

    def _show_reference(self, _wanted: bool = False) -> None:
        """On request only: who has read the right answer does not judge the others freely."""
        talk = self._context.talk
        row_ = talk.turns[-1].row if talk.turns else None
        is_wanted = self._reference_switch.isChecked() and row_ is not None and bool(row_.reference)
        self._reference.setVisible(is_wanted)
        if is_wanted and row_ is not None:
            words = say("Reference ({where}): {text}", "参考（{where}）：{text}", where=row_.where, text=row_.reference)
            self._reference.setText(tr(words))

    # ------------------------------------------------------------------------------------------------------- actions
    def send(self) -> None:
        """Ask what was written."""
        if not self._context.talk.is_speaking and self.question.words.strip():
            words = self.question.words
            self.question.clear()
            self.question.setFocus()
            ask_all(self._context, words)

    def edit(self) -> None:
        """Write the last question anew."""
        words = edit_last(self._context)
        if words:
            self.question.put(words)
