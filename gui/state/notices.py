"""What the user should know and no page says: kept until someone shows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from engine.project.secrets import known_secrets, scrub
from engine.protocol.errors import Failure, Problem
from engine.protocol.text import NOTHING, Text

INFO, GOOD, WARNING, ERROR = "info", "good", "warning", "error"
MOST = 50


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to know.

    Attributes:
        level: "info", "good", "warning" or "error".
        message, hint: what happened, and what to do.
        problems: where several things are wrong, each of them in a line.
        details: text for "Copy details".
    """

    level: str
    message: Text
    hint: Text = NOTHING
    details: str = ""
    problems: tuple[Text, ...] = ()
    folder: Path | None = None


class Notices(QObject):
    """The notices that nobody has closed yet, oldest first.

    Signals:
        changed: one came or went.
    """

    changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.open: list[Notice] = []

    def tell(
        self,
        level: str,
        message: Text,
        hint: Text = NOTHING,
        *,
        details: str = "",
        problems: tuple[Text, ...] = (),
        folder: Path | None = None,
    ) -> None:
        """Show a notice; the same one is not shown twice."""
        notice = Notice(level, message, hint, details, problems, folder)
        if notice not in self.open:
            self.open = [*self.open, notice][-MOST:]
            self.changed.emit()

    def failure(self, failure: Failure) -> None:
        """Show what went wrong; what the user cancelled is no error."""
        if failure.code != "cancelled":
            problems = tuple(line_of(problem) for problem in failure.problems)
            self.tell(ERROR, failure.message, failure.hint, details=details_of(failure), problems=problems)

    def close(self, notice: Notice) -> None:
        """The user has read it."""
        self.open = [item for item in self.open if item is not notice]
        self.changed.emit()


def line_of(problem: Problem) -> Text:
    """A problem in one line: where, what, and what to do."""
    where = f"{problem.where}: " if problem.where else ""
    message, hint = problem.message, problem.hint
    return Text(en=f"{where}{message.en} {hint.en}".strip(), zh=f"{where}{message.zh}{hint.zh}")


def details_of(failure: Failure) -> str:
    """What "Copy details" copies: everything known, in English, which those who mend it read; but no secret."""
    lines = [f"{failure.code}: {failure.message.en}", failure.hint.en, failure.where]
    lines += [f"{p.where}: {p.message.en} {p.hint.en}".strip() for p in failure.problems]
    return scrub("\n".join(line for line in [*lines, failure.details] if line), known_secrets(keyring=False))
