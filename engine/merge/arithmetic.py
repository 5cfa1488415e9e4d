"""From an adapter's tensors and settings to the arithmetic on one weight, as PEFT's layers do it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from engine.merge.changes import (
    Added,
    Change,
    Decomposed,
    Hadamard,
    Kronecker,
    LowRank,
    Residual,
    Rotated,
    Rows,
    Scaled,
    Several,
    Stacked,
    cayley,
)
from engine.merge.layout import Slot
from engine.merge.wrapped import fits

Parts = dict[str, Tensor]
Shape = tuple[int, ...]


class Source(Protocol):
    """What the arithmetic asks of an adapter; see `engine.merge.delta.Adapter`."""

    @property
    def config(self) -> Mapping[str, Any]:
        """``adapter_config.json``."""

    def scaling(self, name: str) -> float:
        """alpha/rank or alpha/√rank."""

    def inputs_first(self, key: str) -> bool:
        """Whether a matrix is stored (inputs, outputs), as GPT-2's are."""

    def projections(self, device: str) -> tuple[Tensor, Tensor] | None:
        """VeRA's shared matrices, if they were saved."""

    def shape_of(self, key: str) -> Shape:
        """The shape of a weight of the loaded model."""

    def dtype_of(self, key: str) -> torch.dtype:
        """The dtype in which the base stores a weight of the loaded model."""

    def part_shapes(self, part: str) -> Iterator[tuple[str, Shape]]:
        """(weight, shape) of every tensor of a part."""


def change_of(adapter: Source, key: str, slot: Slot, parts: Parts, shape: Shape, device: str) -> Change | None:
    """The arithmetic on a weight.

    Args:
        key: its name in the loaded model.
        slot: which part of it is meant.
        parts: the adapter's tensors for it, float32 on ``device``.
        shape: of that part.

    Raises:
        ValueError, RuntimeError: the tensors do not fit the weight.
    """
    changes: list[Change] = []
    for makes, build in _BUILDERS:
        if makes in parts:
            changes.append(build(adapter, key, slot, parts, shape, device))
    return changes[0] if len(changes) == 1 else Several(tuple(changes)) if changes else None


