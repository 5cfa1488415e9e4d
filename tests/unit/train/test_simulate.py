"""The simulated step: its static bytes by arithmetic, its peak against the allocator's own of a real step."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from engine.machine.calibration import Calibration
from engine.machine.dims import ModelDims
from engine.machine.memory import GIB, predict_afterwards
from engine.methods.ia3 import Ia3Settings
from engine.methods.lora import LoraSettings, QloraSettings
from engine.methods.registry import METHODS
from engine.objectives.dpo import DpoSettings
from engine.objectives.head import Scored, add_learned_head
from engine.objectives.sft import SftSettings
from engine.recipe.recipe import DataSettings, EvaluateSettings, MethodSettings, Recipe, TrainSettings
from engine.train.simulate import Simulated, simulate, simulate_afterwards

LENGTH = 64
LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 176,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 512,
    "tie_word_embeddings": False,
    "max_position_embeddings": 256,
}
EXPERTS = {**LLAMA, "model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
LORA = LoraSettings(rank=4)
NOTHING_BESIDE = Calibration(fixed_gib=0.0, share=0.0)


def recipe(method: MethodSettings = LORA, *, preference: bool = False, **train: Any) -> Recipe:
    settings = {"batch_size": 2, "accumulation": 1, "precision": "fp32", **train}
    objective = DpoSettings() if preference else SftSettings()
    return Recipe(
        method=method, objective=objective, data=DataSettings(max_length=LENGTH), train=TrainSettings(**settings)
    )


def told(plan: Recipe, config: dict[str, Any] = LLAMA, device: Any = "cpu", length: int = LENGTH) -> Simulated:
    return simulate(config, plan, longest=length, device=device)


# ------------------------------------------------------------------------------------------------- against arithmetic
def test_resting_bytes_are_the_weights_the_adapter_and_two_moments() -> None:
    dims = ModelDims.from_config(LLAMA)
    trained = METHODS["lora"].trained_parameters(dims.linear_shapes(), LORA)
    rest = dict(told(recipe()).resting)
    rotary = 2 * dims.head_dim // 2 * 4  # two tables of inverse frequencies in fp32
    assert rest["weights"] == 4 * dims.parameters() + rotary
    assert rest["adapter"] == 4 * trained
    steps = 4 * 2 * len(dims.linear_shapes()) * 2  # AdamW counts its steps for each of A and B, per layer
    assert rest["optimizer"] == 8 * trained + steps
    assert rest.get("gradients", 0) == 0
    assert rest.get("activations", 0) == 0


def test_shared_weights_count_once() -> None:
    tied = {**LLAMA, "tie_word_embeddings": True}
    assert told(recipe()).resting["weights"] - told(recipe(), tied).resting["weights"] == 4 * 512 * 64


@pytest.mark.parametrize("double", [True, False])
def test_four_bit_weights_have_their_constants(double: bool) -> None:
    dims = ModelDims.from_config(LLAMA)
    weights = told(recipe(QloraSettings(rank=4, double_quantisation=double), precision="bf16")).resting["weights"]
    expected, blocks = 0, 0
    for shape in dims.linear_shapes():
        count = shape.inputs * shape.outputs
        expected += shape.count * count // 2
        blocks += shape.count * (count // 64)
        # The tables of 16 values and, double, of 256, the constants' constants, and their offset.
        expected += shape.count * (64 + (4 * 256 + 4 * -(-(count // 64) // 256) + 4 if double else 0))
    expected += blocks * (1 if double else 4) + 2 * (dims.parameters() - dims.linear_parameters())
    assert weights == pytest.approx(expected, abs=256)


def test_eight_bit_states_are_smaller() -> None:
    big = LoraSettings(rank=64)  # below 4,096 values bitsandbytes keeps 32 bits
    whole = told(recipe(big)).resting["optimizer"]
    small = told(recipe(big, optimizer="adamw_8bit")).resting["optimizer"]
    assert 0.2 < small / whole < 0.5


# -------------------------------------------------------------------------------------------- against a real allocator
def real_peak(plan: Recipe, config: dict[str, Any]) -> int:
    """Bytes at the peak of a real second step, as torch's profiler counts the allocator's."""
    model = AutoModelForCausalLM.from_config(
        CONFIG_MAPPING[config["model_type"]].from_dict(config), attn_implementation="sdpa"
    ).requires_grad_(False)
    adapted: Any = importlib.import_module(METHODS[plan.method.name].work).build(model, plan.method)
    from trl.trainer.utils import add_fused_lm_head

    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    add_learned_head(model)
    if plan.train.checkpointing:
        adapted.enable_input_require_grads()
        model.activation_checkpointing_enable()
    adapted.train()
    trained = [weight for weight in adapted.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, fused=True)
    mask = torch.ones(plan.train.batch_size, LENGTH, dtype=torch.int64)
    mask[0, -1] = 0
    ids = torch.ones_like(mask)

    def step() -> None:
        scored = Scored.of(adapted(input_ids=ids, attention_mask=mask, labels=ids, use_cache=False, fused_lm_head=True))
        (scored.total / scored.learned).backward()
        torch.nn.utils.clip_grad_norm_(trained, 0.3)
        optimizer.step()
        optimizer.zero_grad()

    step()
    states = [each for state in optimizer.state.values() for each in state.values()]
    resting = {each.untyped_storage().data_ptr(): each.nbytes for each in (*adapted.parameters(), *states)}
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    now = highest = 0
    events = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    for event in sorted((each for each in events if each.name() == "[memory]"), key=lambda each: each.start_ns()):
        now += event.nbytes()
        highest = max(highest, now)
    return sum(resting.values()) + highest


@pytest.mark.parametrize(
    ("method", "train"),
    [
        (LORA, {}),
        (LORA, {"checkpointing": True}),
        (LoraSettings(rank=4, dropout=0.0, targets="attention"), {}),
        (Ia3Settings(), {}),
    ],
)
def test_the_peak_is_a_real_steps(method: MethodSettings, train: dict[str, Any]) -> None:
    plan = recipe(method, **train)
    assert told(plan).peak == pytest.approx(real_peak(plan, LLAMA), rel=0.02)


# ---------------------------------------------------------------------------------------------------------- its shape
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_saves_memory_saves_it(device: Any) -> None:
    deep = {**LLAMA, "num_hidden_layers": 4}
    plain = told(recipe(), deep, device).peak
    assert told(recipe(checkpointing=True), deep, device).peak < plain
    assert (
        told(recipe(QloraSettings(rank=4)), deep, device).resting["weights"]
        < told(recipe(), deep, device).resting["weights"]
    )


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_experts_are_stepped_with_their_attention_adapted(device: Any) -> None:
    result = told(recipe(precision="bf16"), EXPERTS, device)
    dims = ModelDims.from_config(EXPERTS)
    assert result.resting["adapter"] == pytest.approx(
        4 * METHODS["lora"].trained_parameters(dims.linear_shapes(), LORA), rel=0.3
    )
    assert result.resting["weights"] == pytest.approx(2 * dims.parameters(), rel=0.01)


@pytest.mark.parametrize("device", ["cuda"])
def test_a_preference_keeps_two_sequences_a_row(device: Any) -> None:
    pair = told(recipe(batch_size=1, preference=True), device=device).parts["activations"]
    assert pair == pytest.approx(told(recipe(batch_size=2), device=device).parts["activations"], rel=0.15)


def test_packed_rows_stand_in_one() -> None:
    packed = told(recipe(short_rows="packed"))
    assert packed.peak > told(recipe(batch_size=1)).peak


def test_a_gpu_keeps_a_byte_for_a_dropped_value() -> None:
    """The CPU keeps the mask in the value's own format."""
    dropped, kept = LoraSettings(rank=4, dropout=0.5), LoraSettings(rank=4, dropout=0.0)

    def added(device: Any) -> int:
        one, other = (told(recipe(method, precision="bf16"), device=device) for method in (dropped, kept))
        return one.parts["activations"] - other.parts["activations"]

    inputs = sum(shape.inputs * shape.count for shape in ModelDims.from_config(LLAMA).linear_shapes())
    assert added("cuda") < 1.5 * inputs * 2 * LENGTH < added("cpu")


