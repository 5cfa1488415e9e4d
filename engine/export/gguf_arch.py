"""A model's configuration and weights in the terms of GGUF, by the declaration of its family.

Sources: llama.cpp, ``conversion/`` and ``gguf-py``, for what stands where; transformers' ``modeling_rope_utils`` for
the rope of Llama 3.1 and of long contexts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from gguf import GGUFWriter
from huggingface_hub.errors import StrictDataclassError
from numpy.typing import NDArray
from torch import Tensor
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from engine.export.families.declare import F32, STRING, TOP, U32, Family, Key, head_dim, kv_heads, rope
from engine.export.families.phi import rope_width
from engine.export.families.registry import FAMILIES, architecture_of, damaged, gguf_refusal
from engine.export.gguf_types import Mix

Array = NDArray[np.float32]
Values = TypeVar("Values", Array, Tensor)

ROPE_FREQS = "rope_freqs.weight"
ROPE_LONG, ROPE_SHORT = "rope_factors_long.weight", "rope_factors_short.weight"
_PREFIX = "model.layers."


@dataclass(frozen=True, slots=True)
class Place:
    """Where in GGUF a stored tensor, or a part of it, belongs.

    Attributes:
        name: GGUF's tensor.
        expert: its place in a stack of experts; None for a whole tensor.
        part, parts: which of so many equal parts of the rows this is (gate and up of experts lie in one).
    """

    name: str
    expert: int | None = None
    part: int = 0
    parts: int = 1


@dataclass(frozen=True, slots=True)
class Architecture:
    """A model as GGUF must describe it.

    Attributes:
        family: its declaration.
        config: its configuration in transformers 5's form, defaults filled in.
    """

    family: Family
    config: Mapping[str, Any]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Architecture:
        """The model with this ``config.json``, whichever version of transformers wrote it.

        Raises:
            UserError: it is of no family that is written here, or a setting is not what transformers takes.
        """
        refusal = gguf_refusal(config)
        if refusal is not None:
            raise refusal
        family = FAMILIES[architecture_of(config)]
        try:
            whole = CONFIG_MAPPING[family.model_type].from_dict(dict(config)).to_dict()
            whole["vocab_size"], whole["num_hidden_layers"] = int(whole["vocab_size"]), int(whole["num_hidden_layers"])
        except (StrictDataclassError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise damaged(error) from error
        refusal = gguf_refusal({**whole, "architectures": [family.architecture]})
        if refusal is not None:
            raise refusal
        return cls(family, whole)

    @property
    def layers(self) -> int:
        """Number of layers."""
        return int(self.config["num_hidden_layers"])

    @property
    def vocabulary(self) -> int:
        """Rows of the token embedding, as the configuration says."""
        return int(self.config["vocab_size"])

    @property
    def heads(self) -> int:
        """Attention heads."""
        return int(self.config["num_attention_heads"])

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return kv_heads(self.config)

    @property
    def tied(self) -> bool:
        """The token embedding is also the output matrix."""
        return bool(self.config.get("tie_word_embeddings", False))

    @property
    def experts(self) -> int:
        """Experts in each layer; 0 without."""
        return int(self.config[self.family.experts.count]) if self.family.experts else 0

    @property
    def mix(self) -> Mix:
        """What the choice of types rests on."""
        return Mix(self.layers, self.tied, self.heads, self.kv_heads, self.experts, self.family.gguf)

    # ------------------------------------------------------------------------------------------------- tensors
    def places(self, stored: str) -> tuple[Place, ...]:
        """Where a stored tensor belongs; () for one that GGUF does not hold (tied output, rotary buffers).

        Raises:
            KeyError: the tensor is not one of this family's.
        """
        if stored.endswith("rotary_emb.inv_freq") or (self.tied and stored == "lm_head.weight"):
            return ()
        if stored in TOP:
            if stored == "lm_head.weight" and not self.family.own_output:
                raise KeyError(stored)
            return (Place(TOP[stored]),)
        prefix, layers, rest = stored.partition(_PREFIX)
        number, _, rest = rest.partition(".")
        if prefix or not layers or not number.isdecimal() or int(number) >= self.layers:
            raise KeyError(stored)
        block = f"blk.{int(number)}."
        found = self._expert_places(block, rest)
        if found:
            return found
        module, _, kind = rest.rpartition(".")
        part = self.family.layer[module]
        if kind != "weight" and not (kind == "bias" and part in self.family.biased):
            raise KeyError(stored)
        return (Place(f"{block}{part}.{kind}"),)

    def name(self, stored: str) -> str | None:
        """GGUF's name of a stored tensor that becomes one tensor; None for one that GGUF does not hold.

        Raises:
            KeyError: the tensor is not one of this family's, or it is divided or stacked (see `places`).
        """
        found = self.places(stored)
        if len(found) > 1 or any(place.expert is not None for place in found):
            raise KeyError(stored)
        return found[0].name if found else None

    def _expert_places(self, block: str, rest: str) -> tuple[Place, ...]:
        experts = self.family.experts
        if experts is None:
            return ()
        single = rest.removeprefix(f"{experts.module}.").removesuffix(".weight").split(".")
        if rest.startswith(f"{experts.module}.") and rest.endswith(".weight") and len(single) == 2:
            number, matrix = single
            if not number.isdecimal() or int(number) >= self.experts:
                raise KeyError(rest)
            return (Place(f"{block}{experts.parts[matrix]}.weight", int(number)),)
        if rest.startswith(f"{experts.fused}."):
            halves = experts.halves[rest.removeprefix(f"{experts.fused}.").removesuffix(".weight")]
            return tuple(Place(f"{block}{part}.weight", None, at, len(halves)) for at, part in enumerate(halves))
        return ()

    def required(self) -> Iterator[str]:
        """Names of the tensors that every model of the family has in its GGUF, those of `extra` left out."""
        yield TOP["model.embed_tokens.weight"]
        yield TOP["model.norm.weight"]
        if not self.tied:
            yield TOP["lm_head.weight"]
        parts = dict.fromkeys(self.family.layer.values())
        if self.family.experts:
            parts |= dict.fromkeys(self.family.experts.parts.values())
        for layer in range(self.layers):
            yield from (f"blk.{layer}.{part}.weight" for part in parts if part not in self.family.optional)

    def arranged(self, name: str, values: Values) -> Values:
        """A tensor as GGUF wants it: norms with what is added to them, queries and keys in the order of the rope.

        Args:
            values: any number of whole rows; of queries and keys, whole heads (`whole_rows`).
        """
        if self.family.norm_shift and name.endswith("norm.weight"):
            return values + self.family.norm_shift
        rows = self.whole_rows(name)
        return values if rows == 1 else permuted(values, values.shape[0] // rows)

    def whole_rows(self, name: str) -> int:
        """How many rows of a tensor must stay together in `arranged`."""
        part = name.split(".")[2] if name.startswith("blk.") else ""
        return head_dim(self.config) if self.family.paired and part in ("attn_q", "attn_k") else 1

    def extra(self) -> dict[str, Array]:
        """Tensors that come from the configuration: divisors of the rope's frequencies, each of shape (width / 2,)."""
        given = rope(self.config)
        if given["rope_type"] == "llama3":
            return {ROPE_FREQS: llama3_factors(given, head_dim(self.config))}
        if given["rope_type"] not in ("longrope", "su"):
            return {}
        width = rope_width(self.config)
        found: dict[str, Array] = {}
        for name, key in ((ROPE_LONG, "long_factor"), (ROPE_SHORT, "short_factor")):
            factors = np.asarray(given.get(key) or (), dtype=np.float32)
            if factors.shape != (width // 2,):
                raise damaged(ValueError(f"{key}: {factors.shape[0]} factors, {width // 2} expected"))
            found[name] = factors
        return found

    # ---------------------------------------------------------------------------------------------------- keys
    def keys(self) -> dict[str, tuple[str, Any]]:
        """Metadata of the model: name → (GGUF's type, value)."""
        found = ((key, key.value(self.config)) for key in self.family.keys)
        return {f"{self.family.gguf}.{key.name}": (key.kind, _typed(key, v)) for key, v in found if v is not None}

    def describe(self, writer: GGUFWriter) -> None:
        """Write the model's metadata."""
        add: dict[str, Callable[[str, Any], None]] = {
            U32: writer.add_uint32,
            F32: writer.add_float32,
            STRING: writer.add_string,
        }
        for name, (kind, value) in self.keys().items():
            add[kind](name, value)


def _typed(key: Key, value: Any) -> Any:
    return int(value) if key.kind == U32 else float(value) if key.kind == F32 else str(value)


def llama3_factors(given: Mapping[str, Any], width: int) -> Array:
    """Divisors of the frequencies of Llama 3.1's rope, shape (width / 2,).

    The frequencies are computed in float32 and the rest in float64, as llama.cpp's converter does, bit for bit.

    Source: transformers, ``modeling_rope_utils._compute_llama3_parameters``.
    """
    base = given["rope_theta"]
    factor, low, high = (
        float(given.get(key) or default)
        for key, default in (("factor", 8.0), ("low_freq_factor", 1.0), ("high_freq_factor", 4.0))
    )
    original = float(given.get("original_max_position_embeddings") or 8192)
    # torch's power, not numpy's: the two differ in the last bit.
    frequencies = 1.0 / (base ** (torch.arange(0, width, 2, dtype=torch.float32) / width))
    factors = []
    for frequency in frequencies:
        wavelength = 2 * math.pi / frequency
        if wavelength < original / high:
            factors.append(1.0)
        elif wavelength > original / low:
            factors.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            factors.append(float(1 / ((1 - smooth) / factor + smooth)))
    return np.asarray(factors, dtype=np.float32)


def permuted(values: Values, heads: int) -> Values:
    """Rows of a query or key matrix (or its bias), from two halves per head to pairs side by side.

    transformers turns dimension i with i + d/2, llama.cpp's rope of the Llama family turns 2i with 2i + 1.
    """
    rows = values.shape[0]
    halves = values.reshape(heads, 2, rows // heads // 2, *values.shape[1:])
    return halves.swapaxes(1, 2).reshape(values.shape)
