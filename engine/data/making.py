"""From records to rows, the same way in every process: read, shaped, with what a person and the recipe changed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.data.decisions import Decision, edited
from engine.data.declare import BadRow
from engine.data.formats import Record
from engine.data.registry import SHAPES
from engine.data.rows import ASSISTANT, SYSTEM, USER, Message, Row, SetAside
from engine.data.scan import convert
from engine.data.store import Extract
from engine.recipe.recipe import DataSettings


def shaped(index: int, record: Record, *, name: str, shape: str, mapping: Mapping[str, str]) -> Row | SetAside:
    """The row that a record of the file ``name`` makes; ``shape`` is a key of `SHAPES`, ``mapping`` role → column."""
    where = f"{name}:{record.line}"
    try:
        found = convert(record, SHAPES[shape], mapping)
    except BadRow as bad:
        return SetAside(index, where, bad.reason, bad.text)
    return Row(index, where, found.messages, found.chosen, found.rejected, found.liked, found.tools, found.text)


@dataclass(frozen=True, slots=True)
class Making:
    """How the records of one file become rows.

    Attributes:
        name: of the file.
        shape, mapping: what its columns mean.
        prefix: put before each question.
        data: the recipe's data section.
        preference: rows hold preferences.
        examples: turns that stand before each question.
    """

    name: str
    shape: str
    mapping: Mapping[str, str]
    prefix: str
    data: DataSettings
    preference: bool
    examples: tuple[Message, ...] = ()

    def row(self, index: int, record: Record) -> Row | SetAside:
        """The row that a record makes, as the recipe wants it."""
        found = shaped(index, record, name=self.name, shape=self.shape, mapping=self.mapping)
        return self.wished(found) if isinstance(found, Row) else found

    def wished(self, row: Row) -> Row:
        """A row as the recipe wants it: as conversation or preference, with prefix, system prompt and examples."""
        if self.prefix:
            row = _prefixed(row, self.prefix)
        messages, data = row.messages, self.data
        if row.text is not None:
            return row
        if row.chosen is not None and not self.preference:
            messages = (*messages, Message(ASSISTANT, row.chosen))
            row = replace(row, chosen=None, rejected=None)
        if data.system and not (messages and messages[0].role == SYSTEM):
            messages = (Message(SYSTEM, data.system), *messages)
        messages = with_examples(messages, self.examples)
        if data.learn_from == "last_answer":
            last = len(messages) - 1
            messages = tuple(
                replace(m, learned=False) if m.role == ASSISTANT and i != last else m for i, m in enumerate(messages)
            )
        return row if messages is row.messages else replace(row, messages=messages)


def with_examples(messages: tuple[Message, ...], examples: Sequence[Message]) -> tuple[Message, ...]:
    """The conversation with examples before its first question."""
    if not examples:
        return messages
    begin = sum(1 for _ in itertools.takewhile(lambda m: m.role == SYSTEM, messages))
    return (*messages[:begin], *examples, *messages[begin:])


def as_example(row: Row) -> tuple[Message, ...]:
    """A row's question and answer as turns that are not learned; none where it is not one question and its answer."""
    turns = [message for message in row.messages if message.role != SYSTEM]
    if row.chosen is not None:
        turns.append(Message(ASSISTANT, row.chosen))
    if [turn.role for turn in turns] != [USER, ASSISTANT] or row.tools or turns[-1].calls:
        return ()
    return tuple(replace(turn, learned=turn.role != ASSISTANT) for turn in turns)


def _prefixed(row: Row, prefix: str) -> Row:
    """The row with its task's prefix before each question."""
    asked = (replace(m, content=f"{prefix}{m.content}") if m.role == USER else m for m in row.messages)
    return replace(row, messages=tuple(asked))


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of one file, ready to be sent to another process, which reads them itself.

    Attributes:
        indices: numbers of the rows in the data set, rising, shape (rows,).
        extract: where their records lie.
        making: how these become rows.
        decided: what a person decided about some of them.
    """

    indices: NDArray[np.int64]
    extract: Extract
    making: Making
    decided: Mapping[int, Sequence[Decision]]

    def records(self) -> Iterator[tuple[int, Record]]:
        """(number, record with the cells that a person changed) of each row."""
        for index, record in zip(self.indices.tolist(), self.extract.records(), strict=True):
            items = self.decided.get(index)
            yield index, edited(record, items) if items else record

    def items(self) -> Iterator[Row | SetAside]:
        """Each row, as the recipe wants it."""
        return (self.making.row(index, record) for index, record in self.records())
