"""Which GGML type each tensor of a GGUF gets, and how large that makes it. Light: needs no library.

Source: llama.cpp, ``src/llama-quant.cpp`` (``llama_tensor_get_type_impl``, ``tensor_type_fallback``), for the Llama
family without experts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

F32, F16, Q8_0, Q5_0, Q4_K, Q5_K, Q6_K = "F32", "F16", "Q8_0", "Q5_0", "Q4_K", "Q5_K", "Q6_K"

# GGML type → (values in a block, bytes of a block). Source: ggml's block structures.
BLOCKS: dict[str, tuple[int, int]] = {
    F32: (1, 4),
    F16: (1, 2),
    Q8_0: (32, 34),
    Q5_0: (32, 22),
    Q4_K: (256, 144),
    Q5_K: (256, 176),
    Q6_K: (256, 210),
}
# What takes the place of a type whose blocks do not divide the row.
_FALLBACK = {Q4_K: Q5_0, Q6_K: Q8_0, Q5_K: Q8_0}

_LAYER = re.compile(r"^blk\.(\d+)\.(\w+)\.weight$")


@dataclass(frozen=True, slots=True)
class Mix:
    """The facts of a model on which llama.cpp's choice of types rests.

    Attributes:
        layers: number of blocks.
        tied: the token embedding is also the output matrix.
        heads, kv_heads: attention heads, and those of keys and values.
    """

    layers: int
    tied: bool
    heads: int
    kv_heads: int


def tensor_type(name: str, shape: Sequence[int], quantize: str, mix: Mix) -> str:
    """The GGML type of tensor ``name`` of ``shape`` (rows last but one, row width last) in a file of type ``quantize``.

    Args:
        quantize: "F16", "Q8_0" or "Q4_K_M".
    """
    if len(shape) < 2 or name.endswith("_norm.weight") or not name.endswith(".weight"):
        return F32
    if quantize == "F16":
        return F16
    wanted = Q8_0 if quantize == "Q8_0" else _q4_k_m(name, shape[-1], mix)
    return _fitting(wanted, shape[-1])


def tensor_bytes(shape: Sequence[int], kind: str) -> int:
    """Size of a tensor of ``shape`` in GGML type ``kind``."""
    count = 1
    for size in shape:
        count *= size
    values, size = BLOCKS[kind]
    return count // values * size


def uses_more_bits(layer: int, layers: int) -> bool:
    """llama.cpp's ``use_more_bits``: the first and last eighth of the layers, and every third between."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def _q4_k_m(name: str, width: int, mix: Mix) -> str:
    if name == "output.weight" or (mix.tied and name == "token_embd.weight"):
        return Q8_0 if width % BLOCKS[Q4_K][0] else Q6_K
    match = _LAYER.match(name)
    if match is None:
        return Q4_K
    layer, part = int(match[1]), match[2]
    if part in ("attn_v", "ffn_down") and uses_more_bits(layer, mix.layers):
        return Q6_K
    # The 70B model's eight heads share one attn_v, so more bits there cost next to nothing.
    if part == "attn_v" and mix.layers == 80 and mix.heads != mix.kv_heads:
        return Q5_K
    return Q4_K


def _fitting(kind: str, width: int) -> str:
    """``kind``, or what llama.cpp takes where rows of ``width`` values do not divide into its blocks."""
    if width % BLOCKS[kind][0] == 0:
        return kind
    kind = _FALLBACK.get(kind, F16)
    return kind if width % BLOCKS[kind][0] == 0 else F16
