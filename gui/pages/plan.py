"""The Plan page: will it fit, by which method, with which settings, how long, and why."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtWidgets import QFileDialog, QPushButton, QSizePolicy, QWidget

from engine.machine.table import CARDS
from engine.protocol.text import Text, say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import count, duration, gib, parameters, percent
from gui.operations import plan as operations
from gui.operations.plan_effects import SLIDERS
from gui.pages.page import Page
from gui.pages.plan_compare import ComparePanel
from gui.pages.plan_method import MethodPanel
from gui.pages.plan_rehearsal import RehearsalCard
from gui.pages.plan_words import bar_parts, disk_words, effects, kept_words, machine_words, peak_words, verdict
from gui.state.phase import Phase
from gui.widgets.bars import StackedBar
from gui.widgets.basic import button, column, holder, label, rename, row, tool
from gui.widgets.card import Card
from gui.widgets.chip import GOOD, Chip
from gui.widgets.editors import ChoiceEditor
from gui.widgets.facts import Facts
from gui.widgets.footer import Footer
from gui.widgets.form import RecipeForm, fields_of
from gui.widgets.tabs import Tabs

if TYPE_CHECKING:
    from engine.machine.detect import Machine
    from engine.machine.forecast import Forecast
    from engine.protocol.errors import Failure

MADE_FOR = say("The plan is made for your data, your model and this machine.", "计划会根据你的数据、模型与本机制定。")
HERE = "here"
"""The choice of this machine among the cards that can be imagined."""


class PlanPage(Page):
    """Renders the draft and its forecast."""

    title = say("Plan", "计划")

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self._shown_outcomes: object = None
        self.subtitle_for(context.machine.machine)
        self.head.addWidget(button(say("Open recipe…", "打开配方…"), self._open, shortcut="Ctrl+Shift+R"))
        self.head.addWidget(button(say("Save recipe…", "保存配方…"), self._save, shortcut="Ctrl+S"))
        context.plan.changed.connect(self.refresh)
        for signal in (context.runs.changed, context.runs.selected, context.project.changed):
            signal.connect(self._runs_changed)

    def subtitle_for(self, machine: Machine | None) -> None:
        """Say what the plan is made for."""
        imagined = self.context.plan.imagined_gib
        if imagined is not None:
            self.set_subtitle(
                say(
                    "Planned for {card}, not for this machine as it is.",
                    "按{card}规划，而非本机现状。",
                    card=card_words(imagined),
                )
            )
        elif machine is not None:
            self.set_subtitle(machine_words(machine))
        else:
            self.set_subtitle(say("Looking at the machine…", "正在检测本机…"))

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
        """Memory, methods or comparison beside the settings, what is tried before a run, footer."""
        fit = self._fit_card()
        middle = row(self._choice_card(), self._settings_card(), spacing=14)
        middle.setStretch(0, 5)
        middle.setStretch(1, 6)
        self._start = button(say("Start training", "开始训练"), self._begin, "primary", shortcut="Ctrl+Return")
        self._advice = button(say("Use the advice", "采用建议"), self._take_advice, shortcut="Ctrl+D")
        self._wait = button(say("Start after it", "在其后开始"), self._queue, shortcut="Ctrl+Shift+Return")
        self._footer = Footer(self._advice, self._wait, self._start)
        body = column(fit, middle, *self._tried(), self._footer, spacing=12)
        body.setStretch(1, 1)
        made = holder(body)
        self._form.rebuilt.connect(self._order_tabs)
        self._order_tabs()
        return made

    def _tried(self) -> list[QWidget]:
        """What is tried before a run starts, each a card as wide as the page."""
        cards: list[QWidget] = [RehearsalCard(self.context)]
        for card in cards:
            card.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        return cards

    def _order_tabs(self) -> None:
        """As one reads: the left side, then the settings, then the footer."""
        left = [*self._views.buttons.values(), *self._method.controls(), *self._compare.controls()]
        order = [self._card.control, *left, self._all, self._form.search, *self._form.controls()]
        for before, after in pairwise([*order, self._advice, self._wait, self._start]):
            QWidget.setTabOrder(before, after)

    def _fit_card(self) -> Card:
        self._bar = StackedBar()
        self._verdict = Chip("", GOOD)
        self._summary = Facts(spacing=5, columns=4, inline=True)
        card = Card(say("Will it fit?", "放得下吗？"), " ", self._bar, self._summary, spacing=7)
        card.head.insertWidget(1, self._verdict)
        self._peak = card.note
        card.corner(self._cards())
        self._nearest = label("", "warn", wrap=True)
        self._cut = button("", self._cut_rows, "small", shortcut="Ctrl+Shift+L")
        self._nearest_row = holder(row(self._nearest, self._cut))
        card.body.addWidget(self._nearest_row)
        return card

    def _cards(self) -> QWidget:
        """The choice of a card to plan for."""
        others: list[tuple[str | float, Text | str]] = [(HERE, say("for this machine", "按本机"))]
        others += [(float(n), say("for {card}", "按{card}", card=card_words(n))) for n in (*CARDS, 0)]
        self._card = ChoiceEditor(others)
        self._card.control.setAccessibleName(tr(say("Plan for", "规划对象")))
        self._card.control.setToolTip(tr(say("See what another card would make possible", "看看换一张显卡能做到什么")))
        self._card.edited.connect(self._imagine)
        return self._card

    def _choice_card(self) -> Card:
        self._method, self._compare = MethodPanel(self.context), ComparePanel(self.context)
        self._views = Tabs()
        self._views.add("method", say("Method", "方法"), self._method, shortcut="Alt+M")
        self._views.add("compare", say("Compare two", "对比两个"), self._compare, shortcut="Alt+C")
        bar = self._views.bar
        bar.addStretch(1)
        return Card("", "", bar, self._views, spacing=8)

    def _settings_card(self) -> Card:
        self._form = RecipeForm(self.context.draft, sliders=SLIDERS, also=("method.rank",))
        self._all = tool("", self._toggle_all)
        self._all.setShortcut("Ctrl+F")
        card = Card(say("Settings", "设置"), "", self._form)
        card.corner(self._all)
        return card

    # ---------------------------------------------------------------------------------------------------------- fill
    def _fill(self, forecast: Forecast) -> None:
        self._fill_fit(forecast)
        self._fill_summary(forecast)
        self._method.fill()
        self._compare.fill(forecast)
        if self._shown_outcomes is not self.context.plan.outcomes:
            self._shown_outcomes = self.context.plan.outcomes
            self._form.put_effects(effects(self.context.draft.recipe, self._shown_outcomes))
        self._fill_footer(forecast)

    def _fill_fit(self, forecast: Forecast) -> None:
        self._bar.put(bar_parts(forecast), forecast.room.usable_gib)
        self._peak.setText(tr(peak_words(forecast)))
        self._peak.setToolTip(tr(kept_words(forecast)))
        self._verdict.put(*verdict(forecast))
        imagined = self.context.plan.imagined_gib
        self._card.put(HERE if imagined is None else imagined)
        advice = self.context.plan.advice
        nearest = advice.nearest if advice is not None and not forecast.fits else None
        self._nearest_row.setVisible(nearest is not None)
        self._nearest.setText(tr(nearest) if nearest else "")
        tokens = self._shorter
        self._cut.setVisible(bool(tokens))
        rename(self._cut, say("Cut at {n}", "截断至 {n}", n=count(tokens)))

    @property
    def _shorter(self) -> int:
        """The longest row with which it would fit, 0 where that is no way out."""
        advice = self.context.plan.advice
        changes = advice.changes if advice is not None else ()
        return next((int(each.amount) for each in changes if each.kind == "rows"), 0)

    def _fill_summary(self, forecast: Forecast) -> None:
        recipe, dims = self.context.draft.recipe, self.context.plan.dims
        every, trained = dims.parameters() if dims is not None else 0, forecast.trained_parameters
        share = f" ({percent(trained / every, 1)})" if every else ""
        rows = count(recipe.effective_batch)
        steps = say("{n}, {m} rows each", "{n}，每步 {m} 行", n=count(forecast.steps), m=rows)
        self._summary.put(
            [
                (say("Steps", "步数"), steps),
                (say("Time", "时间"), say("about {time}", "约 {time}", time=duration(forecast.seconds))),
                (say("Trained", "训练"), parameters(trained) + share),
                (say("Disk", "磁盘"), disk_words(forecast.disk_bytes, self.context.plan.disk_free)),
            ]
        )
        number = sum(1 for _ in fields_of(self.context.draft))
        few = say("basic settings only", "只看基本设置")
        words = few if self._form.shows_all else say("all {n} settings", "全部 {n} 项设置", n=number)
        rename(self._all, f"{tr(words)} ▾")

    def _fill_footer(self, forecast: Forecast) -> None:
        follows = operations.follows_advice(self.context)
        self._advice.setVisible(not follows)
        running = self.context.project.trains(self.context.runs)
        reading = self.context.data.status.phase is not Phase.READY
        elsewhere = self.context.plan.imagined_gib is not None
        self._start.setEnabled(not running and not reading and not elsewhere)
        self._wait.setVisible(running)
        self._wait.setEnabled(not reading and not elsewhere)
        self._footer.say(footer_words(running, reading, elsewhere, fits=forecast.fits, follows=follows))

    # ------------------------------------------------------------------------------------------------------- actions
    def _imagine(self, chosen: object) -> None:
        operations.imagine(self.context, chosen if isinstance(chosen, float) else None)

    def _cut_rows(self) -> None:
        operations.cut_rows(self.context, self._shorter)

    def _toggle_all(self) -> None:
        self._form.show_all(not self._form.shows_all)
        self.refresh()

    def _take_advice(self) -> None:
        operations.take_advice(self.context)

    def _begin(self) -> None:
        operations.start_training(self.context)

    def _queue(self) -> None:
        operations.queue_training(self.context)

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


def card_words(memory: float) -> Text:
    """A card that is planned for, by its memory; 0 is the CPU."""
    if not memory:
        return say("the CPU", " CPU ")
    return say("a card with {n}", " {n} 显卡", n=gib(memory).replace(".0", ""))


def footer_words(running: bool, reading: bool, elsewhere: bool, *, fits: bool, follows: bool) -> Text:
    """Why the run can be started or not, and whose settings it has."""
    if running:
        return say("A run is under way; the next can start when it ends.", "有训练正在进行，结束后才能开始下一次。")
    if reading:
        return say("The data are being read…", "正在读取数据……")
    if elsewhere:
        return say(
            "Planned for another card: save the recipe and run it there, or plan for this machine again.",
            "这是为另一张显卡做的计划：保存配方到那里运行，或改回按本机规划。",
        )
    if not fits:
        return say(
            "It will probably run out of memory. Take the advice, or lower the settings.",
            "很可能内存不足；请采用建议，或降低设置。",
        )
    if follows:
        return say("As advised for this machine, model and data.", "已按本机、模型与数据的建议设置。")
    return say("Your own settings; the advice differs.", "使用你自己的设置，与建议不同。")
