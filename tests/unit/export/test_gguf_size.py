"""How large a GGUF becomes, told before it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from engine.export.families.registry import FAMILIES
from engine.export.gguf_arch import Architecture
from engine.export.gguf_size import bits_per_weight, estimated_gguf_bytes, filled, shapes
from engine.export.gguf_write import plan, write
from engine.export.targets import QUANTISATIONS, quantisation
from engine.merge.delta import Adapter
from engine.merge.prompts import Trained
from engine.merge.weights import BaseWeights
from engine.project.atomic import read_json
from engine.project.run_folder import RunFolder
from tests.unit.merge.made import lora, trained_run

# Meta's Llama 3.1 8B, and a model of each family by its sizes.
LLAMA_8B: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072,
    "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}  # fmt: skip


def test_bits_are_those_that_llama_cpp_publishes() -> None:
    """The table of Llama 3.1 8B in the README of llama.cpp's quantize."""
    published = {"Q2_K": 3.1593, "Q3_K_M": 3.9960, "IQ4_XS": 4.4597, "Q4_K_M": 4.8944, "Q5_K_M": 5.7036, "Q6_K": 6.5633}
    for name, bits in published.items():
        assert bits_per_weight(LLAMA_8B, name) == pytest.approx(bits, abs=1e-4)
    for name, kind in QUANTISATIONS.items():
        assert kind.bits == pytest.approx(bits_per_weight(LLAMA_8B, name), abs=0.005)


def test_a_file_of_the_8b_model_has_the_size_that_is_known() -> None:
    # Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf, as many offer it: 4.92 GB.
    assert estimated_gguf_bytes(LLAMA_8B, "Q4_K_M") == pytest.approx(4.92e9, rel=0.003)


def test_what_is_not_known_is_not_guessed() -> None:
    assert estimated_gguf_bytes({}, "Q4_K_M") is None
    assert estimated_gguf_bytes({"architectures": ["MambaForCausalLM"], "hidden_size": 8}, "Q4_K_M") is None
    assert estimated_gguf_bytes({**LLAMA_8B, "hidden_size": "wide"}, "Q4_K_M") is None
    assert estimated_gguf_bytes({**LLAMA_8B, "num_attention_heads": 0}, "Q4_K_M") is None


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("tied", [None, False, True])
def test_shapes_are_those_of_the_models_of_transformers(name: str, tied: bool | None) -> None:
    family = FAMILIES[name]
    if tied is False and not family.own_output:
        return  # llama.cpp holds no such model
    sizes = {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 100, "num_local_experts": 4,
        "num_experts": 4, "num_experts_per_tok": 2, "query_pre_attn_scalar": 256, "norm_topk_prob": True,
        "pad_token_id": 0,
    }  # fmt: skip
    written = {**sizes, "architectures": [name]} | ({} if tied is None else {"tie_word_embeddings": tied})
    if family.model_type == "qwen3_moe":
        written["moe_intermediate_size"] = 32
    config = CONFIG_MAPPING[family.model_type](**written)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    known = Architecture(family, config.to_dict())
    theirs: dict[str, tuple[int, ...]] = {}
    for stored, tensor in model.state_dict().items():
        for place in known.places(stored):
            shape = list(tensor.shape)
            shape[-2 if place.parts > 1 else 0] //= place.parts
            theirs[place.name] = (known.experts, *shape) if place.expert is not None else tuple(shape)
    assert dict(shapes(filled(written, family), family)) == theirs


@pytest.fixture(scope="module")
def starter_run(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run on the starter model."""
    return trained_run(tmp_path_factory.mktemp("starter") / "run", starter, lora())


@pytest.mark.parametrize("name", ["Q2_K", "Q4_0", "Q4_K_M", "Q8_0", "BF16", "F32"])
def test_the_forecast_is_near_the_file(starter_run: RunFolder, tmp_path: Path, name: str) -> None:
    base = BaseWeights.open(starter_run.trained_on())
    adapter = Adapter.open(starter_run.adapter, base)
    trained, kind, path = Trained.load(starter_run.adapter), quantisation(name), tmp_path / "model.gguf"
    planned = plan(base, adapter, trained, kind)
    about = {"run": "0001-made", "title": "Made", "model": "starter"}
    write(path, planned, base, adapter, trained, kind, about, lambda done, total: None)
    forecast = estimated_gguf_bytes(read_json(base.folder / "config.json"), name)
    assert forecast == pytest.approx(path.stat().st_size, rel=0.01)
