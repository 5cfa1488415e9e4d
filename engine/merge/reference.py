"""What transformers answers: the truth against which a merge or an export is held."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from engine.model.load import DTYPES, load_base

# Two next tokens whose logits lie closer than this are a toss-up that rounding decides.
NEAR = 0.05


@dataclass(frozen=True, slots=True)
class Choice:
    """The next token a model prefers.

    Attributes:
        token: its id.
        margin: how far its logit lies above the second best.
    """

    token: int
    margin: float


class Reference:
    """A causal language model in memory; every answer is greedy."""

    def __init__(self, model: Any) -> None:
        self._model = model

    @torch.inference_mode()
    def forced(self, ids: list[int], start: int) -> list[Choice]:
        """What it would say at each place from ``start`` on, given the true tokens before: len(ids) - start choices."""
        logits = self._model(torch.tensor([ids])).logits[0, start - 1 : len(ids) - 1]
        return _choices(logits)

    @torch.inference_mode()
    def greedy(self, prompt: list[int], count: int, stops: Iterable[int] = ()) -> list[Choice]:
        """Its first ``count`` tokens after ``prompt``; ends after a token of ``stops``."""
        found: list[Choice] = []
        ends, cache, step = frozenset(stops), None, torch.tensor([prompt])
        while len(found) < count and not (found and found[-1].token in ends):
            output = self._model(step, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            found += _choices(output.logits[0, -1:])
            step = torch.tensor([[found[-1].token]])
        return found


# Threads wait for each other spinning. For a small model on a busy machine that costs six times what it saves.
_ONE_THREAD = 100_000_000


@contextmanager
def calm(elements: int) -> Iterator[None]:
    """One thread for the arithmetic of a model of ``elements`` weights that is too small for more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if elements < _ONE_THREAD else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def opened(base: Path, adapter: Path | None, precision: str = "fp32") -> Iterator[Reference]:
    """The model in ``base``, with ``adapter`` beside it, on the CPU; its memory is freed afterwards.

    Args:
        precision: "fp32" or "bf16".

    Raises:
        UserError: the model cannot be loaded.
    """
    model: Any = load_base(base, quantised=False, precision=precision, device="cpu")
    if adapter is not None:
        with warnings.catch_warnings():
            # peft still asks transformers by names that it gives up, and names the base by the path of the training.
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", UserWarning)
            model = PeftModel.from_pretrained(model, str(adapter)).to(DTYPES[precision])
    try:
        with calm(model.num_parameters()):
            yield Reference(model.eval())
    finally:
        del model
        gc.collect()


def _choices(logits: torch.Tensor) -> list[Choice]:
    best = logits.float().topk(2, dim=-1)
    margins = best.values[:, 0] - best.values[:, 1]
    return [Choice(int(token), float(margin)) for token, margin in zip(best.indices[:, 0], margins, strict=True)]
