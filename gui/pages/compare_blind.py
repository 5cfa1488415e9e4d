"""The blind test of the Compare page: two answers whose speaker is hidden, votes, and what they say in the end."""

from __future__ import annotations

import random
from functools import partial

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QComboBox, QProgressBar, QScrollArea, QStackedLayout, QVBoxLayout, QWidget

from engine.project.held_out import HeldOutQuestion
from engine.project.votes import BAD, FIRST, SECOND, TIE, BlindTest, verdict
from engine.protocol.text import Text, say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import count
from gui.operations.blind import (
    HELD_OUT,
    OWN,
    ask_blindly,
    ask_once_more,
    back_to_setup,
    begin_blind,
    can_go_on,
    close_blind,
    go_on_with,
    look_at,
    reveal,
    stop_asking,
    undo,
    vote,
)
from gui.pages.compare_ask import QuestionEdit
from gui.pages.compare_words import LETTERS, result_words, sides_of, test_words, votes_words, whose_words, wins_words
from gui.state.blind import JUDGE, RESULT, SETUP
from gui.state.notices import details_of
from gui.state.phase import Phase
from gui.state.talk import Column
from gui.widgets.basic import button, clear, column, copy, holder, label, row, tool
from gui.widgets.bubbles import Conversation
from gui.widgets.card import Card

VOTES: tuple[tuple[str, Text, str], ...] = (
    (FIRST, say("A is better", "A 更好"), "1"),
    (SECOND, say("B is better", "B 更好"), "2"),
    (TIE, say("Equally good", "一样好"), "3"),
    (BAD, say("Both bad", "都不好"), "4"),
)
MOST_LISTED = 8


class BlindPanel(QWidget):
    """One of three views: the choice of a test, the judging, the result."""

    def __init__(self, context: AppContext) -> None:
        super().__init__()
        self._context = context
        self.setup, self.judging, self.result = SetupView(context), JudgeView(context), ResultView(context)
        self._views = QStackedLayout()
        for view in (self.setup, self.judging, self.result):
            self._views.addWidget(view)
        self.setLayout(self._views)

    def fill(self) -> None:
        """Show the stage that the test is in."""
        stage = self._context.blind.stage
        view = self.setup if stage == SETUP else self.result if stage == RESULT else self.judging
        self._views.setCurrentWidget(view)
        view.fill()


class Trouble(QWidget):
    """What went wrong, in a line, with its details to copy; or what is being done."""

    def __init__(self, context: AppContext) -> None:
        super().__init__()
        self._context = context
        self._words = label("", "muted", wrap=True)
        self._bar = QProgressBar()
        self._bar.setRange(0, 0)
        self._bar.setTextVisible(False)
        self._details = tool(say("Copy details", "复制详情"), self._copy)
        line = row(self._words, self._details)
        line.setStretch(0, 1)
        self.setLayout(column(line, self._bar, spacing=6))

    def fill(self) -> None:
        """Show what the state says."""
        status = self._context.blind.status
        failure = status.failure
        words = tr(status.doing) if status.phase is Phase.WORKING else ""
        if failure is not None:
            words = tr(failure.message) + " " + tr(failure.hint)
        self._words.setText(words)
        self._bar.setVisible(status.phase is Phase.WORKING)
        self._details.setVisible(failure is not None)
        self.setVisible(bool(words))

    def _copy(self) -> None:
        failure = self._context.blind.status.failure
        if failure is not None:
            copy(details_of(failure))


