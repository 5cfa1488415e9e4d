"""Qwen2 and Qwen2.5, Qwen3, and Qwen3 with experts."""

from engine.export.families.declare import (
    ATTENTION,
    FEED_FORWARD,
    HEAD_DIM,
    NORMS,
    QK_NORMS,
    QKV,
    ROPE,
    SIZES,
    U32,
    USED_EXPERTS,
    Config,
    Experts,
    Family,
    Key,
)
from engine.protocol.text import Text, say

QWEN2 = Family(
    architecture="Qwen2ForCausalLM",
    model_type="qwen2",
    label="Qwen2, Qwen2.5",
    gguf="qwen2",
    layer={**NORMS, **ATTENTION, **FEED_FORWARD},
    keys=(*SIZES, *ROPE),
    biased=QKV,
)
QWEN3 = Family(
    architecture="Qwen3ForCausalLM",
    model_type="qwen3",
    label="Qwen3",
    gguf="qwen3",
    layer={**NORMS, **ATTENTION, **QK_NORMS, **FEED_FORWARD},
    keys=(*SIZES, *HEAD_DIM, *ROPE),
    biased=QKV,
)


def _experts_unlike(config: Config) -> Text | None:
    """llama.cpp expects experts in every layer, their weights always made to sum to one."""
    if config.get("mlp_only_layers") or int(config.get("decoder_sparse_step") or 1) != 1:
        return say("some of its layers have no experts", "它有部分层没有专家")
    if not config.get("norm_topk_prob", False):
        return say("it does not make the weights of its experts sum to one", "它没有把专家权重归一化")
    return None


QWEN3_MOE = Family(
    architecture="Qwen3MoeForCausalLM",
    model_type="qwen3_moe",
    label="Qwen3-MoE",
    gguf="qwen3moe",
    layer={**NORMS, **ATTENTION, **QK_NORMS, "mlp.gate": "ffn_gate_inp"},
    keys=(
        *SIZES,
        *HEAD_DIM,
        *ROPE,
        Key("expert_count", U32, "num_local_experts"),
        USED_EXPERTS,
        Key("expert_feed_forward_length", U32, "moe_intermediate_size"),
    ),
    biased=QKV,
    experts=Experts(
        count="num_local_experts",
        module="mlp.experts",
        parts={"gate_proj": "ffn_gate_exps", "up_proj": "ffn_up_exps", "down_proj": "ffn_down_exps"},
    ),
    unfit=_experts_unlike,
)