def test_all_logits_at_once_are_counted() -> None:
    wide = {**LLAMA, "vocab_size": 65536}
    pieces, whole = (told(recipe(checkpointing=True, loss=loss), wide, "cuda").peak for loss in ("learned", "all"))
    assert whole > pieces + 65536 * LENGTH * 4


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_scores_are_held_where_attention_is_eager(device: Any) -> None:
    scores = 2 * 2 * 4 * LENGTH * LENGTH * 4  # layers, rows, heads, tokens by tokens, fp32
    fused, eager = (told(recipe(attention=name), device=device).parts["activations"] for name in ("sdpa", "eager"))
    assert eager > fused + scores / 3


@pytest.mark.parametrize("method", [LORA, QloraSettings(rank=4)])
def test_the_formulas_tell_what_the_evaluation_needs(method: MethodSettings) -> None:
    config = {**LLAMA, "hidden_size": 256, "intermediate_size": 704, "head_dim": 64}
    plan = recipe(method, precision="bf16").model_copy(update={"evaluate": EvaluateSettings(batch_size=8)})
    found = simulate_afterwards(config, plan, longest=LENGTH, device="cuda")
    formula = predict_afterwards(
        ModelDims.from_config(config), plan, longest=LENGTH, device="cuda", calibration=NOTHING_BESIDE
    )
    assert formula.measuring_gib * GIB == pytest.approx(found["measuring"].peak, rel=0.15)
    assert formula.answering_gib * GIB == pytest.approx(found["answering"].peak, rel=0.15)


def test_nothing_of_torch_is_left_replaced() -> None:
    before = torch.nn.functional.scaled_dot_product_attention
    told(recipe(), device="cuda")
    assert torch.nn.functional.scaled_dot_product_attention is before
