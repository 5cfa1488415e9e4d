"""The card with the curves of a run: loss, and on request learning rate and gradient norm, with what happened on the
axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6.QtWidgets import QLabel, QStackedLayout

from engine.protocol.events import CheckpointSaved, Note
from engine.protocol.state import JobState
from engine.protocol.text import Text, say
from gui.i18n.language import tr
from gui.i18n.numbers import figure, parameters, percent, short
from gui.pages.train_words import BEST, CHECKPOINT, EARLY, MARKS, RECOVERY, WARNING, held_out_words, last_of, step_at
from gui.state.notices import INFO
from gui.widgets.basic import label, row
from gui.widgets.card import Card
from gui.widgets.plots import LinePlot
from gui.widgets.switch import Switch

if TYPE_CHECKING:
    from engine.protocol.events import StepDone
    from engine.recipe.recipe import Recipe

SMOOTH = 0.85
MOST_MARKED = 40
EARLY_STOP = "train.early_stop"
APART = 0.14
"""Share of the run between two marks whose words stand side by side."""
VIEWS: tuple[tuple[str, Text, str], ...] = (
    ("loss", say("Loss", "损失"), "Alt+1"),
    ("rate", say("Learning rate", "学习率"), "Alt+2"),
    ("norm", say("Gradient norm", "梯度范数"), "Alt+3"),
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
        self.trained, self.held = label("", "good"), label("", "warn")
        self.corner(self.trained)
        self.corner(self.held)
        self._stack = QStackedLayout()
        self.body.addLayout(self._stack, 1)
        self._numbers = self._numbers_line()
        self.loss = self._plot_of("loss")

    def _numbers_line(self) -> dict[str, QLabel]:
        names = {
            "rate": say("Learning rate", "学习率"),
            "norm": say("Gradient norm", "梯度范数"),
            "accuracy": say("Token accuracy", "词元准确率"),
            "tokens": say("Tokens seen", "已见词元"),
        }
        values: dict[str, QLabel] = {}
        line = row(spacing=6)
        for name, text in names.items():
            values[name] = label("", "strong")
            values[name].setAccessibleName(tr(text))
            line.addWidget(label(text, "facts"))
            line.addWidget(values[name])
            line.addStretch(1)
        self.body.addLayout(line)
        return values

    def _plot_of(self, name: str) -> LinePlot:
        if name not in self._plots:
            self._plots[name] = made = _MAKERS[name](self._make)
            made.setMinimumHeight(110)
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
            "loss": say("training {n}", "训练 {n}", n=figure(last.loss)),
            "rate": say("now {n}", "当前 {n}", n=short(last.learning_rate)),
            "norm": say("now {n}", "当前 {n}", n=short(last.grad_norm)),
        }
        self.trained.setText("● " + tr(words[view]))
        self.held.setText(held_out_words(state))
        self.held.setVisible(view == "loss")

    # ------------------------------------------------------------------------------------------------------- marks
    def forget(self) -> None:
        """Another run is looked at."""
        for plot in self._plots.values():
            plot.clear_marks()

    def mark(self, state: JobState) -> None:
        """A line for each checkpoint, for the best, for an early end, and for each warning and recovery. Words stand at
        few of them; those of the others are read where the mouse is."""
        self.loss.clear_marks()
        best = state.best.step if state.best is not None else 0
        saved = list(state.checkpoints[-MOST_MARKED:])
        for event in saved:
            if event.step != best:
                self._mark_saved(event, is_quiet=event is not saved[-1] or _is_by(event.step, best, state))
        if best:
            words = tr(BEST).format(n=best)
            self.loss.mark(words, best, words, ink="good")
        told = [note for note in state.notes if note.level != INFO or note.code == EARLY_STOP]
        for note in told[-MOST_MARKED:]:
            self._mark_note(note, note.step or step_at(state, note.time), best, state)

    def _mark_saved(self, event: CheckpointSaved, *, is_quiet: bool) -> None:
        words = tr(MARKS.get(event.reason, CHECKPOINT)).format(n=event.step)
        self.loss.mark(words, event.step, words, quiet=is_quiet)

    def _mark_note(self, note: Note, step: int, best: int, state: JobState) -> None:
        if note.code == EARLY_STOP:
            words = tr(EARLY).format(n=state.step)
            self.loss.mark(words, state.step, words, quiet=_is_by(state.step, best, state))
            return
        words = tr(RECOVERY if note.level == "recovery" else WARNING).format(n=step)
        self.loss.mark(words, step, words, ink="warn", quiet=note.level != "recovery")


def _is_by(step: int, other: int, state: JobState) -> bool:
    """Whether the words of two marks would lie over each other: the axis reaches to the last step."""
    return bool(other) and abs(step - other) < APART * max(1, state.step)


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
