"""Every family's GGUF is what llama.cpp's own converter makes of the same model, bit for bit, by recorded hashes."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.export.families.registry import FAMILIES, gguf_refusal
from engine.export.gguf_arch import Architecture
from engine.export.gguf_write import plan
from engine.export.targets import quantisation
from engine.merge.delta import Adapter
from engine.merge.prompts import Trained
from engine.merge.weights import BaseWeights
from engine.project.atomic import read_json, write_json
from engine.protocol.errors import UserError
from tests.unit.export.tiny import SAME, TINY, contents, make, ours, recorded

TYPES = ("F32", "F16", "BF16", "Q8_0")
RECORD: dict[str, Any] = json.loads(Path(__file__).with_name("gguf_families.json").read_text(encoding="utf-8"))
LAYER, ONE = "model.layers.1.", torch.ones(96, 64)
# Of the processor's own power function; its last bit may differ. `test_gguf_arch` checks it by value.
BY_VALUE = "rope_freqs.weight"


@pytest.mark.parametrize("name", TINY)
def test_the_file_is_the_converters(tmp_path: Path, name: str) -> None:
    model = make(tmp_path / "model", TINY[name])
    found = recorded({kind: ours(model, kind, tmp_path / f"{kind}.gguf") for kind in TYPES})
    expected = RECORD[SAME.get(name, name)]
    assert found["keys"] == expected["keys"]
    assert found["tensors"].keys() == expected["tensors"].keys()
    different = {tensor for tensor, value in found["tensors"].items() if value != expected["tensors"][tensor]}
    assert different <= {BY_VALUE}


def test_every_family_is_recorded() -> None:
    assert {FAMILIES[name].model_type for name in FAMILIES} == {tiny.model_type for tiny in TINY.values()}
    assert RECORD.keys() == TINY.keys() - SAME.keys()


def test_a_change_of_one_weight_is_seen(tmp_path: Path) -> None:
    model = make(tmp_path / "model", TINY["qwen3"])
    before = contents(ours(model, "F16", tmp_path / "before.gguf"))
    weights = load_file(model / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] += 0.5
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    after = contents(ours(model, "F16", tmp_path / "after.gguf"))
    assert {name for name in before.tensors if before.tensors[name] != after.tensors[name]} == {"blk.1.ffn_up.weight"}


# --------------------------------------------------------------------------------------------- odd and damaged models
def changed(model: Path, change: Any) -> None:
    """Rewrite a model's weights."""
    weights = load_file(model / "model.safetensors")
    change(weights)
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})


def refused(model: Path, out: Path) -> UserError:
    """What is said instead of a file."""
    with pytest.raises(UserError) as caught:
        ours(model, "F16", out)
    assert caught.value.problem.message.zh != caught.value.problem.message.en
    assert caught.value.problem.hint.en
    return caught.value


@pytest.mark.parametrize(
    ("family", "change", "code", "word"),
    [
        ("qwen3", lambda w: w.pop(f"{LAYER}self_attn.q_norm.weight"), "export.missing_tensor", "blk.1.attn_q_norm"),
        ("llama-2", lambda w: w.pop("lm_head.weight"), "export.missing_tensor", "output.weight"),
        ("mixtral", lambda w: w.pop(f"{LAYER}block_sparse_moe.experts.2.w1.weight"), "export.missing_tensor", "_exps"),
        ("llama-3", lambda w: w.update({f"{LAYER}self_attn.q_norm.weight": torch.ones(16)}), "export.tensor", "q_norm"),
        ("mistral", lambda w: w.update({f"{LAYER}mlp.up_proj.bias": torch.ones(96)}), "export.tensor", "up_proj.bias"),
        ("qwen2", lambda w: w.update({"model.layers.9.mlp.up_proj.weight": ONE}), "export.tensor", "layers.9"),
        ("qwen3", lambda w: w[f"{LAYER}mlp.up_proj.weight"].fill_(math.nan), "export.not_a_number", "ffn_up"),
        ("llama-2", lambda w: w["model.norm.weight"].fill_(math.inf), "export.not_a_number", "output_norm"),
    ],
    ids=["no norm", "no head", "an expert short", "a norm too many", "a bias", "a layer", "nan", "infinite"],
)  # fmt: skip
def test_odd_weights_are_told(tmp_path: Path, family: str, change: Any, code: str, word: str) -> None:
    model = make(tmp_path / "model", TINY[family])
    changed(model, change)
    error = refused(model, tmp_path / "out.gguf")
    assert error.problem.code == code
    assert word in f"{error.problem.message.en} {error.problem.where}"


