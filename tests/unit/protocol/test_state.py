"""The state of a job follows from its events alone."""

import time
from dataclasses import replace

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
    Result,
    RolledBack,
    RunPlanned,
    Stage,
    StepDone,
    Unknown,
    Waiting,
    damaged_lines,
)
from engine.protocol.state import MOST_EVENTS, MOST_STEPS, JobState, apply, apply_all, stride_of
from engine.protocol.text import say


def _step(number: int, loss: float = 1.0) -> StepDone:
    return StepDone(step=number, steps=10, epoch=number / 10, loss=loss, learning_rate=1e-4, time=float(number))


RUN: list[Event] = [
    Launched(kind="train"),
    JobStarted(kind="train", pid=7, time=1.0),
    Stage(name="load", text=say("Loading", "加载")),
    RunPlanned(steps=10, epochs=1, rows=90, held_out=10, trained_parameters=5, all_parameters=100, device="cpu"),
    *[_step(n) for n in range(1, 5)],
    HeldOut(step=4, loss=0.9),
    CheckpointSaved(step=4, path="checkpoints/step-000004"),
    Gauge(memory_gib=1.0),
    *[_step(n) for n in range(5, 7)],
]


def test_the_course_of_a_run() -> None:
    state = apply_all(JobState(), RUN)
    assert (state.status, state.kind, state.pid, state.step, state.total_steps) == ("working", "train", 7, 6, 10)
    assert state.best == HeldOut(step=4, loss=0.9)
    state = apply(state, Waiting(step=6))
    assert state.status == "waiting"
    state = apply_all(
        state, [Continued(), Note(text=say("a", "b")), Result(value={"steps": 6}), Finished(status="done", time=9.0)]
    )
    assert (state.status, state.is_over, state.ended, state.result) == ("done", True, 9.0, {"steps": 6})


def test_one_by_one_equals_all_at_once() -> None:
    state = JobState()
    for event in RUN:
        state = apply(state, event)
    assert state == apply_all(JobState(), RUN)


def test_a_resumed_run_drops_what_it_will_repeat() -> None:
    state = apply_all(JobState(), [*RUN, Finished(status="failed")])
    state = apply_all(state, [Launched(kind="resume")])
    assert (state.status, state.failure, state.step) == ("starting", None, 6)
    state = apply_all(state, [JobStarted(kind="resume", pid=8, resumed_from=4), _step(5, 0.5)])
    assert [step.step for step in state.steps] == [1, 2, 3, 4, 5]
    assert state.steps[-1].loss == 0.5
    assert len(state.checkpoints) == 1


def test_a_run_that_was_rolled_back_drops_what_is_void() -> None:
    later = [_step(n) for n in range(1, 9)]
    told: list[Event] = [
        *later,
        HeldOut(step=5, loss=1.0),
        HeldOut(step=8, loss=9.0),
        Note(text=say("x", "甲"), step=7),
    ]
    state = apply_all(JobState(), [*told, RolledBack(step=6), _step(7)])
    assert [event.step for event in state.steps] == [1, 2, 3, 4, 5, 6, 7]
    assert [event.step for event in state.held_out] == [5]
    assert [note.step for note in state.notes] == [7]


def test_an_unknown_event_changes_nothing() -> None:
    state = apply_all(JobState(), RUN)
    assert apply(state, Unknown(name="new")) == state


def test_many_events_take_linear_time() -> None:
    def seconds(count: int) -> float:
        events = [_step(n) for n in range(count)]
        began = time.perf_counter()
        apply_all(JobState(), events)
        return time.perf_counter() - began

    seconds(1000)
    assert min(seconds(40_000) for _ in range(3)) < 40 * max(min(seconds(4000) for _ in range(3)), 1e-4)


def test_a_status_of_no_name_is_a_failure() -> None:
    assert apply(JobState(), Finished(status="exploded")).status == "failed"


def test_very_many_steps_are_thinned_and_none_of_the_end_is_lost() -> None:
    number = 5 * MOST_STEPS + 3
    state = apply_all(JobState(), [_step(n) for n in range(1, number + 1)])
    stride = stride_of(number)
    assert [event.step for event in state.steps] == list(range(stride, number + 1, stride))
    assert len(state.steps) <= MOST_STEPS
    assert (state.step, state.highest) == (number, number)
    assert state.latest is not None
    assert state.latest not in state.steps


def test_thinning_is_the_same_in_any_portions() -> None:
    number = 2 * MOST_STEPS + 500
    events: list[Event] = [_step(n) for n in range(1, number + 1)]
    state = JobState()
    for start in range(0, number, 3001):
        state = apply_all(state, events[start : start + 3001])
    assert state == apply_all(JobState(), events)


def test_steps_that_are_repeated_keep_the_stride_of_the_highest() -> None:
    number = 2 * MOST_STEPS
    events: list[Event] = [_step(n) for n in range(1, number + 1)]
    events += [JobStarted(kind="resume", pid=8, resumed_from=100), *[_step(n, 2.0) for n in range(101, 111)]]
    state = apply_all(JobState(), events)
    assert [event.step for event in state.steps[-6:]] == [100, 102, 104, 106, 108, 110]
    assert (state.step, state.highest) == (110, number)


def test_of_other_events_the_newest_are_kept() -> None:
    notes: list[Event] = [Note(text=say("a", "b"), step=n) for n in range(MOST_EVENTS + 500)]
    state = apply_all(JobState(), notes)
    assert len(state.notes) <= MOST_EVENTS
    assert state.notes[-1].step == MOST_EVENTS + 499
    assert len(state.happened) <= MOST_EVENTS


NIGHT: list[Event] = [
    Launched(kind="train", time=99.0),
    JobStarted(kind="train", pid=7, time=100.0),
    replace(_step(1), time=110.0),
    Waiting(step=1, time=120.0),
    Finished(status="paused", time=700.0),
    Launched(kind="resume", time=50_000.0),
    JobStarted(kind="resume", pid=8, time=50_001.0, resumed_from=1),
    replace(_step(2), time=50_011.0),
    Gauge(time=50_020.0),
    Finished(status="failed", derived=True, time=90_000.0),
]


def test_what_was_worked_leaves_out_pauses_nights_and_what_nobody_heard() -> None:
    state = apply_all(JobState(), NIGHT)
    assert (state.worked(), state.begun()) == (30.0, 100.0)
    assert (state.worked(40_000.0), state.begun(40_000.0)) == (10.0, 50_001.0)  # the first part is another run's
    assert state.worked(1e9) == 30.0  # a clock that was set: all of it
    assert apply_all(JobState(), NIGHT[:8]).worked() == 30.0  # under way


def test_what_was_worked_is_the_same_one_by_one_and_for_a_process_that_was_started_again() -> None:
    again = [*NIGHT[:3], *NIGHT[5:]]
    for events, seconds in ((NIGHT, 30.0), (again, 20.0)):
        state = JobState()
        for event in events:
            state = apply(state, event)
        assert state == apply_all(JobState(), events)
        assert state.worked() == seconds


def test_damaged_lines_are_one_note_however_many_are_read_at_once() -> None:
    other = Note(text=say("x", "x"))
    events = [damaged_lines(1), damaged_lines(2), other, damaged_lines(1), damaged_lines(1)]
    at_once, one_by_one = apply_all(JobState(), events), JobState()
    for event in events:
        one_by_one = apply_all(one_by_one, [event])
    assert at_once == one_by_one
    assert at_once.notes == (damaged_lines(3), other, damaged_lines(2))
    assert "3 lines" in at_once.notes[0].text.en
