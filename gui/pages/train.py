"""The Train page: the run while it learns, and what became of it."""

from __future__ import annotations

from PySide6.QtWidgets import QPushButton, QWidget

from engine.catalogue import CATALOGUE
from engine.methods.registry import METHODS
from engine.project.queue import HELD, Entry
from engine.project.queue import WAITING as QUEUED
from engine.project.run_folder import RunFolder
from engine.protocol.errors import Failure, UserError
from engine.protocol.events import PAUSE
from engine.protocol.state import STARTING, WAITING, JobState
from engine.protocol.text import Text, say
from engine.recipe.file import load
from engine.recipe.recipe import Recipe
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import clock, count, day, short
from gui.operations import bundle as reporting
from gui.operations.train import (
    continue_run,
    end_run_now,
    free_run,
    look_at_run,
    open_folder,
    pause_run,
    retry_run,
    save_checkpoint,
    stop_run,
)
from gui.pages.page import Page
from gui.pages.train_curves import CurvesCard
from gui.pages.train_machine import MemoryCard, SpeedCard
from gui.pages.train_reading import ReadingCard
from gui.pages.train_strip import StandStrip
from gui.pages.train_words import busy_words, happened_words, last_of, started_words, time_left, tone_of, waits_for_disk
from gui.state.run import HOW_STOPPED, at_risk, ending
from gui.widgets.bars import ThinBar
from gui.widgets.basic import add_shortcut, button, column, holder, label, rename, row, tool
from gui.widgets.card import Card
from gui.widgets.chip import PLAIN
from gui.widgets.failure_strip import FailureStrip
from gui.widgets.footer import Footer
from gui.widgets.log_view import LogView
from gui.widgets.plots import LinePlot
from gui.widgets.row_list import RowList

MOST_TOLD = 200
"""Lines of what happened that are shown; the log has all."""