def test_a_large_value_is_no_matter_of_not_a_number(tmp_path: Path) -> None:
    model = make(tmp_path / "model", TINY["qwen3"])
    changed(model, lambda w: w["model.layers.1.mlp.up_proj.weight"].fill_(1e30))
    assert refused(model, tmp_path / "out.gguf").problem.code == "export.range"
    assert contents(ours(model, "BF16", tmp_path / "out.gguf")).tensors


def test_a_tokenizer_larger_than_the_model_is_told(tmp_path: Path) -> None:
    model = make(tmp_path / "model", TINY["llama-3"])
    changed(
        model,
        lambda w: w.update({name: w[name][:200].clone() for name in ("model.embed_tokens.weight", "lm_head.weight")}),
    )
    error = refused(model, tmp_path / "out.gguf")
    assert error.problem.code == "export.vocabulary"
    assert "200" in error.problem.message.en


@pytest.mark.parametrize(
    ("family", "changes", "word"),
    [
        ("qwen3-moe", {"norm_topk_prob": False}, "sum to one"),
        ("qwen3-moe", {"mlp_only_layers": [1]}, "no experts"),
        ("gemma-2", {"query_pre_attn_scalar": 144}, "144"),
        ("gemma-3", {"layer_types": ["full_attention"] * 7}, "layer 0"),
        ("gemma-3", {"use_bidirectional_attention": True}, "both directions"),
        ("llama-2", {"hidden_act": "gelu"}, "gelu"),
        ("qwen2", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "dynamic"),
        ("mistral", {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, "factor": 2.0}}, "llama3"),
        ("llama-2", {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "part of each head"),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(
    tmp_path: Path, family: str, changes: dict[str, Any], word: str
) -> None:
    model = make(tmp_path / "model", TINY[family])
    config = read_json(model / "config.json")
    assert gguf_refusal(config) is None
    write_json(model / "config.json", {**config, **changes})
    error = refused(model, tmp_path / "out.gguf")
    assert error.problem.code == "export.architecture"
    assert word in error.problem.message.en


def test_other_architectures_are_pointed_to_llama_cpps_converter() -> None:
    error = gguf_refusal({"architectures": ["FalconForCausalLM"]})
    assert error is not None
    assert "FalconForCausalLM" in error.problem.message.en
    assert "--llama-cpp" in error.problem.hint.en
    for family in FAMILIES.values():
        assert family.label in error.problem.message.en


@pytest.mark.parametrize(
    "config",
    [
        {"architectures": ["LlamaForCausalLM"], "rope_parameters": ["?"]},
        {"architectures": ["LlamaForCausalLM"], "hidden_size": "wide", "vocab_size": 8},
        {"architectures": ["Qwen3MoeForCausalLM"], "decoder_sparse_step": "x", "norm_topk_prob": True},
        {"architectures": ["Gemma2ForCausalLM"], "layer_types": 5},
        {"architectures": "Llama"},
        {"architectures": [{}]},
        {"architectures": ["Phi3ForCausalLM"], "rope_scaling": {"type": "longrope", "long_factor": "1"}},
    ],
)
def test_a_strange_configuration_is_an_error_and_no_crash(config: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        Architecture.of(config).extra()


def test_both_layouts_at_once_are_refused(tmp_path: Path) -> None:
    model = make(tmp_path / "model", TINY["mixtral"])
    fused = make(tmp_path / "fused", TINY["mixtral fused"])
    more = {name: value for name, value in load_file(fused / "model.safetensors").items() if ".mlp.experts." in name}
    changed(model, lambda w: w.update(more))
    assert refused(model, tmp_path / "out.gguf").problem.code == "export.missing_tensor"


def test_nothing_is_written_before_all_is_known(tmp_path: Path) -> None:
    model = make(tmp_path / "model", TINY["phi-3"])
    shutil.copyfile(model / "tokenizer.json", tmp_path / "kept.json")
    tokenizer = read_json(model / "tokenizer.json")
    write_json(model / "tokenizer.json", {**tokenizer, "normalizer": {"type": "Lowercase"}})
    base = BaseWeights.open(model)
    with pytest.raises(UserError, match="Lowercase"):
        plan(base, Adapter.open(model, base), Trained.load(model), quantisation("F16"))
    refused(model, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()
