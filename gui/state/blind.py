"""A blind test under way: which answers are shown as A and B, and what was voted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, Signal

from engine.protocol.errors import Failure
from engine.protocol.text import Text
from gui.state.phase import Status

if TYPE_CHECKING:
    from engine.project.held_out import HeldOutQuestion
    from engine.project.votes import BlindTest, Vote

SETUP, QUESTION, JUDGE, RESULT = "setup", "question", "judge", "result"


class BlindState(QObject):
    """One test, or the choice of one.

    Attributes:
        is_open: the page shows it instead of the conversations.
        stage: "setup" (none is chosen), "question" (waits for the answers, or for a question of the person's own),
            "judge" (both answers are there) or "result".
        test: the one that is gone on with.
        earlier: tests of this run, oldest first.
        questions: held-out questions in the test's order.
        item: the question that is judged.
        answers: both answers by name; empty until both are whole.
        last: the vote cast last, while it is told whose answers they were.
        tells_each: after each vote it is told whose answers they were.
        status: of the answers, or of reading and writing votes.
        asking: the request under way.
        newest: the last test of the run whose result is known; None before any.

    Signals:
        changed: any of it.
    """

    changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.is_open = False
        self.tells_each = False
        self.asking: Any = None
        self.newest: BlindTest | None = None
        self.reset()

    def reset(self) -> None:
        """No test is chosen."""
        self.stage = SETUP
        self.test: BlindTest | None = None
        self.earlier: list[BlindTest] = []
        self.questions: list[HeldOutQuestion] = []
        self.item: HeldOutQuestion | None = None
        self.answers: dict[str, str] = {}
        self.last: Vote | None = None
        self.status = Status()

    @property
    def shown(self) -> tuple[str, str] | None:
        """Whose answers are A and B; None before a test."""
        return self.test.shown(self.test.next_index) if self.test is not None else None

    @property
    def is_asking(self) -> bool:
        """Whether both answers are being written."""
        return self.asking is not None

    def go(self, stage: str) -> None:
        """Come to another stage."""
        self.stage = stage
        self.changed.emit()

    def work(self, doing: Text) -> None:
        """Something is being done."""
        self.status.work(doing)
        self.changed.emit()

    def fail(self, failure: Failure) -> None:
        """It went wrong; what was voted stays."""
        self.asking = None
        self.status.fail(failure)
        self.changed.emit()