def lora_scaling(config: Mapping[str, Any], module: str) -> float:
    """alpha/rank, or alpha/√rank with rank stabilisation (Kalajdzievski 2023)."""
    rank = float(by_pattern(config.get("rank_pattern"), module, config["r"]))
    alpha = float(by_pattern(config.get("alpha_pattern"), module, config["lora_alpha"]))
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def by_pattern(patterns: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    """The value of the first pattern that fits the end of ``module``, as PEFT looks it up.

    Raises:
        ValueError: a pattern is none.
    """
    for pattern, value in (patterns or {}).items():
        try:
            if re.match(rf"(.*\.)?({pattern})$", module):
                return value
        except re.error as error:
            raise ValueError(f"{pattern}: {error}") from error
    return default


def _lora(adapter: Source, key: str, slot: Slot, parts: Parts, shape: Shape, device: str) -> Change:
    first, second, scale = parts["lora_A.weight"], parts["lora_B.weight"], adapter.scaling(key)
    if slot.index is not None or len(shape) == 3:
        return _experts(adapter, key, slot, first, second, scale)
    transposed = _turned(adapter, key, shape, second.shape[0], first.shape[1])
    change = LowRank(first.T, second.T, scale) if transposed else LowRank(second, first, scale)
    begins = str(adapter.config.get("init_lora_weights", "")).lower()
    if begins in ("pissa", "olora"):
        return Residual(change, begins, transposed)
    magnitude = _magnitude(parts)
    return change if magnitude is None else Decomposed(change, magnitude, transposed)


def _turned(adapter: Source, key: str, shape: Shape, outputs: int, inputs: int) -> bool:
    """Whether a matrix is stored inputs first. Raises `ValueError` where it has another size."""
    first = adapter.inputs_first(key)
    if shape != ((inputs, outputs) if first else (outputs, inputs)):
        raise ValueError(f"{key}: {shape} in the base, {outputs} x {inputs} in the adapter")
    return first


def _magnitude(parts: Parts) -> Tensor | None:
    found = parts.get("lora_magnitude_vector")
    return parts.get("lora_magnitude_vector.weight") if found is None else found


def _experts(adapter: Source, key: str, slot: Slot, first: Tensor, second: Tensor, scale: float) -> Change:
    """Stacked matrices: A's rows go expert by expert, B's columns rank by rank; peft's ``ParamWrapper``."""
    shape = adapter.shape_of(key)
    count = shape[0]
    upright = fits(shape, tuple(first.shape), tuple(second.shape))
    if upright is None:
        raise ValueError(f"{key}: {shape}")
    a = first.reshape(count, -1, first.shape[1])  # (count, rank, inputs)
    b = second.reshape(second.shape[0], -1, count).permute(2, 0, 1)  # (count, outputs, rank)
    left, right = (b, a) if upright else (a.transpose(1, 2), b.transpose(1, 2))
    if slot.index is None:
        return Stacked(left, right, scale)
    return LowRank(left[slot.index][slot.start :], right[slot.index], scale)


def _embedding(adapter: Source, key: str, slot: Slot, parts: Parts, shape: Shape, device: str) -> Change:
    """A (rank, tokens), B (width, rank); the weight is (tokens, width)."""
    left, right = parts["lora_embedding_A"].T, parts["lora_embedding_B"].T
    if shape != (left.shape[0], right.shape[1]):
        raise ValueError(f"{key}: {shape} in the base, {left.shape[0]} x {right.shape[1]} in the adapter")
    change = LowRank(left, right, adapter.scaling(key))
    magnitude = _magnitude(parts)
    return change if magnitude is None else Decomposed(change, magnitude, transposed=True)


def _adalora(adapter: Source, key: str, slot: Slot, parts: Parts, shape: Shape, device: str) -> Change:
    """B · diag(E) · A, scaled by alpha over the rank at the beginning; without an alpha, by the rank that is left."""
    config = adapter.config
    left, right = parts["lora_B"], parts["lora_A"] * parts["lora_E"]
    begun = float(config.get("init_r", 12))
    kept = float(right.shape[0]) if config.get("rank_pattern") else begun
    alpha = float(config.get("lora_alpha") or 0)
    scale = (alpha if alpha > 0 else kept) / (begun + 1e-5)
    transposed = _turned(adapter, key, shape, left.shape[0], right.shape[1])
    return LowRank(right.T, left.T, scale) if transposed else LowRank(left, right, scale)


def _ia3(adapter: Source, key: str, slot: Slot, parts: Parts, shape: Shape, device: str) -> Change:
    """Scales of outputs are (outputs, 1), of inputs (1, inputs). Source: Liu et al. 2022, section 3.3."""
    scale = parts["ia3_l"]
    if len(shape) == 1:
        return Scaled(scale.reshape(shape))
    scale = scale.T if adapter.inputs_first(key) else scale
    if any(size not in (1, width) for size, width in zip(scale.shape, shape, strict=True)):
        raise ValueError(f"{key}: {shape} in the base, {tuple(scale.shape)} in the adapter")
    return Scaled(scale)


def _vera(adapter: Source, key: str, slot: Slot, parts: Parts, shape: Shape, device: str) -> Change:
    """(b ⊙ B) · (d ⊙ A), A and B shared by all layers and cut to each one's size."""
    by_output, by_rank = parts["vera_lambda_b"], parts["vera_lambda_d"]
    outputs, inputs = by_output.shape[0], shape[0] if adapter.inputs_first(key) else shape[1]
    transposed = _turned(adapter, key, shape, outputs, inputs)
    saved = adapter.projections(device)
    first, second = saved or _drawn(adapter, key, by_rank.shape[0], device)
    left = by_output[:, None] * second[:outputs]
    right = by_rank[:, None] * first[:, :inputs]
    return LowRank(right.T, left.T, 1.0) if transposed else LowRank(left, right, 1.0)


def _drawn(adapter: Source, key: str, rank: int, device: str) -> tuple[Tensor, Tensor]:
    """VeRA's matrices as they were drawn: uniform within √(6/inputs), first A, then B, from the seed that was kept.

    They are as large as the largest layer that is adapted, in each direction, and peft keeps them in the base's dtype.
    """
    largest_in = largest_out = 0
    for key, (outputs,) in adapter.part_shapes("vera_lambda_b"):
        height, width = adapter.shape_of(key)[-2:]
        largest_out = max(largest_out, outputs)
        largest_in = max(largest_in, height if adapter.inputs_first(key) else width)
    numbers = torch.Generator(device="cpu").manual_seed(int(adapter.config.get("projection_prng_key", 0)))
    drawn = []
    for height, width in ((rank, largest_in), (largest_out, rank)):
        bound = math.sqrt(3.0) * (math.sqrt(2.0) / math.sqrt(width))
        values = torch.empty(height, width).uniform_(-bound, bound, generator=numbers)
        drawn.append(values.to(adapter.dtype_of(key)).to(device, torch.float32))
    return drawn[0], drawn[1]


def _loha(adapter: Source, key: str, slot: Slot, parts: Parts, shape: Shape, device: str) -> Change:
    first = parts["hada_w1_a"], parts["hada_w1_b"]
    second = parts["hada_w2_a"], parts["hada_w2_b"]
    if shape != (first[0].shape[0], first[1].shape[1]):
        raise ValueError(f"{key}: {shape}")
    return Hadamard(first, second, _lycoris_scale(adapter.config, key))


def _lokr(adapter: Source, key: str, slot: Slot, parts: Parts, shape: Shape, device: str) -> Change:
    left = parts["lokr_w1"] if "lokr_w1" in parts else parts["lokr_w1_a"] @ parts["lokr_w1_b"]
    right = parts["lokr_w2"] if "lokr_w2" in parts else parts["lokr_w2_a"] @ parts["lokr_w2_b"]
    if shape != (left.shape[0] * right.shape[0], left.shape[1] * right.shape[1]):
        raise ValueError(f"{key}: {shape}")
    return Kronecker(left, right, _lycoris_scale(adapter.config, key))


def _lycoris_scale(config: Mapping[str, Any], key: str) -> float:
    module = key.removesuffix(".weight")
    alpha = float(by_pattern(config.get("alpha_pattern"), module, config["alpha"]))
    return alpha / float(by_pattern(config.get("rank_pattern"), module, config["r"]))


def _oft(adapter: Source, key: str, slot: Slot, parts: Parts, shape: Shape, device: str) -> Change:
    config, vectors = adapter.config, parts["oft_R.weight"]
    size = (1 + math.isqrt(1 + 8 * vectors.shape[1])) // 2
    if size * (size - 1) // 2 != vectors.shape[1] or shape[1] % size:
        raise ValueError(f"{key}: {shape}")
    if config.get("coft"):
        vectors = _within(vectors, float(config.get("eps", 6e-5)))
    terms = int(config.get("num_cayley_neumann_terms", 5)) if config.get("use_cayley_neumann") else None
    blocks = cayley(vectors, size, terms)
    count = shape[1] // size
    if blocks.shape[0] not in (1, count):
        raise ValueError(f"{key}: {shape}")
    return Rotated(blocks.expand(count, size, size))


def _within(vectors: Tensor, eps: float) -> Tensor:
    """Constrained OFT: matrices longer than eps/√count are cut to that length."""
    longest = eps / math.sqrt(len(vectors))
    length = torch.linalg.norm(vectors, dim=1, keepdim=True) * math.sqrt(2.0)
    return torch.where(length <= longest, vectors, vectors * (longest / length))


def _bias(adapter: Source, key: str, slot: Slot, parts: Parts, shape: Shape, device: str) -> Change:
    other = parts["lora_B.bias"]
    if shape != tuple(other.shape):
        raise ValueError(f"{key}: {shape}")
    return Added(other, adapter.scaling(key))


def _tokens(adapter: Source, key: str, slot: Slot, parts: Parts, shape: Shape, device: str) -> Change:
    rows = next(parts[name] for name in parts if name.endswith("trainable_tokens_delta"))
    places = torch.tensor(token_indices(adapter.config, key), dtype=torch.int64, device=device)
    if len(places) != len(rows) or (len(places) and not 0 <= int(places.min()) <= int(places.max()) < shape[0]):
        raise ValueError(f"{key}: {len(rows)} trained tokens, {shape[0]} rows")
    return Rows(places, rows)


def token_indices(config: Mapping[str, Any], key: str) -> list[int]:
    """Ids of the trained tokens of an embedding, in the order of their rows."""
    asked = config.get("token_indices") or config.get("trainable_token_indices") or []
    if isinstance(asked, Mapping):
        module = key.removesuffix(".weight")
        asked = next((ids for name, ids in asked.items() if module == name or module.endswith(f".{name}")), [])
    return [int(number) for number in asked]


_BUILDERS = (
    ("lora_A.weight", _lora),
    ("lora_embedding_A", _embedding),
    ("lora_B.bias", _bias),
    ("lora_E", _adalora),
    ("ia3_l", _ia3),
    ("vera_lambda_b", _vera),
    ("hada_w1_a", _loha),
    ("oft_R.weight", _oft),
    ("lokr_w1", _lokr),
    ("lokr_w1_a", _lokr),
    ("token_adapter.trainable_tokens_delta", _tokens),
    ("trainable_tokens_delta", _tokens),
)
