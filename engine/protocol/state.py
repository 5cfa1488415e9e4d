"""What a window knows of a job, computed from its events alone: replaying ``events.jsonl`` rebuilds it exactly.

It stays small however long a job works: of very many steps every second, fourth, … is kept (`stride_of`), of the other
events the newest. The file has them all.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard

from engine.protocol.errors import Failure
from engine.protocol.events import (
    DAMAGED,
    FAILED,
    TERMINAL,
    CheckpointSaved,
    Continued,
    Event,
    Finished,
    Gauge,
    HeldOut,
    JobStarted,
    Launched,
    Note,
    Progress,
    Rehearsed,
    Result,
    RolledBack,
    RunPlanned,
    Stage,
    StepDone,
    Waiting,
    damaged_lines,
)
from engine.protocol.text import NOTHING, Text

STARTING, WORKING, WAITING = "starting", "working", "waiting"
MOST_STEPS = 8192
"""Steps that are kept at most; more than any screen is wide."""
MOST_EVENTS = 4000
"""Notes, measurements and checkpoints that are kept at most, of each."""


def stride_of(highest: int) -> int:
    """Of a run that has reached step ``highest``, the steps that this number (a power of two) divides are kept."""
    stride = 1
    while highest > stride * MOST_STEPS:
        stride *= 2
    return stride


@dataclass(frozen=True, slots=True)
class JobState:
    """Everything a page shows of a job.

    Attributes:
        status: "starting", "working", "waiting" (paused in place), or a terminal status of `Finished`.
        steps: in order, thinned where there are very many (`stride_of`). After a resume from an earlier checkpoint,
            steps that the new process repeats replace the old ones.
        latest: the last step that was told; None before the first.
        highest: the highest step ever told, also by a process whose steps were repeated.
        held_out, checkpoints, notes, rehearsed: in order of arrival.
        happened: notes, measurements and checkpoints together, in order of arrival.
        gauge: what the machine did last.
        waiting: why it stands still, while it does.
        spans: begin and end of each stretch that a process worked on it without a pause, in epoch seconds.
        since: when the stretch under way began, 0 while none is.
        heard: time of the last event, of `Gauge` apart.
    """

    status: str = STARTING
    kind: str = ""
    pid: int = 0
    started: float = 0.0
    ended: float = 0.0
    stage: Text = NOTHING
    stage_name: str = ""
    progress: Progress | None = None
    plan: RunPlanned | None = None
    steps: tuple[StepDone, ...] = ()
    latest: StepDone | None = None
    highest: int = 0
    held_out: tuple[HeldOut, ...] = ()
    checkpoints: tuple[CheckpointSaved, ...] = ()
    notes: tuple[Note, ...] = ()
    happened: tuple[Note | HeldOut | CheckpointSaved, ...] = ()
    gauge: Gauge | None = None
    waiting: Waiting | None = None
    rehearsed: tuple[Rehearsed, ...] = ()
    result: dict[str, Any] = field(default_factory=dict)
    failure: Failure | None = None
    rung: str = ""
    spans: tuple[tuple[float, float], ...] = ()
    since: float = 0.0
    heard: float = 0.0

    @property
    def step(self) -> int:
        """The last step done, 0 before the first."""
        return self.latest.step if self.latest is not None else 0

    @property
    def total_steps(self) -> int:
        """All steps of the run, 0 while unknown."""
        return self.latest.steps if self.latest is not None else (self.plan.steps if self.plan else 0)

    @property
    def is_over(self) -> bool:
        """Whether a terminal event has come."""
        return self.status not in (STARTING, WORKING, WAITING)

    @property
    def best(self) -> HeldOut | None:
        """The evaluation with the lowest loss so far."""
        return min(self.held_out, key=lambda event: event.loss, default=None)

    def begun(self, created: float = 0.0) -> float:
        """When a process first worked on it, in epoch seconds; 0 before. A run that goes on from another's checkpoint
        brings that one's record along: what lies before it was ``created`` is not its own."""
        starts = [start for start, _ in self.spans] + [self.since] * (self.since > 0)
        return next((start for start in starts if start >= created), self.started)

    def worked(self, created: float = 0.0) -> float:
        """Seconds that processes worked on it, pauses and the time between two processes left out. ``created`` as in
        `begun`."""
        is_own = any(start >= created for start, _ in (*self.spans, (self.since, 0.0)))
        spans = [(start, end) for start, end in self.spans if start >= created or not is_own]
        return sum(max(0.0, end - start) for start, end in spans) + self._under_way

    @property
    def _under_way(self) -> float:
        return max(0.0, self.heard - self.since) if self.since else 0.0


def apply(state: JobState, event: Event) -> JobState:
    """The state after ``event``. Pure; events of unknown type change nothing."""
    return apply_all(state, (event,))


def apply_all(state: JobState, events: tuple[Event, ...] | list[Event]) -> JobState:
    """The state after all ``events``, in time linear in their number (not in the number already seen)."""
    return _Growing(state).take(events)


