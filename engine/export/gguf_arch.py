"""A Llama's configuration and weights in the terms of GGUF.

Sources: llama.cpp, ``convert_hf_to_gguf.py`` (LlamaModel) and ``gguf-py``; the rope of Llama 3.1 as in transformers'
``_compute_llama3_parameters``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gguf import GGUFWriter, RopeScalingType
from numpy.typing import NDArray

from engine.export.gguf_types import Mix
from engine.export.targets import gguf_refusal

Array = NDArray[np.float32]

ROPE_FREQS = "rope_freqs.weight"
_TOP = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_IN_LAYER = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


@dataclass(frozen=True, slots=True)
class Llama:
    """The dimensions that a GGUF of the Llama family needs.

    Attributes:
        rope: rope parameters, "rope_theta" and "rope_type" among them.
        eps: of the RMS norms.
        tied: the token embedding is also the output matrix.
    """

    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int
    eps: float
    tied: bool
    rope: Mapping[str, Any]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Llama:
        """The dimensions in a ``config.json``. Raises `UserError` when it is not of this family."""
        refusal = gguf_refusal(config)
        if refusal is not None:
            raise refusal
        heads = int(config["num_attention_heads"])
        hidden = int(config["hidden_size"])
        return cls(
            layers=int(config["num_hidden_layers"]),
            hidden=hidden,
            inner=int(config["intermediate_size"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=int(config.get("head_dim") or hidden // heads),
            vocabulary=int(config["vocab_size"]),
            context=int(config["max_position_embeddings"]),
            eps=float(config.get("rms_norm_eps", 1e-6)),
            tied=bool(config.get("tie_word_embeddings", False)),
            rope=rope_parameters(config),
        )

    @property
    def mix(self) -> Mix:
        """What the choice of types rests on."""
        return Mix(self.layers, self.tied, self.heads, self.kv_heads)

    def name(self, stored: str) -> str | None:
        """GGUF's name of a tensor; None for one that GGUF does not hold (tied output, rotary buffers).

        Raises:
            KeyError: the tensor is not one of this family's.
        """
        if stored.endswith("rotary_emb.inv_freq") or (self.tied and stored == "lm_head.weight"):
            return None
        if stored in _TOP:
            return _TOP[stored]
        prefix, layers, rest = stored.partition("model.layers.")
        number, _, rest = rest.partition(".")
        module, _, kind = rest.rpartition(".")
        if prefix or not layers or kind not in ("weight", "bias"):
            raise KeyError(stored)
        return f"blk.{int(number)}.{_IN_LAYER[module]}.{kind}"

    def arranged(self, name: str, values: Array) -> Array:
        """A tensor as GGUF wants it: rows of queries and keys in the order of llama.cpp's rope."""
        part = name.split(".")[2] if name.startswith("blk.") else ""
        if part == "attn_q":
            return permuted(values, self.heads)
        return permuted(values, self.kv_heads) if part == "attn_k" else values

    def describe(self, writer: GGUFWriter) -> None:
        """Write the model's metadata."""
        writer.add_vocab_size(self.vocabulary)
        writer.add_context_length(self.context)
        writer.add_embedding_length(self.hidden)
        writer.add_block_count(self.layers)
        writer.add_feed_forward_length(self.inner)
        writer.add_head_count(self.heads)
        writer.add_head_count_kv(self.kv_heads)
        writer.add_key_length(self.head_dim)
        writer.add_value_length(self.head_dim)
        writer.add_layer_norm_rms_eps(self.eps)
        writer.add_rope_dimension_count(self.head_dim)
        writer.add_rope_freq_base(float(self.rope["rope_theta"]))
        self._describe_scaling(writer)

    def _describe_scaling(self, writer: GGUFWriter) -> None:
        kind = self.rope["rope_type"]
        if kind not in ("linear", "yarn"):
            return
        writer.add_rope_scaling_type(RopeScalingType(kind))
        writer.add_rope_scaling_factor(float(self.rope["factor"]))
        if kind == "yarn":
            original = int(self.rope.get("original_max_position_embeddings") or self.context)
            writer.add_rope_scaling_orig_ctx_len(original)
            for key, add in (
                ("beta_fast", writer.add_rope_scaling_yarn_beta_fast),
                ("beta_slow", writer.add_rope_scaling_yarn_beta_slow),
            ):
                if self.rope.get(key) is not None:
                    add(float(self.rope[key]))

    def rope_factors(self) -> Array | None:
        """Divisors of the rope's frequencies, shape (head_dim / 2,), as Llama 3.1 has them; None for other models.

        Source: transformers, ``modeling_rope_utils._compute_llama3_parameters``.
        """
        if self.rope["rope_type"] != "llama3":
            return None
        factor, low, high = (float(self.rope[key]) for key in ("factor", "low_freq_factor", "high_freq_factor"))
        original = float(self.rope["original_max_position_embeddings"])
        exponents = np.arange(0, self.head_dim, 2, dtype=np.float64) / self.head_dim
        wavelengths = 2 * math.pi * float(self.rope["rope_theta"]) ** exponents
        smooth = (original / wavelengths - low) / (high - low)
        middle = 1 / ((1 - smooth) / factor + smooth)
        factors = np.where(wavelengths < original / high, 1.0, np.where(wavelengths > original / low, factor, middle))
        return factors.astype(np.float32)


def rope_parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """The rope's parameters, in transformers 5's form or in the older ``rope_theta`` and ``rope_scaling``."""
    given = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    kind = given.get("rope_type") or given.get("type") or "default"
    theta = given.get("rope_theta") or config.get("rope_theta") or 10000.0
    return {**given, "rope_type": kind, "rope_theta": theta}


def permuted(values: Array, heads: int) -> Array:
    """Rows of a query or key matrix (or its bias), from two halves per head to pairs side by side.

    transformers turns dimension i with i + d/2, llama.cpp's rope of the Llama family turns 2i with 2i + 1.
    """
    rows = values.shape[0]
    halves = values.reshape(heads, 2, rows // heads // 2, *values.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)
