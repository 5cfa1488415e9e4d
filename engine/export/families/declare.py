"""How a family of models is told to GGUF: names, keys and rules, as tables. Light: no library is needed to read them.

Sources of names and keys: llama.cpp, ``gguf-py/gguf/constants.py`` and ``src/models``; what transformers 5 calls a
tensor or a setting: its ``modeling_*`` and ``configuration_*`` files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from engine.protocol.text import Text, say

Config = Mapping[str, Any]
U32: Literal["uint32"] = "uint32"
F32: Literal["float32"] = "float32"
STRING: Literal["string"] = "string"


@dataclass(frozen=True, slots=True)
class Key:
    """One line of a GGUF's metadata.

    Attributes:
        name: behind the architecture's name ("attention.head_count").
        kind: GGUF's type of the value.
        source: name of the setting in the configuration, or a function of the configuration; where it gives None, the
            key is left out.
    """

    name: str
    kind: Literal["uint32", "float32", "string"]
    source: str | Callable[[Config], Any]

    def value(self, config: Config) -> Any:
        """The value for a model, None where it has none."""
        return config.get(self.source) if isinstance(self.source, str) else self.source(config)


@dataclass(frozen=True, slots=True)
class Experts:
    """Where a layer of experts lies on disk; GGUF stacks the experts of a layer into one tensor of three dimensions.

    Attributes:
        count: setting that holds the number of experts.
        module: place of single experts in a layer ("mlp.experts": then comes the number of the expert).
        parts: matrix of an expert → GGUF's part.
        fused: place of tensors that hold all experts of a layer at once, (experts, rows, width), as transformers 5
            keeps them in memory.
        halves: fused matrix → GGUF's parts that share its rows, in order.
    """

    count: str
    module: str
    parts: Mapping[str, str]
    fused: str = "mlp.experts"
    halves: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: MappingProxyType(
            {"gate_up_proj": ("ffn_gate_exps", "ffn_up_exps"), "down_proj": ("ffn_down_exps",)}
        )
    )


@dataclass(frozen=True, slots=True)
class Family:
    """An architecture of transformers as llama.cpp knows it.

    Attributes:
        architecture: transformers' class, as ``config.json`` names it.
        model_type: transformers' name of the configuration.
        label: what people call it.
        gguf: llama.cpp's name of the architecture.
        layer: module in a layer → GGUF's part.
        keys: metadata, in order.
        optional: parts that only some models have.
        biased: parts that may have a bias.
        paired: llama.cpp turns values 2i and 2i + 1 of a head with each other, transformers i and i + half: the rows of
            queries and keys change places.
        norm_shift: added to every norm's weights.
        experts: where experts lie; None for a family without.
        own_output: llama.cpp can hold an output matrix of its own; else it is the token embedding.
        ropes: ways to stretch the context that llama.cpp can follow.
        activations: of the feed-forward layers, in either spelling.
        marks_by_look: an added token that looks special ("<|…|>") counts as special.
        states_prefix: whether a space is put before texts is said even where it is llama.cpp's own rule.
        unfit: what else llama.cpp would compute otherwise; None where nothing.
    """

    architecture: str
    model_type: str
    label: str
    gguf: str
    layer: Mapping[str, str]
    keys: tuple[Key, ...]
    optional: frozenset[str] = frozenset()
    biased: frozenset[str] = frozenset()
    paired: bool = False
    norm_shift: float = 0.0
    experts: Experts | None = None
    own_output: bool = True
    ropes: tuple[str, ...] = ("default", "linear", "yarn")
    activations: tuple[str, ...] = ("silu", "swish")
    marks_by_look: bool = True
    states_prefix: bool = False
    unfit: Callable[[Config], Text | None] = lambda config: None


TOP: Mapping[str, str] = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
ATTENTION: Mapping[str, str] = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
}
FEED_FORWARD: Mapping[str, str] = {
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
NORMS: Mapping[str, str] = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
QK_NORMS: Mapping[str, str] = {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
QKV = frozenset({"attn_q", "attn_k", "attn_v"})


def rope(config: Config, layers: str = "full_attention") -> dict[str, Any]:
    """The rope of one kind of layers, in transformers 5's form or in older ones: "rope_type" and "rope_theta" always.

    Args:
        layers: "full_attention" or "sliding_attention", where the two differ (Gemma 3).
    """
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    inner = given.get(layers)
    if isinstance(inner, Mapping):
        given = inner
    kind = given.get("rope_type") or given.get("type") or "default"
    theta = given.get("rope_theta") or config.get("rope_theta") or 10000.0
    return {**given, "rope_type": kind, "rope_theta": theta}


def head_dim(config: Config) -> int:
    """Width of an attention head."""
    return int(config.get("head_dim") or int(config["hidden_size"]) // int(config["num_attention_heads"]))


def kv_heads(config: Config) -> int:
    """Number of heads of keys and values."""
    return int(config.get("num_key_value_heads") or config["num_attention_heads"])


def _scaled(kind: str | None, *names: str) -> Callable[[Config], Any]:
    """The first of these settings of the rope, where it is of this kind (None: linear or yarn)."""

    def value(config: Config) -> Any:
        given = rope(config)
        fits = given["rope_type"] == kind if kind else given["rope_type"] in ("linear", "yarn")
        return next((given[name] for name in names if given.get(name) is not None), None) if fits else None

    return value


def _original(config: Config) -> Any:
    found = _scaled("yarn", "original_max_position_embeddings")(config)
    return found or (config["max_position_embeddings"] if rope(config)["rope_type"] == "yarn" else None)


def _sliding_theta(config: Config) -> Any:
    given = config.get("rope_parameters") or {}
    inner = given.get("sliding_attention")
    return inner.get("rope_theta") if isinstance(inner, Mapping) else config.get("rope_local_base_freq")


SIZES = (
    Key("block_count", U32, "num_hidden_layers"),
    Key("context_length", U32, "max_position_embeddings"),
    Key("embedding_length", U32, "hidden_size"),
    Key("feed_forward_length", U32, "intermediate_size"),
    Key("attention.head_count", U32, "num_attention_heads"),
    Key("attention.head_count_kv", U32, kv_heads),
    Key("attention.layer_norm_rms_epsilon", F32, "rms_norm_eps"),
)
HEAD_DIM = (Key("attention.key_length", U32, "head_dim"), Key("attention.value_length", U32, "head_dim"))
ROPE = (
    Key("rope.freq_base", F32, lambda config: rope(config)["rope_theta"]),
    Key("rope.freq_base_swa", F32, _sliding_theta),
    Key("rope.scaling.type", STRING, _scaled(None, "rope_type")),
    Key("rope.scaling.factor", F32, _scaled(None, "factor")),
    Key("rope.scaling.original_context_length", U32, _original),
    Key("rope.scaling.yarn_ext_factor", F32, _scaled("yarn", "extrapolation_factor")),
    Key("rope.scaling.yarn_attn_factor", F32, _scaled("yarn", "attention_factor", "attn_factor")),
    Key("rope.scaling.yarn_beta_fast", F32, _scaled("yarn", "beta_fast")),
    Key("rope.scaling.yarn_beta_slow", F32, _scaled("yarn", "beta_slow")),
)
# What the converter writes for llama.cpp's architecture "llama" on top.
LLAMA_KEYS = (
    *SIZES,
    *HEAD_DIM,
    *ROPE,
    Key("vocab_size", U32, "vocab_size"),
    Key("rope.dimension_count", U32, head_dim),
)
USED_EXPERTS = Key("expert_used_count", U32, "num_experts_per_tok")


def every_layer(config: Config, pattern: int) -> Text | None:
    """Why layers that look at a window only do not stand where llama.cpp expects them: all but each ``pattern``-th."""
    given: Sequence[str] | None = config.get("layer_types")
    wrong = [
        at for at, kind in enumerate(given or ()) if (kind == "sliding_attention") is not (at % pattern < pattern - 1)
    ]
    if not wrong:
        return None
    return say(
        "its layer {number} attends otherwise than llama.cpp expects",
        "其第 {number} 层的注意力方式与 llama.cpp 的预期不同",
        number=wrong[0],
    )
