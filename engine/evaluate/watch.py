"""How far a long measurement is, and whether it is to end."""

from __future__ import annotations

import time

from engine.protocol.channel import Channel, stop_if_asked
from engine.protocol.events import Progress, Stage
from engine.protocol.text import Text

TELL_SECONDS = 0.2


class Watch:
    """Tells how far a stage is, a few times a second, and ends the work when the user asks."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._total = self._before = 0.0
        self._unit = ""
        self._began = self._told = 0.0

    def stage(self, name: str, text: Text, total: float, unit: str) -> None:
        """Begin another stage."""
        self._channel.emit(Stage(name=name, text=text))
        self._total, self._unit, self._before = total, unit, 0.0
        self._began, self._told = time.monotonic(), 0.0
        self.look()

    def next_part(self, done: float) -> None:
        """What follows counts from here on."""
        self._before += done

    def at(self, done: float) -> None:
        """So much of this part is done. Raises `Stopped`."""
        now = time.monotonic()
        done += self._before
        if now - self._told < TELL_SECONDS and done < self._total:
            return
        self._told = now
        left = (now - self._began) / done * (self._total - done) if done else None
        self._channel.emit(Progress(done=done, total=self._total, unit=self._unit, seconds_left=left))
        self.look()

    def counting(self, done: float, total: float) -> None:
        """So much is done of a stage whose size only those know who do it. Raises `Stopped`."""
        self._total = total
        self.at(done)

    def look(self) -> None:
        """End the work when the user asks. Raises `Stopped`."""
        stop_if_asked(self._channel)
