"""What a model is made of, read from its ``config.json`` alone: widths, layers, and how many weights that gives.

Only model families whose layers bear the names that the methods know are listed; any other is refused with a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from engine.methods.declare import LinearShape
from engine.protocol.errors import Problem, UserError
from engine.protocol.text import say


@dataclass(frozen=True, slots=True)
class Family:
    """How the models of one ``model_type`` differ from Llama, and what their config may leave out.

    Attributes:
        label: what people read.
        tied: whether embeddings and output share weights when the config does not say.
        query_key_value_bias: biases on q, k and v that the config has no word for (Qwen2).
        norms_per_layer: weight vectors of the hidden width per layer.
        head_norms: one more norm each on queries and keys (Qwen3, Gemma 3).
        head_dim: width of a head when the config does not say; 0 for hidden / heads.
        bent_scores: attention scores are soft-capped, which no fused attention computes: they are held whole (Gemma 2).
        experts: names of the config's keys (number of experts, their inner width); empty without experts.
    """

    label: str
    tied: bool = False
    query_key_value_bias: bool = False
    norms_per_layer: int = 2
    head_norms: bool = False
    head_dim: int = 0
    bent_scores: bool = False
    experts: tuple[str, str] | None = None


# Defaults that a config.json may leave out are those of transformers 5, `configuration_<family>.py`.
FAMILIES: dict[str, Family] = {
    "llama": Family("Llama"),
    "mistral": Family("Mistral"),
    "qwen2": Family("Qwen2", query_key_value_bias=True),
    "qwen3": Family("Qwen3", head_norms=True, head_dim=128),
    "gemma": Family("Gemma", tied=True, head_dim=256),
    "gemma2": Family("Gemma 2", tied=True, head_dim=256, norms_per_layer=4, bent_scores=True),
    "gemma3_text": Family("Gemma 3", tied=True, head_dim=256, norms_per_layer=4, head_norms=True),
    "mixtral": Family("Mixtral", experts=("num_local_experts", "intermediate_size")),
    "qwen3_moe": Family("Qwen3 MoE", head_norms=True, head_dim=128, experts=("num_experts", "moe_intermediate_size")),
}

_NEEDED = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")


@dataclass(frozen=True, slots=True)
class ModelDims:
    """The widths of a decoder-only language model.

    Attributes:
        family: the config's ``model_type``.
        layers, hidden, intermediate: number of layers, hidden width, inner width of the feed-forward.
        heads, kv_heads, head_dim: query heads, key and value heads, width of one head.
        vocab: rows of the embedding.
        context: longest sequence that the model knows, in tokens.
        tied: output weights are the embedding's.
        qkv_bias, o_bias, mlp_bias: which linear layers have biases.
        norms_per_layer, head_norms, bent_scores: as in `Family`.
        experts, experts_per_token, expert_intermediate: mixture of experts; 0 without.
        dense_layers: layers with an ordinary feed-forward in a model with experts.
    """

    family: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    tied: bool
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    norms_per_layer: int = 2
    head_norms: bool = False
    bent_scores: bool = False
    experts: int = 0
    experts_per_token: int = 0
    expert_intermediate: int = 0
    dense_layers: int = field(default=-1)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ModelDims:
        """The widths of a parsed ``config.json``.

        Raises:
            UserError: the family is not supported, or ``problems`` lists the keys that are missing or no positive whole
                numbers.
        """
        family = FAMILIES.get(str(config.get("model_type", "")))
        if family is None:
            raise _unsupported(config)
        _check(config)
        hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        layers = int(config["num_hidden_layers"])
        bias = bool(config.get("attention_bias", False))
        experts, inner = _experts(config, family)
        return cls(
            family=str(config["model_type"]),
            layers=layers,
            hidden=hidden,
            intermediate=int(config["intermediate_size"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=int(config.get("head_dim") or family.head_dim or hidden // heads),
            vocab=int(config["vocab_size"]),
            context=int(config.get("max_position_embeddings") or 2048),
            tied=bool(config.get("tie_word_embeddings", family.tied)),
            qkv_bias=family.query_key_value_bias or bias,
            o_bias=bias,
            mlp_bias=bool(config.get("mlp_bias", False)),
            norms_per_layer=family.norms_per_layer,
            head_norms=family.head_norms,
            bent_scores=family.bent_scores,
            experts=experts,
            experts_per_token=int(config.get("num_experts_per_tok") or 2) if experts else 0,
            expert_intermediate=inner,
            dense_layers=_dense_layers(config, layers) if experts else layers,
        )

    @property
    def query_width(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of all key (or value) heads together."""
        return self.kv_heads * self.head_dim

    def linear_shapes(self) -> tuple[LinearShape, ...]:
        """The linear layers of all decoder layers; the output layer and fused experts are not among them.

        transformers 5 keeps the experts of a layer in one parameter without `Linear` modules: an adapter on module
        names does not reach them and bitsandbytes does not quantise them."""
        return _linear_shapes(self)

    def linear_parameters(self) -> int:
        """Weights of `linear_shapes`, without biases."""
        return sum(s.inputs * s.outputs * s.count for s in self.linear_shapes())

    def expert_parameters(self) -> int:
        """Weights of all experts (gate, up and down of each)."""
        return (self.layers - self.dense_layers) * self.experts * 3 * self.hidden * self.expert_intermediate

    def embedding_parameters(self) -> int:
        """Weights of the embedding and, when it is not tied, of the output layer."""
        return self.vocab * self.hidden * (1 if self.tied else 2)

    def small_parameters(self) -> int:
        """Norms, biases and the experts' routers."""
        per_layer = self.norms_per_layer * self.hidden + (2 * self.head_dim if self.head_norms else 0)
        per_layer += (self.query_width + 2 * self.kv_width) * self.qkv_bias + self.hidden * self.o_bias
        dense = (2 * self.intermediate + self.hidden) * self.mlp_bias
        sparse = self.layers - self.dense_layers
        return self.layers * per_layer + self.dense_layers * dense + sparse * self.hidden * self.experts + self.hidden

    def parameters(self) -> int:
        """All weights of the model."""
        return (
            self.linear_parameters() + self.expert_parameters() + self.embedding_parameters() + self.small_parameters()
        )

    def active_parameters(self) -> int:
        """Weights that one token is multiplied with, the output layer left out: all of them without experts."""
        used = self.expert_parameters() * self.experts_per_token // self.experts if self.experts else 0
        return self.linear_parameters() + used


