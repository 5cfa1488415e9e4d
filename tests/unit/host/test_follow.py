"""A record is read in pieces, and of very many steps only what is kept: whoever follows knows what a replay does."""

from pathlib import Path

import pytest

from engine.host import follow
from engine.host.follow import Follower, last_status, log_tail, replay
from engine.project.run_folder import JobFolder
from engine.protocol.codec import encode_event
from engine.protocol.events import DAMAGED, Event, Finished, Gauge, HeldOut, JobStarted, Note, RolledBack, StepDone
from engine.protocol.state import MOST_STEPS, JobState, apply_all, stride_of
from engine.protocol.text import say


def step(number: int, steps: int = 10) -> StepDone:
    return StepDone(step=number, steps=steps, epoch=0.5, loss=1.0 / number, learning_rate=0.1, time=float(number))


def write(job: JobFolder, *events: Event | bytes) -> None:
    lines = [event if isinstance(event, bytes) else encode_event(event).encode() + b"\n" for event in events]
    with job.events.open("ab") as file:
        file.write(b"".join(lines))


def all_of(follower: Follower) -> list[Event]:
    events = follower.poll()
    while follower.has_more:
        events += follower.poll()
    return events


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    return JobFolder(tmp_path)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(follow, "CHUNK_BYTES", 1000)
    return 1000


def test_a_record_is_read_in_pieces(job: JobFolder, small_chunks: int) -> None:
    write(job, JobStarted(kind="train", pid=1), *[step(n) for n in range(1, 21)])
    follower = Follower(job)
    first = follower.poll()
    assert follower.has_more
    assert 1 <= len(first) < 10
    assert follower.offset <= small_chunks
    events = first + all_of(follower)
    assert not follower.has_more
    assert [event.step for event in events if isinstance(event, StepDone)] == list(range(1, 21))


@pytest.fixture
def working(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process works on the folder."""
    monkeypatch.setattr(follow, "is_alive", lambda folder: True)


@pytest.mark.parametrize("content", [b"", b"\0" * 4000, b"half a li"])
def test_a_record_of_which_nothing_is_left_has_an_end(job: JobFolder, content: bytes) -> None:
    """As after a power cut: nobody works on it, so a window must not wait for ever."""
    write(job, content)
    state = follow.replay(job)
    assert (state.status, state.failure is not None) == ("failed", True)
    assert follow.last_status(job) == "failed"
    assert follow.replay(job).status == "failed"


def test_half_a_line_is_waited_for(job: JobFolder, working: None) -> None:
    line = encode_event(step(1)).encode()
    write(job, line[:30])
    follower = Follower(job)
    assert follower.poll() == []
    write(job, line[30:] + b"\n")
    assert follower.poll() == [step(1)]


def test_a_line_longer_than_a_piece_is_told_once_and_passed_over(job: JobFolder, small_chunks: int) -> None:
    write(job, step(1), b"x" * 5500 + b"\n", step(2))
    follower = Follower(job)
    events = all_of(follower)
    assert [type(event) for event in events] == [StepDone, Note, StepDone]
    assert getattr(events[1], "code") == DAMAGED  # noqa: B009
    write(job, step(3))
    assert follower.poll() == [step(3)]


def test_a_long_line_that_is_still_being_written(job: JobFolder, working: None, small_chunks: int) -> None:
    write(job, b"x" * 3000)
    follower = Follower(job)
    assert len(all_of(follower)) == 1
    write(job, b"x" * 10 + b"\n", step(1))
    assert all_of(follower) == [step(1)]


def test_very_many_steps_are_thinned_as_the_state_thins_them(job: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """And as if all of them had been decoded, whether followed from the first on or opened again."""
    monkeypatch.setattr(follow, "CHUNK_BYTES", 400_000)
    number = 4 * MOST_STEPS + 77
    live, seen, every = Follower(job), list[Event](), list[Event]()
    for start in range(1, number + 1, 5000):
        events: list[Event] = [step(n, number) for n in range(start, min(start + 5000, number + 1))]
        events.insert(2500 if len(events) > 2500 else 5, HeldOut(step=start, loss=1.0, time=5.0))
        write(job, *events)
        every += events
        seen += all_of(live)
    state = apply_all(JobState(), every)
    assert stride_of(number) == 8
    assert [event.step for event in state.steps] == list(range(8, number + 1, 8))
    assert apply_all(JobState(), seen) == state
    again = all_of(Follower(job))
    assert apply_all(JobState(), again) == state
    assert len(again) < len(every) / 6  # what is not kept is not decoded either


def test_what_happens_finds_the_step_before_it(job: JobFolder) -> None:
    first = 3 * MOST_STEPS + 1
    write(job, step(first), step(first + 1), Note(text=say("a", "b"), time=1.0), step(first + 2), step(first + 5))
    events = Follower(job).poll()
    steps = [event.step for event in events if isinstance(event, StepDone)]
    assert steps[:1] == [first + 1]  # before the note, though its number is kept by nobody
    assert steps[-1] == first + 5


def test_of_gauges_the_last_one_counts(job: JobFolder) -> None:
    write(job, *[Gauge(memory_gib=float(n), time=1.0) for n in range(50)], step(1))
    assert Follower(job).poll() == [Gauge(memory_gib=49.0, time=1.0), step(1)]


def test_a_record_that_went_back_is_replayed_as_it_was_followed(job: JobFolder, small_chunks: int) -> None:
    resumed = JobStarted(kind="resume", pid=2, resumed_from=4, time=1.0)
    back = RolledBack(step=2, time=1.0)
    events = [*[step(n) for n in range(1, 9)], resumed, step(5), step(6), back, step(3), Finished(status="done")]
    write(job, *events)
    state = replay(job)
    assert [event.step for event in state.steps] == [1, 2, 3]
    assert state == apply_all(JobState(), all_of(Follower(job)))


@pytest.mark.parametrize("number", [b"9" * 5000, b"9" * 13, b"-1", b"1.5", b'"1"', b""])
def test_a_number_that_is_none_spoils_no_other(job: JobFolder, number: bytes) -> None:
    line = b'{"type": "step", "time": 1.0, "step": ' + number + b', "steps": 10, "loss": 1.0}\n'
    write(job, step(1), line, step(2), step(3))
    events = all_of(Follower(job))
    assert [event.step for event in events if isinstance(event, StepDone)] == [1, 2, 3]


def test_a_folder_without_a_record_tells_nothing(job: JobFolder) -> None:
    assert Follower(job).poll() == []
    assert replay(job) == JobState()
    assert last_status(job) == ""
    assert log_tail(job.log) == ""
