"""The four states that every page can be in, and what it says in each."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from engine.protocol.text import NOTHING, Text

if TYPE_CHECKING:
    from engine.protocol.errors import Failure
    from engine.protocol.events import Event, Progress


class Phase(Enum):
    """Nothing yet, being worked on, there, or wrong."""

    EMPTY = "empty"
    WORKING = "working"
    READY = "ready"
    WRONG = "wrong"


@dataclass(slots=True)
class Status:
    """Where something stands.

    Attributes:
        phase: which of the four.
        doing: what is happening, while working.
        progress: how far, while working; None when unknown.
        failure: what went wrong.
    """

    phase: Phase = Phase.EMPTY
    doing: Text = NOTHING
    progress: Progress | None = None
    failure: Failure | None = field(default=None)

    def work(self, doing: Text) -> None:
        """It is being worked on now."""
        self.phase, self.doing, self.progress, self.failure = Phase.WORKING, doing, None, None

    def tell(self, event: Event) -> None:
        """Take in what the engine says while it works."""
        from engine.protocol.events import Progress, Stage

        if isinstance(event, Progress):
            self.progress = event
        elif isinstance(event, Stage):
            self.doing, self.progress = event.text, None

    def ready(self) -> None:
        """It is there."""
        self.phase, self.progress, self.failure = Phase.READY, None, None

    def fail(self, failure: Failure) -> None:
        """It is wrong; a cancelled request only means that there is nothing."""
        self.phase = Phase.EMPTY if failure.code == "cancelled" else Phase.WRONG
        self.failure = None if failure.code == "cancelled" else failure

    def clear(self) -> None:
        """There is nothing (any more)."""
        self.phase, self.progress, self.failure = Phase.EMPTY, None, None
