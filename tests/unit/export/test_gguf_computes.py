"""llama.cpp computes each family as transformers does: the same next tokens of tiny models, by the whole export."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from peft import LoraConfig

from engine.export.gguf_work import export_gguf
from engine.protocol.channel import Recorder
from tests.unit.export.tiny import TINY, make
from tests.unit.merge.made import hold_out, trained_run

# llama.cpp takes the factors for long texts where the context is opened long, transformers where the text is long: here
# neither is.
_SHARED = TINY["phi-3 long"].changes
LONG = replace(
    TINY["phi-3 long"],
    changes={
        **_SHARED,
        "max_position_embeddings": 4096,
        "original_max_position_embeddings": 2048,
        "rope_parameters": {**_SHARED["rope_parameters"], "original_max_position_embeddings": 2048},
    },
)
PAIRS = (("the cat", "sat on a mat"), ("two red boats", "over there ; and the cat saw"), ("你好", "今天 是 晴天"))


@pytest.mark.parametrize(
    "name", ["mistral", "qwen2", "qwen3", "gemma-2", "gemma-3", "phi-3", "phi-3 long", "qwen3-moe", "mixtral"]
)
def test_same_next_tokens(tmp_path: Path, name: str) -> None:
    base = make(tmp_path / "base", LONG if name == "phi-3 long" else TINY[name])
    for path in ("adapter_config.json", "adapter_model.safetensors"):
        (base / path).unlink()
    modules = ["qkv_proj", "o_proj"] if name.startswith("phi") else ["q_proj", "k_proj", "o_proj"]
    run = trained_run(tmp_path / "run", base, LoraConfig(r=2, target_modules=modules, task_type="CAUSAL_LM"), size=0.1)
    hold_out(run, PAIRS)
    parity = export_gguf(run, tmp_path / "model.gguf", "F32", Recorder())["parity"]
    assert parity["passed"] is True, json.dumps(parity, ensure_ascii=False)
    assert parity["tokens"] >= 10
