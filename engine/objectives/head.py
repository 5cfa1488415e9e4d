"""The loss on a CPU, where only learned positions are worth projecting onto the vocabulary.

TRL's fused head does that on GPUs; elsewhere it scores every position, question and padding included. With a quarter of
the tokens learned that was 29% of a step of the starter, and 8% here.
"""

from __future__ import annotations

import types
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy, pad

IGNORED = -100
"""Label of a token that is not learned, as torch's cross-entropy has it."""
MOST_LOGITS = 2**26
"""Above so many logits (256 MiB in fp32) TRL's head, which works in tiles, saves memory that matters more."""
RESCALING = ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")
"""Settings of architectures whose logits are more than a product; TRL knows what to do with each."""


@dataclass(frozen=True, slots=True)
class Scored:
    """What a batch came to, as scalars on its device.

    Attributes:
        total: cross-entropy summed over the learned tokens.
        learned: how many there are.
        right: how many of them were the likeliest token.
    """

    total: torch.Tensor
    learned: torch.Tensor
    right: torch.Tensor

    @classmethod
    def of(cls, outputs: Any) -> Scored:
        """The same from what TRL's fused head gives."""
        if isinstance(outputs, Scored):
            return outputs
        return cls(-outputs.log_probs.sum(), outputs.label_mask.sum(), outputs.is_top1.sum())


def add_learned_head(model: Any) -> None:
    """Let ``model(…, labels=…, fused_lm_head=True)`` give `Scored`. The causal model has TRL's fused head already."""
    config = model.config.get_text_config()
    if any(getattr(config, name, None) is not None for name in RESCALING):
        return
    fused = model.forward

    def forward(self: Any, *arguments: Any, fused_lm_head: bool = False, labels: Any = None, **named: Any) -> Any:
        learned = 0 if labels is None else int((labels[:, 1:] != IGNORED).sum())
        if not fused_lm_head or learned * config.vocab_size > MOST_LOGITS:
            return fused(*arguments, fused_lm_head=fused_lm_head, labels=labels, **named)
        hidden = self.base_model(*arguments, **named).last_hidden_state[:, :-1]
        return score(self.get_output_embeddings(), hidden, labels[:, 1:])

    model.forward = types.MethodType(forward, model)


def score(head: torch.nn.Module, hidden: torch.Tensor, labels: torch.Tensor) -> Scored:
    """Cross-entropy of next tokens where they are learned.

    Args:
        head: width → vocabulary.
        hidden: (rows, tokens, width), each state at the place of the token before its label.
        labels: (rows, tokens), `IGNORED` where nothing is learned.
    """
    learned = labels != IGNORED
    logits, wanted = head(hidden[learned]), labels[learned]
    total = cross_entropy(logits.float(), wanted, reduction="sum")
    return Scored(total, learned.sum(), (logits.detach().argmax(-1) == wanted).sum())


def score_all(logits: torch.Tensor, labels: torch.Tensor) -> Scored:
    """The same from the logits of every position, as transformers' own loss has it: the labels are shifted, not the
    logits, which would be copied.

    Args:
        logits: (rows, tokens, vocabulary).
        labels: (rows, tokens), `IGNORED` where nothing is learned.
    """
    wanted = pad(labels, (0, 1), value=IGNORED)[:, 1:]
    total = cross_entropy(logits.float().flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction="sum")
    learned = wanted != IGNORED
    return Scored(total, learned.sum(), ((logits.detach().argmax(-1) == wanted) & learned).sum())
