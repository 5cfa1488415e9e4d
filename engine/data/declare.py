"""What a data shape declares: light, so that the window, the recipe form and the docs can list it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from engine.data.rows import Message
from engine.protocol.text import Text


@dataclass(frozen=True, slots=True)
class Role:
    """What a column can mean in a shape, or a word inside the column's lists.

    Attributes:
        name: key of the recipe's ``data.mapping``.
        label: what people read.
        required: rows cannot be used without it.
        columns: names under which it is usually found, in lower case, the usual one first.
        holds: what the mapping names for it: a ``column``, a ``key`` of the turns in a list, a ``word`` for a speaker.
    """

    name: str
    label: Text
    required: bool
    columns: tuple[str, ...]
    holds: Literal["column", "key", "word"] = "column"


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a converter makes of one record; fields as in `engine.data.rows.Row`."""

    messages: tuple[Message, ...]
    chosen: str | None = None
    rejected: str | None = None
    liked: bool | None = None
    tools: str = ""
    text: str | None = None


class BadRow(Exception):
    """A record cannot be used. ``reason`` is a key of `engine.data.rows.REASONS`."""

    def __init__(self, reason: str, text: Text) -> None:
        super().__init__(text.en)
        self.reason = reason
        self.text = text


@dataclass(frozen=True, slots=True)
class Shape:
    """A way in which the columns of a file make conversations.

    Attributes:
        name: the recipe's ``data.shape``.
        label, summary: what people read; the summary names the columns.
        roles: what its columns mean.
        kind: what its rows hold: ``conversation``; ``preference`` (a better and a worse answer); ``kto`` (an answer
            marked good or bad); ``text`` (plain text).
        convert: (record, role → column) → conversation; raises `BadRow`. Pure Python, so that declaration and work
            of a shape may share a file.
        source: where the shape comes from.
    """

    name: str
    label: Text
    summary: Text
    roles: tuple[Role, ...]
    kind: Literal["conversation", "preference", "kto", "text"]
    convert: Callable[[Mapping[str, Any], Mapping[str, str]], Conversation]
    source: str

    @property
    def preference(self) -> bool:
        """Whether its rows hold a chosen and a rejected answer."""
        return self.kind == "preference"

    def role(self, name: str) -> Role | None:
        """The role of that name, None when the shape has none."""
        return next((role for role in self.roles if role.name == name), None)
