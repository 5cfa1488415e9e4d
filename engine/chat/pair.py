"""Ask base and tuned model the same: one set of weights, the adapter switched on for the tuned side alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from engine.chat.sampling import Sampling as Sampling
from engine.chat.text_stream import Pieces, StopText
from engine.data.making import with_examples
from engine.data.rows import SYSTEM, USER, Message
from engine.model.load import ran_out_of_memory
from engine.model.tuned import SIDES, Side, TunedModel, load_tuned
from engine.project.run_folder import RunFolder
from engine.protocol.errors import UserError
from engine.protocol.text import say

# Two answers grow by turns. Switching the adapter walks through the whole model, so a side keeps its turn for a moment.
TURN_SECONDS = 0.25

ENDED, LIMIT, CONTEXT, CANCELLED = "ended", "limit", "context", "cancelled"


@dataclass
class Reply:
    """An answer while it grows.

    Attributes:
        text: all pieces so far.
        tokens: generated so far, the one that ended it included.
        seconds: time that this side worked, waiting for the other side not counted.
        first_token_seconds: of that, until the first token was known.
        end: why it ended: "ended" (by itself), "limit" (max_new_tokens), "context" (no room left) or "cancelled".
    """

    text: str = ""
    tokens: int = 0
    seconds: float = 0.0
    first_token_seconds: float | None = None
    end: str = ""

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens after the first, by the time they took; None for fewer than two."""
        if self.tokens < 2 or self.first_token_seconds is None or self.seconds <= self.first_token_seconds:
            return None
        return (self.tokens - 1) / (self.seconds - self.first_token_seconds)

    def plain(self) -> dict[str, Any]:
        """The reply as an answer of the chat session holds it."""
        rate, first = self.tokens_per_second, self.first_token_seconds
        return {
            "text": self.text.strip(),
            "tokens": self.tokens,
            "tokens_per_second": None if rate is None else round(rate, 2),
            "first_token_seconds": None if first is None else round(first, 4),
            "end": self.end,
        }


