"""Show how far the set-up is: one line that moves in a terminal, a line now and then elsewhere.

Standard library only.
"""

import time
from typing import TextIO

from engine.protocol.text import NOTHING, Text

_ERASE_LINE = "\r\x1b[K"
_SECONDS_BETWEEN_LINES = 20.0


def minutes(seconds: float) -> str:
    """A duration as m:ss."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Progress:
    """Phases of the whole, each with a share of the bar.

    Attributes:
        started: when the set-up began, by the monotonic clock.
    """

    def __init__(self, stream: TextIO, language: str) -> None:
        self.started = time.monotonic()
        self._stream = stream
        self._language = language
        self._moves = stream.isatty()
        self._phase, self._doing = NOTHING, NOTHING
        self._from, self._to, self._fraction = 0.0, 0.0, 0.0
        self._last_line = 0.0

    def phase(self, name: Text, start: float, end: float) -> None:
        """Begin a phase that takes the bar from `start` to `end` (0 to 1 of the whole)."""
        self._phase, self._doing = name, NOTHING
        self._from, self._to, self._fraction = start, end, 0.0
        self._show(always=True)

    def step(self, fraction: float, doing: Text) -> None:
        """Within the phase: how far it is (0 to 1) and what it is doing."""
        self._fraction, self._doing = fraction, doing
        self._show()

    def tick(self) -> None:
        """Nothing new, but the clock goes on."""
        self._show()

    def say(self, text: Text) -> None:
        """A sentence of its own."""
        self._stream.write(f"{_ERASE_LINE if self._moves else ''}{text.in_language(self._language)}\n")
        self._stream.flush()

    def end(self) -> None:
        """Leave the moving line."""
        if self._moves:
            self._stream.write(_ERASE_LINE)
            self._stream.flush()

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.started

    def _line(self) -> str:
        percent = 100 * (self._from + (self._to - self._from) * self._fraction)
        doing = f": {self._doing.in_language(self._language)}" if self._doing else ""
        return f"[{percent:3.0f}%] {minutes(self.elapsed)}  {self._phase.in_language(self._language)}{doing}"

    def _show(self, *, always: bool = False) -> None:
        now = time.monotonic()
        if self._moves:
            # A line longer than the terminal would wrap and never be erased.
            self._stream.write(_ERASE_LINE + self._line()[:78])
        elif always or now - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = now
            self._stream.write(self._line() + "\n")
        self._stream.flush()
