"""The Export page: take it away, checked against what was trained."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from PySide6.QtWidgets import QFileDialog, QProgressBar, QWidget

from engine.export.ledger import Export
from engine.export.targets import QUANTISATIONS, TARGETS
from engine.protocol.text import NOTHING, Text, as_text, say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import count, day, percent, size
from gui.operations.export import export, show_in_folder
from gui.operations.jobs import stop_job
from gui.pages.page import Page
from gui.state.takeaway import Choice, choices
from gui.widgets.banner import progress_words, show_progress
from gui.widgets.basic import ElidedLabel, button, column, copy, holder, label, plain_tip, row, tool
from gui.widgets.card import Card
from gui.widgets.chip import BAD, GOOD, PLAIN, WARN, Chip
from gui.widgets.choice_card import ChoiceList
from gui.widgets.facts import Facts
from gui.widgets.failure_strip import FailureStrip
from gui.widgets.figures import Cell, Figures
from gui.widgets.footer import Footer
from gui.widgets.scroll import scrolled

NAMES = (*QUANTISATIONS, "adapter", "merged")


class ExportPage(Page):
    """What can be taken away, the job that writes it, and the stamp of what was written."""

    title = say("Export", "导出")
    subtitle = say(
        "Every file is checked against the model you trained before it is called done",
        "每个文件都会与训练好的模型核对，通过后才算完成",
    )

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self._listed: list[tuple[Export, bool, bool]] = []
        context.runs.export.changed.connect(self.refresh)
        context.runs.export.finished.connect(self._read)
        context.runs.selected.connect(self._read)
        context.runs.train.finished.connect(self._read)
        context.takeaway.changed.connect(self.refresh)
        context.takeaway.read(context.runs.run)

    def _read(self) -> None:
        self.context.takeaway.read(self.context.runs.run)

    # ------------------------------------------------------------------------------------------------------ states
    def refresh(self) -> None:
        """Show nothing yet, wrong, or what can be taken away; the work shows beside it."""
        if not self.context.runs.is_trained:
            plan = button(
                say("Go to the plan", "前往计划"),
                lambda: self.context.wizard.go("plan"),
                "primary",
                shortcut="Ctrl+Return",
            )
            sentence = say("There is nothing to take away yet.", "还没有可导出的内容。")
            self.show_banner().empty(sentence, say("Train a model first.", "请先训练模型。"), plan)
        elif self.context.takeaway.failure is not None:
            again = button(say("Read again", "重新读取"), self._read, "primary", shortcut="Ctrl+Return")
            self.show_banner().wrong(self.context.takeaway.failure, again)
        else:
            self.show_body()
            self._fill()

    # -------------------------------------------------------------------------------------------------------- body
    def build(self) -> QWidget:
        """Choices left; work, stamp and earlier exports right."""
        self._failure = FailureStrip()
        right = column(self._work_card(), self._failure, self._stamp_card(), self._earlier_card(), spacing=14)
        right.setStretch(3, 1)
        body = row(self._choice_card(), right, spacing=14)
        body.setStretch(0, 5)
        body.setStretch(1, 7)
        elsewhere = button(say("Choose a folder…", "选择文件夹……"), self._choose_folder, shortcut="Ctrl+Shift+O")
        words = say("The run's own folder", "训练自己的文件夹")
        self._own = button(words, lambda: self.context.takeaway.put_into(None), shortcut="Ctrl+Backspace")
        self._start = button(say("Export and check", "导出并核对"), self._export, "primary", shortcut="Ctrl+Return")
        self._footer = Footer(self._own, elsewhere, self._start)
        made = column(body, self._footer, spacing=14)
        made.setStretch(0, 1)
        return holder(made)

    def _choice_card(self) -> QWidget:
        self._choices = ChoiceList(list(NAMES))
        self._choices.group.buttonClicked.connect(lambda card: self.context.takeaway.choose(card.name))
        self._use = label("", "mono", wrap=True, selectable=True)
        heading = label(say("How to use it", "如何使用"), "card")
        parts = holder(column(self._choices, heading, self._use, None, margins=(0, 0, 8, 0)))
        return Card(say("What do you want to take away?", "想要导出什么？"), "", scrolled(parts))

    def _work_card(self) -> QWidget:
        self._doing, self._far = label("", "strong"), label("", "muted")
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        cancel = button(
            say("Cancel", "取消"), lambda: stop_job(self.context, self.context.runs.export), "small", shortcut="Esc"
        )
        line = row(column(self._doing, self._bar, self._far, spacing=6), cancel, spacing=16)
        line.setStretch(0, 1)
        self._work = Card("", "", line)
        return self._work

    def _stamp_card(self) -> QWidget:
        self._name, self._chip = ElidedLabel("", "strong", middle=True), Chip()
        self._said = label("", "muted", wrap=True, selectable=True)
        self._figures = Facts()
        self._where = ElidedLabel("", "mono", middle=True)
        words = say("Show in folder", "在文件夹中显示")
        show = button(words, lambda: show_in_folder(Path(self._where.text())), "small", shortcut="Ctrl+O")
        words = say("Copy path", "复制路径")
        path = button(words, lambda: copy(self._where.text()), "small", shortcut="Ctrl+Shift+C")
        head = row(self._name, self._chip)
        head.setStretch(0, 1)
        foot = row(self._where, path, show)
        foot.setStretch(0, 1)
        self._stamp = Card("", "", head, self._said, self._figures, foot)
        return self._stamp

    def _earlier_card(self) -> QWidget:
        self._earlier = Figures(say("Taken away", "已导出"), say("Size", "大小"), say("Written", "写入时间"), "", "")
        self._nothing = label(say("Nothing has been taken away yet.", "尚未导出任何内容。"), "muted")
        parts = holder(column(self._earlier, self._nothing, None, margins=(0, 0, 8, 0)))
        return Card(say("Exports of this run", "本次训练的导出"), "", scrolled(parts))

    # -------------------------------------------------------------------------------------------------------- fill
    def _fill(self) -> None:
        self._fill_choices()
        self._fill_work()
        exports = self.context.takeaway.exports
        self._fill_stamp(exports[0] if exports else None)
        self._earlier.setVisible(bool(exports))
        self._nothing.setVisible(not exports)
        self._fill_earlier(exports)

    def _fill_earlier(self, exports: tuple[Export, ...]) -> None:
        since = self.context.runs.has_learned_since
        listed = [(item, since(item.time), item.is_there) for item in exports]
        if listed != self._listed:  # else the buttons stay: one may have the focus
            self._listed = listed
            self._earlier.put([(*earlier_row(item, earlier), shower(item)) for item, earlier, _ in listed])

    def _offered(self) -> dict[str, Choice]:
        plan = self.context.runs.train.state.plan
        return {choice.name: choice for choice in choices(self.context.runs.facts, plan)}

    def _fill_choices(self) -> None:
        offered = self._offered()
        for name, choice in offered.items():
            card = self._choices.cards[name]
            costs = tr(say("about {n}", "约 {n}", n=size(choice.bytes))) if choice.bytes else ""
            refused = say("not for this model", "不适用于此模型") if choice.refusal else NOTHING
            card.put(choice.label, choice.refusal or choice.summary, costs, refused, WARN)
            card.setEnabled(not choice.refusal)
        wanted = offered[self.context.takeaway.chosen]
        if wanted.refusal:
            self.context.takeaway.chosen = "adapter"
            wanted = offered["adapter"]
        self._choices.choose(wanted.name)
        self._use.setText(how_to_use(wanted))
        self._fill_footer(wanted)

    def _fill_footer(self, wanted: Choice) -> None:
        run = self.context.runs.run
        if run is None:
            return
        self._own.setVisible(self.context.takeaway.folder is not None)
        target = self.context.takeaway.target(run, str(self.context.runs.facts.get("title", "")), wanted.suffix)
        self._footer.say(
            say(
                "Goes to {folder} · {free} free on that disk",
                "将写入 {folder} · 该磁盘剩余 {free}",
                folder=target.parent,
                free=size(_free(target.parent)),
            )
        )

    def _fill_work(self) -> None:
        job = self.context.runs.export
        self._work.setVisible(job.is_running)
        self._start.setEnabled(not job.is_running)
        if job.is_running:
            self._doing.setText(tr(job.state.stage or say("Starting…", "启动中……")))
            show_progress(self._bar, job.state.progress)
            self._far.setText(progress_words(job.state.progress))
            self._far.setVisible(bool(self._far.text()))

    def _fill_stamp(self, newest: Export | None) -> None:
        job = self.context.runs.export
        self._failure.put(job.state.failure if job.state.is_over else None)
        self._stamp.setVisible(not job.is_running and newest is not None and self._failure.isHidden())
        if newest is not None:
            verdict, tone = verdict_of(newest, self.context.runs.has_learned_since(newest.time))
            self._say_stamp(Path(newest.file).name, verdict, tone, reason_of(newest))
            self._where.setText(newest.file)
            self._figures.put(parity_facts(newest))

    def _say_stamp(self, name: Text | str, verdict: Text, tone: str, words: Text) -> None:
        self._name.setText(tr(name))
        self._chip.put(verdict, tone)
        self._said.setText(tr(words))
        self._said.setVisible(bool(words))
        self._stamp.set_tone({GOOD: "good", BAD: "bad"}.get(tone, ""))

    # ------------------------------------------------------------------------------------------------------ actions
    def _export(self) -> None:
        export(self.context, self._offered()[self.context.takeaway.chosen])

    def _choose_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, tr(say("Where to?", "导出到哪里？")))
        if chosen:
            self.context.takeaway.put_into(Path(chosen))


def how_to_use(choice: Choice) -> str:
    """What to type with the file or folder."""
    if choice.suffix:
        return tr(
            say("llama-cli -m FILE.gguf\nor open it in LM Studio", "llama-cli -m FILE.gguf\n也可在 LM Studio 中打开")
        )
    if choice.name == "merged":
        return 'AutoModelForCausalLM.from_pretrained("FOLDER")'
    return 'PeftModel.from_pretrained(base, "FOLDER")'


def verdict_of(item: Export, earlier: bool = False) -> tuple[Text, str]:
    """The judgement on an export and its tone; ``earlier``: the run has learned on since it was written."""
    if item.passed is False:
        return say("do not use", "请勿使用"), BAD
    if earlier:
        return say("of an earlier state", "属于较早的状态"), WARN
    if item.passed is True:
        return say("✓ is what you trained", "✓ 与训练结果一致"), GOOD
    return say("not checked", "未核对"), WARN


def reason_of(item: Export) -> Text:
    """Why an export did not pass, or was not checked."""
    reason = item.parity.get("reason")
    return as_text(reason) if reason else NOTHING


def parity_facts(item: Export) -> list[tuple[Text | str, Text | str]]:
    """The figures of the check, as far as they apply."""
    parity: dict[str, Any] = dict(item.parity)
    facts: list[tuple[Text | str, Text | str]] = []
    if parity.get("agreement") is not None:
        limit = parity.get("limit")
        words = percent(parity["agreement"], 1) + (f" · ≥ {percent(limit, 1)}" if limit else "")
        facts.append((say("Next token equal to base + adapter", "下一词元与基础模型 + 适配器一致"), words))
    if parity.get("greedy_equal") is not None and parity.get("prompts"):
        equal = parity["greedy_equal"]
        shown = percent(equal) if isinstance(equal, float) else f"{equal} / {parity['prompts']}"
        facts.append((say("First 32 tokens of the answer equal", "回答前 32 个词元一致"), shown))
    for key, name in (
        ("tokenizer_equal", say("Tokenizer", "分词器")),
        ("template_equal", say("Chat template", "对话模板")),
        ("stops_equal", say("End of the answer", "回答的结束")),
    ):
        if parity.get(key) is not None:
            facts.append((name, say("as in training", "与训练时一致") if parity[key] else say("differs", "不一致")))
    if parity.get("prompts"):
        facts.append((say("Prompts asked", "提问数"), count(parity["prompts"])))
    return [*facts, (say("Size", "大小"), size(item.bytes))]


def earlier_row(item: Export, earlier: bool = False) -> tuple[Cell, ...]:
    """One line of the list of exports."""
    verdict, tone = verdict_of(item, earlier)
    if not item.is_there:
        verdict, tone = say("moved or deleted", "已移走或删除"), PLAIN
    kind = TARGETS[item.kind].label if item.kind in TARGETS else as_text(item.kind)
    name = f"{tr(kind)} {item.type}".strip()
    return name, size(item.bytes), day(item.time)[5:], Chip(verdict, tone)


def shower(item: Export) -> QWidget:
    """The button that shows where an export lies; disabled where it is gone."""
    path = Path(item.file)
    made = tool(say("Show", "显示"), lambda: show_in_folder(path))
    made.setToolTip(plain_tip(item.file))
    made.setAccessibleName(tr(say("Show {name} in its folder", "在文件夹中显示 {name}", name=path.name)))
    made.setEnabled(item.is_there)
    return made


def _free(folder: Path) -> int:
    """Free bytes on the disk that holds the folder, or will."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
