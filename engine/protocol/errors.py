"""Errors shown to people: a code, one sentence, a hint, where it happened, and details to copy."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.protocol.text import NOTHING, Text

EXIT_DONE = 0
EXIT_MACHINE = 1
EXIT_INPUT = 2
EXIT_INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with what the user gave.

    Attributes:
        code: stable name for programs, such as ``recipe.unknown_field``.
        message: one sentence.
        hint: what the user can do about it.
        where: file and line ("data.jsonl:17"), or the recipe's field ("method.rank"); empty when neither applies.
    """

    code: str
    message: Text
    hint: Text = NOTHING
    where: str = ""


class UserError(Exception):
    """Something a person must know and can act on. Never shown as a traceback.

    Attributes:
        problem: what is wrong.
        problems: all that is wrong, when a check found several (the first is `problem` unless given otherwise).
        exit_code: 2 where the input is at fault, 1 where the machine is.
        details: text for "Copy details" (a log's tail, a library's message); may be long.
    """

    def __init__(
        self,
        code: str,
        message: Text,
        hint: Text = NOTHING,
        *,
        where: str = "",
        problems: tuple[Problem, ...] = (),
        exit_code: int = EXIT_INPUT,
        details: str = "",
    ) -> None:
        super().__init__(message.en)
        self.problem = Problem(code, message, hint, where)
        self.problems = problems
        self.exit_code = exit_code
        self.details = details

    def __str__(self) -> str:
        parts = [f"{self.problem.where}: {self.problem.message}" if self.problem.where else str(self.problem.message)]
        if self.problem.hint:
            parts.append(str(self.problem.hint))
        return " ".join(parts)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self.problem, self.problems, self.exit_code, self.details))


def _rebuild(problem: Problem, problems: tuple[Problem, ...], exit_code: int, details: str) -> UserError:
    return UserError(
        problem.code,
        problem.message,
        problem.hint,
        where=problem.where,
        problems=problems,
        exit_code=exit_code,
        details=details,
    )


@dataclass(frozen=True, slots=True)
class Failure:
    """A `UserError` as it travels in an event.

    Attributes:
        code, message, hint, where: as in `Problem`.
        problems: all problems found.
        details: text to copy.
        exit_code: 2 where the input is at fault, 1 where the machine is.
    """

    code: str
    message: Text
    hint: Text = NOTHING
    where: str = ""
    problems: tuple[Problem, ...] = field(default_factory=tuple)
    details: str = ""
    exit_code: int = EXIT_MACHINE

    @classmethod
    def of(cls, error: UserError) -> Failure:
        """The failure that tells of ``error``."""
        p = error.problem
        return cls(p.code, p.message, p.hint, p.where, error.problems, error.details, error.exit_code)


class Stopped(Exception):
    """A job ends early because the user asked for it. Never an error."""
