"""The Train page: the run while it learns, and what became of it."""

from __future__ import annotations

from bisect import bisect_right

from PySide6.QtWidgets import QPushButton, QWidget

from engine.catalogue import CATALOGUE
from engine.methods.registry import METHODS
from engine.project.run_folder import RunFolder
from engine.protocol.errors import Failure, UserError
from engine.protocol.events import CheckpointSaved, Event, HeldOut, Note, StepDone
from engine.protocol.state import STARTING, WAITING, JobState
from engine.protocol.text import Text, say
from engine.recipe.file import load
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import clock, count, day, duration, figure, gib, parameters, percent, short
from gui.operations.train import (
    another_that_trains,
    continue_run,
    open_folder,
    pause_run,
    save_checkpoint,
    stop_run,
)
from gui.pages.page import Page
from gui.state.notices import INFO
from gui.state.run import ENDINGS
from gui.widgets.bars import ThinBar
from gui.widgets.basic import add_shortcut, button, column, holder, label, rename, row, tool
from gui.widgets.card import Card
from gui.widgets.chip import PLAIN, WARN
from gui.widgets.facts import Facts
from gui.widgets.failure_strip import FailureStrip
from gui.widgets.footer import Footer
from gui.widgets.log_view import LogView
from gui.widgets.plots import LinePlot
from gui.widgets.row_list import RowList

SMOOTH = 0.85
RECOVERY, WARNING = say("recovered at {n}", "在第 {n} 步恢复"), say("warning at {n}", "第 {n} 步有警告")
MOST_MARKED = 40
MOST_TOLD = 200
"""Lines of what happened that are shown; the log has all."""


