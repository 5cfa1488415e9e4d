"""How many bytes a training step keeps per token, and what it needs on top for a moment; from the widths alone.

The counts were made with autograd's saved-tensor hooks on models built from their config (torch 2.13, transformers
5.23, peft 0.21, scaled-dot-product attention) and agree with them to within 1%: see tests/bench/bench_memory_model.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.machine.dims import ModelDims
from engine.methods.declare import Numbers

FP32 = 4

# TRL 1.16, trl/kernels/chunked_logprob.py: logits are made in tiles of so many tokens and vocabulary entries.
TOKENS_PER_TILE = 4096
VOCABULARY_PER_TILE = 32768
# Without Triton the tile's softmax and its gradient are built in fp32, with so many copies alive at once (same file,
# `_backward_tile`: y, z, log_p, p, grad, the one-hot target and two products).
FP32_TILES_ON_CPU = 8
# transformers' own loss: 16-bit logits, their fp32 copy, log-softmax and its gradient (ours: Llama-3.1-8B simulated
# from its config).
FULL_LOGITS_BYTES = 14


@dataclass(frozen=True, slots=True)
class Batch:
    """What goes through the model at once.

    Attributes:
        sequences: sequences side by side (a preference row has two).
        length: tokens of the longest, padding included.
    """

    sequences: int
    length: int

    @property
    def tokens(self) -> int:
        """Tokens, padding included."""
        return self.sequences * self.length

    @property
    def padded(self) -> bool:
        """Whether a padding mask is needed; one sequence alone has none."""
        return self.sequences > 1


def kept_by_base(dims: ModelDims, numbers: Numbers, batch: Batch) -> int:
    """Bytes per token that all layers of the frozen base keep for the backward pass.

    Per layer: each norm its fp32 input; attention q, k, v, its output and one fp32 log-sum per head, with k and v
    repeated to all heads and an additive mask when the batch is padded; the feed-forward gate, its activation and up.
    """
    width = numbers.width
    norms = FP32 * (dims.norms_per_layer * dims.hidden + dims.norms_per_layer)
    if dims.head_norms:
        norms += FP32 * (dims.query_width + dims.kv_width)
    key_width = dims.query_width if batch.padded else dims.kv_width
    attention = width * (2 * dims.query_width + 2 * key_width) + FP32 * dims.heads
    if batch.padded:
        attention += width * batch.length
    dense = 3 * width * dims.intermediate
    sparse = 3 * width * dims.expert_intermediate * dims.experts_per_token + FP32 * dims.experts
    return dims.layers * (norms + attention) + dims.dense_layers * dense + (dims.layers - dims.dense_layers) * sparse


def working_set(dims: ModelDims, numbers: Numbers, batch: Batch, *, quantised: bool) -> int:
    """Bytes that one layer's backward pass needs for a moment: two gradients of the inner width, two of the hidden one,
    and the dequantised copy of the largest linear layer (bitsandbytes' 4-bit product, ours)."""
    gradients = batch.tokens * numbers.width * 2 * (max(dims.intermediate, dims.expert_intermediate) + dims.hidden)
    largest = max(s.inputs * s.outputs for s in dims.linear_shapes())
    return gradients + (numbers.width * largest if quantised else 0)


def logits(dims: ModelDims, numbers: Numbers, batch: Batch, *, device: str, loss: str) -> int:
    """Bytes of logits and loss at their peak.

    ``loss`` "chunked" is TRL's own (tiles; the gradient of the hidden states in fp32), "full" is transformers' own,
    which holds all logits at once."""
    if loss == "full":
        return batch.tokens * dims.vocab * FULL_LOGITS_BYTES
    rows = min(batch.tokens, TOKENS_PER_TILE)
    columns = min(dims.vocab, VOCABULARY_PER_TILE)
    hidden = batch.tokens * dims.hidden * (numbers.width + FP32)
    if device == "cuda":
        return rows * VOCABULARY_PER_TILE * numbers.width + hidden
    return rows * columns * (numbers.width + FP32_TILES_ON_CPU * FP32) + hidden
