"""Every feature of the Llama family arrives in llama.cpp: the same next tokens as in transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from engine.export.families.declare import rope
from engine.export.gguf_arch import ROPE_FREQS, Architecture, permuted
from engine.export.gguf_work import export_gguf
from engine.export.targets import gguf_refusal
from engine.project.atomic import read_json
from engine.protocol.channel import Recorder
from engine.protocol.errors import UserError
from tests.unit.merge.made import hold_out, ia3, lora, random_llama, trained_run

LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
PAIRS = (
    ("What is blue?", "The sky is blue, and so is the sea."),
    ("你好，今天天气怎么样？", "你好，今天是晴天。"),
    ("Count to 9.", "1 2 3 4 5 6 7 8 9"),
)


@pytest.mark.parametrize(
    ("changes", "config"),
    [
        ({}, lora()),
        ({"num_key_value_heads": 4, "tie_word_embeddings": True}, ia3()),
        ({"head_dim": 32}, lora()),
        ({"attention_bias": True, "mlp_bias": True}, ia3()),
        ({"rope_parameters": LLAMA3}, lora()),
        ({"rope_parameters": {"rope_type": "linear", "rope_theta": 5000.0, "factor": 2.0}}, lora()),
        ({"rms_norm_eps": 1e-2}, lora()),
    ],
    ids=["grouped", "tied ia3", "head_dim", "biases ia3", "llama3 rope", "linear rope", "eps"],
)
def test_same_next_tokens(repository: Path, tmp_path: Path, changes: dict[str, Any], config: Any) -> None:
    base = random_llama(tmp_path / "base", repository / "resources" / "starter", **changes)
    run = trained_run(tmp_path / "run", base, config, stops=(3,))
    hold_out(run, PAIRS)
    channel = Recorder()
    parity = export_gguf(run, tmp_path / "model.gguf", "f16", channel)["parity"]
    assert parity["passed"] is True, json.dumps(parity)
    assert parity["tokens"] > 20
    tensors = {tensor.name: tensor for tensor in GGUFReader(tmp_path / "model.gguf").tensors}
    assert ("output.weight" in tensors) is not bool(changes.get("tie_word_embeddings"))
    assert ("rope_freqs.weight" in tensors) is (changes.get("rope_parameters") is LLAMA3)
    assert ("blk.1.ffn_up.bias" in tensors) is bool(changes.get("mlp_bias"))


def test_the_order_of_rows_is_that_of_interleaved_rope() -> None:
    rows = np.arange(8, dtype=np.float32).reshape(8, 1)
    assert permuted(rows, 2).reshape(-1).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert permuted(rows.reshape(-1), 2).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_rope_factors_are_those_of_transformers() -> None:
    config = LlamaConfig(hidden_size=256, num_attention_heads=4, max_position_embeddings=512, rope_parameters=LLAMA3)
    llama = Architecture.of({**config.to_dict(), "architectures": ["LlamaForCausalLM"]})
    factors = llama.extra()[ROPE_FREQS]
    plain = 1.0 / 10000.0 ** (torch.arange(0, 64, 2).double() / 64)
    scaled = LlamaRotaryEmbedding(config).inv_freq.double()
    assert np.allclose(factors, (plain / scaled).numpy(), rtol=1e-5)
    assert factors.min() == 1.0
    assert factors.max() == 8.0


def test_older_configurations_are_read_too() -> None:
    older = {"rope_theta": 500000.0, "rope_scaling": {"type": "linear", "factor": 4.0}}
    assert rope(older) == {"rope_type": "linear", "type": "linear", "factor": 4.0, "rope_theta": 500000.0}
    assert rope({}) == {"rope_type": "default", "rope_theta": 10000.0}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"architectures": ["FalconForCausalLM"]}, "FalconForCausalLM"),
        ({"architectures": None, "model_type": "gpt2"}, "gpt2"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}, "rope_parameters": None}, "dynamic"),
    ],
)
def test_what_gguf_cannot_hold_is_refused_by_name(repository: Path, changes: dict[str, Any], word: str) -> None:
    config = read_json(repository / "resources" / "starter" / "config.json")
    assert gguf_refusal(config) is None
    with pytest.raises(UserError) as caught:
        Architecture.of({**config, **changes})
    assert caught.value.problem.code == "export.architecture"
    assert word in caught.value.problem.message.en
    assert word in caught.value.problem.message.zh


def test_an_unknown_tensor_is_not_dropped(repository: Path) -> None:
    llama = Architecture.of(read_json(repository / "resources" / "starter" / "config.json"))
    assert llama.name("model.layers.0.self_attn.rotary_emb.inv_freq") is None
    assert llama.name("lm_head.weight") is None
    for name in ("model.layers.0.self_attn.q_norm.weight", "vision.weight", "model.layers.0.mlp.gate_proj.scale"):
        with pytest.raises(KeyError):
            llama.name(name)
