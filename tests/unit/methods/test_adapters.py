"""Adapters on loaded models: which layers, how many weights, which format."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from engine.machine.dims import ModelDims
from engine.methods import ia3_work, lora_work
from engine.methods.ia3 import IA3, Ia3Settings
from engine.methods.lora import ALL_LINEAR, LORA, LoraSettings, QloraSettings
from engine.model.load import load_base, parameters
from engine.project.atomic import read_json
from engine.protocol.errors import UserError


def gpt2() -> nn.Module:
    """A model that names its layers otherwise, with fused projections."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=16, n_embd=32, n_layer=1, n_head=2))


@pytest.mark.parametrize(
    ("method", "work", "settings"),
    [
        (LORA, lora_work, LoraSettings(rank=4)),
        (LORA, lora_work, LoraSettings(rank=4, targets="attention")),
        (LORA, lora_work, LoraSettings(rank=4, targets="query_value")),
        (IA3, ia3_work, Ia3Settings()),
        (IA3, ia3_work, Ia3Settings(feed_forward=False)),
    ],
)
def test_declared_number_of_weights_is_the_real_one(tiny: Path, method, work, settings) -> None:  # type: ignore[no-untyped-def]
    shapes = ModelDims.from_config(read_json(tiny / "config.json")).linear_shapes()
    model = work.build(load_base(tiny, quantised=False), settings)
    assert parameters(model)[0] == method.trained_parameters(shapes, settings)


def test_four_bit_weights_are_counted_one_by_one(tiny: Path) -> None:
    whole = parameters(lora_work.build(load_base(tiny, quantised=False), LoraSettings()))
    assert parameters(lora_work.build(load_base(tiny, quantised=True), QloraSettings())) == whole


@pytest.mark.parametrize(("stabilised", "scale"), [(True, 16 / math.sqrt(4)), (False, 16 / 4)])
def test_scale_of_the_adapter(tiny: Path, stabilised: bool, scale: float) -> None:
    model = lora_work.build(load_base(tiny, quantised=False), LoraSettings(rank=4, rank_stabilised=stabilised))
    assert model.get_submodule("base_model.model.model.layers.0.mlp.up_proj").scaling["default"] == scale


def test_fresh_adapters_change_nothing_and_are_fp32(tiny: Path) -> None:
    ids = torch.arange(20).unsqueeze(0)
    base = load_base(tiny, quantised=False, precision="bf16")
    before = base(input_ids=ids).logits
    for work, settings in ((lora_work, LoraSettings()), (ia3_work, Ia3Settings())):
        model = work.build(load_base(tiny, quantised=False, precision="bf16"), settings)  # type: ignore[attr-defined]
        assert torch.equal(model.eval()(input_ids=ids).logits, before)
        assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {torch.float32}


def test_targets_are_those_of_the_settings_or_all_linear_layers(tiny: Path) -> None:
    model = load_base(tiny, quantised=False)
    assert lora_work.targets(model, LoraSettings()) == list(ALL_LINEAR)
    assert lora_work.targets(model, LoraSettings(targets="query_value")) == ["q_proj", "v_proj"]
    assert lora_work.targets(gpt2(), LoraSettings(targets="attention")) == "all-linear"


def test_a_mixture_of_experts_is_trained_in_its_attention() -> None:
    from transformers import MixtralConfig, MixtralForCausalLM

    widths = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    model = MixtralForCausalLM(MixtralConfig(**widths, num_attention_heads=2, num_key_value_heads=1))
    adapted = lora_work.build(model, LoraSettings(rank=2))  # dropout, which peft refuses beside experts
    trained = {name.split(".lora_")[0] for name, weight in adapted.named_parameters() if weight.requires_grad}
    assert {name.rpartition(".")[2] for name in trained} == {"q_proj", "k_proj", "v_proj", "o_proj"}


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning")  # peft corrects it by itself
def test_other_architectures_are_trained_too() -> None:
    model = lora_work.build(gpt2(), LoraSettings(rank=2))  # type: ignore[arg-type]
    trained = {name.split(".lora_")[0] for name, weight in model.named_parameters() if weight.requires_grad}
    assert {name.rpartition(".")[2] for name in trained} == {"c_attn", "c_proj", "c_fc"}


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning")  # peft corrects it by itself
def test_ia3_takes_pefts_table_for_other_architectures() -> None:
    model = ia3_work.build(gpt2(), Ia3Settings())  # type: ignore[arg-type]
    assert parameters(model)[0] > 0


def test_ia3_says_that_it_does_not_know_a_model() -> None:
    from transformers import CodeGenConfig, CodeGenForCausalLM

    config = CodeGenConfig(vocab_size=64, n_positions=16, n_embd=32, n_layer=1, n_head=4, rotary_dim=4)
    with pytest.raises(UserError) as caught:
        ia3_work.build(CodeGenForCausalLM(config), Ia3Settings())
    assert caught.value.problem.where == "method.name"
