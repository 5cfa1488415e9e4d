"""The adapter alone as a GGUF: llama.cpp's own bytes, its answers, and what it has no place for."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader

from engine.export import gguf_arch
from engine.export.gguf_adapter import adapter_refusal
from engine.export.gguf_adapter_work import export_gguf_adapter, pairs_of, write_adapter
from engine.export.gguf_arch import Architecture
from engine.export.ledger import listed
from engine.merge.delta import Adapter
from engine.merge.weights import BaseWeights
from engine.project.atomic import read_json
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Recorder
from engine.protocol.errors import Stopped, UserError
from engine.protocol.events import STOP, Command, Note, Stage
from tests.bench.record_adapters import described
from tests.made_adapters import CASES, Case, made_adapter

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "adapters.json").read_text(encoding="utf-8"))
ABOUT = {"run": "0001-made", "title": "Made", "model": "made"}


def written(case: Case, folder: Path) -> Path:
    """The file that we write of a made adapter."""
    base_folder, adapter_folder = made_adapter(case, folder)
    base = BaseWeights.open(base_folder)
    adapter = Adapter.open(adapter_folder, base)
    assert adapter_refusal(adapter.config, base.config) is None
    architecture = Architecture.of(base.config)
    path = folder / "ours.gguf"
    write_adapter(path, tuple(pairs_of(adapter, architecture)), architecture, ABOUT)
    return path


@pytest.mark.parametrize("name", CASES)
def test_it_is_what_llama_cpps_own_script_writes(name: str, tmp_path: Path) -> None:
    """Names, shapes, types and bytes of every tensor, and the keys, as tests/bench/record_adapters.py recorded them."""
    ours = described(written(CASES[name], tmp_path))
    del ours["keys"]["lorimer.run"]
    assert ours == RECORDED[name]


def test_the_scale_of_rank_stabilisation_is_kept(tmp_path: Path) -> None:
    reader = GGUFReader(written(Case("LlamaForCausalLM", {"use_rslora": True}), tmp_path))
    alpha = reader.get_field("adapter.lora.alpha")
    assert alpha is not None
    assert alpha.contents() == pytest.approx(6 * math.sqrt(4))
    theirs = RECORDED["LlamaForCausalLM"]["tensors"]
    assert described(tmp_path / "ours.gguf")["tensors"] == theirs


@pytest.mark.parametrize("settings", [{"use_rslora": True}, {"alpha_pattern": {"v_proj": 12}}])
def test_scales_that_differ_between_layers_go_into_the_second_matrix(settings: dict[str, Any], tmp_path: Path) -> None:
    case = Case("LlamaForCausalLM", {"rank_pattern": {"q_proj": 8, "down_proj": 2}, **settings})
    path = written(case, tmp_path)
    reader = GGUFReader(path)
    field = reader.get_field("adapter.lora.alpha")
    assert field is not None
    tensors = {tensor.name: tensor.data for tensor in reader.tensors}
    base = BaseWeights.open(tmp_path / "base")
    adapter = Adapter.open(tmp_path / "adapter", base)
    for part, module in (("attn_v", "self_attn.v_proj"), ("ffn_down", "mlp.down_proj")):
        a, b = (tensors[f"blk.1.{part}.weight.lora_{end}"].astype(np.float64) for end in "ab")
        theirs = field.contents() / b.shape[1] * (b @ a)
        name = f"model.layers.1.{module}.weight"
        ours = (adapter.whole(name) - base.read(name)).numpy()
        assert np.abs(theirs - ours).max() < 1e-5


def test_llama_cpp_with_it_answers_as_base_and_adapter(run: RunFolder, tmp_path: Path) -> None:
    channel = Recorder()
    result = export_gguf_adapter(run, tmp_path / "out" / "adapter.gguf", channel)
    path = Path(result["file"])
    assert result["bytes"] == path.stat().st_size
    assert result["parity"]["passed"] is True
    assert result["parity"]["agreement"] >= 0.995
    assert result["parity"]["greedy_equal"] == 1.0
    assert [entry.name for entry in path.parent.iterdir()] == ["adapter.gguf"]
    assert [event.name for event in channel.events if isinstance(event, Stage)] == ["gguf", "check"]
    assert [(item.kind, item.type, item.passed) for item in listed(run)] == [("gguf-adapter", "F32", True)]


def test_rows_in_another_order_are_noticed(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arranged = gguf_arch.Architecture.arranged

    def only_whole(self: Architecture, name: str, values: Any) -> Any:
        return values if values.shape[-1] == 4 else arranged(self, name, values)

    monkeypatch.setattr(gguf_arch.Architecture, "arranged", only_whole)
    channel = Recorder()
    result = export_gguf_adapter(run, tmp_path / "adapter.gguf", channel)
    assert result["parity"]["passed"] is False
    assert [event.code for event in channel.events if isinstance(event, Note)] == ["export.differs"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"peft_type": "IA3"}, "kind IA3"),
        ({"peft_type": "VERA"}, "kind VERA"),
        ({"use_dora": True}, "DoRA"),
        ({"lora_bias": True}, "biases"),
        ({"modules_to_save": ["lm_head"]}, "trained whole"),
        ({"trainable_token_indices": [3]}, "trained tokens"),
        ({"target_parameters": ["mlp.experts.down_proj"]}, "experts"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa"),
    ],
)
def test_what_llama_cpp_does_not_know_is_refused_in_a_sentence(settings: dict[str, Any], said: str) -> None:
    llama = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    refusal = adapter_refusal({"peft_type": "LORA", **settings}, llama)
    assert refusal is not None
    assert said in refusal.problem.message.en
    assert refusal.problem.message.zh
    assert "whole model as a GGUF" in refusal.problem.hint.en
    assert refusal.exit_code == 2


def test_another_architecture_is_refused() -> None:
    refusal = adapter_refusal({"peft_type": "LORA"}, {"architectures": ["MambaForCausalLM"]})
    assert refusal is not None
    assert "Mamba" in refusal.problem.message.en


@pytest.mark.parametrize(
    "case",
    [
        Case("LlamaForCausalLM", config={"tie_word_embeddings": True}, embeddings=True),
        Case("LlamaForCausalLM", config={"tie_word_embeddings": True}, skip=()),
    ],
    ids=["embeddings", "head"],
)
def test_embeddings_that_are_also_the_output_are_refused(case: Case, tmp_path: Path) -> None:
    """llama.cpp would put one change on both, and ends where their shapes do not fit."""
    with pytest.raises(UserError, match="also the output"):
        written(case, tmp_path)


def test_a_refused_adapter_leaves_nothing(run: RunFolder, tmp_path: Path) -> None:
    config = run.adapter / "adapter_config.json"
    config.write_text(json.dumps({**read_json(config), "modules_to_save": ["lm_head"]}), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        export_gguf_adapter(run, tmp_path / "out" / "adapter.gguf", Recorder())
    assert caught.value.problem.code == "export.adapter_kind"
    assert not (tmp_path / "out").exists()


def test_a_stop_leaves_nothing(run: RunFolder, tmp_path: Path) -> None:
    channel = Recorder()
    channel.pending = [Command(name=STOP)]
    with pytest.raises(Stopped):
        export_gguf_adapter(run, tmp_path / "out" / "adapter.gguf", channel)
    assert list((tmp_path / "out").iterdir()) == []


def test_without_room_for_the_base_it_says_that_nothing_was_checked(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.export import gguf_adapter_work
    from engine.merge import place

    room = place.check_space
    asked: list[int] = []

    def little(out: Path, needed: int) -> None:
        asked.append(needed)
        room(out, needed if len(asked) == 1 else 1 << 62)

    monkeypatch.setattr(gguf_adapter_work, "check_space", little)
    channel = Recorder()
    result = export_gguf_adapter(run, tmp_path / "adapter.gguf", channel)
    assert result["parity"]["passed"] is None
    assert "GiB free" in result["parity"]["reason"]["en"]
    assert [event.code for event in channel.events if isinstance(event, Note)] == ["export.unchecked"]
