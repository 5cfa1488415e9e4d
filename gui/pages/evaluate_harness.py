"""Tasks of lm-evaluation-harness below what was forgotten: seen only where it is installed."""

from __future__ import annotations

from PySide6.QtWidgets import QFileDialog, QLineEdit, QWidget

from engine.project.harness_record import HarnessFigure, HarnessResult, is_installed
from engine.protocol.text import say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import count, figure, percent
from gui.operations import harness as operations
from gui.widgets.basic import button, column, holder, label, plain_tip, row
from gui.widgets.chip import BAD, GOOD, PLAIN, Chip
from gui.widgets.failure_strip import FailureStrip
from gui.widgets.figures import Cell, Figures
from gui.widgets.job_bar import JobBar


class HarnessBox(QWidget):
    """Which tasks, from where, how far they are, and their figures."""

    def __init__(self, context: AppContext) -> None:
        super().__init__()
        self._context = context
        self.figures = Figures(say("Task", "任务"), say("Base", "基础"), say("Tuned", "微调"), say("Forgotten", "遗忘"))
        self.failure = FailureStrip()
        stop = button(say("Stop", "停止"), lambda: operations.stop_tasks(self._context), "small")
        self._form, self._doing = self._asking(), JobBar(stop)
        title = label(say("lm-evaluation-harness", "lm-evaluation-harness"), "card")
        self.setLayout(column(title, self.figures, self.failure, self._form, self._doing, spacing=7))
        context.runs.harness.changed.connect(self._tell)

    def _asking(self) -> QWidget:
        self.tasks, self.folder = QLineEdit(), QLineEdit()
        self.tasks.setPlaceholderText("arc_easy, hellaswag")
        self.tasks.setAccessibleName(tr(say("Tasks, with commas between them", "任务，用逗号分隔")))
        self.tasks.textChanged.connect(self._tell)
        self.tasks.returnPressed.connect(self._run)
        self.folder.setPlaceholderText(tr(say("Folder of tasks of your own (YAML)", "自有任务文件夹（YAML）")))
        self.folder.setAccessibleName(tr(say("Folder of tasks", "任务文件夹")))
        choose = button(say("Choose…", "选择…"), self._choose, "small")
        self.run = button(say("Run tasks", "运行任务"), self._run, "small", shortcut="Ctrl+L")
        first, second = row(self.tasks, self.run), row(self.folder, choose)
        for line in (first, second):
            line.setStretch(0, 1)
        told = say(
            "At most {n} questions of each, from this machine alone: nothing is fetched.",
            "每个任务最多 {n} 题，仅使用本机数据，不下载任何内容。",
            n=count(operations.QUESTIONS),
        )
        return holder(column(first, second, label(told, "small", wrap=True), spacing=6))

    def put(self, found: HarnessResult | None) -> None:
        """Show these figures."""
        self.setVisible(found is not None or is_installed())
        self.figures.put([_task(each) for each in found.figures] if found is not None else [])
        self.figures.setVisible(found is not None and bool(found.figures))
        self._tell()

    def _tell(self) -> None:
        job = self._context.runs.harness
        self._form.setVisible(is_installed() and not job.is_running)
        self._doing.setVisible(job.is_running)
        self.run.setEnabled(bool(self.tasks.text().strip()))
        self.failure.put(None if job.is_running else job.state.failure)
        if job.is_running:
            self._doing.put(job.state)

    def _run(self) -> None:
        if self.run.isEnabled():
            operations.run_tasks(self._context, self.tasks.text(), self.folder.text())

    def _choose(self) -> None:
        words = tr(say("Choose the folder of tasks", "选择任务文件夹"))
        if folder := QFileDialog.getExistingDirectory(self, words):
            self.folder.setText(folder)


def _task(found: HarnessFigure) -> tuple[Cell, ...]:
    name = f"{found.task} · {found.metric}"
    chip = Chip("—", PLAIN) if found.rate is None else Chip(percent(found.rate), GOOD if found.rate <= 0.3 else BAD)
    if found.rate is not None and found.low is not None and found.high is not None:
        words = say(
            "With 95% confidence between {low:.0%} and {high:.0%}, of {n} questions",
            "95% 置信区间 {low:.0%} 至 {high:.0%}，共 {n} 题",
            low=found.low,
            high=found.high,
            n=found.items,
        )
        chip.setToolTip(plain_tip(tr(words)))
    return name, figure(found.base), (figure(found.tuned), "strong"), chip
