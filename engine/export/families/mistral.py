"""Mistral 7B and Nemo: to llama.cpp a Llama. Its window of attention, which version 0.1 has, llama.cpp leaves out."""

from engine.export.families.declare import ATTENTION, FEED_FORWARD, LLAMA_KEYS, NORMS, Family

MISTRAL = Family(
    architecture="MistralForCausalLM",
    model_type="mistral",
    label="Mistral",
    gguf="llama",
    layer={**NORMS, **ATTENTION, **FEED_FORWARD},
    keys=LLAMA_KEYS,
    paired=True,
    states_prefix=True,
)
