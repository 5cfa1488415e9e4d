"""The worker's side of the event channel: whole lines to a private descriptor, commands from a file."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from engine.protocol.codec import decode_command, encode_event
from engine.protocol.events import Command, Event


class WorkerChannel:
    """Writes each event at once, as one line; reads the commands that were appended since the last look.

    Events may come from several threads. A full disk must not end the training that it reports on: an event that cannot
    be written is dropped and counted.

    Attributes:
        lost: events that could not be written.
    """

    def __init__(self, descriptor: int, commands: Path | None = None) -> None:
        self._descriptor = descriptor
        self._commands = commands
        self._offset = 0
        self._lock = threading.Lock()
        self.lost = 0

    def emit(self, event: Event) -> None:
        """Write the event."""
        line = (encode_event(event) + "\n").encode()
        with self._lock:
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
            except OSError:
                self.lost += 1

    def commands(self) -> list[Command]:
        """Commands that came since the last call."""
        if self._commands is None:
            return []
        try:
            with self._commands.open("rb") as file:
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
