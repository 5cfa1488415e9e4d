"""The strip above the curves while a run stands still or ends: why, until when, what it holds, and what one can do."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from PySide6.QtCore import QTimer
from PySide6.QtGui import QHideEvent, QShowEvent

from engine.protocol.events import PAUSED, Waiting
from engine.protocol.state import JobState
from engine.protocol.text import NOTHING, Text, say
from gui.i18n.language import tr
from gui.i18n.numbers import clock, count, duration, gib
from gui.pages.train_words import on_gpu, waits_for_disk
from gui.state.job import RUNGS, STOPPING, JobView
from gui.state.run import at_risk, unsaved
from gui.widgets.basic import button, label, rename, row
from gui.widgets.card import Card
from gui.widgets.chip import BAD, GOOD, PLAIN, WARN, Chip

TICK_MS = 500
FREE, RETRY, END = "free", "retry", "end"
FREE_CARD = say("Pause and free the card", "暂停并释放显卡")
FORCED = {
    "terminated": say("It had to be ended: it did not answer.", "它没有响应，已被结束。"),
    "killed": say("Ended by force: it did not answer.", "它没有响应，已被强制结束。"),
}
DISK = {
    "disk.full": say("disk full", "磁盘已满"),
    "disk.gone": say("disk gone", "磁盘已断开"),
    "disk.read_only": say("read-only", "磁盘只读"),
}
"""Code of what a run waits for → its chip."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the strip says.

    Attributes:
        word, tone: of its chip.
        sentence: why it stands, and until when.
        offers: of `FREE`, `RETRY` and `END`.
        ticks: the sentence counts down.
    """

    word: Text
    tone: str
    sentence: Text
    offers: tuple[str, ...] = ()
    ticks: bool = False


def standing(job: JobView, now: float, ticks: float) -> Standing | None:
    """What there is to say, None while a run simply works or has simply ended.

    Args:
        now: seconds since the epoch.
        ticks: the monotonic clock.
    """
    state = job.state
    if job.is_stopping:
        return Standing(say("stopping", "正在停止"), WARN, _stopping(job, ticks), (END,), True)
    if state.waiting is not None and waits_for_disk(state):
        return Standing(disk_word(state.waiting), BAD, _for_disk(state, state.waiting), (FREE, RETRY))
    if state.waiting is not None:
        has_end = state.waiting.until > 0
        return Standing(say("paused", "已暂停"), WARN, _paused(state, state.waiting, now), (FREE,), has_end)
    if state.status == PAUSED:
        return Standing(say("paused", "已暂停"), PLAIN, _given_up(state))
    if state.is_over and (state.rung in FORCED or job.freed):
        forced = FORCED.get(state.rung, NOTHING)
        text = say("{forced} {freed}", "{forced}{freed}", forced=forced, freed=job.freed)
        words = Text(text.en.strip(), text.zh)
        return Standing(say("stopped", "已停止"), WARN if forced else GOOD, words)
    return None


def _stopping(job: JobView, ticks: float) -> Text:
    what = RUNGS.get(job.rung, STOPPING)
    left = job.next_rung_at - ticks
    if job.rung == "killed" or left <= 0:
        return what
    return say(
        "{what} The next step comes in {time}.",
        "{what}{time}后采取下一步。",
        what=what,
        time=_span(left),
    )


def _span(seconds: float) -> str:
    return duration(max(1.0, seconds))


def _held(state: JobState) -> Text:
    """The memory that it holds."""
    held = state.latest.memory_gib if state.latest is not None else None
    if held is None:
        return say("its memory", "内存")
    if on_gpu(state):
        return say("{n} on the card", " {n} 显存", n=gib(held))
    return say("{n} of memory", " {n} 内存", n=gib(held))


def disk_word(waiting: Waiting) -> Text:
    """What is the matter with the disk, in a word or two."""
    return DISK.get(waiting.code, say("waits for the disk", "等待磁盘"))


def _for_disk(state: JobState, waiting: Waiting) -> Text:
    """The worker says why, and that it goes on by itself."""
    why = waiting.text or say(
        "The disk does not take what must be kept; the run goes on by itself once it does.",
        "磁盘无法写入必须保存的内容；恢复后训练会自动继续。",
    )
    return say(
        "{why} Until then it holds {held}.{risk}",
        "{why}在此之前占用{held}。{risk}",
        why=why,
        held=_held(state),
        risk=_risk(state),
    )


def _risk(state: JobState) -> Text:
    risk = at_risk(state)
    return say(" {risk}", "{risk}", risk=risk) if risk is not None else NOTHING


def _paused(state: JobState, waiting: Waiting, now: float) -> Text:
    figures = {"n": count(waiting.step or state.step), "held": _held(state)}
    if not waiting.until:
        return say(
            "Saved at step {n}. It holds {held} until you continue.",
            "已在第 {n} 步保存。继续之前占用{held}。",
            **figures,
        )
    return say(
        "Saved at step {n}. It holds {held} until {time} ({left} more); then its process ends, and Continue goes on "
        "from the checkpoint.",
        "已在第 {n} 步保存。占用{held}，直到 {time}（还有 {left}）；之后进程结束，点“继续”即从检查点接着训练。",
        time=clock(waiting.until),
        left=_span(waiting.until - now),
        **figures,
    )


def _given_up(state: JobState) -> Text:
    """It is saved up to its newest checkpoint, which is not its last step where the disk took no more."""
    lost = unsaved(state)
    saved = lost.kept if lost is not None else state.step
    if not saved:
        return say(
            "The process has ended and holds no memory. Nothing was saved: Continue begins anew.",
            "进程已结束，不再占用内存。没有保存任何内容：点“继续训练”将从头开始。",
        )
    return say(
        "Saved at step {n}; the process has ended and holds no memory. Continue goes on from there.",
        "已在第 {n} 步保存；进程已结束，不再占用内存。点“继续训练”即从那里接着训练。",
        n=count(saved),
    )


class StandStrip(Card):
    """Renders `standing`; takes no room when there is nothing to say. Counts down while it is seen."""

    def __init__(
        self,
        job: JobView,
        *,
        free: Callable[[], object],
        retry: Callable[[], object],
        end: Callable[[], object],
        may: Callable[[], bool] = lambda: True,
    ) -> None:
        super().__init__()
        self._job, self._may = job, may
        self._chip, self.sentence = Chip(), label("", wrap=True)
        self.free = button(FREE_CARD, free, "small", shortcut="Ctrl+Shift+P")
        self.retry = button(say("Try now", "立即重试"), retry, "small", shortcut="Ctrl+T")
        self.end = button(say("End now", "立即结束"), end, "small", shortcut="Ctrl+Shift+.")
        line = row(self._chip, self.sentence, self.retry, self.free, self.end, spacing=10)
        line.setStretch(1, 1)
        self.body.addLayout(line)
        self._timer = QTimer(self)
        self._timer.setObjectName("what a run waits for counts down")
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self.refresh)
        self.hide()

    def refresh(self) -> None:
        """Show what there is to say now."""
        found = standing(self._job, time.time(), time.monotonic())
        self.setVisible(found is not None)
        if found is not None:
            self._put(found)
        self._wind(found is not None and found.ticks)

    def _put(self, found: Standing) -> None:
        self._chip.put(found.word, found.tone)
        self.sentence.setText(tr(found.sentence))
        rename(self.free, self._free_words())
        for name, item in ((FREE, self.free), (RETRY, self.retry), (END, self.end)):
            item.setVisible(name in found.offers)
            item.setEnabled(self._may())
        self.free.setEnabled(self._may() and self._job.asked != FREE)

    def _free_words(self) -> Text:
        state = self._job.state
        if waits_for_disk(state):
            return say("Free the card", "释放显卡") if on_gpu(state) else say("Free the memory", "释放内存")
        return FREE_CARD if on_gpu(state) else say("Pause and free the memory", "暂停并释放内存")

    def _wind(self, ticks: bool) -> None:
        if not ticks or not self.isVisible():
            self._timer.stop()
        elif not self._timer.isActive():
            self._timer.start()

    def showEvent(self, event: QShowEvent) -> None:
        """One looks at it."""
        super().showEvent(event)
        self.refresh()

    def hideEvent(self, event: QHideEvent) -> None:
        """Nobody looks."""
        super().hideEvent(event)
        self._timer.stop()
