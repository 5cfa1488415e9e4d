"""Which GGML type each tensor of a GGUF gets, and how large that makes it. Light: needs no library.

A file of type "Q4_K_M" is a mix: most matrices get one type, those that matter more get more bits. The tables below say
for every type of file what llama.cpp's ``quantize`` gives which matrix, without an importance matrix.

Source: llama.cpp, ``src/llama-quant.cpp``; `tests/bench/record_mixes.py` holds the tables against it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

F32, F16, BF16 = "F32", "F16", "BF16"
Q4_0, Q5_0, Q5_1, Q8_0, IQ4_NL = "Q4_0", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL"
Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_XS = "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"

# GGML type → (values in a block, bytes of a block). Source: ggml's block structures.
BLOCKS: dict[str, tuple[int, int]] = {
    F32: (1, 4),
    F16: (1, 2),
    BF16: (1, 2),
    Q4_0: (32, 18),
    Q5_0: (32, 22),
    Q5_1: (32, 24),
    Q8_0: (32, 34),
    IQ4_NL: (32, 18),
    Q2_K: (256, 84),
    Q3_K: (256, 110),
    Q4_K: (256, 144),
    Q5_K: (256, 176),
    Q6_K: (256, 210),
    IQ4_XS: (256, 136),
}
# What takes the place of a type in blocks of 256 where these do not divide the row.
FALLBACK = {Q2_K: Q4_0, Q3_K: Q4_0, Q4_K: Q5_0, Q5_K: Q5_1, Q6_K: Q8_0, IQ4_XS: IQ4_NL}


@dataclass(frozen=True, slots=True)
class Mix:
    """The facts of a model on which llama.cpp's choice of types rests.

    Attributes:
        layers: number of blocks.
        tied: the token embedding is also the output matrix.
        heads, kv_heads: attention heads, and those of keys and values.
        experts: of a mixture, in each layer; 0 for a dense model.
        architecture: GGUF's name ("llama", "qwen3moe").
    """

    layers: int
    tied: bool
    heads: int
    kv_heads: int
    experts: int = 0
    architecture: str = "llama"

    @property
    def sharing(self) -> int:
        """Query heads for each head of keys and values."""
        return self.heads // self.kv_heads if self.kv_heads else 0

    @property
    def is_70b(self) -> bool:
        """What llama.cpp holds for a 70B model: eight heads share one value matrix there."""
        if self.layers != 80:
            return False
        return self.architecture == "qwen2" or (self.architecture == "llama" and self.heads != self.kv_heads)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a matrix stands: its layer, and the model around it."""

    layer: int
    mix: Mix


# A rule gives a type, or "" for the next rule; the file's main type when none does.
Rule = Callable[[Place], str]


@dataclass(frozen=True, slots=True)
class Table:
    """A type of file.

    Attributes:
        main: type of every matrix that no rule names.
        values: rules of the value matrices (and of queries, keys and values in one), by layer.
        down: rules of the feed-forward network's second matrix.
        attention_out: rules of the matrix after attention.
    """

    main: str
    values: tuple[Rule, ...] = ()
    down: tuple[Rule, ...] = ()
    attention_out: tuple[Rule, ...] = ()


