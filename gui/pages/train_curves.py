"""The card with the curves of a run: loss, and on request learning rate and gradient norm, with what happened on the
axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QLabel, QSizePolicy, QStackedLayout

from engine.protocol.events import CheckpointSaved
from engine.protocol.state import JobState
from engine.protocol.text import Text, say
from gui.i18n.language import tr
from gui.i18n.numbers import figure, parameters, percent, short
from gui.pages.train_words import BEST, CHECKPOINT, EARLY, MARKS, RECOVERY, WARNING, held_out_words, last_of, step_at
from gui.state.notices import INFO
from gui.widgets.basic import ElidedLabel, label, row
from gui.widgets.card import Card
from gui.widgets.plots import LinePlot
from gui.widgets.switch import Switch

if TYPE_CHECKING:
    from engine.protocol.events import StepDone
    from engine.recipe.recipe import Recipe

SMOOTH = 0.85
MOST_MARKED = 40
LOWEST = 84
"""Pixels of height that a curve needs, in a small window below strips that say why a run stands still."""
NARROW = 600
"""Pixels of width below which only the newest held-out loss is told."""
EARLY_STOP = "train.early_stop"
APART = 0.22
"""Share of the run between two marks whose words stand side by side."""
VIEWS: tuple[tuple[str, Text, str], ...] = (
    ("loss", say("Loss", "损失"), "Alt+1"),
    ("rate", say("Rate", "学习率"), "Alt+2"),
    ("norm", say("Gradient", "梯度"), "Alt+3"),
)


class CurvesCard(Card):
    """One curve at a time; the others are made when they are first asked for.

    Args:
        make: gives a plot of this name; with ``from_zero`` where its axis begins at zero.

    Attributes:
        loss: the plot of both losses.
    """

    def __init__(self, make: Callable[..., LinePlot]) -> None:
        super().__init__(say("Loss", "损失"), " ")
        self._make = make
        self._plots: dict[str, LinePlot] = {}
        self._state: JobState | None = None
        self._recipe: Recipe | None = None
        self.title.hide()
        self.switch = Switch(say("Curve", "曲线"), VIEWS)
        self.switch.put("loss")
        self.switch.chosen.connect(self.show_view)
        self.head.insertWidget(0, self.switch)
        self.switch.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.trained, self.held = label("", "good"), ElidedLabel("", "warn")
        self.corner(self.trained)
        self.corner(self.held)
        self._stack = QStackedLayout()
        self.body.addLayout(self._stack, 1)
        self._numbers = self._numbers_line()
        self.loss = self._plot_of("loss")

    def _numbers_line(self) -> dict[str, QLabel]:
        names = {
            "rate": (say("Rate", "学习率"), say("Learning rate", "学习率")),
            "norm": (say("Gradient", "梯度"), say("Gradient norm", "梯度范数")),
            "accuracy": (say("Accuracy", "准确率"), say("Token accuracy", "词元准确率")),
            "tokens": (say("Tokens", "词元"), say("Tokens seen", "已见词元")),
        }
        values: dict[str, QLabel] = {}
        line = row(spacing=6)
        for name, (short_name, full) in names.items():
            shown, values[name] = label(short_name, "facts"), label("", "strong")
            shown.setToolTip(tr(full))
            values[name].setAccessibleName(tr(full))
            line.addWidget(shown)
            line.addWidget(values[name])
            line.addStretch(1)
        self.body.addLayout(line)
        return values

    def _plot_of(self, name: str) -> LinePlot:
        if name not in self._plots:
            self._plots[name] = made = _MAKERS[name](self._make)
            made.setMinimumHeight(LOWEST)
            self._stack.addWidget(made)
        return self._plots[name]

    # ------------------------------------------------------------------------------------------------ what is shown
    def show_view(self, name: str) -> None:
        """Bring a curve to the front."""
        self.switch.put(name)
        self._stack.setCurrentWidget(self._plot_of(name))
        if self._state is not None:
            self.put(self._state, self._recipe)

    def put(self, state: JobState, recipe: Recipe | None) -> None:
        """Show a state of the run."""
        self._state, self._recipe = state, recipe
        self._follow(state, recipe)
        last = last_of(state)
        for name, words in (
            ("rate", short(last.learning_rate)),
            ("norm", short(last.grad_norm)),
            ("accuracy", percent(last.token_accuracy, 1)),
            ("tokens", parameters(last.tokens)),
        ):
            self._numbers[name].setText(words)
        self._put_legend(state, last)

    def _follow(self, state: JobState, recipe: Recipe | None) -> None:
        self.loss.follow("train", state.steps, lambda item: (item.step, item.loss))
        self.loss.follow("held", state.held_out, lambda item: (item.step, item.loss))
        if "rate" in self._plots:
            self._plots["rate"].follow("rate", state.steps, lambda item: (item.step, item.learning_rate))
        if "norm" in self._plots:
            plot = self._plots["norm"]
            plot.follow("norm", state.steps, lambda item: (item.step, item.grad_norm))
            if recipe is not None and _is_near(plot.highest("norm"), recipe.train.max_grad_norm):
                limit = recipe.train.max_grad_norm
                plot.level("limit", limit, tr(say("limited to {n}", "上限 {n}", n=short(limit))))

    def _put_legend(self, state: JobState, last: StepDone) -> None:
        view = self.switch.current
        words = {
            "loss": say("train {n}", "训练 {n}", n=figure(last.loss)),
            "rate": say("now {n}", "当前 {n}", n=short(last.learning_rate)),
            "norm": say("now {n}", "当前 {n}", n=short(last.grad_norm)),
        }
        self.trained.setText("● " + tr(words[view]))
        if self.held.text() != (words_held := held_out_words(state, short=self.width() < NARROW)):
            self.held.setText(words_held)
        self.held.setVisible(view == "loss")

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Words that do not fit are left out whole."""
        super().resizeEvent(event)
        if self._state is not None and self._state.latest is not None:
            self._put_legend(self._state, self._state.latest)

    # ------------------------------------------------------------------------------------------------------- marks
    def forget(self) -> None:
        """Another run is looked at."""
        for plot in self._plots.values():
            plot.clear_marks()

    def mark(self, state: JobState) -> None:
        """A line for each checkpoint, for the best, for an early end, and for each warning and recovery. Words stand at
        the most telling of them, as far as there is room; those of the others are read where the mouse is."""
        marks, written = marks_of(state), list[int]()
        self.loss.keep_marks({words for _, words, _, _ in marks})
        for step, words, ink, speaks in reversed(marks):
            has_room = all(abs(step - other) >= APART * max(1, state.step) for other in written)
            if speaks and has_room:
                written.append(step)
            is_quiet = not (speaks and has_room)
            self.loss.mark(words, step, words, ink="edge" if is_quiet and ink == "faint" else ink, quiet=is_quiet)


