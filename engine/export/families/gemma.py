"""Gemma 2, and Gemma 3 as a model of text."""

from engine.export.families.declare import (
    ATTENTION,
    F32,
    FEED_FORWARD,
    HEAD_DIM,
    QK_NORMS,
    ROPE,
    SIZES,
    U32,
    Config,
    Family,
    Key,
    every_layer,
    head_dim,
)
from engine.protocol.text import Text, say

_NORMS = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_GELU = ("gelu_pytorch_tanh", "gelu_fast", "gelu_new")


def _unlike(config: Config, *, pattern: int, largest: int) -> Text | None:
    """llama.cpp knows the scale of attention by the number of layers: the largest model (27B) has one of its own.

    Source: ``src/models/gemma2.cpp`` and ``gemma3.cpp``.
    """
    width = head_dim({"head_dim": 256, **config})
    if config.get("num_hidden_layers") == largest:
        width = int(config["hidden_size"]) // int(config["num_attention_heads"])
    scale = config.get("query_pre_attn_scalar", 256)
    if scale != width:
        return say(
            "it scales attention by {scale} where llama.cpp takes {width}",
            "其注意力缩放为 {scale}，而 llama.cpp 使用 {width}",
            scale=scale,
            width=width,
        )
    if config.get("use_bidirectional_attention"):
        return say("it attends in both directions", "它使用双向注意力")
    return every_layer(config, pattern)


GEMMA2 = Family(
    architecture="Gemma2ForCausalLM",
    model_type="gemma2",
    label="Gemma 2",
    gguf="gemma2",
    layer={**_NORMS, **ATTENTION, **FEED_FORWARD},
    keys=(
        *SIZES,
        *HEAD_DIM,
        Key("attn_logit_softcapping", F32, "attn_logit_softcapping"),
        Key("final_logit_softcapping", F32, "final_logit_softcapping"),
        Key("attention.sliding_window", U32, "sliding_window"),
    ),
    norm_shift=1.0,
    own_output=False,
    ropes=("default",),
    activations=_GELU,
    unfit=lambda config: _unlike(config, pattern=2, largest=46),
)
GEMMA3 = Family(
    architecture="Gemma3ForCausalLM",
    model_type="gemma3_text",
    label="Gemma 3",
    gguf="gemma3",
    layer={**_NORMS, **ATTENTION, **QK_NORMS, **FEED_FORWARD},
    keys=(
        *SIZES,
        *HEAD_DIM,
        *ROPE,
        Key("final_logit_softcapping", F32, "final_logit_softcapping"),
        Key("attention.sliding_window", U32, "sliding_window"),
    ),
    norm_shift=1.0,
    ropes=("default", "linear"),
    activations=_GELU,
    unfit=lambda config: _unlike(config, pattern=6, largest=62),
)
