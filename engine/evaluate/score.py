"""Losses of given texts: one forward pass per batch, only over what was to be learned.

Shapes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from engine.model.tuned import TunedModel

# Logits of one batch, in bytes. They are what makes evaluation need more memory than training did (a vocabulary of
# 150,000 in fp32 is 0.6 MB a token), so their number is bounded and not the rows'.
_LOGITS_BYTES = {"cpu": 256 * 2**20, "cuda": 1024 * 2**20, "mps": 256 * 2**20}
# Logits in the model's format, the same in fp32, and their softmax.
_BYTES_PER_LOGIT = 10


@dataclass(frozen=True, slots=True)
class Scored:
    """A text with what of it counts.

    Attributes:
        ids: T tokens.
        learned: T flags; a token counts when its flag is set (the first token has nothing before it and never counts).
    """

    ids: Sequence[int]
    learned: Sequence[bool]

    @property
    def first(self) -> int:
        """Position of the first token that counts; T when none does."""
        return next((i for i, flag in enumerate(self.learned) if flag and i), len(self.ids))


@dataclass(frozen=True, slots=True)
class TextLoss:
    """What the model makes of one text.

    Attributes:
        total: summed negative log-likelihood of the tokens that count, in nats.
        tokens: how many count.
        right: of how many the model would have chosen just this token.
    """

    total: float
    tokens: int
    right: int

    @property
    def mean(self) -> float | None:
        """Nats per token; None without tokens."""
        return self.total / self.tokens if self.tokens else None


def losses(
    tuned: TunedModel, texts: Sequence[Scored], *, batch_size: int, watch: Callable[[int], None]
) -> list[TextLoss]:
    """The loss of each text, by the side in use.

    Args:
        watch: called after each batch with the number of texts done; may raise to end early.
    """
    found: list[TextLoss] = [TextLoss(0.0, 0, 0)] * len(texts)
    done = 0
    for batch in _batches(texts, batch_size, tuned):
        for place, loss in zip(batch, _halving(tuned, [texts[i] for i in batch]), strict=True):
            found[place] = loss
        done += len(batch)
        watch(done)
    return found


def _batches(texts: Sequence[Scored], size: int, tuned: TunedModel) -> Iterator[list[int]]:
    """Positions of texts of like length, longest first, so that what does not fit shows at once."""
    budget = _LOGITS_BYTES[tuned.device.type]
    batch: list[int] = []
    longest = 0
    for place in sorted(range(len(texts)), key=lambda i: -len(texts[i].ids)):
        longest = longest or len(texts[place].ids)
        if batch and (len(batch) >= size or (len(batch) + 1) * longest * tuned.vocabulary * _BYTES_PER_LOGIT > budget):
            yield batch
            batch, longest = [], len(texts[place].ids)
        batch.append(place)
    if batch:
        yield batch


def _halving(tuned: TunedModel, texts: list[Scored]) -> list[TextLoss]:
    """The losses; a batch that a GPU has no memory for is tried again in halves."""
    try:
        return _forward(tuned, texts)
    except torch.OutOfMemoryError:
        if len(texts) == 1:
            raise
    torch.cuda.empty_cache()
    middle = len(texts) // 2
    return _halving(tuned, texts[:middle]) + _halving(tuned, texts[middle:])


@torch.inference_mode()
def _forward(tuned: TunedModel, texts: list[Scored]) -> list[TextLoss]:
    width = max(len(text.ids) for text in texts)
    ids = torch.full((len(texts), width), tuned.pad_id)
    mask = torch.zeros((len(texts), width), dtype=torch.long)
    counts = torch.zeros((len(texts), width), dtype=torch.bool)
    for row, text in enumerate(texts):
        length = len(text.ids)
        ids[row, :length] = torch.tensor(text.ids)
        mask[row, :length] = 1
        counts[row, 1:length] = torch.tensor(text.learned[1:], dtype=torch.bool)
    if not counts.any():
        return [TextLoss(0.0, 0, 0)] * len(texts)
    # Logits at t predict token t + 1; those before the first token that counts are not computed.
    kept = width - min(text.first for text in texts) + 1
    ids, mask, counts = (part.to(tuned.device) for part in (ids, mask, counts))
    logits = tuned.model(input_ids=ids, attention_mask=mask, use_cache=False, **_last(tuned, kept)).logits
    logits, targets, counts = logits[:, -kept:-1], ids[:, 1 - kept :], counts[:, 1 - kept :]
    rows = counts.nonzero()[:, 0]
    chosen, wanted = logits[counts].float(), targets[counts]
    each = cross_entropy(chosen, wanted, reduction="none").double().cpu()
    right = (chosen.argmax(-1) == wanted).long().cpu()
    rows = rows.cpu()
    totals = torch.zeros(len(texts), dtype=torch.double).index_add_(0, rows, each)
    hits = torch.zeros(len(texts), dtype=torch.long).index_add_(0, rows, right)
    tokens = torch.bincount(rows, minlength=len(texts))
    return [TextLoss(float(a), int(b), int(c)) for a, b, c in zip(totals, tokens, hits, strict=True)]


def _last(tuned: TunedModel, kept: int) -> dict[str, Any]:
    """Ask for the last ``kept`` logits only, of models that can leave out the others."""
    parameters = inspect.signature(tuned.model.get_base_model().forward).parameters
    return {"logits_to_keep": kept} if "logits_to_keep" in parameters else {}