class TrainPage(Page):
    """One run: progress, curves, memory, speed, and what happened."""

    title = say("Train", "训练")
    subtitle = say("The run while it learns", "训练过程")

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self._told = -1
        self._headed: RunFolder | None = None
        self._alone: QWidget | None = None
        self._pause = button(say("Pause", "暂停"), self._pause_or_continue, shortcut="Ctrl+P")
        self._save = button(say("Save checkpoint", "保存检查点"), lambda: save_checkpoint(context), shortcut="Ctrl+K")
        self._stop = button(say("Stop and keep", "停止并保留"), lambda: stop_run(context), "danger", shortcut="Ctrl+.")
        for item in (self._pause, self._save, self._stop):
            self.head.addWidget(item)
        context.runs.train.changed.connect(self.refresh)
        context.runs.selected.connect(self._another_run)
        context.project.changed.connect(self.refresh)

    # ------------------------------------------------------------------------------------------------------ states
    def refresh(self) -> None:
        """Show nothing yet, getting ready, wrong before the first step, or the run."""
        job = self.context.runs.train
        state = job.state
        self._show_actions(state)
        self._head()
        if job.folder is None or (state.status == STARTING and not job.folder.events.exists()):
            self._show_no_run()
        elif state.latest is not None:
            self.show_body()
            self._fill(state)
        elif state.is_over and state.failure is not None:
            self._show_failed_start(state.failure)
        elif state.is_over:
            self.show_banner().empty(
                ENDINGS[state.status], say("It ended before its first step.", "在第一步之前结束。"), self._to_plan()
            )
        else:
            stage = state.stage or say("Starting the worker…", "正在启动工作进程……")
            self.show_banner().working(stage, state.progress, lambda: stop_run(self.context))

    def _show_failed_start(self, failure: Failure) -> None:
        again = button(say("Try again", "重试"), lambda: continue_run(self.context), "primary", shortcut="Ctrl+Return")
        plan = button(say("Change the plan", "修改计划"), lambda: self.context.wizard.go("plan"), shortcut="Ctrl+Left")
        log = button(say("Show the log", "查看日志"), self._show_log_alone, shortcut="Ctrl+L")
        offered = [plan, log] if another_that_trains(self.context) else [again, plan, log]
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

    def _show_no_run(self) -> None:
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
        waiting = state.status == WAITING
        rename(self._pause, say("Continue", "继续") if waiting else say("Pause", "暂停"))
        stopping = self.context.runs.train.is_stopping
        rename(self._stop, say("Stopping…", "正在停止…") if stopping else say("Stop and keep", "停止并保留"))
        self._save.setEnabled(not waiting and not stopping)
        self._pause.setEnabled(not stopping)
        self._stop.setEnabled(not stopping)

    def _pause_or_continue(self) -> None:
        waiting = self.context.runs.train.state.status == WAITING
        (continue_run if waiting else pause_run)(self.context)

    def _another_run(self) -> None:
        self._told = -1
        if self.is_built:
            for plot in (self._loss, self._memory, self._speed):
                plot.clear_marks()
        self.refresh()

    # -------------------------------------------------------------------------------------------------------- body
    def build(self) -> QWidget:
        """Progress above; curves left, memory and speed right; what happened below."""
        left = column(self._loss_card(), self._happened_card(), spacing=14)
        left.setStretch(0, 7)
        left.setStretch(1, 4)
        right = column(self._memory_card(), self._speed_card(), self._about_card(), spacing=14)
        for position in (0, 1):
            right.setStretch(position, 1)
        body = row(left, right, spacing=14)
        body.setStretch(0, 2)
        body.setStretch(1, 1)
        self._failure = FailureStrip()
        made = column(self._progress_card(), self._failure, body, self._footer_bar(), spacing=14)
        made.setStretch(2, 1)
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

    def _loss_card(self) -> QWidget:
        self._loss = self._plot(say("Loss", "损失"))
        self._loss.add("train", say("training", "训练"), ink=0, smooth=SMOOTH)
        self._loss.add("held", say("held out", "留出"), ink=3, points=True)
        self._loss.setMinimumHeight(130)
        self._numbers = {name: label("", "strong") for name in ("rate", "norm", "accuracy", "tokens")}
        names = {
            "rate": say("Learning rate", "学习率"),
            "norm": say("Gradient norm", "梯度范数"),
            "accuracy": say("Token accuracy", "词元准确率"),
            "tokens": say("Tokens seen", "已见词元"),
        }
        line = row(spacing=6)
        for name, text in names.items():
            line.addWidget(label(text, "facts"))
            line.addWidget(self._numbers[name])
            line.addStretch(1)
        card = Card(say("Loss", "损失"), " ", self._loss, line)
        card.body.setStretch(0, 1)
        self._trained, self._held = label("", "good"), label("", "warn")
        card.corner(self._trained)
        card.corner(self._held)
        return card

    def _memory_card(self) -> QWidget:
        self._memory = self._plot(say("Memory", "内存"), from_zero=True)
        self._memory.add("held", say("memory, GiB", "内存（GiB）"), ink=0)
        self._memory.setMinimumHeight(70)
        self._memory_card_ = Card(say("Memory", "内存"), " ", self._memory)
        return self._memory_card_

    def _speed_card(self) -> QWidget:
        self._speed = self._plot(say("Speed", "速度"), from_zero=True)
        self._speed.add("speed", say("tokens/s", "词元/秒"), ink=0)
        self._speed.setMinimumHeight(70)
        self._speed_card_ = Card(say("Speed", "速度"), " ", self._speed)
        return self._speed_card_

    def _about_card(self) -> QWidget:
        self._about = Facts(spacing=5)
        return Card(say("This run", "本次训练"), "", self._about)

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
        self._fill_curves(state)
        self._fill_numbers(state)
        self._fill_happened(state)
        self._fill_end(state)

    def _head(self) -> None:
        if self._headed != self.context.runs.run:
            self._headed = self.context.runs.run
            self.set_subtitle(self._heading())

    def _heading(self) -> Text:
        run = self.context.runs.run
        try:
            recipe = load(run.recipe, CATALOGUE) if run is not None else None
        except UserError:
            recipe = None
        if recipe is None:
            return self.subtitle
        what = METHODS[recipe.method.name].describe(recipe.method)
        model = recipe.model.source.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]
        return say("{what} on {model}", "{model} 上的 {what}", what=what, model=model)

    def _fill_progress(self, state: JobState) -> None:
        step, total = state.step, state.total_steps
        self._step.setText(tr(say("Step {n} of {all}", "第 {n} 步，共 {all} 步", n=count(step), all=count(total))))
        epochs = state.plan.epochs if state.plan else 0
        now = min(int(last_of(state).epoch) + 1, max(1, round(epochs)))
        self._pass.setText(
            tr(say("pass {n} of {all}", "第 {n} 轮，共 {all} 轮", n=now, all=short(epochs))) if epochs > 1 else ""
        )
        self._bar.put(step / total if total else 0)
        self._left.setText(tr(time_left(state)))
        self._since.setText("· " + tr(say("started {time}", "{time} 开始", time=day(state.started)[5:])))

    def _fill_curves(self, state: JobState) -> None:
        self._loss.follow("train", state.steps, lambda item: (item.step, item.loss))
        self._loss.follow("held", state.held_out, lambda item: (item.step, item.loss))
        self._memory.follow("held", state.steps, lambda item: (item.step, item.memory_gib))
        if state.plan is not None and state.plan.predicted_memory_gib is not None:
            predicted = state.plan.predicted_memory_gib
            self._memory.level("predicted", predicted, tr(say("predicted {n}", "预计 {n}", n=gib(predicted))))
        self._speed.follow("speed", state.steps, lambda item: (item.step, item.tokens_per_second))

    def _fill_numbers(self, state: JobState) -> None:
        last = last_of(state)
        self._numbers["rate"].setText(short(last.learning_rate))
        self._numbers["norm"].setText(short(last.grad_norm))
        self._numbers["accuracy"].setText(percent(last.token_accuracy, 1))
        self._numbers["tokens"].setText(parameters(last.tokens))
        self._trained.setText("● " + tr(say("training {n}", "训练 {n}", n=figure(last.loss))))
        self._held.setText(held_out_words(state))
        peak = self._memory.highest("held")
        self._memory_card_.title.setText(tr(memory_name(state)))
        self._memory_card_.note.setText(tr(say("peak {n}", "峰值 {n}", n=gib(peak))))
        self._speed_card_.note.setText(speed_words(state))
        self._about.put(about(state))

    def _fill_happened(self, state: JobState) -> None:
        number = len(state.notes) + len(state.held_out) + len(state.checkpoints)
        if number != self._told:
            self._told = number
            happened = self._happened(state)[-MOST_TOLD:]
            lines = [(clock(event.time), tone_of(event), tr(text)) for event, text in reversed(happened)]
            self._notes.put(lines, select=False)
            self._mark(state)
        self._read_log()

    def _mark(self, state: JobState) -> None:
        """A line for each checkpoint, the newest with its words; one for each warning and recovery."""
        self._loss.clear_marks()
        saved = [event.step for event in state.checkpoints][-MOST_MARKED:]
        for number in saved:
            words = tr(say("checkpoint {n}", "检查点 {n}", n=number))
            self._loss.mark(words, number, words, quiet=number != saved[-1])
        for note in [note for note in state.notes if note.level != INFO][-MOST_MARKED:]:
            number = note.step or step_at(state, note.time)
            words = tr(RECOVERY if note.level == "recovery" else WARNING).format(n=number)
            self._loss.mark(words, number, words, ink="warn", quiet=note.level != "recovery")
            if note.level == "recovery":  # memory falls and speed changes with it
                for plot in (self._memory, self._speed):
                    plot.mark(words, number, words, ink="warn", quiet=True)

    def _happened(self, state: JobState) -> list[tuple[Event, Text]]:
        events: list[tuple[Event, Text]] = [(note, note.text) for note in state.notes]
        events += [(event, held_words(event)) for event in state.held_out]
        events += [(event, saved_words(event)) for event in state.checkpoints]
        return sorted(events, key=lambda pair: pair[0].time)

    def _fill_end(self, state: JobState) -> None:
        failure = state.failure if state.is_over else None
        self._failure.put(failure)
        unfinished = state.is_over and state.status != "done" and state.step < state.total_steps
        other = another_that_trains(self.context) if unfinished else ""
        self._go_on.setVisible(unfinished and not other)
        trained = state.is_over and self.context.runs.is_trained
        self._evaluate.setVisible(trained)
        running = say("You may close this window, the run goes on.", "可以关闭窗口，训练会继续。")
        waiting = say("Paused: memory stays held until you continue.", "已暂停：继续之前仍占用内存。")
        words = ENDINGS.get(state.status, waiting if state.status == WAITING else running)
        self._footer.say(busy_words(other) if other else words)

    # --------------------------------------------------------------------------------------------------------- log
    def _show_log(self, shown: bool) -> None:
        self._notes.setVisible(not shown)
        self._log.setVisible(shown)
        self._read_log()

    def _read_log(self) -> None:
        folder = self.context.runs.train.folder
        if self._log_switch.isChecked() and folder is not None:
            self._log.read(folder.log)