class TrainPage(Page):
    """One run: progress, curves, memory, speed, and what happened."""

    title = say("Train", "训练")
    subtitle = say("The run while it learns", "训练过程")

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self._told: tuple[object, object] | None = None
        self._headed: RunFolder | None = None
        self._recipe: Recipe | None = None
        self._ending: object = None
        self._knows_queue = False
        self._alone: QWidget | None = None
        self._pause = button(say("Pause", "暂停"), self._pause_or_continue, shortcut="Ctrl+P")
        self._save = button(say("Save checkpoint", "保存检查点"), lambda: save_checkpoint(context), shortcut="Ctrl+K")
        self._stop = button(say("Stop and keep", "停止并保留"), lambda: stop_run(context), "danger", shortcut="Ctrl+.")
        for item in (self._pause, self._save, self._stop):
            self.head.addWidget(item)
        context.runs.train.changed.connect(self.refresh)
        context.runs.selected.connect(self._another_run)
        for signal in (context.project.changed, context.runs.train.finished):
            signal.connect(self._look)
        context.runs.looked_at.connect(self.refresh)
        context.project.changed.connect(self.refresh)
        context.control.changed.connect(self.refresh)
        self._look()

    # ------------------------------------------------------------------------------------------------------ states
    def refresh(self) -> None:
        """Show nothing yet, getting ready, wrong before the first step, or the run."""
        job = self.context.runs.train
        state = job.state
        self._show_actions(state)
        self._head()
        if job.folder is None or (
            state.status == STARTING and not state.kind and not self.context.runs.looked.has_begun
        ):
            self._show_no_run()
        elif state.latest is not None:
            self.show_body()
            self._fill(state)
        elif state.is_over and state.failure is not None:
            self._show_failed_start(state.failure)
        elif state.is_over:
            self.show_banner().empty(
                ending(state), say("It ended before its first step.", "在第一步之前结束。"), self._to_plan()
            )
        else:
            self._show_getting_ready(state)

    def _show_getting_ready(self, state: JobState) -> None:
        stage = state.stage or say("Starting the worker…", "正在启动工作进程……")
        may = self.context.control.controls
        if not self.context.runs.train.is_stopping:
            self._ending = None
            self.show_banner().working(stage, state.progress, lambda: stop_run(self.context))
        elif self._ending != (key := (stage.en, may)) or self._stack.currentWidget() is not self.banner:
            self._ending = key  # the button stays while one reaches for it
            now = button(
                say("End now", "立即结束"), lambda: end_run_now(self.context), "danger", shortcut="Ctrl+Shift+."
            )
            now.setEnabled(may)
            hint = say("Before the first step there is nothing to save.", "第一步之前没有需要保存的内容。")
            self.show_banner().empty(stage, hint, now)

    def _show_failed_start(self, failure: Failure) -> None:
        again = button(say("Try again", "重试"), lambda: continue_run(self.context), "primary", shortcut="Ctrl+Return")
        plan = button(say("Change the plan", "修改计划"), lambda: self.context.wizard.go("plan"), shortcut="Ctrl+Left")
        log = button(say("Show the log", "查看日志"), self._show_log_alone, shortcut="Ctrl+L")
        offered = [plan, log] if self.context.runs.looked.other else [again, plan, log]
        self.show_banner().wrong(failure, *offered)

    def _show_log_alone(self) -> None:
        """The log where there are no curves to show beside it."""
        folder = self.context.runs.train.folder
        if self._alone is None:
            self._alone_log = LogView()
            card = Card(say("Log", "日志"), "", self._alone_log)
            back = button(say("← Back", "← 返回"), self.refresh, "primary", shortcut="Ctrl+L")
            self._alone = holder(column(card, Footer(self._folder_button(), back), spacing=14))
            self._stack.addWidget(self._alone)
        if folder is not None:
            self._alone_log.read(folder.log)
        self._stack.setCurrentWidget(self._alone)

    def _look(self) -> None:
        look_at_run(self.context)

    def _queued(self) -> Entry | None:
        listed = self.context.project.listed
        if not self._knows_queue:
            self._knows_queue = True
            listed.changed.connect(self._queue_changed)
        run = self.context.runs.run
        waits = (entry for entry in listed.queue if run is not None and entry.folder == run)
        return next((entry for entry in waits if entry.state in (QUEUED, HELD)), None)

    def _queue_changed(self) -> None:
        if self._stack.currentWidget() is self.banner and not self.context.runs.looked.has_begun:
            self.refresh()

    def _show_queued(self, entry: Entry) -> None:
        sentence = say("This run waits in the queue.", "此训练正在排队。")
        hint = say(
            "It starts by itself when it is its turn, as long as a window is open.",
            "轮到时会自动开始，只要有窗口打开。",
        )
        words = say("Show the queue", "查看队列")
        queue = button(words, lambda: self.context.wizard.go("runs"), "primary", shortcut="Ctrl+Return")
        self.show_banner().empty(sentence, entry.reason or hint, queue)

    def _show_no_run(self) -> None:
        if (entry := self._queued()) is not None:
            self._show_queued(entry)
            return
        sentence = say("No run has been started in this project yet.", "此项目尚未开始训练。")
        hint = say(
            "Start one on the Plan page; it is shown here while it learns.", "请在“计划”页开始训练，过程会显示在这里。"
        )
        self.show_banner().empty(sentence, hint, self._to_plan())

    def _to_plan(self) -> QPushButton:
        words = say("Go to the plan", "前往计划")
        return button(words, lambda: self.context.wizard.go("plan"), "primary", shortcut="Ctrl+Return")

    def _show_actions(self, state: JobState) -> None:
        steps_run = bool(state.steps) and not state.is_over
        for item in (self._pause, self._save, self._stop):
            item.setVisible(steps_run)
        job, waiting = self.context.runs.train, state.status == WAITING
        pausing = job.asked == PAUSE and not waiting
        words = say("Pausing…", "正在暂停…") if pausing else say("Pause", "暂停")
        rename(self._pause, say("Continue", "继续") if waiting else words)
        self._pause.setVisible(steps_run and (state.waiting is None or state.waiting.reason != "disk"))
        stopping = job.is_stopping
        rename(self._stop, say("Stopping…", "正在停止…") if stopping else say("Stop and keep", "停止并保留"))
        may = self.context.control.controls and not stopping
        self._save.setEnabled(may and not waiting)
        self._pause.setEnabled(may and not pausing)
        self._stop.setEnabled(may)

    def _pause_or_continue(self) -> None:
        waiting = self.context.runs.train.state.status == WAITING
        (continue_run if waiting else pause_run)(self.context)

    def _another_run(self) -> None:
        self._told = None
        self._look()
        if self.is_built:
            self._curves.forget()
            self._reading.forget()
            for card in (self._memory_card, self._speed_card):
                card.plot.clear_marks()
        self.refresh()

    # -------------------------------------------------------------------------------------------------------- body
    def build(self) -> QWidget:
        """Progress above; curves and what happened left; memory, speed and the reading right."""
        self._curves = CurvesCard(self._plot)
        self._memory_card, self._speed_card, self._reading = (
            MemoryCard(self._plot),
            SpeedCard(self._plot),
            ReadingCard(),
        )
        self._loss, self._memory, self._speed = self._curves.loss, self._memory_card.plot, self._speed_card.plot
        self._trained, self._held = self._curves.trained, self._curves.held
        left = column(self._curves, self._happened_card(), spacing=14)
        right = column(self._memory_card, self._speed_card, self._reading, spacing=14)
        for layout, stretches in ((left, (7, 4)), (right, (3, 3, 4))):
            for position, stretch in enumerate(stretches):
                layout.setStretch(position, stretch)
        body = row(left, right, spacing=14)
        body.setStretch(0, 2)
        body.setStretch(1, 1)
        report = button(
            reporting.BUTTON,
            lambda: reporting.report_run(self.context),
            "small",
            shortcut="Ctrl+Shift+B",
            tip=reporting.TIP,
        )
        self._failure = FailureStrip(report)
        self._strip = StandStrip(
            self.context.runs.train,
            free=lambda: free_run(self.context),
            retry=lambda: retry_run(self.context),
            end=lambda: end_run_now(self.context),
            may=lambda: self.context.control.controls,
        )
        parts = (self._progress_card(), self._strip, self._failure, body, self._footer_bar())
        made = column(*parts, spacing=14)
        made.setStretch(3, 1)
        return holder(made)

    def _progress_card(self) -> QWidget:
        self._step, self._pass = label("", "heading"), label("", "muted")
        self._bar = ThinBar()
        self._left = label("", "strong")
        self._since = label("", "muted")
        line = row(self._step, self._pass, 12, self._bar, 12, self._left, self._since)
        line.setStretch(3, 1)
        return Card("", "", line)

    def _plot(self, name: Text, *, from_zero: bool = False) -> LinePlot:
        made = LinePlot(name, x_label=say("step", "步"), from_zero=from_zero)
        made.not_saved.connect(lambda error: self.context.notices.failure(Failure.of(error)))
        return made

    def _happened_card(self) -> QWidget:
        self._notes = RowList(say("What happened", "发生了什么"))
        self._notes.setMinimumHeight(60)
        self._log = LogView()
        self._log.hide()
        card = Card(say("What happened", "发生了什么"), "", self._notes, self._log)
        self._log_switch = tool(say("Log", "日志"))
        self._log_switch.setCheckable(True)
        add_shortcut(self._log_switch, "Ctrl+L")
        self._log_switch.toggled.connect(self._show_log)
        card.corner(self._log_switch)
        return card

    def _footer_bar(self) -> QWidget:
        words = say("Continue the run", "继续训练")
        self._go_on = button(words, lambda: continue_run(self.context), shortcut="Ctrl+Shift+C")
        self._evaluate = button(
            say("See whether it helped →", "看看有没有效果 →"),
            lambda: self.context.wizard.go("evaluate"),
            "primary",
            shortcut="Ctrl+Right",
        )
        self._footer = Footer(self._folder_button(), self._go_on, self._evaluate)
        return self._footer

    def _folder_button(self) -> QPushButton:
        return button(say("Open folder", "打开文件夹"), lambda: open_folder(self.context), shortcut="Ctrl+O")

    # -------------------------------------------------------------------------------------------------------- fill
    def _fill(self, state: JobState) -> None:
        self._fill_progress(state)
        for card in (self._memory_card, self._speed_card):
            card.put(state)
        self._curves.put(state, self._recipe)
        self._reading.put(state, self._recipe)
        self._fill_happened(state)
        self._fill_end(state)

    def _head(self) -> None:
        if self._headed != self.context.runs.run:
            self._headed = self.context.runs.run
            self._recipe = _recipe_of(self._headed)
            self.set_subtitle(heading(self._recipe) if self._recipe is not None else self.subtitle)

    def _fill_progress(self, state: JobState) -> None:
        step, total = state.step, state.total_steps
        self._step.setText(tr(say("Step {n} of {all}", "第 {n} 步，共 {all} 步", n=count(step), all=count(total))))
        epochs = state.plan.epochs if state.plan else 0
        now = min(int(last_of(state).epoch) + 1, max(1, round(epochs)))
        self._pass.setText(
            tr(say("pass {n} of {all}", "第 {n} 轮，共 {all} 轮", n=now, all=short(epochs))) if epochs > 1 else ""
        )
        self._bar.put(step / total if total else 0)
        ends, created = self.context.runs.train.is_stopping, self.context.runs.created
        self._left.setText(tr(say("stopping", "正在停止") if ends else time_left(state, created)))
        self._since.setText("· " + tr(say("started {time}", "{time} 开始", time=day(state.begun(created))[5:])))

    def _fill_happened(self, state: JobState) -> None:
        # Notes, measurements and checkpoints are another tuple whenever one of them came or went.
        told = (state.happened, state.plan)
        if self._told is None or any(now is not before for now, before in zip(told, self._told, strict=True)):
            self._told = told
            self._notes.put(happened_lines(state, self.context.runs.created), select=False)
            for card in (self._curves, self._memory_card, self._speed_card):
                card.mark(state)
        self._read_log()

    def _fill_end(self, state: JobState) -> None:
        failure = state.failure if state.is_over else None
        self._failure.put(failure)
        unfinished = state.is_over and state.status != "done" and state.step < state.total_steps
        other = self.context.runs.looked.other if unfinished else ""
        self._go_on.setVisible(unfinished and not other)
        self._go_on.setEnabled(self.context.control.controls)
        self._evaluate.setVisible(state.is_over and self.context.runs.looked.is_trained)
        self._strip.refresh()
        self._footer.say(busy_words(other) if other else self._standing_words(state))

    def _standing_words(self, state: JobState) -> Text:
        """How it ended; before, what a stop under way keeps, or that the window may be closed."""
        job = self.context.runs.train
        if state.is_over:
            return ending(state)
        if job.is_stopping:
            saves = job.rung not in HOW_STOPPED and not waits_for_disk(state)
            risk = None if saves else at_risk(state)
            return risk or say("What was learned is kept.", "学到的内容会保留。")
        if state.status == WAITING:
            return say("You may close this window, the run waits.", "可以关闭窗口，训练会继续等待。")
        return say("You may close this window, the run goes on.", "可以关闭窗口，训练会继续。")

    # --------------------------------------------------------------------------------------------------------- log
    def _show_log(self, shown: bool) -> None:
        self._notes.setVisible(not shown)
        self._log.setVisible(shown)
        self._read_log()

    def _read_log(self) -> None:
        folder = self.context.runs.train.folder
        if self._log_switch.isChecked() and folder is not None:
            self._log.read(folder.log)


def _recipe_of(run: RunFolder | None) -> Recipe | None:
    """The run's recipe, None where it cannot be read."""
    try:
        return load(run.recipe, CATALOGUE) if run is not None else None
    except UserError:
        return None


def heading(recipe: Recipe) -> Text:
    """What is trained, below the page's title."""
    what = METHODS[recipe.method.name].describe(recipe.method)
    model = recipe.model.source.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]
    return say("{what} on {model}", "{model} 上的 {what}", what=what, model=model)


def happened_lines(state: JobState, created: float = 0.0) -> list[tuple[str, str, str]]:
    """What happened, the newest first, in the order in which it was told: clocks may be set meanwhile."""
    lines = [(clock(event.time), tone_of(event), tr(happened_words(event))) for event in state.happened[-MOST_TOLD:]]
    lines.reverse()
    started = started_words(state)
    if started is not None and len(state.happened) <= MOST_TOLD:
        lines.append((clock(state.begun(created)), PLAIN, tr(started)))
    return lines
