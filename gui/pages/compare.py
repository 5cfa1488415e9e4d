"""The Compare page: ask base, tuned model and others the same, side by side; or judge two of them blindly."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from PySide6.QtWidgets import QFileDialog, QMenu, QStackedLayout, QToolButton, QWidget

from engine.protocol.text import Text, say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import count
from gui.operations.blind import open_blind
from gui.operations.talk import (
    STOPPING,
    add_column,
    ask_all,
    begin_anew,
    find_candidates,
    load_models,
    save_transcript,
    stop_loading,
    watch_run,
)
from gui.pages.compare_ask import AskCard
from gui.pages.compare_blind import BlindPanel
from gui.pages.compare_columns import Columns
from gui.pages.page import Page
from gui.state.blind import RESULT, SETUP
from gui.state.phase import Phase
from gui.state.talk import ADAPTER, GGUF, MOST_COLUMNS
from gui.widgets.basic import add_shortcut, button, column, holder, menu_title, tool

LONGEST_PROMPT = 70
JUDGING = say("Two answers, and you do not know whose they are", "两个回答，你不知道各自来自谁")
SUBTITLES = {
    SETUP: say("Which is better, judged without knowing which is which", "在不知道来源的情况下评判哪个更好"),
    RESULT: say("What your votes say", "你的投票说明了什么"),
}


class ComparePage(Page):
    """Several conversations that are asked the same, with the same seed."""

    title = say("Compare", "对比")
    subtitle = say(
        "One set of weights in memory; the base is never touched", "内存中只有一份权重，基础模型不受任何改动"
    )

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self._listed: object = None
        self._buttons()
        watch_run(context)
        context.talk.changed.connect(self.refresh)
        context.talk.grew.connect(self._grow)
        context.talk.waits.connect(self._wait)
        context.blind.changed.connect(self.refresh)
        context.runs.selected.connect(self.refresh)
        context.runs.train.finished.connect(self.refresh)

    def _buttons(self) -> None:
        self._add_menu, self._prompts_menu = QMenu(self), QMenu(self)
        words = say("Another adapter or an exported GGUF beside", "在旁边放另一个适配器或已导出的 GGUF")
        self._add = self._menu_button(say("Add column ▾", "添加栏 ▾"), "Ctrl+K", words, self._add_menu)
        self._add_menu.aboutToShow.connect(lambda: find_candidates(self.context))
        words = say("Ask the questions of held-out rows, which were not trained on", "用未参与训练的留出行提问")
        self._prompts = self._menu_button(say("Held-out ▾", "留出行 ▾"), "Ctrl+P", words, self._prompts_menu)
        self._blind_button = button(say("Blind test…", "盲测……"), lambda: open_blind(self.context), shortcut="Ctrl+B")
        new, save = say("Begin a new conversation", "开始新对话"), say("Save the transcript", "保存对话")
        self._anew = button(say("New", "新对话"), lambda: begin_anew(self.context), shortcut="Ctrl+N", tip=new)
        self._keep = button(say("Save…", "保存……"), self._save, shortcut="Ctrl+S", tip=save)
        self._shown_buttons = (self._add, self._prompts, self._blind_button, self._anew, self._keep)
        for item in self._shown_buttons:
            self.head.addWidget(item)

    def _menu_button(self, text: Text, keys: str, tip: Text, menu: QMenu) -> QToolButton:
        made = tool(text)
        add_shortcut(made, keys, tr(tip))
        made.setMenu(menu)
        made.setPopupMode(made.ToolButtonPopupMode.InstantPopup)
        return made

    # ------------------------------------------------------------------------------------------------------ states
    def refresh(self) -> None:
        """Show nothing yet, loading, wrong, the conversations, or the blind test."""
        talk = self.context.talk
        ready = self.context.runs.is_trained and talk.status.phase is Phase.READY
        for item in self._shown_buttons:
            item.setVisible(ready and not self.context.blind.is_open)
        if not self.context.runs.is_trained:
            self._show_no_run()
        elif talk.status.phase is Phase.WRONG and talk.status.failure is not None:
            again = button(say("Try again", "重试"), self._load, "primary", shortcut="Ctrl+R")
            self.show_banner().wrong(talk.status.failure, again)
        elif talk.status.phase is Phase.WORKING:
            self._show_loading()
        elif talk.status.phase is Phase.EMPTY:
            self._show_unloaded()
        else:
            self.show_body()
            self._fill()

    def _show_unloaded(self) -> None:
        load = button(say("Load the models", "加载模型"), self._load, "primary", shortcut="Ctrl+Return")
        sentence = say("Ask base and tuned model the same.", "向基础模型和微调模型提同样的问题。")
        hint = say(
            "The weights are loaded once for all, and stay until you look at another run.",
            "权重只加载一次，供各栏共用，查看其他训练之前一直保留。",
        )
        self.show_banner().empty(sentence, hint, load)

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
        """The conversations with the question below, or the blind test."""
        self.columns = Columns(self.context)
        self.ask = AskCard(self.context)
        talking = column(self.columns, self.ask, spacing=14)
        talking.setStretch(0, 1)
        self.blind = BlindPanel(self.context)
        self._views = QStackedLayout()
        self._talking = holder(talking)
        for view in (self._talking, self.blind):
            self._views.addWidget(view)
        return holder(self._views)

    def _fill(self) -> None:
        talk = self.context.talk
        if self.context.blind.is_open:
            self._views.setCurrentWidget(self.blind)
            self.set_subtitle(SUBTITLES.get(self.context.blind.stage, JUDGING))
            self.blind.fill()
            return
        self._views.setCurrentWidget(self._talking)
        self.set_subtitle(self._how_isolated())
        self.columns.fill()
        self.ask.fill()
        for item in (self._add, self._prompts, self._blind_button):
            item.setEnabled(not talk.is_speaking)
        self._keep.setEnabled(bool(talk.turns))
        self._anew.setEnabled(bool(talk.turns))
        self._fill_prompts()
        self._fill_columns()

    def _how_isolated(self) -> Text:
        """The base was asked before any adapter was there, and again after each."""
        if self.context.talk.facts.get("isolated") is True:
            return say(
                "One set of weights · base checked bit for bit",
                "同一份权重 · 已核对：基础模型逐位未变",
            )
        return self.subtitle

    # ------------------------------------------------------------------------------------------------------- menus
    def _fill_prompts(self) -> None:
        talk = self.context.talk
        self._prompts.setEnabled(bool(talk.prompts) and not talk.is_speaking)
        menu = self._prompts_menu
        if len(menu.actions()) == len(talk.prompts) + bool(talk.prompts):
            return
        menu.clear()
        if talk.prompts:
            title = say("{n} of {all}", "{all} 个中的 {n} 个", n=count(len(talk.prompts)), all=count(talk.held_out))
            menu_title(menu, title)
        for item in talk.prompts:
            short = " ".join(item.question.split())
            short = short if len(short) <= LONGEST_PROMPT else short[: LONGEST_PROMPT - 1] + "…"
            if item.tools_left_out:
                short += tr(say(" (without its tools)", "（不带工具）"))
            menu.addAction(short.replace("&", "&&"), partial(ask_all, self.context, item.question, row=item))

    def _fill_columns(self) -> None:
        talk, menu = self.context.talk, self._add_menu
        self._add.setEnabled(talk.can_add and not talk.is_speaking)
        if not talk.can_add:
            full = say("At most {n} columns", "最多 {n} 栏", n=MOST_COLUMNS)
            self._add.setToolTip(tr(full))
        key = [(item.path, tr(item.title)) for item in talk.candidates or ()], [item.path for item in talk.columns]
        if key == self._listed:
            return  # a menu that is open stays as it is
        self._listed = key
        menu.clear()
        there = {item.path for item in talk.columns}
        for item in talk.candidates or ():
            if item.path not in there:
                words = tr(item.title).replace("&", "&&")
                menu.addAction(words, partial(add_column, self.context, item.kind, item.title, item.path))
        if menu.actions():
            menu.addSeparator()
        menu.addAction(tr(say("Adapter folder…", "适配器文件夹……")), self._choose_adapter)
        menu.addAction(tr(say("GGUF file…", "GGUF 文件……")), self._choose_gguf)

    def _choose_adapter(self) -> None:
        title = tr(say("A folder with adapter_config.json", "包含 adapter_config.json 的文件夹"))
        chosen = QFileDialog.getExistingDirectory(self, title)
        if chosen:
            add_column(self.context, ADAPTER, Text(Path(chosen).name, Path(chosen).name), chosen)

    def _choose_gguf(self) -> None:
        chosen, _ = QFileDialog.getOpenFileName(self, tr(say("A GGUF file", "GGUF 文件")), "", "GGUF (*.gguf)")
        if chosen:
            add_column(self.context, GGUF, Text(Path(chosen).name, Path(chosen).name), chosen)

    # ------------------------------------------------------------------------------------------------------ actions
    def _grow(self, side: str, piece: str) -> None:
        if self.is_built:
            self.columns.grow(side, piece)

    def _wait(self, text: Text) -> None:
        if self.is_built:
            self.columns.wait(text)

    def _save(self) -> None:
        kinds = "Markdown (*.md);;JSON (*.json)"
        chosen, kind = QFileDialog.getSaveFileName(self, tr(say("Save transcript", "保存对话")), "transcript.md", kinds)
        if chosen:
            ending = ".json" if "json" in kind else ".md"
            save_transcript(self.context, Path(chosen if Path(chosen).suffix else chosen + ending))
