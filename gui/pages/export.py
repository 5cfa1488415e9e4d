"""The Export page: take it away, checked against what was trained, and use it."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtWidgets import QFileDialog, QProgressBar, QPushButton, QWidget

from engine.protocol.text import Text, say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import day, size
from gui.operations.export import export, look
from gui.operations.jobs import stop_job
from gui.pages.export_choices import Choices
from gui.pages.export_stamp import Stamp
from gui.pages.export_use import Uses
from gui.pages.export_words import kind_of, verdict_of
from gui.pages.page import Page
from gui.state.takeaway import GGUF, Taken
from gui.widgets.banner import progress_words, show_progress
from gui.widgets.basic import ElidedLabel, button, column, label, plain_tip, row, tool
from gui.widgets.card import Card
from gui.widgets.chip import Chip
from gui.widgets.failure_strip import FailureStrip
from gui.widgets.figures import Cell, Figures
from gui.widgets.footer import Footer
from gui.widgets.scroll import Sheet, scrolled

SPARE = 64 * 2**20


class ExportPage(Page):
    """What can be taken away, the job that writes it, the stamp of what was written, and its uses."""

    title = say("Export", "导出")
    subtitle = say(
        "Every file is checked against the model you trained before it is called done",
        "每个文件都会与训练好的模型核对，通过后才算完成",
    )

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self._listed: list[tuple[Taken, bool, bool]] = []
        context.runs.export.changed.connect(self.refresh)
        for source in (context.runs.export.finished, context.runs.selected, context.runs.train.finished):
            source.connect(self._look)
        context.serving.changed.connect(self._server_told)
        context.takeaway.changed.connect(self.refresh)
        self._served = ""
        self._look()

    def _look(self) -> None:
        look(self.context)

    def _server_told(self) -> None:
        """A server that began to listen, or ended, is another thing that the disk knows."""
        job = self.context.serving
        told = "over" if job.state.is_over else job.state.stage.en if job.state.stage else ""
        if told != self._served:
            self._served = told
            self._look()
        self.refresh()

    # ------------------------------------------------------------------------------------------------------ states
    def refresh(self) -> None:
        """Show nothing yet, wrong, or what can be taken away; the work shows beside it."""
        if not self.context.runs.is_trained:
            self._show_nothing()
        elif self.context.takeaway.found.failure is not None:
            again = button(say("Read again", "重新读取"), self._look, "primary", shortcut="Ctrl+Return")
            self.show_banner().wrong(self.context.takeaway.found.failure, again)
        elif not self.context.takeaway.is_read:
            self.show_banner().working(say("Looking at the run…", "正在查看训练…"), None)
        else:
            self.show_body()
            self._fill()

    def _show_nothing(self) -> None:
        words = say("Go to the plan", "前往计划")
        plan = button(words, lambda: self.context.wizard.go("plan"), "primary", shortcut="Ctrl+Return")
        sentence = say("There is nothing to take away yet.", "还没有可导出的内容。")
        self.show_banner().empty(sentence, say("Train a model first.", "请先训练模型。"), plan)

    # -------------------------------------------------------------------------------------------------------- body
    def build(self) -> QWidget:
        """Choices left; work, stamp, uses and earlier exports right."""
        self.choices = Choices(self.context)
        self._failure = FailureStrip()
        self._server_failure = FailureStrip()
        self.stamp, self.uses = Stamp(self.context), Uses(self.context)
        parts = (self._work_card(), self._failure, self.stamp, self._server_failure, self.uses, self._earlier_card())
        right = column(*parts, None, spacing=14, margins=(0, 0, 6, 0))
        body = row(self.choices, scrolled(Sheet(right)), spacing=14)
        body.setStretch(0, 4)
        body.setStretch(1, 7)
        self._footer = Footer(*self._foot_buttons())
        made = column(body, self._footer, spacing=14)
        made.setStretch(0, 1)
        holder = QWidget()
        holder.setLayout(made)
        return holder

    def _foot_buttons(self) -> tuple[QPushButton, ...]:
        elsewhere = button(say("Choose a folder…", "选择文件夹…"), self._choose_folder, shortcut="Ctrl+Shift+O")
        words = say("The run's own folder", "训练自己的文件夹")
        self._own = button(words, lambda: self._put_into(None), shortcut="Ctrl+Backspace")
        self._start = button(say("Export and check", "导出并核对"), self._export, "primary", shortcut="Ctrl+Return")
        return self._own, elsewhere, self._start

    def _work_card(self) -> QWidget:
        self._doing, self._far = ElidedLabel("", "strong"), label("", "muted")
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        words = say("Cancel", "取消")
        cancel = button(words, lambda: stop_job(self.context, self.context.runs.export), "small", shortcut="Esc")
        line = row(column(self._doing, self._bar, self._far, spacing=6), cancel, spacing=16)
        line.setStretch(0, 1)
        self._work = Card("", "", line)
        return self._work

    def _earlier_card(self) -> QWidget:
        self._earlier = Figures(say("Taken away", "已导出"), say("Size", "大小"), say("Written", "写入时间"), "")
        self._nothing = label(say("Nothing has been taken away yet.", "尚未导出任何内容。"), "muted")
        return Card(say("Exports of this run", "本次训练的导出"), "", self._earlier, self._nothing)

    # -------------------------------------------------------------------------------------------------------- fill
    def _fill(self) -> None:
        takeaway, job = self.context.takeaway, self.context.runs.export
        self.choices.fill()
        self._fill_work()
        self._failure.put(job.state.failure if job.state.is_over else None)
        served = self.context.serving.state
        self._server_failure.put(served.failure if served.is_over else None)
        item = takeaway.looked_at
        for card in (self.stamp, self.uses):
            card.setVisible(item is not None and not job.is_running)
        if item is not None:
            self.uses.fill(item)
            self.uses.setVisible(item.is_there and not job.is_running)
            self.stamp.fill(item, self.context.runs.has_learned_since(item.export.time))
        self._fill_earlier()
        self._fill_footer()

    def _fill_work(self) -> None:
        job = self.context.runs.export
        self._work.setVisible(job.is_running)
        if job.is_running:
            self._doing.setText(tr(job.state.stage or say("Starting…", "启动中…")))
            show_progress(self._bar, job.state.progress)
            self._far.setText(progress_words(job.state.progress))
            self._far.setVisible(bool(self._far.text()))

    def _fill_earlier(self) -> None:
        items, since = self.context.takeaway.found.exports, self.context.runs.has_learned_since
        self._earlier.setVisible(bool(items))
        self._nothing.setVisible(not items)
        looked_at = self.context.takeaway.looked_at
        listed = [(item, since(item.export.time), item == looked_at) for item in items]
        if listed != self._listed:  # else the buttons stay: one may have the focus
            self._listed = listed
            self._earlier.put([self._earlier_row(*each) for each in listed])

    def _earlier_row(self, item: Taken, earlier: bool, is_shown: bool) -> tuple[Cell, ...]:
        name = tool(kind_of(item), lambda: self.context.takeaway.set(shown=item.path, removing=None))
        name.setCheckable(True)
        name.setChecked(is_shown)
        name.setToolTip(plain_tip(item.export.file))
        words = say("{name}, {file}", "{name}，{file}", name=kind_of(item), file=item.path.name)
        name.setAccessibleName(tr(words))
        return name, size(item.export.bytes), day(item.export.time)[5:], Chip(*verdict_of(item, earlier))

    def _fill_footer(self) -> None:
        takeaway, free = self.context.takeaway, self.context.takeaway.found.free
        self._own.setVisible(takeaway.folder is not None)
        needed = takeaway.needed()
        is_short = free is not None and needed + SPARE > free
        offer = takeaway.found.targets.get(takeaway.chosen)
        refused = offer is not None and bool(offer.refusal)
        self._start.setEnabled(not self.context.runs.export.is_running and not is_short and not refused)
        self._footer.say(footer_words(takeaway.found.place, needed, free, is_short=is_short, count=self._count()))

    def _count(self) -> int:
        return len(self.context.takeaway.types) if self.context.takeaway.chosen == GGUF else 1

    # ------------------------------------------------------------------------------------------------------ actions
    def _export(self) -> None:
        export(self.context)

    def _choose_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, tr(say("Where to?", "导出到哪里？")))
        if chosen:
            self._put_into(Path(chosen))

    def _put_into(self, folder: Path | None) -> None:
        self.context.takeaway.folder = folder
        self._look()


def footer_words(place: Path, needed: int, free: int | None, *, is_short: bool, count: int) -> Text:
    """Where it goes, what it takes, and what is free there."""
    left = size(free) if free is not None else "?"
    if is_short:
        return say(
            "{needed} are needed, but only {free} are free on the disk of {folder}: choose another folder.",
            "需要 {needed}，但 {folder} 所在磁盘只剩 {free}：请选择其他文件夹。",
            needed=size(needed),
            free=left,
            folder=place,
        )
    files = say("{n} files, ", "{n} 个文件，", n=count) if count > 1 else say("", "")
    about = say("about {n}, ", "约 {n}，", n=size(needed)) if needed else say("", "")
    return say(
        "{files}{about}to {folder} · {free} free on that disk",
        "{files}{about}写入 {folder} · 该磁盘剩余 {free}",
        files=files,
        about=about,
        folder=place,
        free=left,
    )
