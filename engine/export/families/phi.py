"""Phi-3, Phi-3.5-mini, Phi-4 and Phi-4-mini."""

import math
from typing import Any

from engine.export.families.declare import F32, NORMS, SIZES, U32, Config, Family, Key, rope


def rope_width(config: Config) -> int:
    """Values of a head that are turned."""
    share = float(rope(config).get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0)
    return int(share * int(config["hidden_size"])) // int(config["num_attention_heads"])


def original_context(config: Config) -> int:
    """Positions before the context was stretched."""
    found = rope(config).get("original_max_position_embeddings") or config.get("original_max_position_embeddings")
    return int(found or config["max_position_embeddings"])


def _attention_factor(config: Config) -> Any:
    """Scale of attention over a stretched context. Source: transformers, ``_compute_longrope_parameters``."""
    given = rope(config)
    if not given.get("long_factor"):
        return None
    original = original_context(config)
    scale = int(config["max_position_embeddings"]) / original
    return math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1.0 else 1.0


PHI3 = Family(
    architecture="Phi3ForCausalLM",
    model_type="phi3",
    label="Phi-3, Phi-4",
    gguf="phi3",
    layer={
        **NORMS,
        "self_attn.qkv_proj": "attn_qkv",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    },
    keys=(
        *SIZES,
        Key("rope.scaling.original_context_length", U32, original_context),
        Key("rope.dimension_count", U32, rope_width),
        Key("rope.freq_base", F32, lambda config: rope(config)["rope_theta"]),
        Key("rope.scaling.attn_factor", F32, _attention_factor),
        # 0 tells Phi-4 from the others.
        Key("attention.sliding_window", U32, lambda config: config.get("sliding_window") or 0),
    ),
    ropes=("default", "longrope", "su"),
    marks_by_look=False,
)
