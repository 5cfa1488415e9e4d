"""Mixtral: a Mistral with experts."""

from engine.export.families.declare import ATTENTION, LLAMA_KEYS, NORMS, U32, USED_EXPERTS, Experts, Family, Key

MIXTRAL = Family(
    architecture="MixtralForCausalLM",
    model_type="mixtral",
    label="Mixtral",
    gguf="llama",
    layer={**NORMS, **ATTENTION, "block_sparse_moe.gate": "ffn_gate_inp", "mlp.gate": "ffn_gate_inp"},
    keys=(*LLAMA_KEYS, Key("expert_count", U32, "num_local_experts"), USED_EXPERTS),
    paired=True,
    states_prefix=True,
    experts=Experts(
        count="num_local_experts",
        module="block_sparse_moe.experts",
        parts={"w1": "ffn_gate_exps", "w3": "ffn_up_exps", "w2": "ffn_down_exps"},
    ),
)
