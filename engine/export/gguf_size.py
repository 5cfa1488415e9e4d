"""How large a GGUF of a model becomes, from its ``config.json`` alone: the same tables that write it. Light.

Sources of shapes: transformers 5, ``modeling_*``; of a file's layout: ggml, ``docs/gguf.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from engine.export.families.declare import Config, Family, head_dim, kv_heads, rope
from engine.export.families.registry import FAMILIES, architecture_of
from engine.export.gguf_types import F32, Mix, tensor_bytes, tensor_type

# What transformers takes where a configuration leaves a setting out.
_HEAD_DIMS = {"gemma2": 256, "gemma3_text": 256, "qwen3": 128}
_TIED = ("gemma2", "gemma3_text")
_BIASED = ("qwen2",)

# Tensors begin at multiples of this; a tensor's entry holds its name and this much.
_ALIGNMENT, _ENTRY = 32, 8 + 4 + 4 + 8
# Bytes of a token's text, kind, score and merge, as tokenizers of either size have them on average; of all other keys.
_LARGE, _TOKEN, _TOKEN_OF_LARGE, _KEYS = 60_000, 28, 45, 6 * 1024


def estimated_gguf_bytes(config: Mapping[str, Any], quantize: str) -> int | None:
    """Size of the file of type ``quantize`` ("Q4_K_M") of a model with this ``config.json``.

    None where the model is of no family that is written here, or its configuration lacks a size.
    """
    family = FAMILIES.get(architecture_of(config))
    if family is None:
        return None
    try:
        whole = filled(config, family)
        mix = _mix(whole, family)
        tensors = dict(shapes(whole, family))
        vocabulary = int(whole["vocab_size"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    data = 0
    for name, shape in tensors.items():
        size = tensor_bytes(shape, tensor_type(name, shape, quantize, mix))
        data += -(-size // _ALIGNMENT) * _ALIGNMENT + _ENTRY + len(name) + 8 * len(shape)
    texts = vocabulary * (_TOKEN_OF_LARGE if vocabulary > _LARGE else _TOKEN)
    return data + texts + _KEYS


def bits_per_weight(config: Mapping[str, Any], quantize: str) -> float:
    """Mean bits of a weight in such a file, its metadata left out. Raises `KeyError` for an unknown family."""
    family = FAMILIES[architecture_of(config)]
    whole = filled(config, family)
    mix, bits, count = _mix(whole, family), 0, 0
    for name, shape in shapes(whole, family):
        bits += 8 * tensor_bytes(shape, tensor_type(name, shape, quantize, mix))
        count += tensor_bytes(shape, F32) // 4
    return bits / count


def shapes(config: Config, family: Family) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes, rows first, of the tensors in the GGUF of a model."""
    hidden, vocabulary = int(config["hidden_size"]), int(config["vocab_size"])
    yield "token_embd.weight", (vocabulary, hidden)
    yield "output_norm.weight", (hidden,)
    if family.own_output and not config["tie_word_embeddings"]:
        yield "output.weight", (vocabulary, hidden)
    if rope(config)["rope_type"] == "llama3":
        yield "rope_freqs.weight", (head_dim(config) // 2,)
    parts = dict.fromkeys(family.layer.values())
    if family.experts:
        parts |= dict.fromkeys(family.experts.parts.values())
    layer = [(part, _shape(part, config)) for part in parts if part not in family.optional]
    biased = [part for part in parts if part in family.biased and _has_bias(part, config, family)]
    for number in range(int(config["num_hidden_layers"])):
        for part, shape in layer:
            yield f"blk.{number}.{part}.weight", shape
        for part in biased:
            yield f"blk.{number}.{part}.bias", _shape(part, config)[:1]


def _shape(part: str, config: Config) -> tuple[int, ...]:
    """Shape of a layer's matrix or vector."""
    hidden, width = int(config["hidden_size"]), head_dim(config)
    inner, experts = int(config["intermediate_size"]), _experts(config)
    queries, values = int(config["num_attention_heads"]) * width, kv_heads(config) * width
    of_expert = int(config.get("moe_intermediate_size") or inner)
    known: dict[str, tuple[int, ...]] = {
        "attn_q": (queries, hidden),
        "attn_k": (values, hidden),
        "attn_v": (values, hidden),
        "attn_qkv": (queries + 2 * values, hidden),
        "attn_output": (hidden, queries),
        "attn_q_norm": (width,),
        "attn_k_norm": (width,),
        "ffn_gate": (inner, hidden),
        "ffn_up": (2 * inner if config.get("model_type") == "phi3" else inner, hidden),  # Phi-3's holds the gate too
        "ffn_down": (hidden, inner),
        "ffn_gate_inp": (experts, hidden),
        "ffn_gate_exps": (experts, of_expert, hidden),
        "ffn_up_exps": (experts, of_expert, hidden),
        "ffn_down_exps": (experts, hidden, of_expert),
    }
    return known.get(part, (hidden,))


def _has_bias(part: str, config: Config, family: Family) -> bool:
    if part.startswith("ffn"):
        return bool(config.get("mlp_bias"))
    return family.model_type in _BIASED or bool(config.get("attention_bias"))


def _experts(config: Config) -> int:
    return int(config.get("num_local_experts") or config.get("num_experts") or 0)


def filled(config: Mapping[str, Any], family: Family) -> dict[str, Any]:
    """The configuration with the defaults that decide sizes."""
    whole = {**config, "model_type": family.model_type}
    whole["head_dim"] = config.get("head_dim") or _HEAD_DIMS.get(family.model_type)
    if whole.get("tie_word_embeddings") is None:
        whole["tie_word_embeddings"] = family.model_type in _TIED
    return whole


def _mix(config: Config, family: Family) -> Mix:
    tied = bool(config["tie_word_embeddings"]) or not family.own_output
    heads = int(config["num_attention_heads"])
    experts = _experts(config) if family.experts else 0
    return Mix(int(config["num_hidden_layers"]), tied, heads, kv_heads(config), experts, family.gguf)
