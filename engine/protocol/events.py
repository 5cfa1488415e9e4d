"""What a job tells, and what it may be told. Described for readers in ``docs/protocol.md``.

Every event is a frozen dataclass with a stable ``type`` name; the codec turns it into one JSON line. Both sides ignore
types and fields they do not know, so that an old window can follow a new worker.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from engine.protocol.errors import Failure
from engine.protocol.text import NOTHING, Text, say

PROTOCOL_VERSION = 1

DONE = "done"
STOPPED = "stopped"
PAUSED = "paused"
FAILED = "failed"
TERMINAL = (DONE, STOPPED, FAILED, PAUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What every event carries.

    Attributes:
        time: seconds since the epoch, written by the sender.
    """

    type: ClassVar[str] = ""
    time: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched(Event):
    """The host is about to start a process for the job. What follows belongs to that process."""

    type: ClassVar[str] = "launched"
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStarted(Event):
    """The worker is alive and has read its job. A run has one per process that worked on it."""

    type: ClassVar[str] = "job_started"
    kind: str
    pid: int
    version: int = PROTOCOL_VERSION
    resumed_from: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage(Event):
    """The job has begun another part of its work, such as loading the model."""

    type: ClassVar[str] = "stage"
    name: str
    text: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(Event):
    """How far the stage is. ``total`` 0 means unknown; ``seconds_left`` None means not known yet; in a session
    ``request`` is whose progress it is, 0 for the oldest that is open."""

    type: ClassVar[str] = "progress"
    done: float
    total: float
    unit: str = ""
    seconds_left: float | None = None
    request: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlanned(Event):
    """What a training run is about to do, known once data and model are loaded."""

    type: ClassVar[str] = "run_planned"
    steps: int
    epochs: float
    rows: int
    held_out: int
    trained_parameters: int
    all_parameters: int
    device: str
    predicted_memory_gib: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone(Event):
    """One optimizer step.

    Attributes:
        step, steps: 1-based step and the number of all steps.
        loss: mean over the learned tokens of the step's rows.
        tokens: real (not padding) tokens since the run began, in all processes.
        memory_gib: memory the process holds now (device memory on a GPU, resident memory on the CPU).
    """

    type: ClassVar[str] = "step"
    step: int
    steps: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float | None = None
    token_accuracy: float | None = None
    tokens: int = 0
    tokens_per_second: float | None = None
    memory_gib: float | None = None
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut(Event):
    """An evaluation on held-out rows during training."""

    type: ClassVar[str] = "held_out"
    step: int
    loss: float
    token_accuracy: float | None = None
    best: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSaved(Event):
    """A complete checkpoint lies at ``path`` (relative to the run's folder), read back and found whole.

    Attributes:
        reason: why it was written: "step" (the recipe's rhythm), "best", "safety" (the bound on lost time), "asked"
            (save, pause, stop), "last"; empty from workers that did not say.
        bytes: of all its files.
        seconds: that writing and checking it took.
    """

    type: ClassVar[str] = "checkpoint"
    step: int
    path: str
    best: bool = False
    reason: str = ""
    bytes: int = 0
    seconds: float = 0.0