# ---------------------------------------------------------------------------------------------------------------- setup
class SetupView(QWidget):
    """Which two, which questions; or a test of before."""

    def __init__(self, context: AppContext) -> None:
        super().__init__()
        self._context = context
        self._pair = (QComboBox(), QComboBox())
        self._source = QComboBox()
        names = (say("First model", "第一个模型"), say("Second model", "第二个模型"))
        for box, name in zip(self._pair, names, strict=True):
            box.setAccessibleName(tr(name))
            box.currentIndexChanged.connect(lambda _: self._allow())
        self._source.setAccessibleName(tr(say("Questions", "提问来源")))
        self._begin = button(say("Begin", "开始"), self._start, "primary", shortcut="Ctrl+Return")
        back = button(say("Back", "返回"), lambda: close_blind(context), shortcut="Esc")
        words = say(
            "You judge answers without knowing whose they are: which is A and which is B is drawn anew each time. "
            "Both are shown when both are done. Votes are kept in the run's folder as you cast them.",
            "你在不知道来源的情况下评判回答：每次都会重新抽取谁是 A、谁是 B。"
            "双方都完成后才一起显示。每一票都会立即保存到训练文件夹。",
        )
        versus = row(self._pair[0], label(say("against", "对比")), self._pair[1], None)
        source = row(label(say("Questions", "提问来源")), self._source, None)
        self._trouble = Trouble(context)
        card = Card(say("Blind test", "盲测"), " ", label(words, "muted", wrap=True), versus, source, self._trouble)
        card.body.addLayout(row(self._begin, back, None))
        self._earlier = QVBoxLayout()
        self._old = Card(say("Earlier tests", "以往的测试"), " ", self._earlier)
        self.setLayout(column(card, self._old, None, spacing=14))

    def fill(self) -> None:
        """Show what can be tested and what was."""
        self._trouble.fill()
        self._fill_pair()
        held_out = self._context.talk.held_out
        self._source.clear()
        if held_out:
            words = say("{n} held-out rows, in random order", "{n} 个留出行，随机顺序", n=count(held_out))
            self._source.addItem(tr(words), HELD_OUT)
        self._source.addItem(tr(say("my own questions", "我自己的提问")), OWN)
        self._fill_earlier()
        self._allow()

    def _fill_pair(self) -> None:
        columns = self._usable()
        if [self._pair[0].itemData(n) for n in range(self._pair[0].count())] == [item.name for item in columns]:
            return
        for place, box in enumerate(self._pair):
            box.clear()
            for item in columns:
                title = self._context.runs.facts.get("title") if item.kind == "tuned" else None
                box.addItem(str(title or tr(item.title)), item.name)
            box.setCurrentIndex(place)

    def _usable(self) -> list[Column]:
        return [item for item in self._context.talk.columns if item.failure is None]

    def _fill_earlier(self) -> None:
        clear(self._earlier)
        tests = list(reversed(self._context.blind.earlier))[:MOST_LISTED]
        self._old.setVisible(bool(tests))
        for test in tests:
            self._earlier.addLayout(self._line(test))

    def _line(self, test: BlindTest) -> QVBoxLayout:
        """One test with what can be done about it."""
        words = label(test_words(test), "muted", wrap=True)
        if test.revealed:
            action = button(say("Result", "结果"), partial(look_at, self._context, test), "small")
        elif can_go_on(self._context, test):
            action = button(say("Go on", "继续"), partial(go_on_with, self._context, test), "small")
        else:
            action = button(say("Reveal", "揭晓"), partial(self._reveal, test), "small")
            action.setToolTip(
                tr(say("Its models are not loaded, or have learned more since", "其模型未加载，或之后又训练过"))
            )
        line = row(words, action)
        line.setStretch(0, 1)
        return column(line)

    def _reveal(self, test: BlindTest) -> None:
        self._context.blind.test = test
        reveal(self._context)

    def _allow(self) -> None:
        different = self._pair[0].currentData() != self._pair[1].currentData()
        self._begin.setEnabled(different and self._context.blind.status.phase is not Phase.WORKING)

    def _start(self) -> None:
        chosen = [self._context.talk.column(str(box.currentData())) for box in self._pair]
        if chosen[0] is not None and chosen[1] is not None:
            seed = random.SystemRandom().randrange(2**31)
            begin_blind(self._context, chosen[0], chosen[1], source=str(self._source.currentData()), seed=seed)


