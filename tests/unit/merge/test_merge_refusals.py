"""What cannot be merged is refused by name; what merging needs is said before."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.merge.delta import CONFIG, WEIGHTS, Adapter
from engine.merge.layout import Layout, Slot
from engine.merge.mapped import BrokenWeights, Mapped
from engine.merge.shards import check_memory, memory_needed, write_weights
from engine.merge.weights import BaseWeights
from engine.project.atomic import write_json
from engine.protocol.errors import Stopped, UserError

LORA: dict[str, Any] = {
    "peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "qalora_group_size": 16,
    "megatron_core": "megatron.core", "use_qalora": False, "layer_replication": None, "rank_pattern": {},
}  # fmt: skip
Q = "model.layers.0.self_attn.q_proj"
EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    torch.manual_seed(0)
    weights = {EMBEDDINGS: torch.randn(10, 4), HEAD: torch.randn(10, 4), f"{Q}.weight": torch.randn(4, 4)}
    save_file({name: value.bfloat16() for name, value in weights.items()}, folder / "model.safetensors")
    write_json(folder / "config.json", {"model_type": "llama", "vocab_size": 10})
    return folder


def adapter(folder: Path, config: dict[str, Any], weights: dict[str, torch.Tensor] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    write_json(folder / CONFIG, {**LORA, **config})
    parts = weights if weights is not None else lora(Q)
    save_file({f"base_model.model.{name}": value for name, value in parts.items()}, folder / WEIGHTS)
    return folder


def lora(module: str, size: int = 4) -> dict[str, torch.Tensor]:
    return {f"{module}.lora_A.weight": torch.ones(2, size), f"{module}.lora_B.weight": torch.ones(size, 2)}


def tokens(count: int) -> dict[str, torch.Tensor]:
    return {"model.embed_tokens.token_adapter.trainable_tokens_delta": torch.ones(count, 4)}


def refusal(folder: Path, base: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        Adapter.open(folder, BaseWeights.open(base))
    assert caught.value.problem.message.zh
    assert caught.value.problem.where
    return caught.value


@pytest.mark.parametrize(
    "config",
    [
        {"use_qalora": True},
        {"megatron_config": {"tensor_model_parallel_size": 2}},
        {"alora_invocation_tokens": [5]},
        {"layer_replication": [[0, 1], [0, 1]]},
        {"arrow_config": {"top_k": 2}},
        {"kasa_config": {"beta": 1}},
        {"something_of_next_year": 0.5},
    ],
    ids=lambda config: next(iter(config)),
)
def test_a_setting_that_is_not_known_is_refused_by_its_name(tmp_path: Path, base: Path, config: dict[str, Any]) -> None:
    error = refusal(adapter(tmp_path / "a", config), base)
    assert error.problem.code == "adapter.kind"
    assert next(iter(config)) in error.problem.message.en
    assert "Export the adapter itself" in error.problem.hint.en


@pytest.mark.parametrize("kind", ["PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING", "XLORA", "BOFT", "HRA", ""])
def test_another_kind_is_refused_by_its_name(tmp_path: Path, base: Path, kind: str) -> None:
    error = refusal(adapter(tmp_path / "a", {"peft_type": kind}), base)
    assert error.problem.code == "adapter.kind"
    assert (kind or "?") in error.problem.message.en


def test_a_setting_of_another_type_is_refused(tmp_path: Path, base: Path) -> None:
    wrong: list[dict[str, Any]] = [{"rank_pattern": [1]}, {"target_parameters": 3}, {"trainable_token_indices": "all"}]
    for number, config in enumerate(wrong):
        error = refusal(adapter(tmp_path / str(number), config), base)
        assert next(iter(config)) in error.problem.message.en
    write_json(tmp_path / "0" / CONFIG, ["no settings"])
    assert refusal(tmp_path / "0", base).problem.code in ("adapter.kind", "file.damaged")


@pytest.mark.parametrize("first", ["loftq", "pissa_niter_16", "corda", "lora_ga"])
def test_a_base_that_was_changed_before_training_is_refused(tmp_path: Path, base: Path, first: str) -> None:
    error = refusal(adapter(tmp_path / "a", {"init_lora_weights": first}), base)
    assert error.problem.code == "adapter.base_changed"
    assert first in error.problem.message.en
    assert "path_initial_model_for_weight_conversion" in error.problem.hint.en


@pytest.mark.parametrize("config", [{"use_dora": True}, {"target_parameters": ["experts.down_proj"]}])
def test_pissa_beside_what_it_is_not_known_with_is_refused(tmp_path: Path, base: Path, config: dict[str, Any]) -> None:
    error = refusal(adapter(tmp_path / "a", {"init_lora_weights": "pissa", **config}), base)
    assert error.problem.code == "adapter.base_changed"


@pytest.mark.parametrize("part", ["lora_variance_A", "ia3_l", "lora_E", "oft_R.weight"])
def test_a_tensor_of_unknown_use_is_refused(tmp_path: Path, base: Path, part: str) -> None:
    error = refusal(adapter(tmp_path / "a", {}, {**lora(Q), f"{Q}.{part}": torch.ones(2)}), base)
    assert error.problem.code == "adapter.kind"
    assert f"{Q}.{part}" in error.problem.message.en


@pytest.mark.parametrize(
    "weights",
    [
        lora("model.layers.1.self_attn.q_proj"),
        {"score.weight": torch.ones(2, 4)},
        {EMBEDDINGS: torch.ones(12, 4)},
        {EMBEDDINGS: torch.ones(10, 6)},
        {f"{Q}.weight": torch.ones(5, 4)},
        {EMBEDDINGS: torch.ones(12, 4), HEAD: torch.ones(14, 4)},
        lora("model.layers.0.mlp.experts"),
        {f"{Q}.lora_B.bias": torch.ones(4)},
    ],
    ids=["layer", "new head", "grown alone", "wider", "taller", "grown apart", "no experts", "no bias"],
)
def test_an_adapter_of_another_base_is_refused(tmp_path: Path, base: Path, weights: dict[str, torch.Tensor]) -> None:
    assert refusal(adapter(tmp_path / "a", {}, weights), base).problem.code == "adapter.other_base"


@pytest.mark.parametrize(
    ("config", "weights"),
    [
        ({}, lora(Q, size=6)),
        ({"trainable_token_indices": [1, 10]}, tokens(2)),
        ({"trainable_token_indices": [1]}, tokens(2)),
        ({"trainable_token_indices": [-1]}, tokens(1)),
        ({"r": 0}, lora(Q)),
        ({"r": "many"}, lora(Q)),
        ({"rank_pattern": {"(": 2}}, lora(Q)),
        ({"use_dora": True}, {**lora(Q), f"{Q}.lora_magnitude_vector": torch.ones(3)}),
        ({}, {f"{Q}.lora_A.weight": torch.ones(2, 4)}),
    ],
    ids=["width", "token beyond", "fewer ids", "negative", "rank 0", "no rank", "no pattern", "magnitude", "half"],
)
def test_tensors_that_do_not_fit_are_told(
    tmp_path: Path, base: Path, config: dict[str, Any], weights: dict[str, torch.Tensor]
) -> None:
    weights_of_base = BaseWeights.open(base)
    opened = Adapter.open(adapter(tmp_path / "a", config, weights), weights_of_base)
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError) as caught:
        write_weights(weights_of_base, opened, tmp_path / "out", lambda done, total: None)
    assert caught.value.problem.code == "adapter.other_base"


@pytest.mark.parametrize(
    ("name", "original"),
    [
        ("unsloth/Llama-3.2-1B-Instruct-unsloth-bnb-4bit", "unsloth/Llama-3.2-1B-Instruct"),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", "Qwen/Qwen2.5-7B-Instruct"),
        ("someone/Mistral-7B-v0.3-AWQ", "someone/Mistral-7B-v0.3"),
        ("RedHatAI/Llama-3.1-8B-quantized.w4a16", "RedHatAI/Llama-3.1-8B"),
    ],
)
def test_a_quantised_base_tells_its_original(base: Path, name: str, original: str) -> None:
    write_json(base / "config.json", {"_name_or_path": name, "quantization_config": {"load_in_4bit": True}})
    with pytest.raises(UserError) as caught:
        BaseWeights.open(base)
    assert f" {original}," in caught.value.problem.hint.en
    assert "--base" in caught.value.problem.hint.en


def test_a_quantised_base_without_a_name_asks_for_the_folder(base: Path) -> None:
    write_json(base / "config.json", {"quantization_config": {"load_in_4bit": True}})
    with pytest.raises(UserError) as caught:
        BaseWeights.open(base)
    assert "--base FOLDER" in caught.value.problem.hint.en


def test_too_little_memory_is_told_with_both_numbers(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = BaseWeights.open(base)
    opened = Adapter.open(adapter(tmp_path / "a", {}), weights)
    check_memory(weights, opened)
    needed = memory_needed(weights, opened)
    assert 0 < needed < 1024**3

    class Full:
        available = needed - 1

    monkeypatch.setattr("engine.merge.shards.psutil.virtual_memory", Full)
    with pytest.raises(UserError, match=r"needs 0\.\d GiB of memory, 0\.\d GiB are free"):
        check_memory(weights, opened)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_no_gpu_is_told(tmp_path: Path, base: Path) -> None:
    weights = BaseWeights.open(base)
    with pytest.raises(UserError) as caught:
        check_memory(weights, Adapter.open(adapter(tmp_path / "a", {}), weights), "cuda")
    assert caught.value.problem.code == "merge.no_gpu"


def test_what_the_watch_raises_ends_the_work(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.merge.changes.CHUNK", 4)
    weights = BaseWeights.open(base)
    opened = Adapter.open(adapter(tmp_path / "a", {}), weights)
    told: list[tuple[int, int]] = []

    def watch(done: int, total: int) -> None:
        told.append((done, total))
        raise Stopped

    (tmp_path / "out").mkdir()
    with pytest.raises(Stopped):
        write_weights(weights, opened, tmp_path / "out", watch)
    assert len(told) == 1
    assert told[0][0] < told[0][1] == sum(stored.bytes for stored in weights.tensors.values())


def test_numbers_that_are_no_weights_are_handed_on(tmp_path: Path, base: Path) -> None:
    tensors = load_file(base / "model.safetensors")
    counter, mask = torch.tensor([7, 8]), torch.tensor([True, False, True])
    save_file(
        {**tensors, "position_ids": counter, "mask": mask}, base / "model.safetensors", {"format": "pt", "by": "x"}
    )
    weights = BaseWeights.open(base)
    (tmp_path / "out").mkdir()
    write_weights(weights, Adapter.open(adapter(tmp_path / "a", {}), weights), tmp_path / "out", lambda *_: None)
    merged = load_file(tmp_path / "out" / "model.safetensors")
    assert torch.equal(merged["position_ids"], counter)
    assert torch.equal(merged["mask"], mask)
    assert torch.equal(merged[EMBEDDINGS], tensors[EMBEDDINGS])
    assert torch.equal(merged[f"{Q}.weight"], (tensors[f"{Q}.weight"].float() + 4).bfloat16())
    assert Mapped(tmp_path / "out" / "model.safetensors").metadata == {"format": "pt", "by": "x"}


def header(table: Any, data: bytes = b"", length: int | None = None) -> bytes:
    raw = table if isinstance(table, bytes) else json.dumps(table).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8,
        header({}, length=1 << 62),
        header(b"[" * 5000),
        header(["a"]),
        header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, b"\0" * 8),
        header({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}}, b"\0" * 8),
        header({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}, b"\0" * 8),
        header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}}, b"\0" * 8),
        header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}, b"\0" * 8),
        header({"a": {"dtype": "F32", "shape": [1e400], "data_offsets": [0, 8]}}, b"\0" * 8),
        header({"a": {"shape": [2]}}, b"\0" * 8),
        header({"a": "F32"}),
        header({"__metadata__": 3}),
    ],
)
def test_a_broken_file_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(BrokenWeights):
        Mapped(path)


def test_a_header_that_was_not_padded_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    values = torch.tensor([1.5, -2.0])
    for blanks in range(8):
        table = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}) + " " * blanks
        path.write_bytes(header(table.encode(), values.numpy().tobytes()))
        assert torch.equal(Mapped(path).tensor("a"), values)


def test_names_on_disk_are_those_of_the_loaded_model() -> None:
    shapes: dict[str, tuple[int, ...]] = {
        "h.0.attn.c_attn.weight": (4, 12),
        "wte.weight": (9, 4),
        "lm_head.weight": (9, 4),
    }
    layout = Layout.of(shapes, {"model_type": "gpt2"}, ["transformer.h.0.attn.c_attn.weight"])
    assert layout.slots["wte.weight"] == Slot("transformer.wte.weight")
    assert layout.slots["lm_head.weight"] == Slot("lm_head.weight")
    experts = {
        f"model.layers.0.block_sparse_moe.experts.{number}.{name}.weight": size
        for number in range(2)
        for name, size in (("w1", (5, 4)), ("w2", (4, 5)), ("w3", (5, 4)))
    }
    layout = Layout.of(experts, {"model_type": "mixtral"}, ["model.layers.0.mlp.experts.weight"])
    stack = "model.layers.0.mlp.experts.gate_up_proj"
    assert layout.shapes[stack] == (2, 10, 4)
    assert layout.slots["model.layers.0.block_sparse_moe.experts.1.w3.weight"] == Slot(stack, 1, 5)


@pytest.mark.parametrize("upright", [True, False])
def test_experts_that_are_stacked_on_disk(tmp_path: Path, upright: bool) -> None:
    """Most architectures store (experts, outputs, inputs); some, such as GPT-OSS, the other way round."""
    folder, name = tmp_path / "base", "model.layers.0.mlp.experts"
    folder.mkdir()
    torch.manual_seed(1)
    count, rank, inputs, outputs = 3, 2, 4, 10
    stack = torch.randn(count, outputs, inputs) if upright else torch.randn(count, inputs, outputs)
    save_file({f"{name}.gate_up_proj": stack, f"{name}.bias": torch.randn(3, 10)}, folder / "model.safetensors")
    write_json(folder / "config.json", {"model_type": "gpt_oss", "tie_word_embeddings": False})
    first, second = torch.randn(count * rank, inputs), torch.randn(outputs, count * rank)
    config = {"target_parameters": ["experts.gate_up_proj"]}
    parts = {f"{name}.lora_A.weight": first, f"{name}.lora_B.weight": second}
    opened = Adapter.open(adapter(tmp_path / "a", config, parts), BaseWeights.open(folder))
    change = torch.einsum("ore,eri->eoi", second.reshape(outputs, rank, count), first.reshape(count, rank, inputs)) * 2
    expected = stack + (change if upright else change.transpose(1, 2))
    assert torch.allclose(opened.whole(f"{name}.gate_up_proj"), expected, atol=1e-5)
    (tmp_path / "out").mkdir()
    write_weights(BaseWeights.open(folder), opened, tmp_path / "out", lambda *_: None)
    written = load_file(tmp_path / "out" / "model.safetensors")[f"{name}.gate_up_proj"]
    assert torch.allclose(written, expected, atol=1e-5)


def test_experts_of_an_older_adapter_are_named_as_on_disk(tmp_path: Path) -> None:
    """transformers 4 kept each expert as a layer of its own; so did the adapters of that time."""
    folder = tmp_path / "base"
    folder.mkdir()
    name = "model.layers.0.block_sparse_moe.experts.{}.{}"
    weights = {
        f"{name.format(number, leaf)}.weight": torch.randn(4, 4) for number in range(2) for leaf in ("w1", "w2", "w3")
    }
    save_file(weights, folder / "model.safetensors")
    write_json(folder / "config.json", {"model_type": "mixtral", "tie_word_embeddings": False})
    opened = Adapter.open(adapter(tmp_path / "a", {}, lora(name.format(1, "w3"))), BaseWeights.open(folder))
    changed = [key for key in opened.targets if opened.changes(key)]
    assert changed == [f"{name.format(1, 'w3')}.weight"]
    assert torch.allclose(opened.whole(changed[0]), weights[changed[0]] + 4)
