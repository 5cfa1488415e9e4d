"""Models by their shape alone, of which tests/bench/record_mixes.py asked llama.cpp what type each tensor gets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.export.gguf_types import Mix

# Rows of the random matrices whose bytes were recorded, and how wide they are: for blocks of 256, and of 32 only.
RANDOM_ROWS = 37
WIDTHS = (512, 288)


def weights(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The matrix whose quantised bytes were recorded: rows of unlike size, one of zeros, and a few far outliers."""
    numbers = np.random.default_rng(0)
    values = numbers.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
    values *= np.logspace(-2, 1, shape[0], dtype=np.float32)[:, None]
    values[3] = 0
    values[5, ::50] *= 30
    return values


@dataclass(frozen=True, slots=True)
class Model:
    """A model to be asked about.

    Attributes:
        name: what it is like.
        hidden, inner, head_dim: widths of rows.
        matrices: name of a layer's matrix → key of its width.
        vectors: names of a layer's norms and biases.
    """

    name: str
    architecture: str
    layers: int
    heads: int
    kv_heads: int
    tied: bool
    hidden: int
    inner: int
    head_dim: int
    matrices: dict[str, str]
    vectors: tuple[str, ...]
    experts: int = 0

    @property
    def mix(self) -> Mix:
        """What Lorimer's own choice rests on."""
        return Mix(self.layers, self.tied, self.heads, self.kv_heads, self.experts, self.architecture)

    def tensors(self, rows: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes, rows first; as many rows for every matrix."""
        widths = {"n": self.hidden, "q": self.heads * self.head_dim, "f": self.inner}
        yield "token_embd.weight", (rows, self.hidden)
        yield "output_norm.weight", (self.hidden,)
        if not self.tied:
            yield "output.weight", (rows, self.hidden)
        for layer in range(self.layers):
            for part in self.vectors:
                yield f"blk.{layer}.{part}", (self.hidden,)
            for part, width in self.matrices.items():
                shape = (rows, widths[width])
                yield f"blk.{layer}.{part}.weight", (self.experts, *shape) if part.endswith("_exps") else shape
