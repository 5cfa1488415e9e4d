"""What it takes to ask a model, without a gradient: to measure texts, and to answer prompts.

Source of the counts: as of `engine.machine.activations`; how near they come to the simulation:
tests/bench/bench_memory_formula.py.
"""

from __future__ import annotations

from engine.machine.activations import FP32, Batch, dequantised
from engine.machine.dims import ModelDims
from engine.methods.declare import Numbers

# `engine.evaluate.score` bounds the logits that it holds at once, for which it reckons so much.
MOST_LOGITS_BYTES = {"cuda": 1024 * 2**20, "cpu": 512 * 2**20}
BYTES_PER_LOGIT = 14


def reading(dims: ModelDims, numbers: Numbers, batch: Batch) -> int:
    """Bytes per token while one layer reads, no autocast: the model's input, the stream past the layer and its
    normalised copy; then the most of

    - the feed-forward's second layer: the activation, its result, and the adapter's in fp32, unscaled and scaled;
    - attention with k and v repeated to all heads, or the query's adapter;
    - an expert layer's sorted copies.
    """
    width = numbers.width
    stream = 3 * width * dims.hidden + (FP32 * dims.hidden if width < FP32 else 0)
    mask = (width + 1) * batch.length if batch.masked else 0
    around = 2 * width * dims.head_dim + 3 * 8 + mask
    dense = (2 * width + 2 * FP32) * dims.intermediate if dims.dense_layers else 0
    inner, sorted_ = dims.expert_intermediate * dims.experts_per_token, dims.hidden * dims.experts_per_token
    sparse = width * (3 * inner + 2 * sorted_) if dims.experts else 0
    held = width * 2 * (dims.query_width + dims.kv_width)
    attention = held + (2 * width * dims.query_width if batch.masked else 2 * FP32 * dims.kv_width)
    if batch.whole_scores:
        attention += (FP32 + 2 * width) * dims.heads * batch.length
    return stream + around + max(dense, sparse, attention)


def measuring(dims: ModelDims, numbers: Numbers, batch: Batch, *, device: str) -> float:
    """Bytes that come and go while texts are measured (`engine.evaluate.score`), every token counted: a logit in the
    compute format, its log-softmax and what the entropy makes of that in fp32."""
    most = MOST_LOGITS_BYTES[device] // (dims.vocab * BYTES_PER_LOGIT)
    logits = min(batch.tokens, max(1, most)) * dims.vocab * (numbers.width + 2 * FP32)
    return max(batch.tokens * reading(dims, numbers, batch) + _expanded(dims, numbers), logits)


def cache(dims: ModelDims, numbers: Numbers, tokens: int) -> int:
    """Bytes of the keys and values of so many tokens in all layers (transformers' ``DynamicCache``). Layers that see a
    window alone are counted as if they saw everything."""
    return tokens * dims.layers * 2 * dims.kv_width * numbers.width


def answering(dims: ModelDims, numbers: Numbers, prompts: Batch, answer: int) -> float:
    """Bytes that come and go while prompts are answered (`engine.evaluate.answers`), ``answer`` tokens each.

    Either while the prompts are read, or at the last token, when each layer's keys are copied to make room for one
    more, and k and v are repeated to all heads.
    """
    read = prompts.tokens * reading(dims, numbers, prompts) + cache(dims, numbers, prompts.tokens)
    whole = prompts.sequences * (prompts.length + answer)
    layer = dims.kv_width + (2 * dims.query_width if prompts.masked else 0)
    last = cache(dims, numbers, whole) + whole * layer * numbers.width
    scores = prompts.sequences * dims.vocab * (numbers.width + FP32)
    return max(read, last) + _expanded(dims, numbers) + scores


def _expanded(dims: ModelDims, numbers: Numbers) -> int:
    return dequantised(dims, numbers) if numbers.quantised else 0