def last_of(state: JobState) -> StepDone:
    """The last step of a run that is shown: the page's body is, from the first one on."""
    assert state.latest is not None
    return state.latest


def step_at(state: JobState, moment: float) -> int:
    """The last step that was done at this epoch second, 0 before the first."""
    before = bisect_right(state.steps, moment, key=lambda item: item.time)
    return state.steps[before - 1].step if before else 0


def busy_words(title: str) -> Text:
    """Why a run cannot go on now."""
    return say(
        "“{title}” is training. This run can be continued when that one has ended.",
        "“{title}”正在训练。等它结束后即可继续本次训练。",
        title=title,
    )


def time_left(state: JobState) -> Text:
    """How long it still takes, or took."""
    if state.is_over:
        return say("took {time}", "用时 {time}", time=duration(max(0.0, state.ended - state.started)))
    if state.status == WAITING:
        return say("paused", "已暂停")
    left = last_of(state).seconds_left
    if left is None:
        return say("measuring the speed…", "正在测速……")
    return say("{time} left", "剩余 {time}", time=duration(left))


def held_out_words(state: JobState) -> str:
    """The newest held-out loss and the best."""
    if state.best is None:
        return ""
    words = say(
        "held out {now}, best {best} at {step}",
        "留出 {now}，最佳 {best}（第 {step} 步）",
        now=figure(state.held_out[-1].loss),
        best=figure(state.best.loss),
        step=count(state.best.step),
    )
    return "● " + tr(words)


