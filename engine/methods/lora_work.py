"""LoRA beside a loaded model's linear layers; the same for 16-bit and 4-bit base weights."""

from __future__ import annotations

from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from engine.methods.lora import TARGETS, LoraSettings


def build(model: PreTrainedModel, settings: LoraSettings) -> PeftModel:
    """The model with a fresh adapter: A random from torch's generator, B zero, both in fp32 whatever the base's format.

    The adapter's output is scaled by alpha/√rank with rank stabilisation (Kalajdzievski 2023), by alpha/rank without.
    """
    adapter = get_peft_model(
        model,
        LoraConfig(
            task_type=TaskType.CAUSAL_LM,
            r=settings.rank,
            lora_alpha=settings.alpha,  # type: ignore[arg-type]
            use_rslora=settings.rank_stabilised,
            lora_dropout=settings.dropout,
            target_modules=targets(model, settings),
            bias="none",
        ),
    )
    assert isinstance(adapter, PeftModel)
    return adapter


def targets(model: nn.Module, settings: LoraSettings) -> list[str] | str:
    """Names of the layers to train, or "all-linear" for a model that names its layers otherwise.

    A model with a fused projection (``qkv_proj``, ``c_attn``) lacks some of the usual names; training only those that
    happen to match would leave its attention out, so then all its linear layers are trained except the output head.
    A mixture of experts keeps each layer's experts in one tensor. peft adapts that by adding up whole weights, at the
    price of a copy of every expert and without dropout, so its attention alone is trained.
    """
    wanted = TARGETS[settings.targets]
    found = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    config = getattr(model, "config", None)
    if getattr(config, "num_local_experts", 0) or getattr(config, "num_experts", 0):
        return [name for name in wanted if name in TARGETS["attention"]]
    return list(wanted) if found.issuperset(wanted) else "all-linear"
