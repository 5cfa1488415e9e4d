"""Which adapters llama.cpp can put on a base model by itself. Light: settings are read, no weights.

Source: llama.cpp, ``src/llama-adapter.cpp``: two matrices for each weight, one alpha for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.export.targets import gguf_refusal
from engine.protocol.errors import UserError
from engine.protocol.text import Text, say

# A setting of ``adapter_config.json`` that adds what a LoRA in a GGUF has no place for.
_BESIDE: dict[str, Text] = {
    "use_dora": say("the magnitudes of DoRA", "DoRA 的幅度向量"),
    "lora_bias": say("trained biases", "训练过的偏置"),
    "modules_to_save": say("layers that were trained whole", "整体训练的层"),
    "trainable_token_indices": say("trained tokens", "训练过的词元"),
    "target_parameters": say("matrices of stacked experts", "堆叠专家的矩阵"),
    "use_qalora": say("the groups of QA-LoRA", "QA-LoRA 的分组"),
}
# Beginnings that change the base's weights: the matrices alone are then not what was learned.
_CHANGES_BASE = ("pissa", "olora", "corda", "lora_ga", "loftq")


def adapter_refusal(adapter: Mapping[str, Any], base: Mapping[str, Any]) -> UserError | None:
    """Why an adapter cannot be taken away as a GGUF of its own; None when it can.

    Args:
        adapter: ``adapter_config.json``.
        base: the base model's ``config.json``.
    """
    architecture = gguf_refusal(base)
    if architecture is not None:
        return architecture
    kind = str(adapter.get("peft_type") or "?")
    if kind != "LORA":
        return refused(say("an adapter of the kind {kind}", "{kind} 类型的适配器", kind=kind), "peft_type")
    for setting, what in _BESIDE.items():
        if adapter.get(setting):
            return refused(what, setting)
    begun = str(adapter.get("init_lora_weights", "")).lower()
    if begun.startswith(_CHANGES_BASE):
        what = say("an adapter that began as {name}, which changes the base", "以 {name} 初始化的适配器", name=begun)
        return refused(what, "init_lora_weights")
    return None


def refused(what: Text, where: str) -> UserError:
    """What is said of an adapter that llama.cpp would not understand."""
    return UserError(
        "export.adapter_kind",
        say(
            "llama.cpp has no place for {what} beside a base model.",
            "llama.cpp 无法在基础模型之外加载{what}。",
            what=what,
        ),
        say("Export the whole model as a GGUF instead.", "请改为把整个模型导出为 GGUF。"),
        where=where,
    )
