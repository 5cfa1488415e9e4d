"""What a window knows of a job, computed from its events alone: replaying ``events.jsonl`` rebuilds it exactly."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from engine.protocol.errors import Failure
from engine.protocol.events import (
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
)
from engine.protocol.text import NOTHING, Text

STARTING, WORKING, WAITING = "starting", "working", "waiting"


@dataclass(frozen=True, slots=True)
class JobState:
    """Everything a page shows of a job.

    Attributes:
        status: "starting", "working", "waiting" (paused in place), or a terminal status of `Finished`.
        steps, held_out, gauges, checkpoints, notes, rehearsed: events in order of arrival. After a resume from an
            earlier checkpoint, steps that the new process repeats replace the old ones.
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
    held_out: tuple[HeldOut, ...] = ()
    checkpoints: tuple[CheckpointSaved, ...] = ()
    gauges: tuple[Gauge, ...] = ()
    notes: tuple[Note, ...] = ()
    rehearsed: tuple[Rehearsed, ...] = ()
    result: dict[str, Any] = field(default_factory=dict)
    failure: Failure | None = None
    rung: str = ""

    @property
    def step(self) -> int:
        """The last step done, 0 before the first."""
        return self.steps[-1].step if self.steps else 0

    @property
    def total_steps(self) -> int:
        """All steps of the run, 0 while unknown."""
        return self.steps[-1].steps if self.steps else (self.plan.steps if self.plan else 0)

    @property
    def is_over(self) -> bool:
        """Whether a terminal event has come."""
        return self.status not in (STARTING, WORKING, WAITING)

    @property
    def best(self) -> HeldOut | None:
        """The evaluation with the lowest loss so far."""
        return min(self.held_out, key=lambda event: event.loss, default=None)


def apply(state: JobState, event: Event) -> JobState:
    """The state after ``event``. Pure; events of unknown type change nothing."""
    return apply_all(state, (event,))


def apply_all(state: JobState, events: tuple[Event, ...] | list[Event]) -> JobState:
    """The state after all ``events``, in time linear in their number (not in the number already seen)."""
    series: dict[str, list[Any]] = {}
    for event in events:
        name = _SERIES.get(type(event))
        if name is not None:
            # Not setdefault: it would copy the whole series for every event.
            if name not in series:
                series[name] = list(getattr(state, name))
            series[name].append(event)
        elif isinstance(event, JobStarted):
            state = _started(state, event, series)
        elif isinstance(event, RolledBack):
            _forget_after(event.step, state, series)
        else:
            state = _single(state, event)
    # The names are those of `_SERIES`, whose fields are tuples of just these events.
    changed: dict[str, Any] = {name: tuple(values) for name, values in series.items()}
    return replace(state, **changed)


_SERIES: dict[type[Event], str] = {
    StepDone: "steps",
    HeldOut: "held_out",
    CheckpointSaved: "checkpoints",
    Gauge: "gauges",
    Note: "notes",
    Rehearsed: "rehearsed",
}


def _started(state: JobState, event: JobStarted, series: dict[str, list[Any]]) -> JobState:
    """A new process took the run up: what lies behind its checkpoint will be repeated, so it is dropped."""
    _forget_after(event.resumed_from, state, series)
    return replace(
        state,
        status=WORKING,
        kind=event.kind,
        pid=event.pid,
        started=state.started or event.time,
        ended=0.0,
        progress=None,
        failure=None,
        rung="",
    )


def _forget_after(step: int, state: JobState, series: dict[str, list[Any]]) -> None:
    for name in ("steps", "held_out", "checkpoints"):
        known = series.get(name, getattr(state, name))
        series[name] = [item for item in known if item.step <= step]


def _single(state: JobState, event: Event) -> JobState:
    match event:
        case Launched():
            return replace(state, status=STARTING, kind=event.kind, ended=0.0, progress=None, failure=None, rung="")
        case Stage():
            return replace(state, stage=event.text, stage_name=event.name, progress=None)
        case Progress():
            return replace(state, progress=event)
        case RunPlanned():
            return replace(state, plan=event)
        case Waiting():
            return replace(state, status=WAITING)
        case Continued():
            return replace(state, status=WORKING)
        case Result():
            return replace(state, result={**state.result, **event.value})
        case Finished():
            return replace(state, status=event.status, failure=event.failure, ended=event.time, rung=event.rung)
        case _:
            return state
