"""The Compare page: ask base and tuned model the same, side by side."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from PySide6.QtWidgets import QDoubleSpinBox, QFileDialog, QLineEdit, QMenu, QSpinBox, QWidget

from engine.protocol.text import Text, say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import count, figure
from gui.operations.talk import (
    STOPPING,
    ask_again,
    ask_both,
    begin_anew,
    load_models,
    save_transcript,
    stop_answers,
    stop_loading,
    watch_run,
)
from gui.pages.page import Page
from gui.state.notices import details_of
from gui.state.phase import Phase
from gui.state.talk import BASE, SIDES, TUNED, Turn
from gui.widgets.basic import add_shortcut, button, column, holder, label, row, tool
from gui.widgets.bubbles import Bubble, Conversation
from gui.widgets.card import Card

TITLES = {BASE: say("Base", "基础模型"), TUNED: say("Tuned", "微调模型")}
ENDS: dict[str, Text] = {
    "limit": say("cut at the longest answer", "到达最长回答处截断"),
    "context": say("the model's context is full", "模型上下文已满"),
    "cancelled": say("stopped", "已停止"),
}
INVITATIONS = {
    BASE: say("Answers as the model was before training. Ask below.", "按训练前的模型回答。请在下方提问。"),
    TUNED: say(
        "Answers with what the run has learned, with the same seed.", "按训练后学到的内容回答，使用相同的种子。"
    ),
}
LONGEST_PROMPT = 70
SPIN_WIDTHS = {"seed": 100, "max_new_tokens": 80}
WAITING = "…"


class ComparePage(Page):
    """Two conversations that are asked the same, with the same seed."""

    title = say("Compare", "对比")
    subtitle = say("Same weights; the adapter is on at the right", "同一份权重；只在右侧启用适配器")

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self._shown: list[Turn] = []
        self._open: dict[str, Bubble] = {}
        self._quiet: set[str] = set()
        self._buttons()
        watch_run(context)
        context.talk.changed.connect(self.refresh)
        context.talk.grew.connect(self._grow)
        context.talk.waits.connect(self._wait)
        context.runs.selected.connect(self.refresh)
        context.runs.train.finished.connect(self.refresh)

    def _buttons(self) -> None:
        self._prompts = tool(say("Prompts ▾", "现成提问 ▾"))
        words = say("Ask the questions of held-out rows, which were not trained on", "用未参与训练的留出行提问")
        add_shortcut(self._prompts, "Ctrl+P", tr(words))
        self._menu = QMenu(self)
        self._prompts.setMenu(self._menu)
        self._prompts.setPopupMode(self._prompts.ToolButtonPopupMode.InstantPopup)
        self._again = button(say("Ask again", "重新回答"), lambda: ask_again(self.context), shortcut="Ctrl+R")
        self._anew = button(say("New conversation", "新对话"), lambda: begin_anew(self.context), shortcut="Ctrl+N")
        self._keep = button(say("Save transcript…", "保存对话……"), self._save, shortcut="Ctrl+S")
        for item in (self._prompts, self._again, self._anew, self._keep):
            self.head.addWidget(item)

    # ------------------------------------------------------------------------------------------------------ states
    def refresh(self) -> None:
        """Show nothing yet, loading, wrong, or the conversation."""
        talk = self.context.talk
        ready = self.context.runs.is_trained and talk.status.phase is Phase.READY
        for item in (self._prompts, self._again, self._anew, self._keep):
            item.setVisible(ready)
        if not self.context.runs.is_trained:
            self._show_no_run()
        elif talk.status.phase is Phase.WRONG and talk.status.failure is not None:
            again = button(say("Try again", "重试"), self._load, "primary", shortcut="Ctrl+R")
            self.show_banner().wrong(talk.status.failure, again)
        elif talk.status.phase is Phase.WORKING:
            self._show_loading()
        elif talk.status.phase is Phase.EMPTY:
            load = button(say("Load the models", "加载模型"), self._load, "primary", shortcut="Ctrl+Return")
            sentence = say("Ask base and tuned model the same.", "向基础模型和微调模型提同样的问题。")
            hint = say(
                "The weights are loaded once for both, and stay until you look at another run.",
                "权重只加载一次，供双方共用，查看其他训练之前一直保留。",
            )
            self.show_banner().empty(sentence, hint, load)
        else:
            self.show_body()
            self._fill()

    def _show_loading(self) -> None:
        status = self.context.talk.status
        cancel = None if status.doing == STOPPING else partial(stop_loading, self.context)
        self.show_banner().working(status.doing, status.progress, cancel)

    def _show_no_run(self) -> None:
        go = partial(self.context.wizard.go, "plan")
        plan = button(say("Go to the plan", "前往计划"), go, "primary", shortcut="Ctrl+Return")
        sentence = say("There is no tuned model to talk to yet.", "还没有可对话的微调模型。")
        self.show_banner().empty(sentence, say("Train one first.", "请先训练。"), plan)

    def _load(self) -> None:
        load_models(self.context)

    # -------------------------------------------------------------------------------------------------------- body
    def build(self) -> QWidget:
        """Two conversations above, the question below."""
        self._talks = {side: Conversation(TITLES[side]) for side in SIDES}
        self._cards = {side: Card(TITLES[side], " ", self._talks[side]) for side in SIDES}
        self._invite()
        both = row(*self._cards.values(), spacing=14)
        for position in range(len(SIDES)):
            both.setStretch(position, 1)
        made = column(both, self._ask_card(), spacing=14)
        made.setStretch(0, 1)
        return holder(made)

    def _ask_card(self) -> QWidget:
        self._question = QLineEdit()
        self._question.setPlaceholderText(tr(say("Ask both…", "同时提问……")))
        self._question.setAccessibleName(tr(say("Question", "提问")))
        self._question.returnPressed.connect(self._send)
        self._send_button = button(say("Send", "发送"), self._send, "primary", shortcut="Ctrl+Return")
        self._stop_button = button(say("Stop", "停止"), lambda: stop_answers(self.context), "danger", shortcut="Esc")
        asking = row(self._question, self._send_button, self._stop_button)
        asking.setStretch(0, 1)
        return Card("", "", asking, self._sampling_row())

    def _sampling_row(self) -> QWidget:
        """Same seed and settings for both sides."""
        line = row(spacing=5)
        for name, text, low, high, step in (
            ("seed", say("Seed", "种子"), 0, 2**31 - 1, 1),
            ("temperature", say("Temperature", "温度"), 0.0, 2.0, 0.1),
            ("top_p", say("Top-p", "Top-p"), 0.05, 1.0, 0.05),
            ("repetition_penalty", say("Repetition penalty", "重复惩罚"), 1.0, 2.0, 0.05),
            ("max_new_tokens", say("Longest answer", "最长回答"), 1, 8192, 16),
        ):
            line.addWidget(label(text, "facts"))
            line.addWidget(self._spin(name, tr(text), low, high, step))
            line.addStretch(1)
        return holder(line)

    def _spin(self, name: str, text: str, low: float, high: float, step: float) -> QWidget:
        spin: Any = QSpinBox() if isinstance(low, int) else QDoubleSpinBox()
        spin.setRange(low, high)
        spin.setSingleStep(step)
        spin.setValue(type(low)(self.context.talk.sampling[name]))
        spin.setAccessibleName(text)
        spin.setFixedWidth(SPIN_WIDTHS.get(name, 70))
        # WORKAROUND: a style sheet's padding does not reach the line edit inside a spin box.
        spin.lineEdit().setTextMargins(7, 0, 0, 0)
        sampling = self.context.talk.sampling
        spin.valueChanged.connect(lambda value: sampling.update({name: value}))
        return spin  # type: ignore[no-any-return]

    # -------------------------------------------------------------------------------------------------------- fill
    def _fill(self) -> None:
        talk = self.context.talk
        self._cards[BASE].title.setText(tr(TITLES[BASE]) + " · " + self._model_name())
        self._cards[TUNED].title.setText(tr(TITLES[TUNED]) + " · " + str(self.context.runs.facts.get("title", "")))
        if talk.turns[: len(self._shown)] != self._shown:
            self._clear()
        for turn in talk.turns[len(self._shown) :]:
            self._show(turn)
        if talk.turns:
            self._finish(talk.turns[-1])
        self._stop_button.setVisible(talk.is_speaking)
        self._send_button.setVisible(not talk.is_speaking)
        self._again.setEnabled(bool(talk.turns) and not talk.is_speaking)
        self._keep.setEnabled(bool(talk.turns))
        self._fill_prompts(talk.prompts)

    def _model_name(self) -> str:
        source = str(self.context.talk.facts.get("model", ""))
        return source.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]

    def _clear(self) -> None:
        self._shown, self._open = [], {}
        for talk in self._talks.values():
            talk.clear_all()
        self._invite()
        for card in self._cards.values():
            card.note.setText(" ")

    def _invite(self) -> None:
        for side, talk in self._talks.items():
            talk.invite(INVITATIONS[side])

    def _show(self, turn: Turn) -> None:
        self._shown.append(turn)
        self._quiet = {side for side in SIDES if not turn.texts[side]}
        for side in SIDES:
            self._talks[side].ask(turn.question)
            self._open[side] = self._talks[side].answer(turn.texts[side] or WAITING)
        if turn is not self.context.talk.turns[-1]:
            self._finish(turn)

    def _wait(self, text: Text) -> None:
        """Say why no answer grows yet."""
        for side in self._quiet & self._open.keys():
            self._open[side].put(tr(text))

    def _grow(self, side: str, piece: str) -> None:
        bubble = self._open.get(side)
        if bubble is None:
            return
        if side in self._quiet:
            self._quiet.remove(side)
            bubble.put(piece)
        else:
            bubble.grow(piece)

    def _finish(self, turn: Turn) -> None:
        """Put the final words and figures of the sides that have ended, once."""
        for side in list(self._open):
            if side in turn.failures:
                self._finish_badly(side, self._open.pop(side), turn)
            elif side in turn.facts:
                self._open.pop(side).put(turn.texts[side] or tr(say("(nothing)", "（空）")))
                self._talks[side].note(answer_words(turn.facts[side]))
                self._cards[side].note.setText(speed_words(turn.facts[side]))

    def _finish_badly(self, side: str, bubble: Bubble, turn: Turn) -> None:
        """What it said so far stays; why it says no more stands below."""
        failure, said = turn.failures[side], turn.texts[side]
        why = tr(failure.message) + "\n" + tr(failure.hint)
        bubble.put(said or why)
        self._talks[side].trouble(why if said else "", details_of(failure))

    def _fill_prompts(self, prompts: list[str]) -> None:
        self._prompts.setEnabled(bool(prompts))
        if len(self._menu.actions()) == len(prompts):
            return
        self._menu.clear()
        for prompt in prompts:
            short = " ".join(prompt.split())
            short = short if len(short) <= LONGEST_PROMPT else short[: LONGEST_PROMPT - 1] + "…"
            self._menu.addAction(short.replace("&", "&&"), partial(ask_both, self.context, prompt))

    # ------------------------------------------------------------------------------------------------------ actions
    def _send(self) -> None:
        if not self.context.talk.is_speaking:
            ask_both(self.context, self._question.text())
            self._question.clear()
            self._question.setFocus()

    def _save(self) -> None:
        kinds = "Markdown (*.md);;JSON (*.json)"
        chosen, kind = QFileDialog.getSaveFileName(self, tr(say("Save transcript", "保存对话")), "transcript.md", kinds)
        if chosen:
            ending = ".json" if "json" in kind else ".md"
            save_transcript(self.context, Path(chosen if Path(chosen).suffix else chosen + ending))


def answer_words(facts: dict[str, Any]) -> str:
    """How many tokens an answer took, and why it ended when not by itself."""
    words = tr(say("{n} tokens", "{n} 词元", n=count(facts.get("tokens", 0))))
    end = ENDS.get(str(facts.get("end", "")))
    return f"{words} · {tr(end)}" if end is not None else words


def speed_words(facts: dict[str, Any]) -> str:
    """How fast it came."""
    words = []
    if facts.get("tokens_per_second") is not None:
        words.append(tr(say("{n} tokens/s", "{n} 词元/秒", n=count(facts["tokens_per_second"]))))
    if facts.get("first_token_seconds") is not None:
        first = figure(facts["first_token_seconds"])
        words.append(tr(say("{n} s to first", "首词 {n} 秒", n=first)))
    return " · ".join(words)
