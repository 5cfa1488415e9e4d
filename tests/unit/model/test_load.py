"""Loading base models: 16-bit and 4-bit, frozen, from safetensors only."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import Gemma2Config, LlamaConfig

from engine.catalogue import CATALOGUE
from engine.data.template import choose_template
from engine.model import load
from engine.protocol.errors import EXIT_MACHINE, UserError
from engine.recipe.file import from_plain
from engine.recipe.recipe import Recipe


def test_auto_precision_follows_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load.decide_precision("auto", "cpu") == "fp32"
    assert load.decide_precision("auto", "mps") == "fp32"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not including_emulation)
    assert load.decide_precision("auto", "cuda") == "bf16"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    assert load.decide_precision("auto", "cuda") == "fp16"
    assert load.compute_dtype("bf16", "cpu") is torch.bfloat16


def test_half_precision_without_gpu_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        load.decide_precision("fp16", "cpu")
    assert caught.value.problem.where == "train.precision"


def wanting(tiny: Path, **train: Any) -> Recipe:
    return from_plain({"model": {"source": str(tiny)}, "method": {"name": "lora"}, "train": train}, CATALOGUE)


@pytest.mark.parametrize(
    ("train", "on", "installed", "expected"),
    [
        ({}, "cuda", True, "sdpa"),
        ({"short_rows": "packed"}, "cuda", True, "flash"),
        ({"short_rows": "packed"}, "cuda", False, "sdpa"),
        ({"short_rows": "packed"}, "cpu", True, "sdpa"),
        ({"short_rows": "packed", "precision": "fp32"}, "cuda", True, "sdpa"),
        ({"short_rows": "packed", "attention": "sdpa"}, "cuda", True, "sdpa"),
        ({"attention": "flash"}, "cuda", True, "flash"),
        ({"attention": "eager"}, "cuda", True, "eager"),
    ],
)
def test_attention_follows_the_recipe_and_the_device(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, train: dict[str, Any], on: str, installed: bool, expected: str
) -> None:
    monkeypatch.setattr(load, "is_flash_attn_2_available", lambda: installed)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert load.decide_attention(wanting(tiny, **train), on) == expected


@pytest.mark.parametrize(
    ("on", "installed", "precision"), [("cpu", True, "fp32"), ("cuda", False, "bf16"), ("cuda", True, "fp32")]
)
def test_flash_attention_that_cannot_be_is_refused(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, on: str, installed: bool, precision: str
) -> None:
    monkeypatch.setattr(load, "is_flash_attn_2_available", lambda: installed)
    with pytest.raises(UserError) as caught:
        load.decide_attention(wanting(tiny, attention="flash", precision=precision), on)
    assert caught.value.problem.where == "train.attention"


def test_bent_scores_are_never_given_to_sdpa() -> None:
    assert load.attention_of(LlamaConfig(), "sdpa") == "sdpa"
    assert load.attention_of(LlamaConfig(), "flash") == "flash_attention_2"
    assert load.attention_of(LlamaConfig(), "eager") == "eager"
    assert load.attention_of(Gemma2Config(), "sdpa") == "eager"


@pytest.mark.parametrize(
    ("kernels", "on", "installed", "added"),
    [
        ("auto", "cuda", True, True),
        ("off", "cuda", True, False),
        ("auto", "cpu", True, False),
        ("auto", "cuda", False, False),
    ],
)
def test_kernels_are_put_in_where_they_can_be(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, kernels: str, on: str, installed: bool, added: bool
) -> None:
    given: list[dict[str, bool]] = []
    monkeypatch.setattr(load, "is_liger_kernel_available", lambda: installed)
    monkeypatch.setattr(load, "apply_liger_kernel", lambda model, configuration: given.append(configuration))
    model = SimpleNamespace(device=torch.device(on))
    assert load.add_kernels(model, wanting(tiny, kernels=kernels)) is added  # type: ignore[arg-type]
    # The head is Lorimer's: Liger's would put the model's forward aside.
    assert given == ([{"cross_entropy": False, "fused_linear_cross_entropy": False}] if added else [])


def test_four_bit_on_a_mac_gpu_is_refused_with_the_way_out(tiny: Path) -> None:
    with pytest.raises(UserError) as caught:
        load.load_base(tiny, quantised=True, device="mps")
    assert "lora" in caught.value.problem.hint.en


def test_sixteen_bit_weights_are_frozen_and_as_in_the_file(tiny: Path) -> None:
    from safetensors.torch import load_file

    model = load.load_base(tiny, quantised=False)
    assert not model.training
    assert not any(weight.requires_grad for weight in model.parameters())
    assert model.config._attn_implementation == "sdpa"
    wanted = load_file(tiny / "model.safetensors")["model.layers.0.mlp.up_proj.weight"]
    assert torch.equal(model.get_parameter("model.layers.0.mlp.up_proj.weight"), wanted)


def test_four_bit_weights_are_nf4_with_quantised_constants(tiny: Path) -> None:
    from bitsandbytes.nn import Linear4bit

    model = load.load_base(tiny, quantised=True)
    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    assert len(layers) == 14  # seven linear layers in each of two blocks; the head stays as it is
    assert all(layer.weight.quant_state.quant_type == "nf4" and layer.weight.quant_state.nested for layer in layers)
    assert layers[0].weight.numel() * 2 == 64 * 64  # two weights a byte
    assert model.get_input_embeddings().weight.dtype is torch.float32
    assert model.get_memory_footprint() < load.load_base(tiny, quantised=False).get_memory_footprint()


def test_four_bit_weights_are_never_repacked_for_inference(tiny: Path) -> None:
    from bitsandbytes.nn import Linear4bit

    model = load.load_base(tiny, quantised=True)
    assert not any(module.support_avx512bf16_for_cpu for module in model.modules() if isinstance(module, Linear4bit))


def test_pickled_weights_are_refused(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((tiny / "config.json").read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError) as caught:
        load.load_base(tmp_path, quantised=False)
    assert caught.value.problem.code == "model.unreadable"


def test_half_written_weights_are_told(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((tiny / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes((tiny / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(UserError) as caught:
        load.load_base(tmp_path, quantised=False)
    assert caught.value.problem.where == str(tmp_path)


def test_tokenizer_pads_right_with_what_is_not_the_end(tiny: Path) -> None:
    tokenizer = load.load_tokenizer(tiny)
    assert tokenizer.padding_side == "right"
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<|pad|>", "<|im_end|>")


def test_tokenizer_of_a_base_model_gets_padding_and_template(shared_data: Path) -> None:
    folder = shared_data / "models" / "stories260K"
    template = choose_template(folder)
    tokenizer = load.load_tokenizer(folder, template)
    assert tokenizer.pad_token is not None
    assert tokenizer.pad_token != tokenizer.eos_token
    assert tokenizer.chat_template == template.source


def test_missing_tokenizer_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        load.load_tokenizer(tmp_path)


def test_out_of_memory_is_recognised_and_nothing_else_is() -> None:
    gpu = load.ran_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    ram = load.ran_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert gpu is not None
    assert ram is not None
    assert (gpu.problem.code, gpu.exit_code) == ("memory.gpu", EXIT_MACHINE)
    assert ram.problem.code == "memory.ram"
    assert load.ran_out_of_memory(RuntimeError("shapes do not match")) is None
