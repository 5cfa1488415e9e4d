"""How a job speaks and listens, without knowing to whom: the worker's private channel, or a list in a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from engine.protocol.errors import Stopped
from engine.protocol.events import STOP, Command, Event, Progress


class Channel(Protocol):
    """What every job is given."""

    def emit(self, event: Event) -> None:
        """Tell what happened. Never blocks for long, never raises for a slow reader."""

    def commands(self) -> list[Command]:
        """The commands that came since the last call, in order; returns at once."""


def stop_if_asked(channel: Channel) -> None:
    """Raises `Stopped` when the channel holds a stop."""
    if any(command.name == STOP for command in channel.commands()):
        raise Stopped


def telling(channel: Channel, unit: str) -> Callable[[int, int], None]:
    """What is called with how much is done and of how much: tells it. Raises `Stopped` when a stop came."""

    def tell(done: int, total: int) -> None:
        stop_if_asked(channel)
        channel.emit(Progress(done=done, total=total, unit=unit))

    return tell


class Recorder:
    """A channel that keeps its events in a list and gives prepared commands: for tests and for jobs run in place."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.pending: list[Command] = []

    def emit(self, event: Event) -> None:
        """Keep the event."""
        self.events.append(event)

    def commands(self) -> list[Command]:
        """The prepared commands, once."""
        found, self.pending = self.pending, []
        return found
