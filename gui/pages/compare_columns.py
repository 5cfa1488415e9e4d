"""The columns of the Compare page: one conversation for each model, growing side by side."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from PySide6.QtWidgets import QHBoxLayout, QLayout, QToolButton, QWidget

from engine.protocol.text import Text, say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.operations.talk import ask_again, remove_column
from gui.pages.compare_words import INVITATIONS, answer_words, speed_words
from gui.state.notices import details_of
from gui.state.talk import SIDES, Column, Turn
from gui.widgets.basic import ElidedLabel, button, column, copy, holder, label, row, tool
from gui.widgets.bubbles import Bubble, Conversation
from gui.widgets.card import Card

WAITING = "…"
SHORTEN = say("Drop oldest turns", "省去最早几轮")
SHORTEN_TIP = say("Ask again without the oldest turns (Ctrl+D)", "省去最早几轮后重新回答（Ctrl+D）")
WIDE = 2
"""So many columns have room for figures and controls beside each other."""
KEEP, KEEP_SHORT = say("Go on from this", "以此继续"), say("Go on", "继续")
KEPT, KEPT_SHORT = say("All go on from this ✓", "均以此继续 ✓"), say("All ✓", "均已 ✓")


class ColumnCard(Card):
    """One model's conversation.

    Attributes:
        column, failure: whose, and why it could not be loaded.
        talk: the bubbles.
        open: the answer that grows; None while none does.
        is_quiet: nothing of it has come yet.
    """

    def __init__(
        self,
        speaker: Column,
        *,
        remove: Callable[[], None],
        keep: Callable[[], None],
        shorten: Callable[[], None],
        narrow: bool,
    ) -> None:
        super().__init__("", "", spacing=3)
        self._is_narrow = narrow
        self.column, self.failure = speaker, speaker.failure
        self.setAccessibleName(tr(speaker.title))
        self.title = ElidedLabel("", "card")
        self.note = ElidedLabel(" ", "facts")
        self._close = tool("✕", remove)
        self._close.setAccessibleName(tr(say("Take this column away", "去掉此栏")))
        self._close.setToolTip(tr(say("Take this column away", "去掉此栏")))
        kept = self._close.sizePolicy()
        kept.setRetainSizeWhenHidden(True)  # headings of all columns are as high as each other
        self._close.setSizePolicy(kept)
        self._close.setVisible(speaker.name not in SIDES)
        heading = row(self.title, self._close, spacing=4)
        heading.setStretch(0, 1)
        self.talk = Conversation(speaker.title)
        self.body.addLayout(heading)
        self.body.addWidget(self.note)
        self.body.addWidget(self.talk, 1)
        self.open: Bubble | None = None
        self.is_quiet = False
        self._keep, self._shorten = keep, shorten
        self._kept: QToolButton | None = None
        self.invite()

    def invite(self) -> None:
        """Say what will stand here, or why nothing can."""
        failure = self.failure
        if failure is not None:
            self.talk.trouble(tr(failure.message) + "\n" + tr(failure.hint), details_of(failure))
        else:
            self.talk.invite(INVITATIONS[self.column.kind])

    def clear(self) -> None:
        """Begin anew."""
        self.open, self._kept = None, None
        self.talk.clear_all()
        self.note.setText(" ")
        self.invite()

    def begin(self, turn: Turn) -> None:
        """Show a question, and what was said to it so far."""
        self._drop_controls()
        if self.failure is not None:
            return
        self.talk.ask(turn.question)
        if self.column.name not in turn.sides:
            self.talk.note(say("(not asked: this column came later)", "（未提问：此栏是之后添加的）"))
            return
        said = turn.texts.get(self.column.name, "")
        self.note.setText(" ")  # the speed above is of the newest answer
        self.is_quiet = not said
        self.open = self.talk.answer(said or WAITING)

    def wait(self, text: Text) -> None:
        """Say why nothing comes yet."""
        if self.open is not None and self.is_quiet:
            self.open.put(tr(text))

    def grow(self, piece: str) -> None:
        """More of the answer has come."""
        if self.open is None:
            return
        if self.is_quiet:
            self.is_quiet = False
            self.open.put(piece)
        else:
            self.open.grow(piece)

    def finish(self, turn: Turn, *, is_last: bool) -> None:
        """Put the final words and figures once the answer has ended."""
        name, bubble = self.column.name, self.open
        if bubble is None or not (name in turn.failures or name in turn.facts):
            return
        self.open = None
        said = turn.texts.get(name, "")
        if name in turn.failures:
            failure = turn.failures[name]
            why = tr(failure.message) + "\n" + tr(failure.hint)
            bubble.put(said or why)
            self.talk.trouble(why if said else "", details_of(failure))
            if is_last and failure.code == "chat.too_long" and failure.where == "turns":
                self.talk.below(button(SHORTEN, self._shorten, "small", tip=SHORTEN_TIP))
            return
        bubble.put(said or tr(say("(nothing)", "（空）")))
        self.note.setText(speed_words(turn.facts[name]) or " ")
        self.talk.below(holder(self._footing(said, turn, is_last=is_last)))

    def _footing(self, said: str, turn: Turn, *, is_last: bool) -> QLayout:
        """How long the answer was and why it ended, with what can be done with it; in two lines where it is narrow."""
        words = label(answer_words(turn.facts[self.column.name]), "facts", wrap=True)
        controls = self._controls(said, is_last=is_last)
        if self._is_narrow:
            controls.addStretch(1)
            return column(words, controls, spacing=0)
        line = row(words, controls)
        line.setStretch(0, 1)
        return line

    def _controls(self, said: str, *, is_last: bool) -> QHBoxLayout:
        copying = tool(say("Copy", "复制"), lambda: copy(said))
        copying.setAccessibleName(tr(say("Copy this answer", "复制此回答")))
        line = row(copying, spacing=2)
        if is_last:
            self._kept = tool(KEEP_SHORT if self._is_narrow else KEEP, self._keep)
            self._kept.setToolTip(
                tr(
                    say(
                        "Tell every column that it answered this: the next question then has the same history for all",
                        "让每一栏都把它当作自己的回答：下一个提问的历史对各栏相同",
                    )
                )
            )
            line.addWidget(self._kept)
        return line

    def mark_kept(self, kept: str) -> None:
        """Show whose answer all go on from."""
        if self._kept is not None:
            keep, all_ = (KEEP_SHORT, KEPT_SHORT) if self._is_narrow else (KEEP, KEPT)
            self._kept.setText(tr(all_ if kept == self.column.name else keep))

    def _drop_controls(self) -> None:
        """Only the newest answer can be gone on from."""
        if self._kept is not None:
            self._kept.hide()
            self._kept = None


class Columns(QWidget):
    """All columns side by side, kept in step with the talk's state."""

    def __init__(self, context: AppContext) -> None:
        super().__init__()
        self._context = context
        self.cards: dict[str, ColumnCard] = {}
        self.shown: list[Turn] = []
        self._layout = row(spacing=12)
        self.setLayout(self._layout)

    def fill(self) -> None:
        """Show the columns, the turns, and how far the newest answers are."""
        talk = self._context.talk
        wanted = [(id(speaker), speaker.failure) for speaker in talk.columns]
        if [(id(card.column), card.failure) for card in self.cards.values()] != wanted:
            self._build()
        if talk.turns[: len(self.shown)] != self.shown:
            self._clear()
        for turn in talk.turns[len(self.shown) :]:
            self._show(turn)
        for card in self.cards.values():
            card.title.setText(self._title(card.column))
            if talk.turns:
                card.finish(talk.turns[-1], is_last=True)
                card.mark_kept(talk.turns[-1].kept)

    def wait(self, text: Text) -> None:
        """Say in every column why nothing comes yet."""
        for card in self.cards.values():
            card.wait(text)

    def grow(self, side: str, piece: str) -> None:
        """More of a column's answer has come."""
        card = self.cards.get(side)
        if card is not None:
            card.grow(piece)

    def _build(self) -> None:
        for card in self.cards.values():
            card.hide()
            self._layout.removeWidget(card)
            card.deleteLater()
        self.cards = {}
        self.shown = []
        for speaker in self._context.talk.columns:
            remove = partial(remove_column, self._context, speaker.name)
            keep = partial(self._context.talk.keep, speaker.name)
            shorten = partial(ask_again, self._context, drop=True)
            narrow = len(self._context.talk.columns) > WIDE
            made = ColumnCard(speaker, remove=remove, keep=keep, shorten=shorten, narrow=narrow)
            self.cards[speaker.name] = made
            self._layout.addWidget(made, 1)

    def _clear(self) -> None:
        self.shown = []
        for card in self.cards.values():
            card.clear()

    def _show(self, turn: Turn) -> None:
        self.shown.append(turn)
        is_last = turn is self._context.talk.turns[-1]
        for card in self.cards.values():
            card.begin(turn)
            if not is_last:
                card.finish(turn, is_last=False)

    def _title(self, column: Column) -> str:
        name = tr(column.title)
        if column.kind == "base":
            source = str(self._context.talk.facts.get("model", ""))
            return f"{name} · " + source.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]
        if column.kind == "tuned":
            return f"{name} · " + str(self._context.runs.facts.get("title", ""))
        method = str(column.facts.get("method", "")).replace("_", " ").lower()
        return f"{name} · {method}" if method else name