class _Growing:
    """A state with its series as lists, copied once for many events."""

    def __init__(self, state: JobState) -> None:
        self._state = state
        self._lists: dict[str, list[Any]] = {}
        self._latest, self._highest, self._gauge = state.latest, state.highest, state.gauge
        self._stride = stride_of(state.highest)
        self._since, self._heard = state.since, state.heard

    def take(self, events: tuple[Event, ...] | list[Event]) -> JobState:
        for event in events:
            match event:
                case StepDone():
                    self._step(event)
                case HeldOut() | CheckpointSaved() | Note():
                    self._add(_SERIES[type(event)], event)
                    self._add("happened", event)
                case Rehearsed():
                    self._add("rehearsed", event)
                case Gauge():
                    self._gauge = event
                case JobStarted():
                    self._started(event)
                case RolledBack():
                    self._forget_after(event.step)
                case _:
                    self._time(event)
                    self._state = _single(self._state, event)
            if not isinstance(event, Gauge):  # of these a reader of a long record decodes few
                self._heard = event.time or self._heard
        # The names are those of fields that are tuples of just these events.
        changed: dict[str, Any] = {name: tuple(values) for name, values in self._lists.items()}
        changed |= {"since": self._since, "heard": self._heard}
        return replace(self._state, latest=self._latest, highest=self._highest, gauge=self._gauge, **changed)

    def _time(self, event: Event) -> None:
        """Begin and end the stretches that are worked. The end of a process that died unheard is told when somebody
        looks, which may be much later."""
        if isinstance(event, (Finished, Waiting)):
            unheard = isinstance(event, Finished) and event.derived
            self._rest(self._heard if unheard else event.time)
        elif isinstance(event, Launched):
            self._rest(self._heard)
        elif isinstance(event, Continued):
            self._since = self._since or event.time

    def _rest(self, moment: float) -> None:
        if self._since:
            self._add("spans", (self._since, moment))
        self._since = 0.0

    def _list(self, name: str) -> list[Any]:
        if name not in self._lists:
            self._lists[name] = list(getattr(self._state, name))
        return self._lists[name]

    def _add(self, name: str, event: object) -> None:
        known = self._list(name)
        append(known, event)
        if len(known) > MOST_EVENTS:
            del known[: -MOST_EVENTS + MOST_EVENTS // 10]

    def _step(self, event: StepDone) -> None:
        self._latest = event
        if event.step > self._highest:
            self._highest = event.step
            if event.step > self._stride * MOST_STEPS:
                self._stride = stride_of(event.step)
                self._lists["steps"] = [item for item in self._list("steps") if item.step % self._stride == 0]
        if event.step % self._stride == 0:
            self._list("steps").append(event)

    def _started(self, event: JobStarted) -> None:
        """A new process took the run up: what lies behind its checkpoint will be repeated, so it is dropped."""
        self._forget_after(event.resumed_from)
        self._rest(self._heard)
        self._since = event.time
        self._state = replace(
            self._state,
            status=WORKING,
            kind=event.kind,
            pid=event.pid,
            started=self._state.started or event.time,
            ended=0.0,
            progress=None,
            failure=None,
            rung="",
            waiting=None,
        )

    def _forget_after(self, step: int) -> None:
        for name in ("steps", "held_out", "checkpoints"):
            self._lists[name] = [item for item in self._list(name) if item.step <= step]
        self._lists["happened"] = [
            item for item in self._list("happened") if isinstance(item, Note) or item.step <= step
        ]
        if self._latest is not None and self._latest.step > step:
            steps = self._lists["steps"]
            self._latest = steps[-1] if steps else None


def append(known: list[Any], event: object) -> None:
    """Add an event; damaged lines behind one another are one note, however many of them are read at once."""
    if known and _is_damage(event) and _is_damage(known[-1]):
        known[-1] = damaged_lines(known[-1].count + event.count)
    else:
        known.append(event)


def _is_damage(event: object) -> TypeGuard[Note]:
    """Whether it tells of lines that cannot be read."""
    return isinstance(event, Note) and event.code == DAMAGED


_SERIES: dict[type[Event], str] = {HeldOut: "held_out", CheckpointSaved: "checkpoints", Note: "notes"}


def _single(state: JobState, event: Event) -> JobState:
    match event:
        case Launched():
            return replace(
                state, status=STARTING, kind=event.kind, ended=0.0, progress=None, failure=None, rung="", waiting=None
            )
        case Stage():
            return replace(state, stage=event.text, stage_name=event.name, progress=None)
        case Progress():
            return replace(state, progress=event)
        case RunPlanned():
            return replace(state, plan=event)
        case Waiting():
            return replace(state, status=WAITING, waiting=event)
        case Continued():
            return replace(state, status=WORKING, waiting=None)
        case Result():
            return replace(state, result={**state.result, **event.value})
        case Finished():
            return replace(
                state,
                status=event.status if event.status in TERMINAL else FAILED,
                failure=event.failure,
                ended=event.time,
                rung=event.rung,
                waiting=None,
            )
        case _:
            return state
