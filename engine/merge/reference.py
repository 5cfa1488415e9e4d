"""What transformers answers: the truth against which a merge or an export is held."""

from __future__ import annotations

import gc
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from engine.merge.delta import WEIGHTS
from engine.merge.targets import words_of
from engine.model.load import DTYPES, load_base


@dataclass(frozen=True, slots=True)
class Choice:
    """The next token a model prefers.

    Attributes:
        token: its id.
        margin: how far its logit lies above the second best.
        given: log-probability (natural) of the token that follows in the text; NaN where none was given.
    """

    token: int
    margin: float
    given: float = math.nan


class Reference:
    """A causal language model in memory; every answer is greedy."""

    def __init__(self, model: Any) -> None:
        self._model = model

    @torch.inference_mode()
    def forced(self, ids: list[int], start: int) -> list[Choice]:
        """What it would say at each place from ``start`` on, given the true tokens before: len(ids) - start choices."""
        text = torch.tensor([ids], device=self._model.device)
        logits = self._model(text).logits[0, start - 1 : len(ids) - 1]
        return _choices(logits, ids[start:])

    @torch.inference_mode()
    def greedy(self, prompt: list[int], count: int, stops: Iterable[int] = ()) -> list[Choice]:
        """Its first ``count`` tokens after ``prompt``; ends after a token of ``stops``."""
        found: list[Choice] = []
        ends, cache, step = frozenset(stops), None, torch.tensor([prompt], device=self._model.device)
        while len(found) < count and not (found and found[-1].token in ends):
            output = self._model(step, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            found += _choices(output.logits[0, -1:])
            step = torch.tensor([[found[-1].token]], device=step.device)
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
def opened(base: Path, adapter: Path | None, precision: str = "fp32", device: str = "cpu") -> Iterator[Reference]:
    """The model in ``base``, with ``adapter`` beside it; its memory is freed afterwards.

    Args:
        precision: "fp32" (on a GPU without its shorter formats) or "bf16".
        device: "cpu" or "cuda".

    Raises:
        UserError: the model cannot be loaded.
    """
    model: Any = load_base(base, quantised=False, precision=precision, device=device)
    if adapter is not None:
        with warnings.catch_warnings():
            # peft still asks transformers by names that it gives up, and names the base by the path of the training.
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", UserWarning)
            _grow(model, adapter)
            model = PeftModel.from_pretrained(model, str(adapter)).to(DTYPES[precision])
    try:
        with calm(model.num_parameters()), _exact():
            yield Reference(model.eval())
    finally:
        del model
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()


def _grow(model: Any, adapter: Path) -> None:
    """Make room for words that were added in training; the adapter brings their rows."""
    weights = adapter / WEIGHTS
    words = words_of(weights) if weights.is_file() else 0
    if words > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(words, mean_resizing=False)


@contextmanager
def _exact() -> Iterator[None]:
    """Products of 32-bit floats are not shortened to TF32 on a GPU."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _choices(logits: torch.Tensor, given: Sequence[int] = ()) -> list[Choice]:
    """Of logits [places, vocabulary]; ``given`` is the token that follows at each place."""
    logits = logits.float()
    best = logits.topk(2, dim=-1)
    margins = (best.values[:, 0] - best.values[:, 1]).tolist()
    said = [math.nan] * len(logits)
    if given:
        following = torch.tensor(given, device=logits.device)[:, None]
        said = (logits.gather(-1, following)[:, 0] - logits.logsumexp(-1)).tolist()
    return [Choice(*of) for of in zip(best.indices[:, 0].tolist(), margins, said, strict=True)]
