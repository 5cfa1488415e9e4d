"""The real worker and the real session process: what libraries print harms nothing, and every end is told."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from engine.host.follow import Follower
from engine.host.launch import is_alive, start_job
from engine.host.session import SessionProcess
from engine.project.run_folder import JobFolder
from engine.protocol.events import Answer, Event, Finished
from engine.worker.channel import WorkerChannel
from engine.worker.job import explain


def _until(done: Any, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.01)


def test_a_failing_job_is_a_sentence_and_its_traceback_is_in_the_log(tmp_path: Path) -> None:
    job = JobFolder(tmp_path / "job")
    start_job(job, "evaluate", {"run": str(tmp_path / "no run")})
    follower, events = Follower(job), list[Event]()
    _until(lambda: events.extend(follower.poll()) or any(isinstance(event, Finished) for event in events))
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.failure is not None
    assert "Traceback" not in last.failure.message.en
    assert not last.derived
    assert "Traceback" in job.log.read_text()
    _until(lambda: not is_alive(job))


def test_an_unknown_kind_is_told(tmp_path: Path) -> None:
    job = JobFolder(tmp_path / "job")
    start_job(job, "teleport", {})
    follower, events = Follower(job), list[Event]()
    _until(lambda: events.extend(follower.poll()) or any(isinstance(event, Finished) for event in events))
    assert isinstance(events[-1], Finished)
    assert events[-1].status == "failed"
    _until(lambda: not is_alive(job))


def test_events_go_to_the_private_descriptor_and_prints_to_the_log(tmp_path: Path) -> None:
    read, write = os.pipe()
    channel = WorkerChannel(write)
    channel.emit(Answer(request=1, value={"a": "甲"}))
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        assert stream.read().count(b"\n") == 1
    channel.emit(Answer(request=2))
    assert channel.lost == 1


def test_a_full_disk_is_the_machines_fault(tmp_path: Path) -> None:
    failure = explain(OSError(28, "No space left on device", str(tmp_path / "x")), tmp_path / "log")
    assert (failure.code, failure.exit_code) == ("disk.full", 1)
    failure = explain(MemoryError(), tmp_path / "log")
    assert failure.code == "memory.ram"
    failure = explain(ValueError("strange"), tmp_path / "log")
    assert failure.code == "internal"
    assert "ValueError: strange" in failure.message.en


def _answer(session: SessionProcess, number: int) -> Answer:
    found: list[Event] = []
    _until(lambda: found.extend(session.poll()) or any(isinstance(e, Answer) and e.request == number for e in found))
    return next(event for event in found if isinstance(event, Answer) and event.request == number)


@pytest.mark.parametrize("kind", ["data"])
def test_a_session_answers_and_survives_bad_requests(kind: str) -> None:
    session = SessionProcess(kind)
    try:
        answer = _answer(session, session.ask("no such request"))
        assert answer.failure is not None
        assert session.alive
        answer = _answer(session, session.ask("list_models"))
        assert answer.failure is None
        assert any(model["source"] == "starter" for model in answer.value["models"])
    finally:
        session.close()
    assert not session.alive


def test_a_killed_session_answers_for_what_was_open() -> None:
    session = SessionProcess("data")
    try:
        session.start()
        assert session._process is not None
        session._process.kill()
        session._process.wait()
        number = session._last + 1
        session._last = number
        session._open.add(number)
        answer = _answer(session, number)
        assert answer.failure is not None
        assert answer.failure.code == "process.killed"
        # The next question starts it anew.
        assert _answer(session, session.ask("list_models")).failure is None
    finally:
        session.close()


def test_closing_ends_it_soon() -> None:
    session = SessionProcess("data")
    session.start()
    began = time.monotonic()
    session.close()
    assert time.monotonic() - began < 5
    session.close()