HOLDS, CLOSE, OUT_OF_MEMORY, KILLED = "holds", "close", "out_of_memory", "killed"
"""Verdicts of a rehearsal: it went through; it did, with little memory left; memory ran out; the system ended it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed(Event):
    """A recipe was rehearsed. Memory in GiB, times in seconds; None and empty for what was not measured or is not
    known.

    Attributes:
        verdict: "holds", "close", "out_of_memory" or "killed".
        recipe: what was rehearsed, as the tables of its file.
        about: what tells whether recipe, data and model are still the same (`engine.project.fingerprint`).
        device: its name.
        longest: tokens of the longest row.
        free_gib, usable_gib: memory that was free before, and what of it a run may plan with.
        predicted_gib, peak_gib: of training on the longest rows.
        evaluation_gib, generation_gib: peaks of these.
        step_seconds: of an optimizer step on rows as they come in a run; longest_step_seconds: on the longest rows.
        predicted_seconds, seconds: of the whole training, as the plan told it and by what was measured.
        steps: optimizer steps of the run.
        evaluation_seconds: of one measurement of all held-out rows.
        checkpoint_bytes, checkpoint_seconds: of one checkpoint, flushed to the disk.
        disk_bytes_per_second: how fast the disk takes files, flushed.
        tokens_per_second: generated for several answers at once.
        failure: why it did not hold.
        next_recipe, next_change: the next recipe down, as tables, and what is other in it.
        next_gib, next_seconds: what that one is predicted to need.
    """

    type: ClassVar[str] = "rehearsed"
    verdict: str
    recipe: dict[str, Any] = field(default_factory=dict)
    about: str = ""
    device: str = ""
    longest: int = 0
    free_gib: float | None = None
    usable_gib: float | None = None
    predicted_gib: float | None = None
    peak_gib: float | None = None
    evaluation_gib: float | None = None
    generation_gib: float | None = None
    step_seconds: float | None = None
    longest_step_seconds: float | None = None
    predicted_seconds: float | None = None
    seconds: float | None = None
    steps: int = 0
    evaluation_seconds: float | None = None
    checkpoint_bytes: int = 0
    checkpoint_seconds: float | None = None
    disk_bytes_per_second: float | None = None
    tokens_per_second: float | None = None
    failure: Failure | None = None
    next_recipe: dict[str, Any] = field(default_factory=dict)
    next_change: Text = NOTHING
    next_gib: float | None = None
    next_seconds: float | None = None

    @property
    def held(self) -> bool:
        """Whether it went through."""
        return self.verdict in (HOLDS, CLOSE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge(Event):
    """What the machine does while the job works; any figure may be unknown."""

    type: ClassVar[str] = "gauge"
    memory_gib: float | None = None
    memory_total_gib: float | None = None
    peak_gib: float | None = None
    busy: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Note(Event):
    """Something that happened and that the user should be able to read: info, warning or recovery.

    Attributes:
        step: the optimizer step it happened at, 0 where it belongs to none.
        count: how many of the kind it tells of.
    """

    type: ClassVar[str] = "note"
    text: Text
    level: str = "info"
    code: str = ""
    step: int = 0
    count: int = 1


DAMAGED = "events.damaged"


def damaged_lines(count: int) -> Note:
    """What is told in the place of lines of a record that cannot be read and stand behind one another."""
    one = say("A line of the job's record is damaged and was passed over.", "任务记录中有一行已损坏，已跳过。")
    many = say(
        "{n} lines of the job's record are damaged and were passed over.",
        "任务记录中有 {n} 行已损坏，已跳过。",
        n=count,
    )
    return Note(text=one if count == 1 else many, level="warning", code=DAMAGED, count=count)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledBack(Event):
    """The run went back to its state after ``step`` (0: its beginning); later steps, measurements and checkpoints are
    void."""

    type: ClassVar[str] = "rolled_back"
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting(Event):
    """The job stands still; memory stays held until it goes on.

    Attributes:
        reason: "" because it was asked to pause, "disk" because the disk does not take what must be kept.
        code: of a disk, what is wrong with it, as errors name it: "disk.full", "disk.gone", …
        text: what it waits for, in a sentence; empty for a pause.
        until: epoch second at which a pause gives the memory up and the process ends; 0 when it waits for ever.
    """

    type: ClassVar[str] = "waiting"
    step: int = 0
    reason: str = ""
    code: str = ""
    text: Text = NOTHING
    until: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Continued(Event):
    """The job goes on after `Waiting`."""

    type: ClassVar[str] = "continued"
    step: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(Event):
    """What the job produced, as its kind documents it."""

    type: ClassVar[str] = "result"
    value: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished(Event):
    """The last event of a job: its own, or one that the host derives from the exit code and the log.

    Attributes:
        status: "done", "stopped" (the user asked), "paused" (saved, the process ended, can be resumed) or "failed".
        failure: why, when failed.
        rung: how far the stop ladder had to go: "", "asked", "terminated" or "killed".
        derived: True when the host wrote it because the job could not.
    """

    type: ClassVar[str] = "finished"
    status: str
    failure: Failure | None = None
    rung: str = ""
    derived: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown(Event):
    """An event of a newer protocol; kept so that nothing is lost, ignored by the state."""

    type: ClassVar[str] = "unknown"
    name: str = ""
    value: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token(Event):
    """Session only: a piece of an answer. ``side`` is "base" or "tuned"."""

    type: ClassVar[str] = "token"
    request: int
    side: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Event):
    """Session only: the reply to one request; `failure` when it could not be done."""

    type: ClassVar[str] = "answer"
    request: int
    value: dict[str, Any] = field(default_factory=dict)
    failure: Failure | None = None


EVENTS: dict[str, type[Event]] = {
    kind.type: kind
    for kind in (
        Launched,
        JobStarted,
        Stage,
        Progress,
        RunPlanned,
        StepDone,
        HeldOut,
        CheckpointSaved,
        Rehearsed,
        Gauge,
        Note,
        RolledBack,
        Waiting,
        Continued,
        Result,
        Finished,
        Unknown,
        Token,
        Answer,
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What a job may be told. ``name`` is "pause", "continue", "save", "stop" or "free" (save, end the process and give
    its memory back; the run can be continued)."""

    name: str
    time: float = 0.0


PAUSE, CONTINUE, SAVE, STOP, FREE = "pause", "continue", "save", "stop", "free"
COMMANDS = (PAUSE, CONTINUE, SAVE, STOP, FREE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a session process is asked: one operation by name with its arguments."""

    request: int
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
