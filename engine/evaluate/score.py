"""What a model makes of given texts: one forward pass per batch, scored only where something was to be learned.

Shapes: B rows, T tokens, V vocabulary, N tokens that count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

# Logits of one batch, in bytes. They are what makes evaluation need more memory than training did (a vocabulary of
# 150,000 in fp32 is 0.6 MB a token), so their number is bounded and not the rows'.
_LOGITS_BYTES = {"cpu": 512 * 2**20, "cuda": 1024 * 2**20, "mps": 512 * 2**20}
# Logits in the model's format, the same in fp32, their logarithmic softmax and its exponential.
_BYTES_PER_LOGIT = 14


class Scorer(Protocol):
    """A causal model, with or without an adapter, and what is needed to ask it; `engine.model.tuned.TunedModel` is one.

    Attributes:
        model: transformers' or PEFT's.
        pad_id: token to pad with; masked wherever it is used.
        vocabulary: V.
        device: where the weights are.
    """

    @property
    def model(self) -> Any: ...
    @property
    def pad_id(self) -> int: ...
    @property
    def vocabulary(self) -> int: ...
    @property
    def device(self) -> torch.device: ...


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
    def counted(self) -> int:
        """How many tokens count."""
        return sum(self.learned[1:])


@dataclass(frozen=True, slots=True)
class TextLoss:
    """What the model makes of one text.

    Attributes:
        total: summed negative log-likelihood of the tokens that count, in nats.
        tokens: how many count.
        right: of how many the model would have chosen just this token.
        entropy: of the model's next-token distributions before the tokens that count, summed, in nats.
    """

    total: float
    tokens: int
    right: int
    entropy: float = 0.0

    @property
    def mean(self) -> float | None:
        """Nats per token; None without tokens."""
        return self.total / self.tokens if self.tokens else None

    @property
    def mean_entropy(self) -> float | None:
        """Nats per token, 0 to ln V; None without tokens. Token entropy of Settles and Craven 2008, section 3."""
        return self.entropy / self.tokens if self.tokens else None


def losses(scorer: Scorer, texts: Sequence[Scored], *, batch_size: int, watch: Callable[[int], None]) -> list[TextLoss]:
    """The loss of each text, by the side in use.

    Args:
        watch: called after each batch with the number of texts done; may raise to end early.
    """
    found: list[TextLoss] = [TextLoss(0.0, 0, 0)] * len(texts)
    lengths, counted = [len(text.ids) for text in texts], [text.counted for text in texts]
    done = 0
    for places, scored in in_batches(scorer, texts.__getitem__, lengths, counted, batch_size=batch_size):
        for place, loss in zip(places, scored, strict=True):
            found[place] = loss
        done += len(places)
        watch(done)
    return found


def in_batches(
    scorer: Scorer,
    text: Callable[[int], Scored],
    lengths: Sequence[int],
    counted: Sequence[int],
    *,
    batch_size: int,
) -> Iterator[tuple[list[int], list[TextLoss]]]:
    """Places of texts and what the model makes of them, batch by batch: texts of like length, longest first.

    Args:
        text: the text at a place, asked for when its batch is due, so that not all need be in memory.
        lengths, counted: tokens of each text, and how many of them count.
        batch_size: texts at once, at most.
    """
    for batch in _batches(lengths, counted, batch_size, scorer):
        yield batch, _halving(scorer, [text(place) for place in batch])


def _batches(lengths: Sequence[int], counted: Sequence[int], size: int, scorer: Scorer) -> Iterator[list[int]]:
    """Places of texts of like length, longest first, so that what does not fit shows at once."""
    most = _positions(scorer)
    batch: list[int] = []
    held = 0
    for place in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) >= size or held + counted[place] > most):
            yield batch
            batch, held = [], 0
        batch.append(place)
        held += counted[place]
    if batch:
        yield batch


def _positions(scorer: Scorer) -> int:
    """For how many tokens the logits may be in memory at once."""
    return max(1, _LOGITS_BYTES[scorer.device.type] // (scorer.vocabulary * _BYTES_PER_LOGIT))


def _halving(scorer: Scorer, texts: list[Scored]) -> list[TextLoss]:
    """The losses; a batch that a GPU has no memory for is tried again in halves."""
    try:
        return _forward(scorer, texts)
    except torch.OutOfMemoryError:
        if len(texts) == 1:
            raise
    torch.cuda.empty_cache()
    middle = len(texts) // 2
    return _halving(scorer, texts[:middle]) + _halving(scorer, texts[middle:])


@torch.inference_mode()
def _forward(scorer: Scorer, texts: list[Scored]) -> list[TextLoss]:
    width = max(len(text.ids) for text in texts)
    ids = torch.full((len(texts), width), scorer.pad_id)
    mask = torch.zeros((len(texts), width), dtype=torch.long)
    counts = torch.zeros((len(texts), width), dtype=torch.bool)
    for row, text in enumerate(texts):
        length = len(text.ids)
        ids[row, :length] = torch.tensor(text.ids)
        mask[row, :length] = 1
        counts[row, 1:length] = torch.tensor(text.learned[1:], dtype=torch.bool)
    of_text, places = counts.nonzero(as_tuple=True)
    ids, mask = ids.to(scorer.device), mask.to(scorer.device)
    figures = torch.zeros((len(texts), 3), dtype=torch.double)
    most = _positions(scorer)
    # One pass, but for a text that is too long to have all its logits at once.
    for start in range(0, len(places), most):
        at, place = of_text[start : start + most], places[start : start + most]
        # The logits before a token are its own; counted from the end, since an adapter may put tokens in front.
        with head_sees(scorer.model, at, place - 1 - width) as chosen:
            logits = chosen(scorer.model(input_ids=ids, attention_mask=mask, use_cache=False).logits)
        figures.index_add_(0, at, _figures(logits, ids[at, place]))
    tokens = torch.bincount(of_text, minlength=len(texts)).tolist()
    return [TextLoss(a, n, int(b), c) for (a, b, c), n in zip(figures.tolist(), tokens, strict=True)]


def _figures(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """(N, 3): loss, whether it is the likeliest, entropy; of (N, V) logits and the N tokens that came."""
    right = logits.argmax(-1) == wanted
    log = logits.float().log_softmax(-1)
    loss = -log.gather(-1, wanted[:, None])[:, 0]
    # entr, since 0 ln 0 is 0 for a token that a model rules out.
    entropy = torch.special.entr(log.exp_()).sum(-1)
    return torch.stack((loss, right, entropy), -1).double().cpu()


@contextmanager
def head_sees(model: Any, rows: torch.Tensor, places: torch.Tensor) -> Iterator[Callable[[torch.Tensor], torch.Tensor]]:
    """Have the model's output head look at these positions only; gives what turns its logits into theirs, (N, V).

    What an architecture does to its logits afterwards (scaling, capping) it does as always, since the forward pass is
    its own. `engine.objectives.head` does the like for training, where the loss is computed by TRL.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = base.get_output_embeddings()
    seen = False

    def narrow(_: Any, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        nonlocal seen
        seen = True
        return (given[0][rows, places][None], *given[1:])

    handle = head.register_forward_pre_hook(narrow) if head is not None else None
    try:
        yield lambda logits: logits[0] if seen else logits[rows, places]
    finally:
        if handle is not None:
            handle.remove()
