"""Answers of base and tuned models in memory: token by token, so that several can grow side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from engine.chat.reply import CANCELLED, CONTEXT, ENDED, LIMIT, Reply
from engine.chat.sampling import Sampling
from engine.chat.text_stream import Pieces, StopText
from engine.data.making import with_examples
from engine.data.rows import Message
from engine.model.load import ran_out_of_memory
from engine.model.tuned import Speaker


@dataclass(frozen=True)
class WeightsColumn:
    """One of the models over the base's weights.

    Attributes:
        speaker: the model with its tokenizer and template.
        positions: of the base's context; None when it does not say.
    """

    speaker: Speaker
    positions: int | None
    apart = False

    @property
    def context(self) -> int | None:
        """Positions that are left for text; learned prompts take some."""
        return None if self.positions is None else self.positions - self.speaker.virtual_tokens

    def ids(self, messages: Sequence[Message]) -> list[int]:
        """Token ids, by the template and examples of training. Raises `UserError` when the template refuses it."""
        shown = with_examples(tuple(messages), self.speaker.examples)
        ids, _ = self.speaker.tokenizer.encode(self.speaker.template.render(shown, generation_prompt=True).text)
        return ids

    def stream(
        self, ids: Sequence[int], sampling: Sampling, reply: Reply, cancelled: Callable[[], bool]
    ) -> Generator[str]:
        """The answer. Raises `UserError` when memory runs out."""
        tokens = _Tokens(self.speaker, ids, sampling)
        text = StopText(self.speaker.stop_texts)
        pieces = Pieces(self.speaker.tokenizer.decode)
        while not reply.end:
            piece = ""
            if cancelled():
                reply.end = CANCELLED
            elif reply.tokens >= sampling.max_new_tokens:
                reply.end = LIMIT
            elif self.context is not None and len(ids) + reply.tokens >= self.context:
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

    def _next(self, tokens: _Tokens, pieces: Pieces, reply: Reply) -> str:
        """The text that one more token adds; marks the reply's end when the token is one that ends answers."""
        began = time.perf_counter()
        token = tokens.next()
        reply.seconds += time.perf_counter() - began
        reply.tokens += 1
        if reply.first_token_seconds is None:
            reply.first_token_seconds = reply.seconds
        if token in self.speaker.stop_ids:
            reply.end = ENDED
            return ""
        return pieces.push(token)


class _Tokens:
    """Tokens of one answer, one at a time, with the keys and values of all before them kept.

    Sampling is by transformers' own processors, in the order of its `generate`: repetition, temperature, top-k, top-p,
    min-p.
    """

    def __init__(self, speaker: Speaker, prompt: Sequence[int], sampling: Sampling) -> None:
        self._model: Any = speaker.model
        self._later: Any = speaker.continues_with
        self._all = torch.tensor([list(prompt)], device=speaker.model.device)
        self._input = self._all
        self._past: Any = None
        self._greedy = sampling.temperature == 0
        self._processors = _processors(sampling)
        # Random numbers come from the CPU whatever the device, so that a seed means the same everywhere.
        self._random = torch.Generator().manual_seed(sampling.seed)

    @torch.inference_mode()
    def next(self) -> int:
        """The next token. Raises `UserError` when memory runs out."""
        try:
            output = self._model(input_ids=self._input, past_key_values=self._past, use_cache=True)
        except RuntimeError as error:
            if (failure := ran_out_of_memory(error)) is None:
                raise
            raise failure from error
        self._model, self._past = self._later, output.past_key_values
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
        if sampling.top_k:
            found.append(TopKLogitsWarper(top_k=sampling.top_k))
        if sampling.top_p < 1:
            found.append(TopPLogitsWarper(top_p=float(sampling.top_p)))
        if sampling.min_p:
            found.append(MinPLogitsWarper(min_p=float(sampling.min_p)))
    return found