@dataclass
class Pair:
    """Base and tuned model of a run. One thread at a time.

    Attributes:
        tuned: the weights and what is needed to ask them.
    """

    tuned: TunedModel

    @classmethod
    def load(cls, run: RunFolder) -> Pair:
        """The two models of a finished run. Raises `UserError` as `load_tuned` does."""
        return cls(load_tuned(run))

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation that is to be answered, by the template, system prompt and examples of training.

        Raises:
            UserError: the template refuses it, or it leaves no room in the model's context.
        """
        system = self.tuned.recipe.data.system
        if system and not (messages and messages[0].role == SYSTEM):
            messages = (Message(SYSTEM, system), *messages)
        messages = with_examples(tuple(messages), self.tuned.examples)
        ids, _ = self.tuned.tokenizer.encode(self.tuned.template.render(messages, generation_prompt=True).text)
        if self.tuned.context is not None and len(ids) >= self.tuned.context:
            raise UserError(
                "chat.too_long",
                say(
                    "The conversation has {n} tokens; the model has room for {limit}.",
                    "对话有 {n} 个词元，模型最多容纳 {limit} 个。",
                    n=len(ids),
                    limit=self.tuned.context,
                ),
                say("Shorten it, or begin a new one.", "请缩短内容，或开始新的对话。"),
                where="messages",
            )
        return ids

    def stream(
        self,
        side: Side,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        cancelled: Callable[[], bool] = lambda: False,
        reply: Reply | None = None,
    ) -> Generator[str, None, Reply]:
        """The answer of a side, piece by piece; the generator returns the whole `Reply`.

        A generator that is dropped halfway leaves nothing behind, and two may be drawn from by turns.

        Args:
            cancelled: asked before each token; true ends the answer.
            reply: filled while the answer grows, for a caller that wants to see it then.

        Raises:
            UserError: as `prompt` does, or memory ran out.
        """
        reply = Reply() if reply is None else reply
        ids = self.prompt(messages)
        tokens = _Tokens(self.tuned, side, ids, sampling)
        text = StopText(self.tuned.stop_texts)
        pieces = Pieces(self.tuned.tokenizer.decode)
        while not reply.end:
            piece = ""
            if cancelled():
                reply.end = CANCELLED
            elif reply.tokens >= sampling.max_new_tokens:
                reply.end = LIMIT
            elif self.tuned.context is not None and len(ids) + reply.tokens >= self.tuned.context:
                reply.end = CONTEXT
            else:
                piece = text.push(self._next(tokens, pieces, reply))
            if text.met:
                reply.end = ENDED
            if reply.end:
                piece += text.push(pieces.flush()) + text.flush()
            piece = piece if reply.text else piece.lstrip()
            reply.text += piece
            if piece:
                yield piece
        return reply

    def _next(self, tokens: _Tokens, pieces: Pieces, reply: Reply) -> str:
        """The text that one more token adds; marks the reply's end when the token is one that ends answers."""
        began = time.perf_counter()
        token = tokens.next()
        reply.seconds += time.perf_counter() - began
        reply.tokens += 1
        if reply.first_token_seconds is None:
            reply.first_token_seconds = reply.seconds
        if token in self.tuned.stop_ids:
            reply.end = ENDED
            return ""
        return pieces.push(token)

    def ask(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        sides: Sequence[Side] = SIDES,
        tell: Callable[[Side, str], None] = lambda side, piece: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> dict[Side, Reply]:
        """The answers of both sides, which grow by turns.

        Each side draws its own random numbers from the same seed, so an answer does not depend on the other side.

        Args:
            tell: called with each piece of text.

        Raises:
            UserError: as `stream` does.
        """
        replies: dict[Side, Reply] = {side: Reply() for side in sides}
        growing = {
            side: self.stream(side, messages, sampling, cancelled=cancelled, reply=replies[side]) for side in sides
        }
        try:
            while growing:
                for side in list(growing):
                    if not _take_turn(side, growing[side], tell):
                        del growing[side]
        finally:
            self.tuned.use("tuned")
        return replies


def _take_turn(side: Side, stream: Generator[str, None, Reply], tell: Callable[[Side, str], None]) -> bool:
    """Draw pieces for a moment; False when the answer is whole."""
    until = time.monotonic() + TURN_SECONDS
    for piece in stream:
        tell(side, piece)
        if time.monotonic() >= until:
            return True
    return False


class _Tokens:
    """Tokens of one answer, one at a time, with the keys and values of all before them kept.

    Sampling is by transformers' own processors, in the order of its `generate`: repetition, temperature, top-p.
    """

    def __init__(self, tuned: TunedModel, side: Side, prompt: Sequence[int], sampling: Sampling) -> None:
        self._tuned = tuned
        self._side = side
        self._all = torch.tensor([list(prompt)], device=tuned.device)
        self._input = self._all
        self._past: Any = None
        self._greedy = sampling.temperature == 0
        self._processors = _processors(sampling)
        # Random numbers come from the CPU whatever the device, so that a seed means the same everywhere.
        self._random = torch.Generator().manual_seed(sampling.seed)

    @torch.inference_mode()
    def next(self) -> int:
        """The next token. Raises `UserError` when memory runs out."""
        self._tuned.use(self._side)
        try:
            output = self._tuned.model(input_ids=self._input, past_key_values=self._past, use_cache=True)
        except RuntimeError as error:
            if (failure := ran_out_of_memory(error)) is None:
                raise
            raise failure from error
        self._past = output.past_key_values
        scores = self._processors(cast(torch.LongTensor, self._all), output.logits[:, -1].float())
        if self._greedy:
            token = scores.argmax(-1, keepdim=True)
        else:
            token = torch.multinomial(scores.softmax(-1).cpu(), 1, generator=self._random).to(self._all.device)
        self._input = token
        self._all = torch.cat([self._all, token], dim=1)
        return int(token)


def _processors(sampling: Sampling) -> LogitsProcessorList:
    found = LogitsProcessorList()
    if sampling.repetition_penalty != 1:
        found.append(RepetitionPenaltyLogitsProcessor(penalty=float(sampling.repetition_penalty)))
    if sampling.temperature > 0:
        if sampling.temperature != 1:
            found.append(TemperatureLogitsWarper(float(sampling.temperature)))
        if sampling.top_p < 1:
            found.append(TopPLogitsWarper(top_p=float(sampling.top_p)))
    return found


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


def ask_both(run: RunFolder, prompt: str, sampling: Sampling, *, system: str = "") -> dict[str, str]:
    """Both answers to one prompt: ``{"base", "tuned"}``.

    Args:
        system: a system prompt; empty for the one of training.

    Raises:
        UserError: the prompt is empty or too long, or the run cannot be loaded.
    """
    messages = [{"role": SYSTEM, "content": system}] if system else []
    asked = conversation([*messages, {"role": USER, "content": prompt}])
    replies = Pair.load(run).ask(asked, sampling)
    return {side: reply.text.strip() for side, reply in replies.items()}
