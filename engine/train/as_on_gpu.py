"""What a GPU does otherwise than a CPU, for the simulated step: which tensors its kernels make, without the kernels.

Only shapes and lifetimes matter here, so nothing computes the right values. Sources: PyTorch 2.13,
``aten/src/ATen/native/transformers/cuda/`` (flash_api.cpp, attention_backward.cu); TRL 1.16, ``chunked_logprob.py``;
bitsandbytes 0.50, ``backends/cuda/ops.py``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from trl.kernels import chunked_logprob
from trl.trainer import utils as trl_utils

# The flash backward rounds lengths and head widths up to its blocks.
LENGTH_BLOCK, WIDTH_BLOCK = 128, 32


@contextlib.contextmanager
def as_on_gpu() -> Iterator[None]:
    """While entered, fake tensors of the CPU are made and kept as a GPU's would be."""
    is_enabled = torch.is_autocast_enabled
    with contextlib.ExitStack() as stack:
        for target, name, stand_in in (
            (torch.nn.functional, "scaled_dot_product_attention", attention),
            (torch.nn.functional, "dropout", _dropout),
            # peft asks for the GPU's autocast to decide whether to cast.
            (torch, "is_autocast_enabled", lambda device="cpu": is_enabled(device)),
            (chunked_logprob, "_use_triton", lambda _: True),
            (trl_utils, "_use_triton", lambda _: True),
            (chunked_logprob, "_forward_kernel", _InPlaceKernel()),
            (chunked_logprob, "_backward_kernel", _InPlaceKernel()),
            (chunked_logprob, "triton", _Triton),  # TRL imports it only where it is installed
            (chunked_logprob, "_addmm_fp32", lambda total, *_: total.add_(1)),
        ):
            stack.enter_context(replaced(target, name, stand_in))
        yield


@contextlib.contextmanager
def replaced(target: Any, name: str, stand_in: Any) -> Iterator[None]:
    """While entered, ``target`` has another attribute ``name``, or has it at all."""
    missing = object()
    before = getattr(target, name, missing)
    setattr(target, name, stand_in)
    try:
        yield
    finally:
        if before is missing:
            delattr(target, name)
        else:
            setattr(target, name, before)


class _InPlaceKernel:
    """A Triton kernel that writes only where it reads."""

    def __getitem__(self, grid: Any) -> Any:
        return lambda *arguments, **named: None


class _Triton:
    @staticmethod
    def cdiv(size: int, block: int) -> int:
        return -(-size // block)


def _dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    """A GPU's dropout keeps one byte a value; the CPU's keeps the mask in the value's format."""
    return torch.native_dropout(input, p, True)[0] if training and p > 0 else input


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """``scaled_dot_product_attention`` by the flash kernel, or by the memory-efficient one when there is a mask."""
    half = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
    query, key, value = (each.to(half) for each in (query, key, value))
    if attn_mask is not None:
        # Each call turns the boolean mask into an additive one, which is kept for the backward pass.
        bias = torch.zeros(attn_mask.shape, dtype=half).masked_fill_(attn_mask.logical_not(), float("-inf"))
    else:
        bias = None
    return _Attention.apply(query, key, value, bias)  # type: ignore[no-any-return, no-untyped-call]


class _Attention(torch.autograd.Function):
    """Keeps q, k, v, the output and the log-sums; the backward pass sums the gradient of q in fp32."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: Any) -> torch.Tensor:
        batch, heads, length, width = query.shape
        # The kernels write (batch, length, heads, width).
        out = query.new_empty(batch, length, heads, width).transpose(1, 2)
        sums = query.new_empty(batch, heads, length, dtype=torch.float32)
        ctx.save_for_backward(query, key, value, bias, out, sums)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        query, key, _, bias, *_ = ctx.saved_tensors
        batch, heads, length, width = query.shape
        (gradient,) = gradients
        gradient = gradient.contiguous()

        def like(number: int) -> torch.Tensor:
            new: torch.Tensor = query.new_empty(batch, length, number, width)
            return new.transpose(1, 2)

        # All of these are alive at once; the names keep them so.
        for_query = like(heads)
        if bias is None:
            rounded, wide = _up(length, LENGTH_BLOCK), _up(width, WIDTH_BLOCK)
            inner = query.new_empty(batch, heads, rounded, dtype=torch.float32)
            summed = query.new_empty(batch, rounded, heads, wide, dtype=torch.float32)
        else:
            inner = query.new_empty(batch, heads, length, dtype=torch.float32)
            summed = query.new_empty(batch, heads, length, width, dtype=torch.float32)
        repeated = like(heads), like(heads)
        if key.shape[1] == heads:
            for_key, for_value = repeated
        else:
            for_key, for_value = like(key.shape[1]), like(key.shape[1])
        del inner, summed, repeated, gradient
        return for_query, for_key, for_value, None


def _up(size: int, block: int) -> int:
    return -(-size // block) * block
