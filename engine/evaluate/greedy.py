"""Greedy answers of a whole batch, token by token: rows that have ended leave it, and what all prompts begin with is
read once.

transformers' `generate` carries every row to the end of the longest one, which is what asking costs: a base model that
babbles on a few rows holds the others up. For models whose cache this does not know (recurrent layers, learned prompts)
`engine.evaluate.answers` uses `generate`.

Shapes: B rows, W positions of the padded prompts, P positions of the common beginning.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

_SHORTEST_PREFIX = 16
"""Tokens from which on reading the common beginning once is worth a pass of its own."""
_LEFT = 0.75
"""Share of a batch's rows that are still answering, below which the others leave it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt.

    Attributes:
        ids: its tokens, at least one.
        limit: tokens that its answer may have, at least one.
    """

    ids: Sequence[int]
    limit: int


class Greedy:
    """Answers batches of prompts with one model.

    Args:
        model: a causal model, with or without adapter.
        pad: token to pad with; masked.
        context: positions that it has; None where it does not say.
        prompts: all that will be asked, to find what they begin with.
    """

    def __init__(self, model: Any, *, pad: int, context: int | None, prompts: Sequence[Sequence[int]]) -> None:
        self._model, self._pad, self._context = model, pad, context
        self._device = model.device
        self._prefix: DynamicCache | None = None
        self._shared = 0
        shared = common_prefix(prompts)
        if shared >= _SHORTEST_PREFIX and len(prompts) > 1 and not _slides(model):
            self._shared, self._prefix = shared, self._read(prompts[0][:shared])

    @torch.inference_mode()
    def _read(self, ids: Sequence[int]) -> DynamicCache:
        cache = DynamicCache(config=self._model.config)
        self._model(
            input_ids=torch.tensor([ids], device=self._device), past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        return cache

    @torch.inference_mode()
    def answer(
        self,
        asked: Sequence[Asked],
        ends: Callable[[list[int]], bool],
        watch: Callable[[float], None],
    ) -> list[list[int]]:
        """The tokens of each answer, up to and with the one that ends it.

        Args:
            ends: whether an answer is at its end with the last of its tokens.
            watch: called after each token with the share that is done; may raise to end early.
        """
        said: list[list[int]] = [[] for _ in asked]
        ids, mask, cache = self._begin(asked)
        alive = list(range(len(asked)))
        longest = max(one.limit for one in asked)
        for step in range(longest):
            positions = (mask.cumsum(-1) - 1).clamp_(min=0)[:, -ids.shape[1] :]
            if self._context is not None:
                positions = positions.clamp_(max=self._context - 1)  # of rows that ended and have not left yet
            logits = self._model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits
            ids = logits[:, -1].argmax(-1, keepdim=True)
            going = []
            for place, (row, token) in enumerate(zip(alive, ids[:, 0].tolist(), strict=True)):
                if row < 0:
                    continue
                said[row].append(token)
                if len(said[row]) == asked[row].limit or ends(said[row]):
                    alive[place] = -1
                else:
                    going.append(place)
            watch(1.0 if not going else (step + 1) / longest)
            if not going:
                break
            mask = torch.cat([mask, mask.new_ones((len(mask), 1))], -1)
            if len(going) <= _LEFT * len(alive):
                ids, mask, alive = self._leave(cache, ids, mask, going), mask[going], [alive[i] for i in going]
        return said

    def _leave(self, cache: DynamicCache, ids: torch.Tensor, mask: torch.Tensor, going: list[int]) -> torch.Tensor:
        """Keep these rows alone; gives their tokens."""
        cache.batch_select_indices(torch.tensor(going, device=self._device))
        return ids[going]

    def _begin(self, asked: Sequence[Asked]) -> tuple[torch.Tensor, torch.Tensor, DynamicCache]:
        """Tokens still to read (B, W − P), the mask (B, W), and the cache with the P positions read before."""
        rest = [one.ids[self._shared :] for one in asked]
        width = max(map(len, rest))
        ids = torch.full((len(asked), width), self._pad)
        mask = torch.zeros((len(asked), self._shared + width), dtype=torch.long)
        mask[:, : self._shared] = 1
        for row, tokens in enumerate(rest):
            ids[row, width - len(tokens) :] = torch.tensor(tokens)
            mask[row, self._shared + width - len(tokens) :] = 1
        if self._prefix is None:
            cache = DynamicCache(config=self._model.config)
        else:
            cache = copy.deepcopy(self._prefix)
            cache.batch_repeat_interleave(len(asked))
        return ids.to(self._device), mask.to(self._device), cache


def knows(model: Any) -> bool:
    """Whether `Greedy` can ask the model: attention layers with a plain cache, positions given from outside."""
    given = inspect.signature(_plain(model).forward).parameters
    if not {"position_ids", "logits_to_keep", "past_key_values"} <= set(given):
        return False
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in _layers(model))


def _slides(model: Any) -> bool:
    return any(type(layer) is not DynamicLayer for layer in _layers(model))


def _layers(model: Any) -> list[Any]:
    """The layers of its cache; none where the configuration names no kinds, which is plain attention throughout."""
    return list(DynamicCache(config=model.config).layers)


def _plain(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def common_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """Tokens that all prompts begin with; at least one of each is left."""
    if not prompts:
        return 0
    lists = [list(prompt) for prompt in prompts]
    least, most = min(lists), max(lists)
    shared = next((i for i, (a, b) in enumerate(zip(least, most, strict=False)) if a != b), min(len(least), len(most)))
    return min(shared, min(map(len, prompts)) - 1)
