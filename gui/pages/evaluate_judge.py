"""The Evaluate page's judge: another model compares the answers, blind to their order. Optional."""

from __future__ import annotations

from PySide6.QtWidgets import QLineEdit, QWidget

from engine.project.judgement import JudgedRow, Judgement
from engine.protocol.text import NOTHING, Text, say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import count, percent
from gui.operations import judge as operations
from gui.pages.evaluate_words import probability
from gui.widgets.basic import button, column, holder, label, row
from gui.widgets.chip import BAD, GOOD, PLAIN, WARN
from gui.widgets.facts import Facts
from gui.widgets.failure_strip import FailureStrip
from gui.widgets.job_bar import JobBar
from gui.widgets.row_list import RowList
from gui.widgets.scroll import Sheet, read_by_scrolling

INTRODUCTION = say(
    "Another model reads each question with both answers, in both orders, without knowing which model wrote which. "
    "Your rows are sent to the address you give.",
    "由另一个模型阅读每个提问及两个回答（两种顺序各一次），且不知道各由哪个模型所写。数据会发送到你填写的地址。",
)
KEYS: dict[str, Text] = {
    "": NOTHING,
    "none": say(
        "No key is kept for this address. A server of your own may need none.",
        "该地址没有保存密钥。自建服务可能无需密钥。",
    ),
    "kept": say("A key for this address is in the system's keyring.", "该地址的密钥已保存在系统密钥环中。"),
    "variable": say("LORIMER_JUDGE_API_KEY gives the key.", "密钥由 LORIMER_JUDGE_API_KEY 提供。"),
}
WINNERS: dict[str, tuple[Text, str]] = {
    "tuned": (say("tuned", "微调"), GOOD),
    "base": (say("base", "基础"), BAD),
    "tie": (say("tie", "平"), PLAIN),
    "none": (say("no verdict", "无评判"), WARN),
}


ORDER = say("The order decided, so it counts as a tie.", "由先后顺序决定，计为平局。")