# -------------------------------------------------------------------------------------------------------------- judging
class JudgeView(QWidget):
    """The question, both answers when both are whole, and the vote."""

    def __init__(self, context: AppContext) -> None:
        super().__init__()
        self._context = context
        self._question = label("", wrap=True, selectable=True)
        self._count = label("", "facts")
        self._own = QuestionEdit(say("Your question…", "你的提问……"))
        self._own.sent.connect(self._ask_own)
        self._send = button(say("Ask both", "同时提问"), self._ask_own, "primary", shortcut="Ctrl+Return")
        own = row(self._own, self._send)
        own.setStretch(0, 1)
        self._own_line = holder(own)
        self._trouble = Trouble(context)
        self.talks = [Conversation(letter) for letter in LETTERS]
        cards = [Card(letter, " ", talk) for letter, talk in zip(LETTERS, self.talks, strict=True)]
        both = row(*cards, spacing=14)
        for place in range(len(cards)):
            both.setStretch(place, 1)
        self._shown: object = None
        asked = Card("", "", row(self._question, self._count), self._own_line, self._trouble)
        outer = column(asked, both, self._vote_card(), spacing=12)
        outer.setStretch(1, 1)
        self.setLayout(outer)

    def _vote_card(self) -> QWidget:
        context = self._context
        self.votes = {
            choice: button(Text(f"{text.en}  {key}", f"{text.zh}  {key}"), partial(vote, context, choice), shortcut=key)
            for choice, text, key in VOTES
        }
        self._again = button(say("Ask again", "重新提问"), lambda: ask_once_more(context), "primary", shortcut="Ctrl+R")
        self._stop = button(say("Stop", "停止"), lambda: stop_asking(context), "danger", shortcut="Esc")
        self._undo = tool(say("Undo vote", "撤销投票"), lambda: undo(context))
        self._undo.setShortcut("Ctrl+Z")
        self._each = tool(say("Tell me after each", "每次投票后揭晓"))
        self._each.setCheckable(True)
        self._each.setShortcut("Ctrl+T")
        self._each.toggled.connect(self._tell_each)
        self._reference = tool(say("Reference answer", "参考答案"))
        self._reference.setCheckable(True)
        self._reference.setShortcut("Ctrl+J")
        self._reference.toggled.connect(lambda _: self.fill())
        finish = tool(say("Reveal and end", "揭晓并结束"), lambda: reveal(context))
        finish.setShortcut("Ctrl+L")
        later = tool(say("Go on later", "以后继续"), lambda: back_to_setup(context))
        later.setShortcut("Ctrl+W")
        for item in (self._undo, self._each, self._reference, finish, later):
            item.setToolTip(item.shortcut().toString())
        self._told = label("", "facts", wrap=True)
        self._right = label("", "muted", wrap=True, selectable=True)
        deciding = row(*self.votes.values(), self._again, self._stop, None, self._count_label())
        below = row(self._undo, self._each, self._reference, None, later, finish, spacing=4)
        return Card("", "", self._right, deciding, self._told, below, spacing=6)

    def _count_label(self) -> QWidget:
        self._tally = label("", "facts")
        return self._tally

    def fill(self) -> None:
        """Show the question, and the answers once both are there."""
        blind = self._context.blind
        test = blind.test
        if test is None:
            return
        judges = blind.stage == JUDGE and blind.status.phase is not Phase.WORKING
        self._question.setText(blind.item.question if blind.item is not None else "")
        self._question.setVisible(blind.item is not None)
        all_ = f" / {count(len(blind.questions))}" if test.source == HELD_OUT else ""
        self._count.setText(f"{count(test.next_index + 1)}{all_}")
        self._own_line.setVisible(test.source == OWN and not judges and not blind.is_asking)
        self._trouble.fill()
        self._fill_answers(test)
        for made in self.votes.values():
            made.setVisible(blind.stage == JUDGE)
            made.setEnabled(judges)
        self._stop.setVisible(blind.is_asking)
        waits = test.source == HELD_OUT or blind.item is not None
        self._again.setVisible(
            blind.stage != JUDGE and not blind.is_asking and waits and blind.status.phase is not Phase.WORKING
        )
        self._undo.setEnabled(bool(test.votes))
        self._tally.setText(votes_words(test.result.votes))
        self._fill_told(test)

    def _fill_answers(self, test: BlindTest) -> None:
        """The same key for the same two answers: a bubble that is read is not built anew."""
        blind = self._context.blind
        shown = blind.shown
        key = (test.id, test.next_index, dict(blind.answers)) if blind.answers else None
        if key == self._shown:
            return
        self._shown = key
        for place, talk in enumerate(self.talks):
            talk.clear_all()
            if key is not None and shown is not None:
                talk.answer(blind.answers.get(shown[place], "") or tr(say("(nothing)", "（空）")))

    def _fill_told(self, test: BlindTest) -> None:
        blind = self._context.blind
        last = blind.last
        wanted = blind.tells_each and last is not None
        self._told.setVisible(wanted)
        if wanted and last is not None:
            before = tr(say("Question before:", "上一题："))
            self._told.setText(f"{before} {whose_words(test, last.shown)}")
        item = blind.item
        self._reference.setVisible(item is not None and bool(item.reference))
        show = self._reference.isChecked() and item is not None and bool(item.reference) and blind.stage == JUDGE
        self._right.setVisible(show)
        if show and item is not None:
            self._right.setText(tr(say("Reference: {text}", "参考：{text}", text=item.reference)))

    def _tell_each(self, wanted: bool) -> None:
        self._context.blind.tells_each = wanted
        self.fill()

    def _ask_own(self) -> None:
        if not self._context.blind.is_asking and self._own.words.strip():
            words = self._own.words.strip()
            self._own.clear()
            ask_blindly(self._context, HeldOutQuestion("", words))


