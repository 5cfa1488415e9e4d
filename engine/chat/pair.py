"""Ask several models the same: base and tuned model of a run on one set of weights, and what was put beside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.chat.column import Column, fitted
from engine.chat.gguf import GgufColumn
from engine.chat.reply import CANCELLED, CONTEXT, ENDED, FAILED, LIMIT, Reply
from engine.chat.sampling import Sampling
from engine.chat.weights import WeightsColumn
from engine.data.rows import SYSTEM, Message
from engine.model.beside import CONFIG_FILE
from engine.model.tuned import SIDES, TunedModel, load_tuned
from engine.project.run_folder import RunFolder
from engine.protocol.errors import Failure, UserError
from engine.protocol.text import say

__all__ = ["CANCELLED", "CONTEXT", "ENDED", "FAILED", "LIMIT", "Pair", "Reply", "Sampling", "conversation"]

# Answers grow by turns. A side keeps its turn for a moment, so that the processor's caches are of use to it.
TURN_SECONDS = 0.25
ADAPTER, GGUF = "adapter", "gguf"
KINDS = (ADAPTER, GGUF)
"""What can be put beside base and tuned model."""


@dataclass
class Pair:
    """Base and tuned model of a run, and further columns. One thread at a time.

    Attributes:
        tuned: the weights and what is needed to ask them.
        columns: what can be asked, by name: "base", "tuned", and the names given to `add`.
    """

    tuned: TunedModel
    columns: dict[str, Column] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, speaker in self.tuned.speakers.items():
            self.columns[name] = WeightsColumn(speaker, self.tuned.context)

    @classmethod
    def load(cls, run: RunFolder, *, told: Callable[[int, int], None] | None = None) -> Pair:
        """The two models of a finished run. Arguments and errors as of `load_tuned`."""
        return cls(load_tuned(run, told=told))

    def add(self, name: str, kind: str, path: Path) -> None:
        """Put another column beside the others: an adapter on the same weights, or a GGUF file in llama.cpp.

        Args:
            path: the file; or PEFT's folder, or a run's, which stands for its adapter.

        Raises:
            UserError: it cannot be loaded; the others stay as they are.
        """
        if kind == GGUF:
            apart = self.tuned.device.type == "cpu"
            self.columns[name] = GgufColumn(path, apart=apart, wanted=self.tuned.context)
        else:
            self.columns[name] = WeightsColumn(self.tuned.add(name, _adapter_in(path)), self.tuned.context)

    def remove(self, name: str) -> None:
        """Forget a column that was added."""
        if isinstance(self.columns.pop(name), WeightsColumn):
            self.tuned.remove(name)

    def facts(self, name: str) -> dict[str, Any]:
        """What is known of a column: ``kind``, PEFT's ``method``, ``context``."""
        column = self.columns[name]
        adapter = column.speaker.adapter if isinstance(column, WeightsColumn) else None
        kind = name if name in SIDES else ADAPTER if isinstance(column, WeightsColumn) else GGUF
        return {
            "name": name,
            "kind": kind,
            "method": adapter.kind if adapter is not None else "",
            "context": column.context,
        }

    def with_system(self, messages: Sequence[Message], system: str | None = None) -> tuple[Message, ...]:
        """The conversation with its system prompt.

        Args:
            system: None for that of training, "" for none. A system message that is there already stays.
        """
        wanted = self.tuned.recipe.data.system if system is None else system
        if wanted and not (messages and messages[0].role == SYSTEM):
            return (Message(SYSTEM, wanted), *messages)
        return tuple(messages)

    def prompt(self, messages: Sequence[Message], *, side: str = "tuned") -> list[int]:
        """Token ids of a conversation that is to be answered, by the template, system prompt and examples of training.

        Raises:
            UserError: the template refuses it, or it leaves no room in the model's context.
        """
        return fitted(self.columns[side], self.with_system(messages))[0]

    def stream(
        self,
        side: str,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        system: str | None = None,
        drop: bool = False,
        cancelled: Callable[[], bool] = lambda: False,
        reply: Reply | None = None,
    ) -> Generator[str, None, Reply]:
        """The answer of a side, piece by piece; the generator returns the whole `Reply`.

        A generator that is dropped halfway leaves nothing behind, and several may be drawn from by turns.

        Args:
            system: as in `with_system`.
            drop: leave the oldest turns out where all have no room.
            cancelled: asked before each token; true ends the answer.
            reply: filled while the answer grows, for a caller that wants to see it then.

        Raises:
            UserError: as `prompt` does, memory ran out, or llama.cpp failed.
        """
        reply = Reply() if reply is None else reply
        column = self.columns[side]
        ids, reply.dropped = fitted(column, self.with_system(messages, system), drop=drop)
        reply.prompt_tokens = len(ids)
        yield from column.stream(ids, sampling, reply, cancelled)
        return reply

    def ask(
        self,
        messages: Sequence[Message] | Mapping[str, Sequence[Message]],
        sampling: Sampling,
        *,
        sides: Sequence[str] = SIDES,
        system: str | None = None,
        drop: bool = False,
        tell: Callable[[str, str], None] = lambda side, piece: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> dict[str, Reply]:
        """The answers of several sides, which grow by turns.

        Each side draws its own random numbers from the same seed, so an answer does not depend on other sides. A side
        that fails says so in its reply, and the others go on.

        Args:
            messages: the conversation, or each side's own.
            tell: called with each piece of text.

        Raises:
            UserError: as `stream` does, where every side fails.
        """
        replies = {side: Reply() for side in sides}
        growing = {
            side: self.stream(
                side,
                messages[side] if isinstance(messages, Mapping) else messages,
                sampling,
                system=system,
                drop=drop,
                cancelled=cancelled,
                reply=replies[side],
            )
            for side in sides
        }
        errors: list[UserError] = []
        while growing:
            for side in self._next_round(growing):
                try:
                    if _take_turn(side, growing[side], tell):
                        continue
                except UserError as error:
                    errors.append(error)
                    replies[side].end, replies[side].failure = FAILED, Failure.of(error)
                del growing[side]
        if errors and len(errors) == len(replies):
            raise errors[0]
        return replies

    def _next_round(self, growing: Mapping[str, object]) -> list[str]:
        """Whose turn it is: columns that compute by themselves wait for the others."""
        return [side for side in growing if not self.columns[side].apart] or list(growing)[:1]


def _adapter_in(folder: Path) -> Path:
    inner = folder / "adapter"
    return inner if (inner / CONFIG_FILE).is_file() and not (folder / CONFIG_FILE).is_file() else folder


def _take_turn(side: str, stream: Generator[str, None, Reply], tell: Callable[[str, str], None]) -> bool:
    """Draw pieces for a moment; False when the answer is whole."""
    until = time.monotonic() + TURN_SECONDS
    for piece in stream:
        tell(side, piece)
        if time.monotonic() >= until:
            return True
    return False


def conversation(plain: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """Messages of a request. Raises `UserError` when they are none."""
    try:
        messages = tuple(Message(str(item["role"]), str(item["content"])) for item in plain)
    except (KeyError, TypeError) as error:
        raise _no_messages() from error
    if not messages or not messages[-1].content.strip():
        raise _no_messages()
    return messages


def _no_messages() -> UserError:
    return UserError(
        "chat.no_message",
        say("There is nothing to answer.", "没有需要回答的内容。"),
        say("Write a message.", "请输入一条消息。"),
        where="messages",
    )
