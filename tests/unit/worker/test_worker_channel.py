"""Events that the disk does not take wait until it does, and come in order, each once."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.project.run_folder import JobFolder
from engine.protocol.codec import decode_event
from engine.protocol.events import Event, Gauge, StepDone
from engine.worker import channel as channels
from engine.worker.channel import WorkerChannel


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    folder = JobFolder(tmp_path / "job")
    folder.path.mkdir()
    folder.events.touch()
    return folder


@pytest.fixture
def channel(job: JobFolder) -> Iterator[WorkerChannel]:
    descriptor = os.open(job.events, os.O_WRONLY | os.O_APPEND)
    yield WorkerChannel(descriptor, job.commands, job.events)
    os.close(descriptor)


class Disk:
    """Takes so many bytes more; then it refuses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
        self.room = 10**9
        self._error, self._write = error, os.write
        monkeypatch.setattr(channels.os, "write", self.write)

    def write(self, descriptor: int, content: bytes) -> int:
        if self.room <= 0:
            raise OSError(self._error, os.strerror(self._error))
        taken = self._write(descriptor, content[: self.room])
        self.room -= taken
        return taken


def step(number: int) -> StepDone:
    return StepDone(step=number, steps=9, epoch=0.1, loss=1.0, learning_rate=0.1)


def told(job: JobFolder) -> list[Event]:
    return [decode_event(line) for line in job.events.read_bytes().splitlines() if line]


def steps(job: JobFolder) -> list[int]:
    return [event.step for event in told(job) if isinstance(event, StepDone)]


@pytest.mark.parametrize("room", [0, 1, 40, 150])
def test_a_full_disk_is_waited_for(
    job: JobFolder, channel: WorkerChannel, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    disk = Disk(monkeypatch, errno.ENOSPC)
    channel.emit(step(1))
    disk.room = room
    for number in (2, 3, 4):
        channel.emit(step(number))
        channel.emit(Gauge(busy=0.5))
    assert steps_at_most(job) <= 2
    disk.room = 10**9
    channel.emit(step(5))
    assert steps(job) == [1, 2, 3, 4, 5]
    assert channel.lost >= 2  # gauges are not kept


def steps_at_most(job: JobFolder) -> int:
    """Whole lines there are now."""
    return job.events.read_bytes().count(b"\n")


def test_the_reserve_makes_room_for_what_must_be_told(
    job: JobFolder, channel: WorkerChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = job.path / ".reserve"
    assert reserve.stat().st_size == channels.RESERVE_BYTES
    disk = Disk(monkeypatch, errno.ENOSPC)
    disk.room = 0
    unlink = Path.unlink

    def freed(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok)
        disk.room = channels.RESERVE_BYTES

    monkeypatch.setattr(Path, "unlink", freed)
    channel.emit(step(1))
    assert steps(job) == [1]
    assert not reserve.exists()
    channel.close()
    assert not reserve.exists()


def test_a_drive_that_comes_back_is_found_by_its_path(
    job: JobFolder, channel: WorkerChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, errno.EIO)
    channel.emit(step(1))
    disk.room = 30
    away = job.path.with_name("away")
    channel.emit(step(2))
    job.path.rename(away)
    channel.emit(step(3))
    assert not job.path.exists()  # nothing is made in its place
    away.rename(job.path)
    disk.room = 10**9
    channel.emit(step(4))
    # The half line that was there stays; what it began is told again, whole.
    assert steps_of(job.events.read_bytes().splitlines()) == [1, 2, 3, 4]


def steps_of(lines: list[bytes]) -> list[int]:
    """Steps of the lines that can be read."""
    found = []
    for line in lines:
        try:
            event = decode_event(line)
        except ValueError:
            continue
        if isinstance(event, StepDone):
            found.append(event.step)
    return found


def test_what_waits_is_bounded(job: JobFolder, channel: WorkerChannel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "MOST_BYTES", 2000)
    disk = Disk(monkeypatch, errno.ENOSPC)
    disk.room = 0
    for number in range(1, 101):
        channel.emit(step(number))
    disk.room = 10**9
    channel.emit(step(101))
    kept = steps(job)
    assert kept == list(range(1, len(kept) + 1))
    assert len(kept) + channel.lost == 101
