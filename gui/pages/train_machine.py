"""The cards that say what the machine does for a run: memory beside what was predicted and what there is, and speed."""

from __future__ import annotations

from collections.abc import Callable

from engine.protocol.events import Note
from engine.protocol.state import JobState
from engine.protocol.text import say
from gui.i18n.language import tr
from gui.i18n.numbers import gib
from gui.pages.train_words import RECOVERY, machine_words, memory_name, memory_words, on_gpu, speed_words, step_at
from gui.widgets.card import Card
from gui.widgets.plots import LinePlot

LOWEST = 56
ALL_SHOWN = 5.0
"""Times the run's memory up to which the machine's own is drawn too; of more, the curve would be a line at the foot."""
MOST_MARKED = 40


class MemoryCard(Card):
    """What the run holds."""

    def __init__(self, make: Callable[..., LinePlot]) -> None:
        super().__init__(say("Memory", "内存"), " ")
        self.plot = make(say("Memory", "内存"), from_zero=True)
        self.plot.add("held", say("memory, GiB", "内存（GiB）"), ink=0)
        self.plot.setMinimumHeight(LOWEST)
        self.body.addWidget(self.plot)

    def put(self, state: JobState) -> None:
        """Show a state of the run."""
        self.plot.follow("held", state.steps, lambda item: (item.step, item.memory_gib))
        peak = self.plot.highest("held")
        predicted = state.plan.predicted_memory_gib if state.plan is not None else None
        if predicted is not None:
            words = tr(say("predicted {n}", "预计 {n}", n=gib(predicted)))
            # On the side of the line where the curve is not.
            below = (self.plot.newest("held") or 0.0) >= predicted
            self.plot.level("predicted", predicted, words, dotted=True, at=0.96 if below else 0.5, below=below)
        total = state.gauge.memory_total_gib if state.gauge is not None else None
        if total is not None and total <= ALL_SHOWN * max(peak or 0.0, predicted or 0.0):
            on = say("{n} on the card", "显卡共 {n}", n=gib(total))
            here = say("{n} in this machine", "本机共 {n}", n=gib(total))
            self.plot.level("all", total, tr(on if on_gpu(state) else here), "bad")
        self.title.setText(tr(memory_name(state)))
        self.note.setText(tr(memory_words(state, peak)))

    def mark(self, state: JobState) -> None:
        """Mark recoveries: memory falls with them."""
        mark_recoveries(self.plot, state)


class SpeedCard(Card):
    """How fast it learns, and what the machine says of itself."""

    def __init__(self, make: Callable[..., LinePlot]) -> None:
        super().__init__(say("Speed", "速度"), " ")
        self.plot = make(say("Speed", "速度"), from_zero=True)
        self.plot.add("speed", say("tokens/s", "词元/秒"), ink=0)
        self.plot.setMinimumHeight(LOWEST)
        self.body.addWidget(self.plot)

    def put(self, state: JobState) -> None:
        """Show a state of the run."""
        self.plot.follow("speed", state.steps, lambda item: (item.step, item.tokens_per_second))
        self.title.setText(tr(speed_words(state)))
        self.note.setText(machine_words(state))

    def mark(self, state: JobState) -> None:
        """Mark recoveries: speed changes with them."""
        mark_recoveries(self.plot, state)


def mark_recoveries(plot: LinePlot, state: JobState) -> None:
    """A quiet line for each recovery."""
    notes: list[Note] = [note for note in state.notes if note.level == "recovery"]
    for note in notes[-MOST_MARKED:]:
        step = note.step or step_at(state, note.time)
        words = tr(RECOVERY).format(n=step)
        plot.mark(words, step, words, ink="warn", quiet=True)
