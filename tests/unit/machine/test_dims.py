"""Weights counted from config.json alone, against what the models are known to have."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.machine.dims import FAMILIES, ModelDims
from engine.protocol.errors import UserError

# Counted in the published weights (each model's card or safetensors index).
KNOWN = {
    "Llama-3.2-1B-Instruct": 1_235_814_400,
    "Meta-Llama-3.1-8B": 8_030_261_248,
    "Meta-Llama-3.1-70B": 70_553_706_496,
    "Mistral-7B-Instruct-v0.3": 7_248_023_552,
    "Mixtral-8x7B-v0.1": 46_702_792_704,
    "Qwen2-0.5B": 494_032_768,
    "Qwen2.5-7B-Instruct": 7_615_616_512,
    "Qwen2.5-72B-Instruct": 72_706_203_648,
    "Qwen3-0.6B": 596_049_920,
    "Qwen3-8B": 8_190_735_360,
    "SmolLM2-135M": 134_515_008,
    "gemma-2-2b": 2_614_341_888,
}
MINIMAL = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 172,
    "num_hidden_layers": 5,
    "num_attention_heads": 8,
    "vocab_size": 512,
}


@pytest.mark.parametrize(("name", "parameters"), KNOWN.items())
def test_published_models(config_dims: Callable[[str], ModelDims], name: str, parameters: int) -> None:
    assert config_dims(name).parameters() == parameters


def test_a_real_model_file(shared_data: Path) -> None:
    config = json.loads((shared_data / "models" / "stories260K" / "config.json").read_text())
    assert ModelDims.from_config(config).parameters() == 260_032


def test_llama_like_models_of_the_table(shared_data: Path) -> None:
    """Llama-like rows of the table of dimensions: linear layers add up as each row's widths say."""
    with (shared_data / "configs" / "model_dims.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["mlp_class"] == "LLaMAMLP" and row["bias"] == "False"]
    assert len(rows) > 50
    for row in rows:
        width, inner, layers = int(row["n_embd"]), int(row["intermediate"]), int(row["n_layer"])
        heads, kv_heads, head = int(row["n_head"]), int(row["n_kv_head"]), int(row["head_dim"])
        dims = ModelDims.from_config(
            {
                "model_type": "llama",
                "hidden_size": width,
                "intermediate_size": inner,
                "num_hidden_layers": layers,
                "num_attention_heads": heads,
                "num_key_value_heads": kv_heads,
                "head_dim": head,
                "vocab_size": int(row["padded_vocab"]),
            }
        )
        attention = 2 * width * heads * head + 2 * width * kv_heads * head
        assert dims.linear_parameters() == layers * (attention + 3 * width * inner), row["litgpt_name"]


def test_tied_and_untied_embeddings_differ_by_one_matrix() -> None:
    tied = ModelDims.from_config({**MINIMAL, "tie_word_embeddings": True})
    untied = ModelDims.from_config({**MINIMAL, "tie_word_embeddings": False})
    assert untied.parameters() - tied.parameters() == 512 * 64


def test_fewer_key_value_heads_mean_fewer_weights() -> None:
    full = ModelDims.from_config(MINIMAL)
    grouped = ModelDims.from_config({**MINIMAL, "num_key_value_heads": 4})
    assert full.kv_heads == 8
    assert full.parameters() - grouped.parameters() == 5 * 2 * 64 * 32


def test_experts_count_whole_but_work_in_part(config_dims: Callable[[str], ModelDims]) -> None:
    dims = config_dims("Mixtral-8x7B-v0.1")
    assert dims.active_parameters() < dims.parameters() / 3
    assert {shape.name for shape in dims.linear_shapes()} == {"q_proj", "k_proj", "v_proj", "o_proj"}


def test_layers_without_experts_are_counted_apart() -> None:
    config = {**MINIMAL, "model_type": "qwen3_moe", "num_experts": 4, "moe_intermediate_size": 32, "head_dim": 8}
    all_sparse = ModelDims.from_config(config)
    one_dense = ModelDims.from_config({**config, "mlp_only_layers": [0]})
    assert (all_sparse.dense_layers, one_dense.dense_layers) == (0, 1)
    assert one_dense.parameters() - all_sparse.parameters() == 3 * 64 * 172 - 4 * 3 * 64 * 32 - 64 * 4


def test_an_unknown_family_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="t5") as caught:
        ModelDims.from_config({**MINIMAL, "model_type": "t5"})
    assert caught.value.problem.code == "model.family"
    assert all(family.label in caught.value.problem.hint.en for family in FAMILIES.values())


def test_a_config_without_family_says_so() -> None:
    with pytest.raises(UserError, match="which family"):
        ModelDims.from_config({})


def test_all_missing_keys_are_told_at_once() -> None:
    with pytest.raises(UserError) as caught:
        ModelDims.from_config({"model_type": "llama", "hidden_size": -1, "vocab_size": "many"})
    assert {problem.where for problem in caught.value.problems} == {
        f"config.json: {name}"
        for name in (
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "vocab_size",
        )
    }