Mark = tuple[int, str, str, bool]
"""Step, words, ink, and whether the words are worth their room."""


def marks_of(state: JobState) -> list[Mark]:
    """What is marked on the axis, the most telling last."""
    best = state.best.step if state.best is not None else 0
    saved = [event for event in state.checkpoints if event.step != best][-MOST_MARKED:]
    notes = [note for note in state.notes if note.level != INFO][-MOST_MARKED:]
    found: list[Mark] = [(event.step, _saved(event), "faint", event is saved[-1]) for event in saved]
    for note in notes:
        step, recovered = note.step or step_at(state, note.time), note.level == "recovery"
        found.append((step, tr(RECOVERY if recovered else WARNING).format(n=step), "warn", recovered))
    if any(note.code == EARLY_STOP for note in state.notes) and state.is_over:
        found.append((state.step, tr(EARLY).format(n=state.step), "muted", True))
    if best:
        found.append((best, tr(BEST).format(n=best), "good", True))
    return found


def _saved(event: CheckpointSaved) -> str:
    return tr(MARKS.get(event.reason, CHECKPOINT)).format(n=event.step)


def _is_near(highest: float | None, limit: float) -> bool:
    """Whether a limit can be seen beside a curve without flattening it."""
    return highest is not None and limit <= 3 * highest


def _loss_plot(make: Callable[..., LinePlot]) -> LinePlot:
    made = make(say("Loss", "损失"))
    made.add("train", say("training", "训练"), ink=0, smooth=SMOOTH)
    made.add("held", say("held out", "留出"), ink=3, points=True)
    return made


def _rate_plot(make: Callable[..., LinePlot]) -> LinePlot:
    made = make(say("Learning rate", "学习率"), from_zero=True)
    made.add("rate", say("learning rate", "学习率"), ink=0)
    return made


def _norm_plot(make: Callable[..., LinePlot]) -> LinePlot:
    made = make(say("Gradient norm", "梯度范数"), from_zero=True)
    made.add("norm", say("gradient norm", "梯度范数"), ink=0, smooth=SMOOTH)
    return made


_MAKERS = {"loss": _loss_plot, "rate": _rate_plot, "norm": _norm_plot}