# --------------------------------------------------------------------------------------------------------------- result
class ResultView(QWidget):
    """Wins, ties, the exact test, what it means, and every vote."""

    def __init__(self, context: AppContext) -> None:
        super().__init__()
        self._context = context
        self._wins = label("", "heading", wrap=True)
        self._verdict = label("", "strong", wrap=True)
        self._figures = label("", "muted", wrap=True, selectable=True)
        self._back = button(say("Back to the tests", "返回测试列表"), lambda: back_to_setup(context), shortcut="Esc")
        close = button(
            say("Back to the conversations", "返回对话"),
            lambda: close_blind(context),
            "primary",
            shortcut="Ctrl+Return",
        )
        card = Card("", "", self._wins, self._verdict, self._figures, row(close, self._back, None))
        self._list = QVBoxLayout()
        self._list.setSpacing(10)
        self._list.setContentsMargins(0, 0, 6, 0)
        inner = QWidget()
        inner.setLayout(self._list)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(inner)
        votes = Card(say("Votes", "投票"), " ", scroll)
        outer = column(card, votes, spacing=14)
        outer.setStretch(1, 1)
        self.setLayout(outer)
        self._shown: object = None

    def fill(self) -> None:
        """Show what the votes say."""
        test = self._context.blind.test
        if test is None:
            return
        self._wins.setText(wins_words(test))
        self._verdict.setText(tr(verdict(test.result, sides_of(test))))
        self._figures.setText(result_words(test))
        key = (test.id, len(test.votes))
        if key != self._shown:
            self._shown = key
            self._fill_votes(test)

    def _fill_votes(self, test: BlindTest) -> None:
        clear(self._list)
        titles = {side.name: side.title for side in sides_of(test)}
        for place, cast in enumerate(test.votes, 1):
            won = titles.get(cast.winner) or tr(next(text for choice, text, _ in VOTES if choice == cast.choice))
            line = label(f"{place}. {cast.question}", wrap=True)
            self._list.addLayout(column(line, label(won, "facts", wrap=True), spacing=2))
        self._list.addStretch(1)
