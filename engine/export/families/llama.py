"""Llama 2, 3, 3.1, 3.2 and 3.3; SmolLM and all else that transformers runs as a Llama."""

from engine.export.families.declare import ATTENTION, FEED_FORWARD, LLAMA_KEYS, NORMS, Family

LLAMA = Family(
    architecture="LlamaForCausalLM",
    model_type="llama",
    label="Llama, SmolLM",
    gguf="llama",
    layer={**NORMS, **ATTENTION, **FEED_FORWARD},
    keys=LLAMA_KEYS,
    biased=frozenset({*ATTENTION.values(), *FEED_FORWARD.values()}),
    paired=True,
    states_prefix=True,
    ropes=("default", "linear", "yarn", "llama3"),
)
