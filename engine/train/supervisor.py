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

from engine.objectives.trainer import GivenUp
from engine.protocol.channel import Channel
from engine.protocol.events import (
    CONTINUE,
    FREE,
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
from engine.recipe.recipe import TrainSettings
from engine.train.plan import Schedule
from engine.train.watch import LossWatch, Unstable, what_happened

GAUGE_SECONDS = 1.0
SAVING_SHARE = 0.05
"""Share of a run's time that safety checkpoints take at most."""
LENGTHENED = 1.25
"""A bound that grows by less than this is not told again."""
ASK_SECONDS = 0.1
WINDOW = 20


@dataclass
class Progress:
    """What a run remembers, and a checkpoint holds.

    Attributes:
        tokens: real tokens trained on before this process.
        best_loss, best_step: lowest held-out loss and the step it was measured after; None and 0 before any.
        without_gain: measurements since then.
        ended_early: the held-out loss had stopped falling: no step follows.
        watch: what the watch over the loss has seen.
        data: fingerprint of the files that are trained on.
        model: what the base model's folder holds.
        environment: versions and hardware that this was computed with.
    """

    tokens: int = 0
    best_loss: float | None = None
    best_step: int = 0
    without_gain: int = 0
    ended_early: bool = False
    watch: dict[str, Any] = field(default_factory=dict)
    data: str = ""
    model: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)

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
        step: optimizer steps done.
        reason: why a checkpoint is due, as `CheckpointSaved` tells it.
        stopped: the user asked for the end, and it came before the last step.
        paused: the process ends although the run does not: what it holds was asked back, or held long enough.
    """

    def __init__(
        self,
        channel: Channel,
        schedule: Schedule,
        settings: TrainSettings,
        *,
        progress: Progress,
        tokens: Callable[[], int],
        memory: Callable[[], float | None],
        gauge: Callable[[], Gauge | None],
        left_out: frozenset[int] = frozenset(),
    ) -> None:
        """``tokens`` reads what this process has trained on, ``memory`` what it holds in GiB; ``left_out``: steps whose
        rows are passed over."""
        self._channel = channel
        self._schedule = schedule
        self._patience = settings.patience
        self._tokens = tokens
        self._memory = memory
        self._gauge = gauge
        self._unstable = settings.unstable
        self._left_out = left_out
        self._watch = LossWatch.of(progress.watch)
        self.progress = progress
        self.reason = ""
        self.stopped = False
        self.paused = False
        self._safety = Safety(settings.save_minutes * 60)
        self._pause_seconds = settings.pause_minutes * 60
        self._free = False
        self._before = progress.tokens
        self._pause = False
        self.step = 0
        self._speed = Speed()
        self._gauged = 0.0
        self._measured_seconds = 0.0

    # ------------------------------------------------------------------------------------------- trainer's calls
    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.step = state.global_step
        self._speed.mark = time.monotonic()
        self._safety.begin()

    def on_substep_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.tell_gauge()

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Measuring may take long. Raises `GivenUp` when the run is to end: what was learned is then saved at once."""
        self.tell_gauge()
        for command in self._channel.commands():
            self._obey(command.name, state.global_step, control)
        if self.stopped or self._free:
            text = say(
                "The measurement after step {step} was given up, as the run was to end.",
                "训练需要结束，已放弃第 {step} 步后的评估。",
                step=state.global_step,
            )
            self._channel.emit(Note(code="train.not_measured", text=text, step=state.global_step))
            raise GivenUp

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.step = step = state.global_step
        self.tell_gauge()
        for command in self._channel.commands():
            self._obey(command.name, step, control)
        control.should_evaluate |= self._schedule.evaluates_at(step) and not self.stopped
        if self._schedule.saves_at(step):
            self._due(control, "step" if step < self._schedule.steps else "last")
        elif self._safety.is_due():
            self._due(control, "safety")

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
        self.reason = ""
        if self._pause and not self._free:
            self._wait(state.global_step, control)
        if self._free:
            self.paused = state.global_step < self._schedule.steps
            control.should_training_stop = True
        self._speed.mark = time.monotonic()

    def saved(self, seconds: float) -> None:
        """A checkpoint was written, which took so long."""
        if text := self._safety.saved(seconds):
            self._channel.emit(Note(code="train.bound", text=text))

    def _due(self, control: TrainerControl, reason: str) -> None:
        """A checkpoint is due; of several reasons the first one told counts."""
        control.should_save = True
        self.reason = self.reason or reason

    # ------------------------------------------------------------------------------------------------- telling
    def _tell_step(self, logs: dict[str, float], state: TrainerState, args: TrainingArguments) -> None:
        step, loss = state.global_step, logs["loss"]
        if step in self._left_out:
            self._channel.emit(Note(code="train.left_out", text=left_out(step), step=step))
            return
        # In fp16 a gradient that is no number is usual: its update is passed over, and the scale lowered.
        self._look(step, loss, None if args.fp16 else logs.get("grad_norm"))
        self.progress.watch = self._watch.plain()
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
            self._due(control, "best")  # the best adapter is always on disk
        else:
            self.progress.without_gain += 1
        self._channel.emit(HeldOut(step=step, loss=loss, token_accuracy=accuracy, best=best))
        if self._patience and self.progress.without_gain >= self._patience and step < self._schedule.steps:
            self.progress.ended_early = control.should_training_stop = True
            self._due(control, "last")
            self._channel.emit(Note(code="train.early_stop", text=early_stop(step, self.progress)))

    def tell_gauge(self) -> None:
        """Tell what the machine does, at most once a second."""
        now = time.monotonic()
        if now - self._gauged >= GAUGE_SECONDS:
            self._gauged = now
            if event := self._gauge():
                self._channel.emit(event)

    # ------------------------------------------------------------------------------------------------ commands
    def _obey(self, name: str, step: int, control: TrainerControl) -> None:
        if name == CONTINUE:
            self._pause = False
        elif name in (PAUSE, SAVE, STOP, FREE):
            self._due(control, "asked")
            self._pause |= name == PAUSE
            self._free |= name == FREE
            if name == STOP:
                self._stop(step, control)

    def _stop(self, step: int, control: TrainerControl) -> None:
        self.stopped = step < self._schedule.steps
        self._pause = self._free = False
        control.should_training_stop = True

    def _wait(self, step: int, control: TrainerControl) -> None:
        """Stand still, with everything in memory, until told to go on, to stop or to give the memory back, or until it
        was held long enough."""
        began = time.monotonic()
        until = time.time() + self._pause_seconds if self._pause_seconds else 0.0
        self._channel.emit(Waiting(step=step, until=round(until, 3)))
        while self._pause and not self._free:
            time.sleep(ASK_SECONDS)
            self.tell_gauge()
            for command in self._channel.commands():
                if command.name == CONTINUE:
                    self._pause = False
                elif command.name == STOP:
                    self._stop(step, control)
                elif command.name == FREE:
                    self._free = True
            if self._pause and self._pause_seconds and time.monotonic() - began >= self._pause_seconds:
                self._free = True
        if not self._free:
            self._channel.emit(Continued(step=step))


