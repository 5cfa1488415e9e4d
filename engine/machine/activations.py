"""How many bytes a training step keeps per token, and what it needs on top for a moment; from the widths alone.

Source of every count: steps of the real model classes simulated without their memory (`engine.train.simulate`; torch
2.13, transformers 5.23, peft 0.21, scaled-dot-product attention), solved for the widths over random models. The
simulation itself agrees with the allocator of real steps: tests/bench/bench_simulated_step.py. How near these formulas
come to it: tests/bench/bench_memory_formula.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.machine.dims import ModelDims
from engine.methods.declare import Numbers

FP32 = 4

# TRL 1.16, trl/kernels/chunked_logprob.py: logits are made in tiles of so many tokens and vocabulary entries.
TOKENS_PER_TILE = 4096
VOCABULARY_PER_TILE = 32768
# Without Triton the tile's gradient is built in fp32 (same file, `_backward_tile`): y, z, log_p, p, grad, the target as
# a number and its difference to p, and the target as a truth value.
TILE_ON_CPU = 7 * FP32 + 1
# Our own head on the CPU (`engine.objectives.head`), for few logits: log-softmax, its gradient and that of the loss.
LEARNED_HEAD_BYTES = 3 * FP32
MOST_LEARNED_LOGITS = 2**26
# transformers' own loss: fp32 log-softmax, its gradient and that of the loss; the logits are gone by then.
FULL_LOGITS_BYTES = 12


@dataclass(frozen=True, slots=True)
class Batch:
    """What goes through the model at once.

    Attributes:
        sequences: sequences side by side (a preference row has two).
        length: tokens of the longest, padding included.
        masked: whether an additive mask is needed: for padding, or to keep packed rows apart; one sequence alone has
            neither.
        whole_scores: attention's scores are held whole, as no fused attention does.
    """

    sequences: int
    length: int
    masked: bool = False
    whole_scores: bool = False

    @classmethod
    def padded(cls, sequences: int, length: int) -> Batch:
        """Sequences of unlike length."""
        return cls(sequences, length, masked=sequences > 1)

    @classmethod
    def packed(cls, sequences: int, length: int) -> Batch:
        """Sequences behind one another."""
        return cls(1, sequences * length, masked=sequences > 1)

    @property
    def tokens(self) -> int:
        """Tokens, padding included."""
        return self.sequences * self.length


def kept_by_base(dims: ModelDims, numbers: Numbers, batch: Batch) -> int:
    """Bytes per token that all layers of the frozen base keep for the backward pass.

    Per layer: each norm its fp32 input; attention q, k, v, its output and one fp32 log-sum per head, with k and v
    repeated to all heads and an additive mask when the batch has one; the feed-forward gate, its activation and up. An
    expert layer keeps these three and its input for each chosen expert, the router's three fp32 values per expert, and
    28 bytes of places for each choice. Of scores that are held whole their fp32 softmax is kept, its 16-bit copy, and
    the bend where there is one.
    """
    width = numbers.width
    norms = FP32 * (dims.norms_per_layer * dims.hidden + dims.norms_per_layer)
    if dims.head_norms:
        norms += FP32 * (dims.query_width + dims.kv_width)
    repeated = batch.masked and not batch.whole_scores
    attention = width * 2 * (dims.query_width + (dims.query_width if repeated else dims.kv_width))
    if batch.whole_scores:
        kept = FP32 + (width if width < FP32 else 0) + (width if dims.bent_scores else 0)
        attention += kept * dims.heads * batch.length
    else:
        attention += FP32 * dims.heads + (width * batch.length if batch.masked else 0)
    dense = 3 * width * dims.intermediate
    sparse = width * (3 * dims.expert_intermediate + dims.hidden) * dims.experts_per_token
    sparse += 3 * FP32 * dims.experts + 28 * dims.experts_per_token
    return dims.layers * (norms + attention) + dims.dense_layers * dense + (dims.layers - dims.dense_layers) * sparse


def around(dims: ModelDims, numbers: Numbers) -> int:
    """Bytes per token outside the layers: the embedding's output, rotary tables, ids, labels and mask."""
    return numbers.width * (dims.hidden + 2 * dims.head_dim) + 3 * 8


def gated_product(dims: ModelDims, numbers: Numbers, *, again: bool) -> int:
    """Bytes per token that the backward pass of the feed-forward's gated product needs: three gradients of the inner
    width, and one of the hidden width, less two where the layer was not computed ``again``: its inputs are freed then.

    In an expert layer the sorted copies of the hidden states may need more.
    """
    width = numbers.width
    hidden = width * dims.hidden * (1 if again else -2)
    dense = 3 * width * dims.intermediate + hidden if dims.dense_layers else 0
    if not dims.experts:
        return dense
    inner, sorted_ = dims.expert_intermediate * dims.experts_per_token, dims.hidden * dims.experts_per_token
    return max(dense, width * (2 * inner + 3 * sorted_ // 2) + hidden, 3 * width * (sorted_ + dims.hidden) + hidden)


def scores(dims: ModelDims, numbers: Numbers, batch: Batch) -> int:
    """Bytes per token while the gradient passes the softmax of scores that are held whole: in fp32 and in the compute
    format."""
    if not batch.whole_scores:
        return 0
    return (FP32 + numbers.width) * dims.heads * batch.length + 2 * numbers.width * dims.hidden


def final_norm(dims: ModelDims, numbers: Numbers) -> int:
    """Bytes per token while the gradient passes the last norm, whose values are fp32 where all others are 16-bit."""
    return 8 * numbers.width * dims.hidden if numbers.width < FP32 else numbers.width * dims.hidden


def dequantised(dims: ModelDims, numbers: Numbers) -> int:
    """Bytes of the 16-bit copy that bitsandbytes makes of the largest linear layer for its gradient, and of its fp32
    constants, one to 64 weights, twice."""
    largest = max(shape.inputs * shape.outputs for shape in dims.linear_shapes())
    return numbers.width * largest + largest // 64 * 2 * FP32


def logits(
    dims: ModelDims, numbers: Numbers, batch: Batch, *, device: str, loss: str, learns_pairs: bool = False
) -> int:
    """Bytes of logits and loss at their peak, every token learned.

    ``loss`` "chunked" is Lorimer's own: TRL's tiles with the gradient of the hidden states in fp32, or on the CPU, when
    there are few, all logits of the learned tokens. "full" is transformers' own, which holds all logits at once.
    """
    tokens = batch.tokens
    if loss == "full":
        return tokens * dims.vocab * FULL_LOGITS_BYTES
    rows = min(tokens, TOKENS_PER_TILE)
    hidden = tokens * dims.hidden
    if device == "cuda":
        return rows * VOCABULARY_PER_TILE * numbers.width + hidden * (numbers.width + FP32)
    if tokens * dims.vocab <= MOST_LEARNED_LOGITS and not learns_pairs and not dims.experts:
        return tokens * dims.vocab * LEARNED_HEAD_BYTES + hidden * numbers.width
    columns = min(dims.vocab, VOCABULARY_PER_TILE)
    tile = VOCABULARY_PER_TILE * numbers.width + columns * TILE_ON_CPU
    return rows * tile + hidden * 3 * numbers.width