class JudgePanel(QWidget):
    """Who judges, what it will cost, how far it is, and what it said."""

    def __init__(self, context: AppContext) -> None:
        super().__init__()
        self._context = context
        self._shown: Judgement | None = None
        self.failure = FailureStrip()
        self.result = self._result()
        form, doing = self._form(), self._doing()
        inner = column(self.failure, self.result, form, doing, None, spacing=12, margins=(0, 0, 8, 0))
        self.setLayout(column(read_by_scrolling(Sheet(inner))))
        context.judging.changed.connect(self._tell)
        context.runs.judge.changed.connect(self._tell)

    # -------------------------------------------------------------------------------------------------------- parts
    def _form(self) -> QWidget:
        self.address = self._line("address", say("Address", "地址"), "https://api.example.com/v1")
        self.model = self._line("model", say("Model", "模型"), "gpt-4.1-mini")
        self.key = QLineEdit()
        self.key.setEchoMode(QLineEdit.EchoMode.Password)
        self.key.setAccessibleName(tr(say("Key", "密钥")))
        self.key.setPlaceholderText(tr(say("Key, if it asks for one", "密钥（如需要）")))
        self.key.returnPressed.connect(self._keep)
        self._keeps = button(say("Keep", "保存"), self._keep, "small")
        self._forgets = button(say("Forget it", "删除"), lambda: operations.forget_key(self._context), "small")
        keys = row(self.key, self._keeps, self._forgets)
        keys.setStretch(0, 1)
        self._state, self._cost = label("", "small", wrap=True), label("", "muted", wrap=True)
        self._introduction = label(INTRODUCTION, "muted", wrap=True)
        return holder(column(self._introduction, self.address, self.model, keys, self._state, self._cost, spacing=7))

    def _line(self, name: str, words: Text, example: str) -> QLineEdit:
        made = QLineEdit(str(getattr(operations.settings_of(self._context), name)))
        made.setAccessibleName(tr(words))
        made.setPlaceholderText(f"{tr(words)}: {example}")
        made.editingFinished.connect(lambda: self._choose(name, made.text()))
        return made

    def _doing(self) -> QWidget:
        self._far = JobBar()
        self.ask = button(
            say("Ask the judge", "请求评判"),
            lambda: operations.ask_judge(self._context),
            "primary",
            shortcut="Ctrl+J",
        )
        self.stop = button(say("Stop asking", "停止提问"), lambda: operations.stop_judge(self._context))
        return holder(column(self._far, row(self.ask, self.stop, None)))

    def _result(self) -> QWidget:
        self.sentence, self.facts = label("", "strong", wrap=True), Facts()
        self.list = RowList(say("What the judge said", "评审意见"), self._show_row)
        self.list.setMinimumHeight(120)
        self._reason = label("", "muted", wrap=True, selectable=True)
        return holder(column(self.sentence, self.facts, self.list, self._reason, spacing=8))

    # --------------------------------------------------------------------------------------------------------- fill
    def put(self, found: Judgement | None) -> None:
        """Show what the judge said the last time."""
        self._shown = found
        self.result.setVisible(found is not None)
        self._introduction.setVisible(found is None)
        if found is not None:
            self.sentence.setText(tr(found.sentence))
            self.facts.put(facts_of(found))
            self.list.put([_line(item) for item in found.rows])
        operations.look_at_judge(self._context)
        self._tell()

    def _tell(self) -> None:
        """Show what is known of the judge, and how far it is."""
        judging, job = self._context.judging, self._context.runs.judge
        self._state.setText(tr(KEYS[judging.key]))
        self._state.setVisible(bool(judging.key))
        self._forgets.setVisible(judging.key == "kept")
        self._cost.setText(tr(judging.cost))
        self._cost.setVisible(bool(judging.cost))
        self.failure.put(judging.failure or (None if job.is_running else job.state.failure))
        self.ask.setVisible(not job.is_running)
        self.ask.setEnabled(bool(judging.cost))
        self.stop.setVisible(job.is_running)
        self._far.setVisible(job.is_running)
        if job.is_running:
            self._far.put(job.state)

    def _show_row(self, number: int) -> None:
        found = self._shown
        if found is None or not 0 <= number < len(found.rows):
            return
        item = found.rows[number]
        words = tr(item.problem) if item.problem else item.reason
        if item.contradicted:
            words = " ".join(
                (tr(say("The order decided, so it counts as a tie.", "由先后顺序决定，计为平局。")), words)
            )
        self._reason.setText(words)

    # ------------------------------------------------------------------------------------------------------ actions
    def _choose(self, name: str, text: str) -> None:
        if text != str(getattr(operations.settings_of(self._context), name)):
            operations.choose_judge(self._context, **{name: text})

    def _keep(self) -> None:
        text = self.key.text()
        self.key.clear()
        if text.strip():
            operations.keep_key(self._context, text)


def facts_of(found: Judgement) -> list[tuple[Text | str, Text | str]]:
    """The judge's figures, and what the judge itself is worth."""
    counted = f"{found.wins} · {found.ties} · {found.losses}"
    facts: list[tuple[Text | str, Text | str]] = [
        (say("Tuned better · tie · base better", "微调更好 · 平 · 基础更好"), counted)
    ]
    if found.share is not None and found.low is not None and found.high is not None:
        words = f"{percent(found.share)} ({percent(found.low)} – {percent(found.high)}), {probability(found.p_value)}"
        facts.append((say("Won, of the rows decided", "决出胜负的行中胜率"), words))
    if found.first_share is not None:
        words = percent(found.first_share)
        if found.is_biased:
            words += " · " + tr(say("it prefers a place", "偏好位置"))
        facts.append((say("The first answer won", "先出现的回答获胜"), words))
    facts.append((say("Rows the order decided", "由顺序决定的行"), count(found.contradictions)))
    if found.unjudged:
        facts.append((say("Without a verdict", "没有评判"), count(found.unjudged)))
    facts.append((say("Judge", "评审模型"), f"{found.model}, {found.address}"))
    return facts


def _line(item: JudgedRow) -> tuple[str, str, str]:
    words, tone = WINNERS[item.winner]
    return tr(words), tone, item.prompt
