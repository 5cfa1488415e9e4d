"""What watches a run from inside the trainer: tells every step, decides when to measure, save, wait and stop.

It computes nothing of the model. What it must remember across a resume is its `Progress`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from engine.protocol.channel import Channel
from engine.protocol.events import (
    CONTINUE,
    PAUSE,
    SAVE,
    STOP,
    Continued,
    Gauge,
    HeldOut,
    Note,
    StepDone,
    Waiting,
)
from engine.protocol.text import Text, say
from engine.train.plan import Schedule
from engine.train.watch import LossWatch, Unstable, what_happened

GAUGE_SECONDS = 1.0
ASK_SECONDS = 0.1
WINDOW = 20


@dataclass
class Progress:
    """What a run remembers, and a checkpoint holds.

    Attributes:
        tokens: real tokens trained on before this process.
        best_loss, best_step: lowest held-out loss and the step it was measured after; None and 0 before any.
        without_gain: measurements since then.
        data: fingerprint of the files that are trained on.
    """

    tokens: int = 0
    best_loss: float | None = None
    best_step: int = 0
    without_gain: int = 0
    data: str = ""

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@dataclass
class Speed:
    """Seconds and tokens of the last steps; measuring, saving and waiting are left out."""

    mark: float = 0.0
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    tokens: deque[int] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def step(self, tokens: int) -> None:
        """A step ended now."""
        self.seconds.append(time.monotonic() - self.mark)
        self.tokens.append(tokens)
        self.mark = time.monotonic()

    @property
    def per_second(self) -> float:
        """Tokens per second."""
        return sum(self.tokens) / max(sum(self.seconds), 1e-9)

    @property
    def per_step(self) -> float:
        """Seconds per step."""
        return sum(self.seconds) / max(len(self.seconds), 1)


class Supervisor(TrainerCallback):
    """The trainer's one callback.

    Attributes:
        progress: what a checkpoint must hold.
        stopped: the user asked for the end, and it came before the last step.
        ended_early: the held-out loss stopped falling.
    """

    def __init__(
        self,
        channel: Channel,
        schedule: Schedule,
        *,
        patience: int,
        progress: Progress,
        tokens: Callable[[], int],
        memory: Callable[[], float | None],
        gauge: Callable[[], Gauge | None],
        unstable: str = "stop",
        left_out: frozenset[int] = frozenset(),
    ) -> None:
        """``tokens`` reads what this process has trained on, ``memory`` what it holds in GiB; ``unstable`` as in the
        recipe; ``left_out``: steps whose rows are passed over."""
        self._channel = channel
        self._schedule = schedule
        self._patience = patience
        self._tokens = tokens
        self._memory = memory
        self._gauge = gauge
        self._unstable = unstable
        self._left_out = left_out
        self._watch = LossWatch()
        self.progress = progress
        self.stopped = False
        self.ended_early = False
        self._before = progress.tokens
        self._pause = False
        self._speed = Speed()
        self._gauged = 0.0
        self._measured_seconds = 0.0

    # ------------------------------------------------------------------------------------------- trainer's calls
    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._speed.mark = time.monotonic()

    def on_substep_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._tell_gauge()

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._tell_gauge()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        step = state.global_step
        self._tell_gauge()
        for command in self._channel.commands():
            self._obey(command.name, step, control)
        control.should_evaluate |= self._schedule.evaluates_at(step) and not self.stopped
        control.should_save |= self._schedule.saves_at(step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        # The events are the record; the library's own list would be written into every checkpoint, longer each time.
        state.log_history.clear()
        if logs and "loss" in logs:
            self._tell_step(logs, state, args)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        metrics = metrics or {}
        self._measured_seconds = time.monotonic() - self._speed.mark
        self._tell_held_out(metrics["eval_loss"], metrics.get("eval_mean_token_accuracy"), state.global_step, control)
        self._speed.mark = time.monotonic()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._pause:
            self._wait(state.global_step, control)
        self._speed.mark = time.monotonic()

    # ------------------------------------------------------------------------------------------------- telling
    def _tell_step(self, logs: dict[str, float], state: TrainerState, args: TrainingArguments) -> None:
        step, loss = state.global_step, logs["loss"]
        if step in self._left_out:
            self._channel.emit(Note(code="train.left_out", text=left_out(step), step=step))
            return
        # In fp16 a gradient that is no number is usual: its update is passed over, and the scale lowered.
        self._look(step, loss, None if args.fp16 else logs.get("grad_norm"))
        tokens = self._before + self._tokens()
        self._speed.step(tokens - self.progress.tokens)
        self.progress.tokens = tokens
        to_measure = self._schedule.evaluations_after(step) * self._measured_seconds
        self._channel.emit(
            StepDone(
                step=step,
                steps=self._schedule.steps,
                epoch=state.epoch or 0.0,
                loss=loss,
                learning_rate=logs["learning_rate"],
                grad_norm=logs.get("grad_norm"),
                token_accuracy=logs.get("mean_token_accuracy"),
                tokens=tokens,
                tokens_per_second=self._speed.per_second,
                memory_gib=self._memory(),
                seconds_left=self._speed.per_step * (self._schedule.steps - step) + to_measure,
            )
        )

    def _look(self, step: int, loss: float, norm: float | None) -> None:
        """Raises `Unstable` when the loss breaks away, unless that is only to be told."""
        trouble = self._watch.look(step, loss, norm)
        if trouble is None:
            return
        if trouble.usual is None or self._unstable != "warn":
            raise Unstable(trouble)
        text = say("{what}.", "{what}。", what=what_happened(trouble))
        self._channel.emit(Note(code="train.spike", level="warning", text=text, step=trouble.first))

    def _tell_held_out(self, loss: float, accuracy: float | None, step: int, control: TrainerControl) -> None:
        best = self.progress.best_loss is None or loss < self.progress.best_loss
        if best:
            self.progress.best_loss, self.progress.best_step, self.progress.without_gain = loss, step, 0
            control.should_save = True  # the best adapter is always on disk
        else:
            self.progress.without_gain += 1
        self._channel.emit(HeldOut(step=step, loss=loss, token_accuracy=accuracy, best=best))
        if self._patience and self.progress.without_gain >= self._patience and step < self._schedule.steps:
            self.ended_early = True
            control.should_training_stop = control.should_save = True
            self._channel.emit(Note(code="train.early_stop", text=early_stop(step, self.progress)))

    def _tell_gauge(self) -> None:
        now = time.monotonic()
        if now - self._gauged >= GAUGE_SECONDS:
            self._gauged = now
            if event := self._gauge():
                self._channel.emit(event)

    # ------------------------------------------------------------------------------------------------ commands
    def _obey(self, name: str, step: int, control: TrainerControl) -> None:
        if name == CONTINUE:
            self._pause = False
        elif name in (PAUSE, SAVE, STOP):
            control.should_save = True
            self._pause |= name == PAUSE
            if name == STOP:
                self._stop(step, control)

    def _stop(self, step: int, control: TrainerControl) -> None:
        self.stopped = step < self._schedule.steps
        self._pause = False
        control.should_training_stop = True

    def _wait(self, step: int, control: TrainerControl) -> None:
        """Stand still, with everything in memory, until told to go on or to stop."""
        self._channel.emit(Waiting(step=step))
        while self._pause:
            time.sleep(ASK_SECONDS)
            self._tell_gauge()
            for command in self._channel.commands():
                if command.name == CONTINUE:
                    self._pause = False
                elif command.name == STOP:
                    self._stop(step, control)
        self._channel.emit(Continued(step=step))


def left_out(step: int) -> Text:
    """The sentence that tells of a step without an update."""
    return say("The rows of step {step} were left out.", "已跳过第 {step} 步的行。", step=step)


def early_stop(step: int, progress: Progress) -> Text:
    """The sentence that tells of an early end."""
    return say(
        "Stopped early at step {step}: the held-out loss has not fallen since step {best}.",
        "在第 {step} 步提前结束：留出损失自第 {best} 步以来没有下降。",
        step=step,
        best=progress.best_step,
    )
