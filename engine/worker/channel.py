"""The worker's side of the event channel: whole lines to a private descriptor, commands from a file."""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress
from pathlib import Path

from engine.project.atomic import open_plain
from engine.protocol.codec import decode_command, encode_event
from engine.protocol.events import Command, Event, Gauge

RESERVE_BYTES = 64 * 1024
"""Kept on the disk beside the record, and given up when the disk is full: so that this can still be told."""
MOST_BYTES = 16 * 1024 * 1024
"""Of events that wait for a disk; what comes after them is lost, and counted."""
FULL = (errno.ENOSPC, errno.EDQUOT)


class WorkerChannel:
    """Writes each event at once, as one line; reads the commands that were appended since the last look.

    Events may come from several threads. A disk that takes nothing must not end the training that it reports on: events
    wait in memory, but for gauges, until it does, and a drive that comes back is found again by the record's path.

    Args:
        descriptor: where lines go.
        commands: the file of commands; None: there are none.
        record: the file behind ``descriptor``, where it is one.

    Attributes:
        lost: events that were given up.
    """

    def __init__(self, descriptor: int, commands: Path | None = None, record: Path | None = None) -> None:
        self._descriptor = descriptor
        self._commands = commands
        self._record = record
        self._offset = 0
        self._lock = threading.Lock()
        self._waiting = bytearray()
        self._begun = 0  # bytes of the first waiting line that are written
        self._keep_reserve()
        self.lost = 0

    def emit(self, event: Event) -> None:
        """Write the event."""
        line = (encode_event(event) + "\n").encode()
        with self._lock:
            if self._waiting and (isinstance(event, Gauge) or len(self._waiting) > MOST_BYTES):
                self.lost += 1
            else:
                self._waiting += line
            had_trouble = len(self._waiting) > len(line)
            written = self._write() or (self._make_way() and self._write())
            if written and had_trouble:
                self._keep_reserve()
            if not written and self._record is None:  # nobody reads any more
                self._waiting.clear()
                self._begun = 0
                self.lost += 1

    def _write(self) -> bool:
        """Write what waits; whether all of it went."""
        try:
            while self._waiting:
                written = os.write(self._descriptor, memoryview(self._waiting)[self._begun :].tobytes())
                self._wrote(written)
        except OSError as error:
            self._error = error
            return False
        return True

    def _wrote(self, count: int) -> None:
        """Forget lines that are written whole; one that is not stays whole, it may have to be written elsewhere."""
        end = self._begun + count
        whole = self._waiting.rfind(b"\n", 0, end) + 1
        del self._waiting[:whole]
        self._begun = end - whole

    def _make_way(self) -> bool:
        """Give the reserve up on a full disk; open the record again where its drive was away. Whether to try again."""
        if self._record is None:
            return False
        if self._error.errno in FULL:
            try:
                self._reserve.unlink()
            except OSError:
                return False
            return True
        try:
            # Only where the record still is: in the place of a drive that is away nothing may be written.
            fresh = os.open(self._record, os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0))
        except OSError:
            return False
        try:
            os.dup2(fresh, self._descriptor)
        finally:
            os.close(fresh)
        if self._begun:
            self._begun = 0
            self._waiting[:0] = b"\n"  # the half of the line that may be there does not swallow the whole one
        return True

    @property
    def _reserve(self) -> Path:
        assert self._record is not None
        return self._record.with_name(".reserve")

    def _keep_reserve(self) -> None:
        if self._record is None:
            return
        with suppress(OSError):
            if not self._reserve.exists():
                with self._reserve.open("xb") as file:
                    file.write(bytes(RESERVE_BYTES))

    def close(self) -> None:
        """Write what still waits, and give the reserve back."""
        with self._lock:
            if self._record is not None:
                with suppress(OSError):
                    self._reserve.unlink()
            self._write()

    def commands(self) -> list[Command]:
        """Commands that came since the last call."""
        if self._commands is None:
            return []
        try:
            with open_plain(self._commands) as file:
                file.seek(self._offset)
                content = file.read()
        except OSError:
            return []
        complete = content.rfind(b"\n") + 1
        self._offset += complete
        return [command for line in content[:complete].splitlines() for command in _decoded(line)]


def _decoded(line: bytes) -> list[Command]:
    try:
        return [decode_command(line)]
    except ValueError:
        return []
