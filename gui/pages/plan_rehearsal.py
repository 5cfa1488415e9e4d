"""The Plan page's card of the rehearsal: the longest rows are tried for seconds, so that what starts is what fits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QGridLayout, QProgressBar, QPushButton, QWidget

from engine.protocol.text import NOTHING, Text, say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import count, duration, gib, size
from gui.operations import rehearse as operations
from gui.operations.rehearse import Standing
from gui.state.notices import details_of
from gui.widgets.banner import progress_words, show_progress
from gui.widgets.bars import ThinBar
from gui.widgets.basic import ElidedLabel, button, column, copy, holder, label, rename, row, set_role
from gui.widgets.card import Card
from gui.widgets.chip import BAD, GOOD, PLAIN, WARN, Chip

if TYPE_CHECKING:
    from engine.protocol.events import Rehearsed

OFFER = say(
    "Runs the longest rows for about 20 seconds, so that a run that starts is a run that fits.",
    "用约 20 秒试跑最长的行：能开始的训练就能跑完。",
)
STARTING = say("Starting…", "正在启动…")
BUSY = say("A run is under way; it needs the memory.", "有训练正在进行，内存由它使用。")
CHIPS: dict[str, tuple[Text, str]] = {
    "holds": (say("holds", "可跑通"), GOOD),
    "close": (say("holds, closely", "勉强跑通"), WARN),
    "out_of_memory": (say("out of memory", "内存不足"), BAD),
    "killed": (say("ended by the system", "被系统终止"), BAD),
}
STALE = say(
    "Recipe, data or model are others now: these are the figures of before.",
    "配方、数据或模型已改变，以下为此前的数据。",
)


class RehearsalCard(Card):
    """Renders the job that rehearses, and whether what it measured is still of this draft."""

    def __init__(self, context: AppContext) -> None:
        super().__init__()
        self._context = context
        self.setAccessibleName(tr(say("Rehearsal", "排练")))
        self.layout().setContentsMargins(16, 10, 16, 10)  # type: ignore[union-attr]
        self._chip, self._words = Chip(), label("", "muted", wrap=True)
        self._chip_holder = holder(row(self._chip))
        self._far = label("", "facts")
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        self._bar.setFixedWidth(160)
        self._make_buttons()
        head = row(
            label(say("Rehearsal", "排练"), "card"), self._chip_holder, self._words, self._bar, self._far, *self.buttons
        )
        head.setStretch(2, 1)
        self._figures = _Figures()
        self.body.addLayout(head)
        self.body.addWidget(self._figures)
        self._connect()
        operations.find(context)

    def _make_buttons(self) -> None:
        context = self._context
        self.begin = button(say("Rehearse", "排练"), partial(operations.begin, context), shortcut="Ctrl+R")
        self.cancel = button(say("Cancel", "取消"), partial(operations.end, context), shortcut="Ctrl+.")
        self.settle = button(
            say("Find one that holds", "找到能跑通的"),
            partial(operations.begin, context, settle=True),
            shortcut="Ctrl+Shift+F",
            tip=say("Rehearses the next recipes down until one holds", "依次排练更省内存的配方，直到跑通"),
        )
        self.take = button(say("Change the plan", "改用此配方"), self._take, "primary", shortcut="Ctrl+Shift+Return")
        self.details = button(say("Copy details", "复制详情"), self._copy, shortcut="Ctrl+Shift+C")
        self.buttons: tuple[QPushButton, ...] = (self.details, self.cancel, self.begin, self.settle, self.take)

    def _connect(self) -> None:
        context, view = self._context, self._context.rehearsal
        for signal in (view.changed, context.plan.changed, context.draft.changed, context.runs.changed):
            signal.connect(self.refresh)
        view.finished.connect(self._finished)
        context.project.opened.connect(self._find)
        context.runs.selected.connect(self._give_way)

    def _finished(self) -> None:
        operations.finished(self._context)

    def _find(self) -> None:
        operations.find(self._context)

    def _give_way(self) -> None:
        operations.give_way(self._context)

    def showEvent(self, event: QShowEvent) -> None:
        """Catch up."""
        super().showEvent(event)
        self.refresh()

    # ------------------------------------------------------------------------------------------------------- the states
    @property
    def sentence(self) -> str:
        """The sentence now shown."""
        return self._words.text()

    def refresh(self) -> None:
        """Show what the states say now; a card that nobody sees does so when it is shown."""
        if not self.isVisible():
            return
        ways: dict[Standing, Callable[[], None]] = {
            Standing.NONE: self._show_none,
            Standing.WORKING: self._show_working,
            Standing.HELD: self._show_held,
            Standing.SETTLED: self._show_settled,
            Standing.FAILED: self._show_failed,
            Standing.STALE: self._show_stale,
            Standing.BROKEN: self._show_broken,
        }
        ways[operations.standing(self._context)]()
        self.begin.setEnabled(operations.can_begin(self._context))
        self.settle.setEnabled(operations.can_begin(self._context))

    def _show(
        self, words: Text, *buttons: QPushButton, chip: tuple[Text, str] | None = None, of: Rehearsed | None = None
    ) -> None:
        for each in self.buttons:
            each.setVisible(each in buttons)
        self._bar.setVisible(self.cancel in buttons)
        self._far.setVisible(self.cancel in buttons)
        self._chip_holder.setVisible(chip is not None)
        if chip is not None:
            self._chip.put(*chip)
        self._words.setText(tr(words))
        self._words.setVisible(bool(words))
        set_role(self._words, "muted")
        self._figures.setVisible(of is not None)
        if of is not None:
            self._figures.put(of)

    def _show_none(self) -> None:
        busy = self._context.project.trains(self._context.runs)
        rename(self.begin, say("Rehearse", "排练"))
        self._show(BUSY if busy else OFFER, self.begin)

    def _show_working(self) -> None:
        view = self._context.rehearsal
        self._show(view.state.stage or STARTING, self.cancel)
        show_progress(self._bar, view.state.progress)
        self._far.setText(progress_words(view.state.progress))
        self.cancel.setEnabled(not view.is_stopping)

    def _again(self) -> None:
        rename(self.begin, say("Rehearse again", "重新排练"))

    def _show_held(self) -> None:
        found = self._last
        self._again()
        self._show(held_words(found), self.begin, chip=CHIPS[found.verdict], of=found)

    def _show_stale(self) -> None:
        found = self._last
        self._again()
        of = found if found.held else None
        self._show(STALE if found.held else OFFER, self.begin, chip=(say("outdated", "已过期"), PLAIN), of=of)

    def _show_settled(self) -> None:
        found = self._last
        words = say(
            "Your plan ran out of memory; this holds: {change}.",
            "你的计划内存不足；改为以下可跑通：{change}。",
            change=self._changes(self._context.rehearsal.state.rehearsed[:-1]),
        )
        rename(self.take, say("Change the plan", "改用此配方"))
        self._show(words, self.take, chip=CHIPS[found.verdict], of=found)

    def _show_failed(self) -> None:
        found = self._last
        self._again()
        if not found.next_recipe:
            self._show(nothing_left(found), self.begin, self.details, chip=CHIPS[found.verdict])
            return
        words = failed_words(found, self._changes(self._context.rehearsal.state.rehearsed))
        self._show(words, self.settle, self.take, chip=CHIPS[found.verdict])

    def _show_broken(self) -> None:
        failure = self._context.rehearsal.state.failure
        self._again()
        words = (
            say("{message} {hint}", "{message}{hint}", message=failure.message, hint=failure.hint)
            if failure
            else NOTHING
        )
        self._show(words, self.details, self.begin, chip=(say("failed", "失败"), BAD))

    # ---------------------------------------------------------------------------------------------------------- actions
    @property
    def _last(self) -> Rehearsed:
        found = operations.last(self._context)
        assert found is not None
        return found

    def _changes(self, tried: tuple[Rehearsed, ...]) -> Text:
        """All that was given up on the way down from the draft, step by step."""
        changes = [each.next_change for each in tried]
        return Text("; ".join(text.en for text in changes), "；".join(text.zh for text in changes))

    def _take(self) -> None:
        found = self._last
        operations.take(self._context, found.recipe if found.held else found.next_recipe)

    def _copy(self) -> None:
        last = operations.last(self._context)
        failure = self._context.rehearsal.state.failure or (last.failure if last is not None else None)
        if failure is not None:
            copy(details_of(failure))


class _Figures(QWidget):
    """Predicted and measured memory as bars, and beside them what else was measured."""

    def __init__(self) -> None:
        super().__init__()
        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(10)
        grid.setVerticalSpacing(4)
        self._told, self._measured = ThinBar(), ThinBar()
        self._told_words, self._measured_words = label("", "facts"), label("", "strong")
        lines = (
            (say("Predicted", "预计"), self._told, self._told_words),
            (say("Measured", "实测"), self._measured, self._measured_words),
        )
        for line, (name, bar, words) in enumerate(lines):
            grid.addWidget(label(name, "facts"), line, 0)
            grid.addWidget(bar, line, 1, Qt.AlignmentFlag.AlignVCenter)
            grid.addWidget(words, line, 2)
        grid.setColumnStretch(1, 1)
        self._time, self._rest = ElidedLabel("", "facts"), ElidedLabel("", "facts")
        both = row(holder(grid), holder(column(self._time, self._rest, spacing=4)), spacing=24)
        both.setStretch(0, 2)
        both.setStretch(1, 3)
        self.setLayout(both)

    def put(self, found: Rehearsed) -> None:
        """Show figures."""
        whole = max(found.usable_gib or 0.0, found.peak_gib or 0.0, found.predicted_gib or 0.0, 1e-9)
        self._told.put(0.0, behind=(found.predicted_gib or 0.0) / whole)
        self._measured.put((found.peak_gib or 0.0) / whole)
        self._told_words.setText(gib(found.predicted_gib))
        self._measured_words.setText(gib(found.peak_gib))
        self._told.setAccessibleName(f"{tr(say('Predicted', '预计'))} {gib(found.predicted_gib)}")
        self._measured.setAccessibleName(f"{tr(say('Measured', '实测'))} {gib(found.peak_gib)}")
        self._time.setText(tr(time_words(found)))
        self._rest.setText(tr(rest_words(found)))


def held_words(found: Rehearsed) -> Text:
    """How long the run will take by what was measured, and what the plan had said."""
    return say(
        "The run will take about {time} (the plan said {told}).",
        "训练约需 {time}（计划为 {told}）。",
        time=duration(found.seconds),
        told=duration(found.predicted_seconds),
    )


def time_words(found: Rehearsed) -> Text:
    """Seconds of steps and measurements."""
    words = say(
        "{step} a step, {longest} on the longest rows ({tokens} tokens)",
        "每步 {step}，最长的行（{tokens} 词元）{longest}",
        step=seconds(found.step_seconds),
        longest=seconds(found.longest_step_seconds),
        tokens=count(found.longest),
    )
    if found.evaluation_seconds is None:
        return words
    measured = say("measuring {time}", "评估 {time}", time=seconds(found.evaluation_seconds))
    return say("{words} · {measured}", "{words} · {measured}", words=words, measured=measured)


def rest_words(found: Rehearsed) -> Text:
    """Checkpoint, disk and generation."""
    speed = found.disk_bytes_per_second
    disk = (
        say("disk {speed}/s", "磁盘 {speed}/秒", speed=size(speed))
        if speed
        else say("disk nearly full", "磁盘几乎已满")
    )
    return say(
        "checkpoint {size} in {time} · {disk} · answers {rate} tokens/s",
        "检查点 {size}，{time} · {disk} · 生成 {rate} 词元/秒",
        size=size(found.checkpoint_bytes),
        time=seconds(found.checkpoint_seconds),
        disk=disk,
        rate=count(found.tokens_per_second or 0.0),
    )


def failed_words(found: Rehearsed, change: Text) -> Text:
    """What to change."""
    return say(
        "It did not fit in {free}. Next: {change} (about {need}, {time}).",
        "{free} 放不下。下一步：{change}（约 {need}，{time}）。",
        free=gib(found.free_gib),
        change=change,
        need=gib(found.next_gib),
        time=duration(found.next_seconds),
    )


def nothing_left(found: Rehearsed) -> Text:
    """What to do when no setting saves any more."""
    return say(
        "It did not fit in {free}, and no setting saves more: take a smaller model or shorter rows, or close other "
        "programs.",
        "{free} 放不下，且已无可再省的设置：请换更小的模型、缩短行，或关闭其他程序。",
        free=gib(found.free_gib),
    )


def seconds(value: float | None) -> str:
    """A short span of time: "0.42 s", "12 s", "3 min"."""
    if value is None or value >= 10:
        return duration(value)
    return tr(say("{n} s", "{n} 秒", n=f"{value:.2g}"))