def uses_more_bits(layer: int, layers: int) -> bool:
    """The layers that matter more: the first and last eighth, and every third between."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def _all(kind: str) -> Rule:
    return lambda place: kind


def _important(kind: str) -> Rule:
    return lambda place: kind if uses_more_bits(place.layer, place.mix.layers) else ""


def _before(kind: str, parts: int) -> Rule:
    """The first of so many parts of the layers."""
    return lambda place: kind if place.layer < place.mix.layers // parts else ""


def _first_two(kind: str) -> Rule:
    return lambda place: kind if place.layer < 2 else ""


def _shared(kind: str) -> Rule:
    """Where four or more heads share one value matrix: it is small, so more bits cost little."""
    return lambda place: kind if place.mix.sharing >= 4 else ""


def _eight(kind: str) -> Rule:
    """Mixtures of eight experts, whose attention is small beside them."""
    return lambda place: kind if place.mix.experts == 8 else ""


def _not_eight(kind: str) -> Rule:
    return lambda place: kind if place.mix.experts != 8 else ""


TABLES: dict[str, Table] = {
    "F32": Table(F32),
    "F16": Table(F16),
    "BF16": Table(BF16),
    "Q8_0": Table(Q8_0),
    "Q6_K": Table(Q6_K),
    "Q5_K_M": Table(Q5_K, values=(_important(Q6_K),), down=(_important(Q6_K),)),
    "Q4_K_M": Table(Q4_K, values=(_important(Q6_K),), down=(_important(Q6_K),), attention_out=(_eight(Q5_K),)),
    "Q4_0": Table(Q4_0),
    "IQ4_XS": Table(IQ4_XS, values=(_shared(Q5_K),), down=(_before(Q5_K, 8),), attention_out=(_eight(Q5_K),)),
    "Q3_K_M": Table(
        Q3_K,
        values=(_first_two(Q5_K), _all(Q4_K)),
        down=(_before(Q5_K, 16), _all(Q4_K)),
        attention_out=(_eight(Q5_K), _all(Q4_K)),
    ),
    "Q2_K": Table(
        Q2_K,
        values=(_shared(Q4_K), _all(Q3_K)),
        down=(_all(Q3_K),),
        attention_out=(_eight(Q5_K), _not_eight(Q3_K)),
    ),
}
_FLOATS = (F32, F16, BF16)

_LAYER = re.compile(r"^blk\.(\d+)\.")


def tensor_type(name: str, shape: Sequence[int], quantize: str, mix: Mix) -> str:
    """The GGML type of tensor ``name`` of ``shape`` (experts, rows, row width last) in a file of type ``quantize``.

    Args:
        quantize: a key of `TABLES`.
    """
    if not is_matrix(name, shape):
        return F32
    table = TABLES[quantize]
    if table.main in _FLOATS:
        return table.main
    return fitting(_wanted(name, shape[-1], table, mix), shape[-1])


def is_matrix(name: str, shape: Sequence[int]) -> bool:
    """Whether a tensor is quantised at all; norms, biases and the gates of a mixture stay in 32-bit floats."""
    sizes = list(shape)
    while sizes and sizes[0] == 1:  # a matrix of one row is a vector to ggml
        sizes.pop(0)
    kept = name.endswith("_norm.weight") or "ffn_gate_inp.weight" in name
    return len(sizes) >= 2 and name.endswith("weight") and not kept


def tensor_bytes(shape: Sequence[int], kind: str) -> int:
    """Size of a tensor of ``shape`` in GGML type ``kind``."""
    count = 1
    for size in shape:
        count *= size
    values, size = BLOCKS[kind]
    return count // values * size


def fitting(kind: str, width: int) -> str:
    """``kind``, or what llama.cpp takes where rows of ``width`` values do not divide into its blocks."""
    if width % BLOCKS[kind][0] == 0:
        return kind
    kind = FALLBACK.get(kind, F16)
    return kind if width % BLOCKS[kind][0] == 0 else F16


def _wanted(name: str, width: int, table: Table, mix: Mix) -> str:
    """What a matrix gets before the width of its rows is looked at."""
    if name == "output.weight" or (mix.tied and name == "token_embd.weight"):
        return Q8_0 if table.main == Q8_0 or width % BLOCKS[table.main][0] else Q6_K
    match = _LAYER.match(name)
    place = Place(int(match[1]) if match else 0, mix)
    if "attn_v.weight" in name or "attn_qkv.weight" in name:
        return _of_values(_first(table.values, place, table.main), mix)
    if "attn_k.weight" in name:
        return Q8_0 if mix.experts == 8 else table.main
    if "ffn_down" in name:
        return _first(table.down, place, table.main)
    if "attn_output.weight" in name:
        return _first(table.attention_out, place, table.main)
    return table.main


def _of_values(kind: str, mix: Mix) -> str:
    """Value matrices are small where many heads or experts stand beside one, so they get more bits there."""
    if mix.experts == 8:
        return Q8_0
    return Q5_K if mix.is_70b and kind in (Q3_K, Q4_K) else kind


def _first(rules: Sequence[Rule], place: Place, main: str) -> str:
    return next((kind for rule in rules if (kind := rule(place))), main)
