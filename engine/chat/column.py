"""One column of a comparison: base and adapters are in `engine.chat.weights`, a GGUF in `engine.chat.gguf`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Protocol

from engine.chat.reply import Reply
from engine.chat.sampling import Sampling
from engine.data.rows import ASSISTANT, SYSTEM, Message
from engine.protocol.errors import UserError
from engine.protocol.text import say


class Column(Protocol):
    """One model that answers.

    Attributes:
        context: tokens that conversation and answer may have together; None when the model does not say.
        apart: it computes by itself, on the same processor as the others: it is asked when they have ended, or each
            would slow the other and no speed would be true.
    """

    @property
    def context(self) -> int | None: ...
    @property
    def apart(self) -> bool: ...

    def ids(self, messages: Sequence[Message]) -> list[int]:
        """Tokens of a conversation that is to be answered, by the model's own template and examples."""

    def stream(
        self, ids: Sequence[int], sampling: Sampling, reply: Reply, cancelled: Callable[[], bool]
    ) -> Generator[str]:
        """The answer piece by piece, filling ``reply``. Dropped halfway it leaves nothing behind."""


def fitted(column: Column, messages: Sequence[Message], *, drop: bool = False) -> tuple[list[int], int]:
    """The tokens of a conversation, and how many of its oldest turns were left out to make room.

    Args:
        drop: leave the oldest questions and answers out as long as the whole does not fit.

    Raises:
        UserError: it leaves no room in the model's context, or the template refuses it.
    """
    kept, dropped = list(messages), 0
    while True:
        ids = column.ids(kept)
        if column.context is None or len(ids) < column.context:
            return ids, dropped
        shorter = _without_oldest(kept) if drop else None
        if shorter is None:
            raise _too_long(len(ids), column.context, can_drop=not drop and _without_oldest(kept) is not None)
        kept, dropped = shorter, dropped + 1


def _without_oldest(messages: Sequence[Message]) -> list[Message] | None:
    """The conversation without its oldest question and answer; None when only the last question is left."""
    begin = sum(1 for message in messages if message.role == SYSTEM)
    turns = list(messages[begin:])
    after = next((i + 1 for i, message in enumerate(turns) if message.role == ASSISTANT), 0)
    return [*messages[:begin], *turns[after:]] if after and after < len(turns) else None


def _too_long(length: int, context: int, *, can_drop: bool) -> UserError:
    hint = say("Shorten it, or begin a new one.", "请缩短内容，或开始新的对话。")
    if can_drop:
        hint = say("Leave the oldest turns out, or begin a new conversation.", "可以省去最早的几轮，或开始新的对话。")
    return UserError(
        "chat.too_long",
        say(
            "The conversation has {n} tokens; the model has room for {limit}.",
            "对话有 {n} 个词元，模型最多容纳 {limit} 个。",
            n=length,
            limit=context,
        ),
        hint,
        where="turns" if can_drop else "messages",
    )
