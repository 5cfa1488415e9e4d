"""Questions of a run's held-out rows, with the answers that they should get: what was never trained on. Light."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

from engine.data.rows import ASSISTANT, TOOL, Message, Row, row_from_plain
from engine.project.atomic import disk_error, open_plain
from engine.project.run_folder import RunFolder

LONGEST_LINE = 4 * 2**20
"""Bytes of a row that is still read."""


@dataclass(frozen=True, slots=True)
class HeldOutQuestion:
    """One held-out row as a question.

    Attributes:
        where: file and line.
        question: what the user says last.
        before: the turns before it, its system prompt included.
        reference: the right answer (the chosen one of a preference row).
        tools_left_out: the row offers tools or calls them, which is left out here.
    """

    where: str
    question: str
    before: tuple[Message, ...] = ()
    reference: str = ""
    tools_left_out: bool = False


def read_questions(run: RunFolder, *, most: int, seed: int | None = None) -> tuple[list[HeldOutQuestion], int]:
    """Questions of the held-out rows, each once, and how many there are in all; none where the file is absent.

    Args:
        most: at most so many.
        seed: in an order shuffled by it; None for the file's.

    Raises:
        UserError: the file cannot be read. Lines that are no rows are passed over.
    """
    found: dict[str, HeldOutQuestion] = {}
    for row in _rows(run):
        made = _question(row)
        if made is not None:
            found.setdefault(made.question, made)
    questions = list(found.values())
    if seed is not None:
        random.Random(seed).shuffle(questions)
    return questions[:most], len(questions)


def _rows(run: RunFolder) -> Iterator[Row]:
    if not run.held_out.is_file():
        return
    try:
        with open_plain(run.held_out, links=True) as lines:
            while line := lines.readline(LONGEST_LINE):
                try:
                    yield row_from_plain(json.loads(line))
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                    continue
    except OSError as error:
        raise disk_error(error, run.held_out) from error


def _question(row: Row) -> HeldOutQuestion | None:
    """The row's last question; None where it asks nothing."""
    if row.text is not None or not row.question.strip():
        return None
    prompt = row.prompt
    last = max(i for i, message in enumerate(prompt) if message.content == row.question)
    before = [message for message in prompt[:last] if message.role != TOOL and message.content.strip()]
    plain = tuple(Message(message.role, message.content) for message in before)
    has_tools = bool(row.tools) or any(message.calls or message.role == TOOL for message in row.messages)
    return HeldOutQuestion(row.where, row.question, _by_turns(plain), row.answer, has_tools)


def _by_turns(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Without a question that nobody answered, or an answer to none: templates insist on turns."""
    kept: list[Message] = []
    for message in messages:
        if message.role == ASSISTANT and (not kept or kept[-1].role == ASSISTANT or kept[-1].role == "system"):
            continue
        if kept and kept[-1].role == message.role == "user":
            kept.pop()
        kept.append(message)
    while kept and kept[-1].role == "user":
        kept.pop()
    return tuple(kept)