def on_gpu(state: JobState) -> bool:
    """Whether the run is on a GPU."""
    return state.plan is not None and state.plan.device not in ("cpu", "mps")


def memory_name(state: JobState) -> Text:
    """Which memory the curve shows."""
    return say("GPU memory", "显存") if on_gpu(state) else say("Memory of the run", "训练进程内存")


def speed_words(state: JobState) -> str:
    """Tokens per second, and what the machine says of itself."""
    last = last_of(state)
    words = []
    if last.tokens_per_second is not None:
        words.append(tr(say("{n} tokens/s", "{n} 词元/秒", n=count(last.tokens_per_second))))
    gauge = state.gauge
    if gauge is not None and gauge.busy is not None:
        words.append(tr(say("{n} busy", "占用 {n}", n=percent(gauge.busy))))
    if gauge is not None and gauge.temperature_c is not None:
        words.append(f"{gauge.temperature_c:.0f} °C")
    if gauge is not None and gauge.power_w is not None:
        words.append(f"{gauge.power_w:.0f} W")
    return " · ".join(words)


def about(state: JobState) -> list[tuple[Text | str, Text | str]]:
    """What the run is made of."""
    plan = state.plan
    if plan is None:
        return []
    share = plan.trained_parameters / max(1, plan.all_parameters)
    return [
        (
            say("Rows", "行数"),
            say("{n} train · {h} held out", "{n} 训练 · {h} 留出", n=count(plan.rows), h=count(plan.held_out)),
        ),
        (
            say("Weights that train", "训练的权重"),
            say(
                "{few} of {all} ({share})",
                "{all} 中的 {few}（{share}）",
                few=parameters(plan.trained_parameters),
                all=parameters(plan.all_parameters),
                share=percent(share, 2),
            ),
        ),
        (say("On", "设备"), plan.device.upper() if not on_gpu(state) else plan.device),
    ]


def held_words(event: HeldOut) -> Text:
    """An evaluation as a sentence."""
    if event.best:
        return say(
            "Held-out loss {loss} at step {n}: the best so far.",
            "第 {n} 步留出损失 {loss}：目前最佳。",
            loss=figure(event.loss, 3),
            n=count(event.step),
        )
    return say(
        "Held-out loss {loss} at step {n}.",
        "第 {n} 步留出损失 {loss}。",
        loss=figure(event.loss, 3),
        n=count(event.step),
    )


def tone_of(event: Event) -> str:
    """How its time is coloured: warnings and recoveries stand out."""
    return WARN if isinstance(event, Note) and event.level != "info" else PLAIN


def saved_words(event: CheckpointSaved) -> Text:
    """A checkpoint as a sentence."""
    return say("Checkpoint {n} saved.", "已保存检查点 {n}。", n=count(event.step))
