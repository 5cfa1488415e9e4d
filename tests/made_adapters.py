"""Small LoRA adapters of every family, the same on every machine: what tests/bench/record_adapters.py gave llama.cpp's
own script, and what the tests give ours."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from engine.export.families.registry import FAMILIES
from engine.project.atomic import write_json

SIZES: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 100, "head_dim": 16, "query_pre_attn_scalar": 16, "num_local_experts": 4,
    "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": True,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """One adapter.

    Attributes:
        architecture: transformers' class.
        settings: of ``adapter_config.json``.
        config: of ``config.json``.
        skip: modules that are not adapted.
        embeddings: the token embedding is.
    """

    architecture: str
    settings: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    skip: tuple[str, ...] = ("lm_head",)
    embeddings: bool = False


CASES: dict[str, Case] = {
    **{name: Case(name) for name in FAMILIES},
    "tied": Case("LlamaForCausalLM", config={"tie_word_embeddings": True}),
    "without shared heads": Case("LlamaForCausalLM", config={"num_key_value_heads": 4}),
    "head and embeddings": Case("LlamaForCausalLM", skip=(), embeddings=True),
    "ranks that differ": Case("LlamaForCausalLM", {"rank_pattern": {"q_proj": 8, "down_proj": 2}}),
}


def made_adapter(case: Case, folder: Path) -> tuple[Path, Path]:
    """Folders of a random base model and of an adapter for it, both in the formats of transformers and PEFT."""
    family = FAMILIES[case.architecture]
    config = CONFIG_MAPPING[family.model_type](**{**SIZES, **case.config}, architectures=[case.architecture])
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    base, adapter = folder / "base", folder / "adapter"
    model.save_pretrained(base)
    adapter.mkdir(parents=True)
    settings = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "", "r": 4, "lora_alpha": 6,
        "lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": False, **case.settings,
    }  # fmt: skip
    write_json(adapter / "adapter_config.json", settings)
    save_file(_matrices(case, model, settings), adapter / "adapter_model.safetensors")
    return base, adapter


def _matrices(case: Case, model: PreTrainedModel, settings: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    numbers = np.random.default_rng(0)
    found: dict[str, np.ndarray[Any, Any]] = {}
    for name, module in model.named_modules():
        rank = next((r for end, r in settings.get("rank_pattern", {}).items() if name.endswith(end)), settings["r"])
        if isinstance(module, nn.Linear) and not name.endswith(case.skip or "\0"):
            shapes = {"lora_A.weight": (rank, module.in_features), "lora_B.weight": (module.out_features, rank)}
        elif isinstance(module, nn.Embedding) and case.embeddings:
            shapes = {
                "lora_embedding_A": (rank, module.num_embeddings),
                "lora_embedding_B": (module.embedding_dim, rank),
            }
        else:
            continue
        for part, shape in shapes.items():
            found[f"base_model.model.{name}.{part}"] = numbers.standard_normal(shape, dtype=np.float32)
    return found
