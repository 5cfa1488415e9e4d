"""The Plan page: will it fit, by which method, with which settings, how long, and why."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtWidgets import QAbstractButton, QFileDialog, QPushButton, QWidget

from engine.machine.memory import PARTS
from engine.methods.registry import METHODS
from engine.objectives.registry import OBJECTIVES
from engine.protocol.text import Text, say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import count, duration, gib, parameters, percent, size
from gui.operations import plan as operations
from gui.pages.page import Page
from gui.state.phase import Phase
from gui.widgets.bars import Part, StackedBar
from gui.widgets.basic import button, column, holder, label, row, rule, tool
from gui.widgets.card import Card
from gui.widgets.chip import BAD, GOOD, PLAIN, WARN, Chip
from gui.widgets.choice_card import ChoiceCard, ChoiceList
from gui.widgets.editors import ChoiceEditor
from gui.widgets.facts import Facts
from gui.widgets.footer import Footer
from gui.widgets.form import RecipeForm, fields_of

if TYPE_CHECKING:
    from engine.machine.detect import Machine
    from engine.machine.forecast import Forecast
    from engine.protocol.errors import Failure

BAR_PARTS: tuple[tuple[Text, tuple[str, ...]], ...] = (
    (PARTS["weights"], ("weights",)),
    (PARTS["activations"], ("activations",)),
    (PARTS["logits"], ("logits",)),
    (say("Adapter and optimizer", "适配器与优化器"), ("adapter", "gradients", "optimizer")),
    (say("Reserve", "预留"), ("reserve",)),
)
MADE_FOR = say("The plan is made for your data, your model and this machine.", "计划会根据你的数据、模型与本机制定。")


class PlanPage(Page):
    """Renders the draft and its forecast."""

    title = say("Plan", "计划")

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self.subtitle_for(context.machine.machine)
        self.head.addWidget(button(say("Open recipe…", "打开配方…"), self._open, shortcut="Ctrl+Shift+R"))
        self.head.addWidget(button(say("Save recipe…", "保存配方…"), self._save, shortcut="Ctrl+S"))
        context.plan.changed.connect(self.refresh)
        context.draft.changed.connect(self.refresh)
        for signal in (context.runs.changed, context.runs.selected, context.project.changed):
            signal.connect(self._runs_changed)

    def subtitle_for(self, machine: Machine | None) -> None:
        """Say what the plan is made for."""
        self.set_subtitle(
            machine_words(machine) if machine is not None else say("Looking at the machine…", "正在检测本机…")
        )

    # --------------------------------------------------------------------------------------------------- four states
    def refresh(self) -> None:
        """Show what the plan state says."""
        context = self.context
        self.subtitle_for(context.machine.machine)
        failure, step, words = self._trouble()
        if failure is not None:
            self.show_banner().wrong(failure, self._to(step, words))
        elif context.plan.forecast is not None:
            self.show_body()
            self._fill(context.plan.forecast)
        else:
            self._show_missing()

    def _trouble(self) -> tuple[Failure | None, str, Text]:
        """What is wrong with the model or the data, the step where it can be mended, and the words for going there."""
        context = self.context
        unplanned = context.plan.forecast is None
        if unplanned and context.plan.failure is None and context.data.status.phase is Phase.WRONG:
            return context.data.status.failure, "data", say("Go to the data", "前往数据")
        failure = context.plan.failure or (context.models.chosen_status.failure if unplanned else None)
        return failure, "model", say("Choose another model", "选择其他模型")

    def _show_missing(self) -> None:
        """What a plan still waits for."""
        context = self.context
        if context.data.status.phase is Phase.WORKING or context.models.chosen_status.phase is Phase.WORKING:
            self.show_banner().working(say("Waiting for data and model…", "正在等待数据与模型…"), None)
        elif not context.data.facts:
            self.show_banner().empty(say("Import data first", "请先导入数据"), MADE_FOR, self._to("data"))
        elif not context.models.chosen:
            self.show_banner().empty(say("Choose a model first", "请先选择模型"), MADE_FOR, self._to("model"))
        else:
            self.show_banner().working(say("Looking at the machine…", "正在检测本机…"), None)

    def _to(self, step: str, words: Text | None = None) -> QPushButton:
        names = {"data": say("Import data", "导入数据"), "model": say("Choose a model", "选择模型")}
        go = partial(self.context.wizard.go, step)
        return button(words or names[step], go, "primary", shortcut="Ctrl+Return")

    def _runs_changed(self) -> None:
        """Whether a run can be started is another matter now; a page that nobody looks at is refreshed when shown."""
        if self.isVisible() and self.is_ready and self.context.plan.forecast is not None:
            self._fill_footer(self.context.plan.forecast)

    # ---------------------------------------------------------------------------------------------------------- body
    def build(self) -> QWidget:
        """Memory, methods and objective, settings, summary, footer."""
        middle = row(self._methods_card(), self._settings_card(), spacing=14)
        middle.setStretch(0, 1)
        middle.setStretch(1, 1)
        self._start = button(say("Start training", "开始训练"), self._begin, "primary", shortcut="Ctrl+Return")
        self._advice = button(say("Use the advice", "采用建议"), self._take_advice, shortcut="Ctrl+D")
        self._footer = Footer(self._advice, self._start)
        body = column(self._fit_card(), middle, self._footer, spacing=14)
        body.setStretch(1, 1)
        made = holder(body)
        self._form.rebuilt.connect(self._order_tabs)
        self._order_tabs()
        return made

    def _order_tabs(self) -> None:
        """As one reads: the settings between the button above them and those of the footer."""
        order = [self._all, self._form.search, *self._form.controls(), self._advice, self._start]
        for before, after in pairwise(order):
            QWidget.setTabOrder(before, after)

    def _fit_card(self) -> Card:
        self._bar = StackedBar()
        self._verdict = Chip("", GOOD)
        card = Card(say("Will it fit?", "放得下吗？"), " ", self._bar)
        card.head.insertWidget(1, self._verdict)
        self._peak = card.note
        self._nearest = label("", "warn", wrap=True)
        self._nearest.hide()
        card.body.addWidget(self._nearest)
        return card

    def _methods_card(self) -> Card:
        self._methods = ChoiceList(list(METHODS))
        self._methods.group.buttonClicked.connect(self._choose_method)
        self._objective = ChoiceEditor([(item.name, item.label) for item in OBJECTIVES.values()])
        self._objective.control.setAccessibleName(tr(say("What is learned", "学习目标")))
        self._objective.edited.connect(lambda name: operations.set_objective(self.context, str(name)))
        self._objective_row = holder(
            row(label(say("What is learned", "学习目标"), "muted"), self._objective, margins=(0, 4, 0, 0))
        )
        self._why = column(spacing=5)
        card = Card(
            say("Method", "方法"),
            "",
            self._methods,
            self._objective_row,
            rule(),
            label(say("Why this plan", "为何如此计划"), "card"),
            self._why_area(),
        )
        card.body.setStretch(card.body.count() - 1, 1)
        return card

    def _why_area(self) -> QWidget:
        from gui.widgets.scroll import scrolled

        self._why.addStretch(1)
        return scrolled(holder(self._why))

    def _settings_card(self) -> Card:
        self._form = RecipeForm(self.context.draft)
        self._all = tool("", self._toggle_all)
        self._all.setShortcut("Ctrl+F")
        card = Card(say("Settings", "设置"), "", self._form, rule())
        card.corner(self._all)
        self._summary = Facts(spacing=5, columns=2)
        card.body.addWidget(self._summary)
        card.body.setStretch(0, 1)
        return card

    # ---------------------------------------------------------------------------------------------------------- fill
    def _fill(self, forecast: Forecast) -> None:
        self._fill_fit(forecast)
        self._fill_methods()
        self._fill_why()
        self._fill_summary(forecast)
        self._fill_footer(forecast)

    def _fill_fit(self, forecast: Forecast) -> None:
        parts = forecast.memory.parts
        shown = [(tr(name), sum(parts[key] for key in keys)) for name, keys in BAR_PARTS]
        usable = forecast.room.usable_gib
        self._bar.put([Part(name, value, gib(value)) for name, value in shown], usable)
        self._peak.setText(tr(peak_words(forecast)))
        self._peak.setToolTip(tr(kept_words(forecast)))
        self._verdict.put(*verdict(forecast))
        nearest = self.context.plan.advice.nearest if self.context.plan.advice is not None else None
        self._nearest.setVisible(not forecast.fits and bool(nearest))
        self._nearest.setText(tr(nearest) if nearest else "")

    def _fill_methods(self) -> None:
        plan, chosen = self.context.plan, self.context.draft.recipe.method.name
        options = {option.method: option for option in plan.advice.alternatives} if plan.advice is not None else {}
        follows = operations.follows_any_advice(self.context)
        for name, card in self._methods.cards.items():
            own = name == chosen
            needs = options[name].forecast if follows and name in options and not own else plan.methods[name]
            settings = self.context.draft.recipe.method if own else operations.settings_for(self.context, name)
            chip, tone = ("", PLAIN) if needs.fits else (say("does not fit", "放不下"), BAD)
            if plan.advice is not None and plan.advice.recipe.method.name == name and needs.fits:
                chip, tone = say("recommended", "推荐"), PLAIN
            costs = f"{gib(needs.memory.total)} · {duration(needs.seconds)}"
            card.put(METHODS[name].describe(settings), METHODS[name].summary, costs, chip, tone)
        self._methods.choose(chosen)
        self._objective.put(self.context.draft.recipe.objective.name)
        facts = operations.data_facts(self.context)
        self._objective_row.setVisible(facts is not None and facts.preference)

    def _fill_why(self) -> None:
        from gui.widgets.basic import clear

        clear(self._why)
        advice = self.context.plan.advice
        for reason in advice.reasons if advice is not None else ():
            self._why.addWidget(label(reason, "muted", wrap=True))
        self._why.addStretch(1)

    def _fill_summary(self, forecast: Forecast) -> None:
        recipe, dims = self.context.draft.recipe, self.context.plan.dims
        every, trained = dims.parameters() if dims is not None else 0, forecast.trained_parameters
        share = f" ({percent(trained / every, 1)})" if every else ""
        rows = count(recipe.effective_batch)
        steps = say("{n}, {m} rows each", "{n}，每步 {m} 行", n=count(forecast.steps), m=rows)
        need, free = size(forecast.disk_bytes), size(self.context.plan.disk_free)
        self._summary.put(
            [
                (say("Steps", "步数"), steps),
                (say("Time", "时间"), say("about {time}", "约 {time}", time=duration(forecast.seconds))),
                (say("Trained", "训练"), parameters(trained) + share),
                (say("Disk", "磁盘"), say("{need} of {free}", "{need} / {free}", need=need, free=free)),
            ]
        )
        number = sum(1 for _ in fields_of(self.context.draft))
        few = say("basic settings only", "只看基本设置")
        self._all.setText(
            tr(few if self._form.shows_all else say("all {n} settings", "全部 {n} 项设置", n=number)) + " ▾"
        )

    def _fill_footer(self, forecast: Forecast) -> None:
        follows = operations.follows_advice(self.context)
        self._advice.setVisible(not follows)
        running = self.context.project.trains(self.context.runs)
        reading = self.context.data.status.phase is not Phase.READY
        self._start.setEnabled(not running and not reading)
        if running:
            words = say(
                "A run is under way; the next can start when it ends.", "有训练正在进行，结束后才能开始下一次。"
            )
        elif reading:
            words = say("The data are being read…", "正在读取数据……")
        elif not forecast.fits:
            words = say(
                "It will probably run out of memory. Take the advice, or lower the settings.",
                "很可能内存不足；请采用建议，或降低设置。",
            )
        elif follows:
            words = say("As advised for this machine, model and data.", "已按本机、模型与数据的建议设置。")
        else:
            words = say("Your own settings; the advice differs.", "使用你自己的设置，与建议不同。")
        self._footer.say(words)

    # ------------------------------------------------------------------------------------------------------- actions
    def _choose_method(self, card: QAbstractButton) -> None:
        if isinstance(card, ChoiceCard):
            operations.choose_method(self.context, card.name)

    def _toggle_all(self) -> None:
        self._form.show_all(not self._form.shows_all)
        self.refresh()

    def _take_advice(self) -> None:
        operations.take_advice(self.context)

    def _begin(self) -> None:
        operations.start_training(self.context)

    def _open(self) -> None:
        chosen, _ = QFileDialog.getOpenFileName(self, tr(say("Open a recipe", "打开配方")), "", "TOML (*.toml)")
        if chosen:
            operations.open_recipe(self.context, Path(chosen))

    def _save(self) -> None:
        chosen, _ = QFileDialog.getSaveFileName(
            self, tr(say("Save the recipe", "保存配方")), "recipe.toml", "TOML (*.toml)"
        )
        if chosen:
            operations.save_recipe(self.context, Path(chosen))


def peak_words(forecast: Forecast) -> Text:
    """The prediction beside what a run may use, and what it leaves alone."""
    room = forecast.room
    return say(
        "predicted peak {total} of {usable} · {kept} stay free",
        "预计峰值 {total} / {usable} · 另留 {kept}",
        total=gib(forecast.memory.total),
        usable=gib(room.usable_gib),
        kept=gib(room.free_gib - room.usable_gib),
    )


def kept_words(forecast: Forecast) -> Text:
    """Why a run does not use all that is free."""
    room = forecast.room
    return say(
        "{free} are free now. A run plans with {share} of them; the rest is for other programs and what no forecast "
        "sees.",
        "目前可用 {free}。训练只按其中的 {share} 规划，其余留给其他程序及无法预测的开销。",
        free=gib(room.free_gib),
        share=percent(room.usable_gib / room.free_gib if room.free_gib else 0.0),
    )


def verdict(forecast: Forecast) -> tuple[Text, str]:
    """The judgement in words, and its tone."""
    spare = gib(abs(forecast.spare_gib))
    if not forecast.fits:
        return say("{n} too much", "超出 {n}", n=spare), BAD
    if forecast.tight:
        return say("fits closely, {n} to spare", "勉强放得下，余 {n}", n=spare), WARN
    return say("fits with {n} to spare", "放得下，余 {n}", n=spare), GOOD


def machine_words(machine: Machine) -> str:
    """The machine in one line: card, memory, driver, CUDA, or the processor."""
    gpu = machine.gpu
    ram = tr(say("{n} RAM", "内存 {n}", n=gib(machine.ram_total_gib)))
    if gpu is None:
        cores = tr(say("{n} cores", "{n} 核", n=machine.cores))
        no_gpu = tr(say("no NVIDIA GPU: trains on the CPU", "没有 NVIDIA GPU：用 CPU 训练"))
        return " · ".join(part for part in (machine.cpu, cores, ram, no_gpu) if part)
    parts = [gpu.name, gib(gpu.total_gib)]
    if gpu.driver:
        parts.append(tr(say("driver {v}", "驱动 {v}", v=gpu.driver)))
    if gpu.cuda:
        parts.append(f"CUDA {gpu.cuda}")
    if gpu.bf16:
        parts.append("bf16")
    return " · ".join([*parts, ram])
