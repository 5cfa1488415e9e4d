"""The adapter as a folder of its own: complete, described, loadable."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM

from engine.export.adapter_work import export_adapter
from engine.export.ledger import Export, listed, remember
from engine.export.parity import Parity
from engine.export.targets import GGUF, TARGETS, estimated_bytes
from engine.project.atomic import read_json, write_json
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Recorder
from engine.protocol.errors import UserError


def test_the_folder_loads_with_peft(run: RunFolder, tmp_path: Path) -> None:
    result = export_adapter(run, tmp_path / "out", Recorder())
    parity = Parity.of(result["parity"])
    assert (parity.passed, parity.type, parity.agreement, parity.greedy_equal) == (True, "adapter", 1.0, 1.0)
    assert parity.perplexity_change == 0.0
    assert "peft" in parity.runtime
    assert {"README.md", "adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= set(result["files"])
    assert result["bytes"] == sum(path.stat().st_size for path in Path(result["folder"]).iterdir())
    with pytest.warns(FutureWarning, match="deprecated"):
        model = AutoPeftModelForCausalLM.from_pretrained(result["folder"], dtype=torch.float32)
    assert model(torch.tensor([[1, 403]])).logits.shape == (1, 2, 512)
    assert listed(run)[0].file == result["folder"]


def test_a_damaged_adapter_is_not_exported(run: RunFolder, tmp_path: Path) -> None:
    (run.adapter / "adapter_model.safetensors").write_bytes(b"half")
    with pytest.raises(UserError) as caught:
        export_adapter(run, tmp_path / "out", Recorder())
    assert caught.value.problem.code == "adapter.damaged"
    shutil.rmtree(run.adapter)
    with pytest.raises(UserError, match="has no adapter yet"):
        export_adapter(run, tmp_path / "out", Recorder())
    assert not (tmp_path / "out").exists()


def test_the_list_keeps_one_entry_per_place(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert listed(run) == ()
    remember(run, Export("gguf", "F16", str(tmp_path / "a.gguf"), 10, 1.0, {"passed": True}))
    remember(
        run,
        Export("gguf", "Q8_0", str(tmp_path / "b.gguf"), 5, 2.0, {"passed": None, "reason": {"en": "r", "zh": "因"}}),
    )
    remember(run, Export("gguf", "Q4_K_M", str(tmp_path / "a.gguf"), 3, 3.0, {"passed": False}))
    assert [(export.type, export.passed) for export in listed(run)] == [("Q4_K_M", False), ("Q8_0", None)]
    assert listed(run)[1].parity["reason"] == {"en": "r", "zh": "因"}
    assert not listed(run)[0].is_there
    (tmp_path / "a.gguf").write_bytes(b"x")
    assert listed(run)[0].is_there


def test_a_newer_list_is_read(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    entry = {"kind": "gguf", "type": "F16", "file": "x", "bytes": 1, "time": 1.0, "parity": {}, "colour": "blue"}
    write_json(run.path / "exports.json", [entry])
    assert listed(run)[0].type == "F16"


def test_sizes_are_forecast() -> None:
    assert estimated_bytes(7_000_000_000, 16) == 14_000_000_000
    assert TARGETS["gguf"] is GGUF
    assert all(target.label.zh and target.summary.zh for target in TARGETS.values())


@pytest.mark.parametrize(
    ("model", "named"), [("meta-llama/Llama-3.2-1B", True), ("starter", False), ("/models/mine", False)]
)
def test_a_base_of_the_hub_is_named_as_there(run: RunFolder, tmp_path: Path, model: str, named: bool) -> None:
    run.write_facts({**run.read_facts(), "model": model})
    out = Path(export_adapter(run, tmp_path / "out", Recorder())["folder"])
    before = read_json(run.adapter / "adapter_config.json")["base_model_name_or_path"]
    assert read_json(out / "adapter_config.json")["base_model_name_or_path"] == (model if named else before)
