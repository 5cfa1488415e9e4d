"""Greedy answers to many prompts, in batches of like length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from engine.chat.text_stream import before_stop
from engine.evaluate.greedy import Asked, Greedy, knows
from engine.model.tuned import TunedModel


@dataclass(frozen=True, slots=True)
class GreedyAnswer:
    """One answer.

    Attributes:
        text: without what ended it, white space at both ends removed.
        tokens: how many were generated, the one that ended it included.
        cut: it did not end by itself.
    """

    text: str
    tokens: int
    cut: bool


def answers(
    tuned: TunedModel,
    prompts: Sequence[Sequence[int]],
    *,
    limit: int,
    batch_size: int,
    watch: Callable[[float], None],
    expected: Sequence[int] = (),
) -> list[GreedyAnswer | None]:
    """The side in use answers each prompt; None for a prompt that leaves no room in the model's context.

    Args:
        prompts: token ids, each ending where the answer begins.
        limit: longest answer, in tokens.
        watch: called after each token with the number of prompts done, batches in parts; may raise to end early.
        expected: how long each answer may well be, in tokens; answers of like length are best asked together.
    """
    found: list[GreedyAnswer | None] = [None] * len(prompts)
    asked = [i for i, prompt in enumerate(prompts) if prompt and _room(tuned, prompt, limit) > 0]
    done = len(prompts) - len(asked)
    ask = _asking(tuned, [prompts[i] for i in asked], limit)
    for batch in _batches(asked, prompts, expected, batch_size):
        answered = _halving(ask, [prompts[i] for i in batch], _part_of(watch, done, len(batch)))
        for place, answer in zip(batch, answered, strict=True):
            found[place] = answer
        done += len(batch)
        watch(done)
    return found


Prompts = list[Sequence[int]]
Ask = Callable[[Prompts, Callable[[float], None]], list[GreedyAnswer]]


def _asking(tuned: TunedModel, prompts: Prompts, limit: int) -> Ask:
    """What answers a batch: the loop of `engine.evaluate.greedy` where it knows the model, else transformers' own."""
    if _virtual_tokens(tuned) or not knows(tuned.model):
        return lambda batch, watch: _generate_all(tuned, batch, limit, watch)
    greedy = Greedy(tuned.model, pad=tuned.pad_id, context=tuned.context, prompts=prompts)

    def ask(batch: Prompts, watch: Callable[[float], None]) -> list[GreedyAnswer]:
        asked = [Asked(prompt, _room(tuned, prompt, limit)) for prompt in batch]
        return [_answer(tuned, ids) for ids in greedy.answer(asked, lambda said: _has_ended(tuned, said), watch)]

    return ask


def _has_ended(tuned: TunedModel, said: list[int]) -> bool:
    if said[-1] in tuned.stop_ids:
        return True
    if not tuned.stop_texts:
        return False
    text = tuned.tokenizer.decode(said)
    return before_stop(text, tuned.stop_texts) != text


def _room(tuned: TunedModel, prompt: Sequence[int], limit: int) -> int:
    """Tokens that an answer can have: the limit, or what the model's context leaves."""
    return limit if tuned.context is None else min(limit, tuned.context - len(prompt) - _virtual_tokens(tuned))


def _virtual_tokens(tuned: TunedModel) -> int:
    """Positions that the side in use takes for learned prompts."""
    return next((speaker.virtual_tokens for speaker in tuned.speakers.values() if speaker.model is tuned.model), 0)


def _part_of(watch: Callable[[float], None], done: int, size: int) -> Callable[[float], None]:
    return lambda part: watch(done + size * part)


def _batches(
    places: list[int], prompts: Sequence[Sequence[int]], expected: Sequence[int], size: int
) -> Iterator[list[int]]:
    """Positions of prompts whose answers and beginnings are of like length, longest first."""
    ordered = sorted(places, key=lambda i: (-expected[i] if expected else 0, -len(prompts[i])))
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]


def _halving(ask: Ask, prompts: Prompts, watch: Callable[[float], None]) -> list[GreedyAnswer]:
    """The answers; a batch that a GPU has no memory for is tried again in halves."""
    try:
        return ask(prompts, watch)
    except torch.OutOfMemoryError:
        if len(prompts) == 1:
            raise
    torch.cuda.empty_cache()
    middle = len(prompts) // 2
    return _halving(ask, prompts[:middle], watch) + _halving(ask, prompts[middle:], watch)


def _generate_all(
    tuned: TunedModel, prompts: Prompts, limit: int, watch: Callable[[float], None]
) -> list[GreedyAnswer]:
    """By transformers' `generate`, which ends a batch at one length: where rooms differ, each is asked alone."""
    if len({_room(tuned, prompt, limit) for prompt in prompts}) == 1:
        return _generate(tuned, prompts, limit, watch)
    return [answer for prompt in prompts for answer in _generate(tuned, [prompt], limit, watch)]


@torch.inference_mode()
def _generate(tuned: TunedModel, prompts: Prompts, limit: int, watch: Callable[[float], None]) -> list[GreedyAnswer]:
    width = max(len(prompt) for prompt in prompts)
    longest = min(_room(tuned, prompt, limit) for prompt in prompts)
    ids = torch.full((len(prompts), width), tuned.pad_id)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    settings = GenerationConfig(
        max_new_tokens=longest,
        do_sample=False,
        pad_token_id=tuned.pad_id,
        eos_token_id=sorted(tuned.stop_ids) or None,
    )
    given = tuned.model.generate(
        input_ids=ids.to(tuned.device),
        attention_mask=mask.to(tuned.device),
        generation_config=settings,
        stopping_criteria=StoppingCriteriaList([_Watch(width, longest, watch)]),
    )
    return [_answer(tuned, row) for row in given[:, width:].tolist()]


def _answer(tuned: TunedModel, ids: list[int]) -> GreedyAnswer:
    end = next((place for place, token in enumerate(ids) if token in tuned.stop_ids), None)
    text = tuned.tokenizer.decode(ids if end is None else ids[:end])
    stopped = before_stop(text, tuned.stop_texts)
    cut = end is None and stopped == text
    return GreedyAnswer(stopped.strip(), len(ids) if end is None else end + 1, cut)


class _Watch(StoppingCriteria):
    """Tells after each token how far the batch is; the watcher ends it by raising."""

    def __init__(self, width: int, longest: int, watch: Callable[[float], None]) -> None:
        self._width, self._longest, self._watch = width, longest, watch

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: object) -> torch.Tensor:
        """Never ends anything by itself: B times False."""
        self._watch(min(1.0, (input_ids.shape[1] - self._width) / self._longest))
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)