class Safety:
    """When a checkpoint is due so that little work can be lost, and seldom enough to cost little.

    Args:
        asked: seconds of work that may be lost; 0 for no bound.
    """

    def __init__(self, asked: float) -> None:
        self._asked = self._told = asked
        self._seconds = 0.0
        self._since = time.monotonic()

    @property
    def bound(self) -> float:
        """Seconds of work between two checkpoints: as asked, longer where saving would take more than its share."""
        return max(self._asked, self._seconds / SAVING_SHARE)

    def begin(self) -> None:
        """What was saved is what the process begins with."""
        self._since = time.monotonic()

    def is_due(self) -> bool:
        """Whether the last checkpoint is as old as it may become."""
        return bool(self._asked) and time.monotonic() - self._since >= self.bound

    def saved(self, seconds: float) -> Text | None:
        """A checkpoint took ``seconds``; gives what to tell where the bound had to be lengthened."""
        self._since = time.monotonic()
        # One slow save is chance, a slow disk is not: between the two the bound moves by halves.
        self._seconds = (self._seconds + seconds) / 2 if self._seconds else seconds
        if not self._asked or self.bound <= self._told * LENGTHENED:
            return None
        self._told = self.bound
        return lengthened(seconds, self.bound)


def lengthened(seconds: float, bound: float) -> Text:
    """The sentence that tells of a bound that saving made longer."""
    return say(
        "Saving takes {seconds:.0f} s here: so that it takes at most {share:.0%} of the time, up to {bound:.0f} min of "
        "work can be lost.",
        "此处保存一次需 {seconds:.0f} 秒：为使保存最多占用 {share:.0%} 的时间，最多可能损失 {bound:.0f} 分钟的工作。",
        seconds=seconds,
        share=SAVING_SHARE,
        bound=bound / 60,
    )


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