@lru_cache(maxsize=64)
def _linear_shapes(dims: ModelDims) -> tuple[LinearShape, ...]:
    h, n, dense = dims.hidden, dims.layers, dims.dense_layers
    attention = (
        LinearShape("q_proj", h, dims.query_width, n),
        LinearShape("k_proj", h, dims.kv_width, n),
        LinearShape("v_proj", h, dims.kv_width, n),
        LinearShape("o_proj", dims.query_width, h, n),
    )
    if not dense:
        return attention
    f = dims.intermediate
    return (
        *attention,
        LinearShape("gate_proj", h, f, dense),
        LinearShape("up_proj", h, f, dense),
        LinearShape("down_proj", f, h, dense),
    )


def _experts(config: Mapping[str, Any], family: Family) -> tuple[int, int]:
    """Number of experts per layer and their inner width."""
    if family.experts is None:
        return 0, 0
    number, width = family.experts
    return int(config.get(number) or 8), int(config.get(width) or config["intermediate_size"])


def _dense_layers(config: Mapping[str, Any], layers: int) -> int:
    """How many layers have no experts (Qwen3 MoE: ``mlp_only_layers`` and ``decoder_sparse_step``)."""
    only = set(config.get("mlp_only_layers") or ())
    step = int(config.get("decoder_sparse_step") or 1)
    return sum(index in only or (index + 1) % step != 0 for index in range(layers))


def _check(config: Mapping[str, Any]) -> None:
    wrong = [name for name in _NEEDED if not isinstance(config.get(name), int) or config[name] < 1]
    if not wrong:
        return
    hint = say("Copy config.json from the model's source again.", "请从模型来源重新复制 config.json。")
    problems = tuple(
        Problem(
            "model.config",
            say("config.json has no usable {name}.", "config.json 中缺少可用的 {name}。", name=name),
            hint,
            where=f"config.json: {name}",
        )
        for name in wrong
    )
    raise UserError(
        "model.config",
        say("config.json lacks {names}.", "config.json 缺少 {names}。", names=", ".join(wrong)),
        hint,
        where="config.json",
        problems=problems,
    )


def _unsupported(config: Mapping[str, Any]) -> UserError:
    name = config.get("model_type")
    known = ", ".join(family.label for family in FAMILIES.values())
    if not name:
        return UserError(
            "model.config",
            say("config.json does not say which family the model is of.", "config.json 没有写明模型所属的系列。"),
            say("It needs a model_type, such as llama.", "需要 model_type，例如 llama。"),
            where="config.json: model_type",
        )
    return UserError(
        "model.family",
        say("Lorimer cannot train models of the family {name}.", "Lorimer 暂不支持训练 {name} 系列的模型。", name=name),
        say("It can train: {known}.", "支持的系列：{known}。", known=known),
        where="config.json: model_type",
    )
