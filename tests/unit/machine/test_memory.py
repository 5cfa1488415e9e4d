"""The memory model: its arithmetic, its shape, and its count of activations against autograd's own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from engine.machine import asking
from engine.machine.activations import Batch, kept_by_base
from engine.machine.calibration import Calibration
from engine.machine.dims import ModelDims
from engine.machine.memory import GIB, PARTS, predict, predict_afterwards, weight_bytes
from engine.methods.declare import Numbers
from engine.methods.ia3 import IA3, Ia3Settings
from engine.methods.lora import LORA, LoraSettings, QloraSettings
from engine.objectives.dpo import DpoSettings
from engine.objectives.sft import SftSettings
from engine.recipe.recipe import DataSettings, EvaluateSettings, MethodSettings, Recipe, TrainSettings

LORA_16 = LoraSettings(rank=16)
NOTHING_BESIDE = Calibration(fixed_gib=0.0, share=0.0)


def recipe(method: MethodSettings = LORA_16, *, preference: bool = False, longest: int = 1024, **train: Any) -> Recipe:
    objective = DpoSettings() if preference else SftSettings()
    return Recipe(
        method=method, objective=objective, data=DataSettings(max_length=longest), train=TrainSettings(**train)
    )


@pytest.fixture
def eight_b(config_dims: Callable[[str], ModelDims]) -> ModelDims:
    return config_dims("Meta-Llama-3.1-8B")


# ------------------------------------------------------------------------------------------------------------ parts
def test_parts_are_named_and_add_up(small_dims: ModelDims) -> None:
    memory = predict(small_dims, recipe(), longest=512, device="cuda")
    assert tuple(memory.parts) == tuple(PARTS)
    assert memory.total == pytest.approx(sum(memory.parts.values()))
    assert all(value > 0 for name, value in memory.parts.items() if name != "logits")


def test_sixteen_bit_weights_take_two_bytes_each(eight_b: ModelDims) -> None:
    assert weight_bytes(eight_b, recipe(), 2) == 2 * 8_030_261_248


def test_four_bit_weights_with_their_constants(eight_b: ModelDims) -> None:
    """Linear layers at 4 + 8/64 + 32/(64·256) bits; embeddings and norms stay in 16 bits."""
    linear = eight_b.linear_parameters()
    rest = 8_030_261_248 - linear
    assert weight_bytes(eight_b, recipe(QloraSettings()), 2) == pytest.approx(linear * 4.126953125 / 8 + 2 * rest)
    plain = recipe(QloraSettings(double_quantisation=False))
    assert weight_bytes(eight_b, plain, 2) == pytest.approx(linear * 4.5 / 8 + 2 * rest)


def test_adapter_gradients_and_optimizer_follow_the_trained_weights(eight_b: ModelDims) -> None:
    # rank · (inputs + outputs) over all linear layers of Llama-3.1-8B: 41,943,040 at rank 16.
    parts = predict(eight_b, recipe(), longest=512, device="cpu").parts
    assert parts["adapter"] == pytest.approx(41_943_040 * 4 / GIB)
    assert parts["gradients"] == pytest.approx(41_943_040 * 4 / GIB)
    assert parts["optimizer"] == pytest.approx(41_943_040 * 8 / GIB)
    small = predict(eight_b, recipe(optimizer="adamw_8bit"), longest=512, device="cuda").parts
    assert small["optimizer"] == pytest.approx(41_943_040 * (2 + 8 / 256) / GIB)


def test_ia3_trains_next_to_nothing(eight_b: ModelDims) -> None:
    parts = predict(eight_b, recipe(Ia3Settings()), longest=512, device="cuda").parts
    assert parts["adapter"] < 0.01


def test_seven_billion_in_four_bits_agree_with_what_others_publish(eight_b: ModelDims) -> None:
    """torchtune: 7.4 GiB for Llama-3.1-8B QLoRA, two packed rows of 2,048, checkpointed, chunked loss, rank 8."""
    memory = predict(
        eight_b,
        recipe(QloraSettings(rank=8, dropout=0.0), longest=2048, batch_size=2, checkpointing=True),
        longest=2048,
        device="cuda",
    )
    assert memory.total == pytest.approx(7.4, rel=0.25)


# ------------------------------------------------------------------------------------------------------------ shape
@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("method", [LORA_16, QloraSettings(), Ia3Settings()])
def test_more_rows_or_longer_ones_never_need_less(
    small_dims: ModelDims, method: MethodSettings, checkpointing: bool, device: Any
) -> None:
    def total(batch: int, length: int) -> float:
        plan = recipe(method, batch_size=batch, checkpointing=checkpointing)
        return predict(small_dims, plan, longest=length, device=device).total

    by_batch = [total(batch, 256) for batch in (1, 2, 3, 4, 8, 16, 32)]
    by_length = [total(2, length) for length in (16, 64, 65, 128, 512, 1000, 1024)]
    assert by_batch == sorted(by_batch)
    assert by_batch[0] < by_batch[-1]
    assert by_length == sorted(by_length)
    assert by_length[0] < by_length[-1]


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_a_higher_rank_needs_more(small_dims: ModelDims, device: Any) -> None:
    totals = [
        predict(small_dims, recipe(LoraSettings(rank=rank)), longest=512, device=device).total
        for rank in (1, 4, 8, 16, 64, 256)
    ]
    assert totals == sorted(totals)
    assert len(set(totals)) == len(totals)


def test_what_is_meant_to_save_memory_saves_it(eight_b: ModelDims) -> None:
    def total(method: MethodSettings = LORA_16, **train: Any) -> float:
        return predict(eight_b, recipe(method, longest=2048, **train), longest=2048, device="cuda").total

    assert total(checkpointing=True) < total()
    assert total(QloraSettings(rank=16)) < total() - 8
    assert total(optimizer="adamw_8bit") < total()
    assert total(LoraSettings(rank=16, targets="query_value")) < total(LoraSettings(rank=16, targets="attention"))
    assert total(LoraSettings(rank=16, dropout=0.0)) < total()


def test_a_preference_row_counts_twice(small_dims: ModelDims) -> None:
    one = predict(small_dims, recipe(batch_size=2), longest=256, device="cuda").parts["activations"]
    pair = predict(small_dims, recipe(batch_size=1, preference=True), longest=256, device="cuda").parts["activations"]
    assert pair == pytest.approx(one)


def test_what_is_switched_off_in_the_recipe_costs_its_memory(eight_b: ModelDims) -> None:
    def total(**train: Any) -> float:
        return predict(eight_b, recipe(longest=2048, batch_size=2, **train), longest=2048, device="cuda").total

    assert total(attention="eager") > total() + 10
    assert total(checkpointing=True, loss="all") > total(checkpointing=True) + 1
    assert total(short_rows="packed", attention="flash") < total(short_rows="packed")
    assert total(attention="auto") == total(attention="sdpa")


# ------------------------------------------------------------------------------------------------------- afterwards
def test_answers_need_the_weights_and_the_keys_of_every_token(eight_b: ModelDims) -> None:
    plan = recipe(longest=1000)
    plan = plan.model_copy(update={"evaluate": EvaluateSettings(batch_size=8, max_new_tokens=24)})
    held = (weight_bytes(eight_b, plan, 2) + 4 * 41_943_040) / GIB
    keys = 8 * 1024 * 32 * 2 * 1024 * 2 / GIB  # rows, tokens, layers, keys and values, 8 heads of 128, bytes
    found = predict_afterwards(eight_b, plan, longest=1000, device="cuda", calibration=NOTHING_BESIDE)
    assert held + keys < found.answering_gib < 1.2 * (held + keys)
    assert found.answering_gib < predict(eight_b, plan, longest=1000, device="cuda").total


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_more_rows_at_once_need_more_afterwards(small_dims: ModelDims, device: Any) -> None:
    def needs(**evaluate: Any) -> Any:
        plan = recipe(longest=512).model_copy(update={"evaluate": EvaluateSettings(**evaluate)})
        return predict_afterwards(small_dims, plan, longest=512, device=device)

    assert needs(batch_size=32).answering_gib > needs(batch_size=4).answering_gib
    assert needs(batch_size=32).measuring_gib > needs(batch_size=4).measuring_gib
    assert needs(max_new_tokens=400).measuring_gib == needs(max_new_tokens=1).measuring_gib


def test_longer_answers_need_more(eight_b: ModelDims) -> None:
    def needs(tokens: int) -> float:
        plan = recipe(longest=64).model_copy(update={"evaluate": EvaluateSettings(max_new_tokens=tokens)})
        return predict_afterwards(eight_b, plan, longest=64, device="cuda").answering_gib

    assert needs(2000) - needs(1000) == pytest.approx(16 * 1000 * 32 * 2 * 1024 * 2 / GIB, rel=0.3)


def test_logits_are_bounded_as_the_evaluation_bounds_them() -> None:
    from engine.evaluate import score

    assert all(score._LOGITS_BYTES[device] == most for device, most in asking.MOST_LOGITS_BYTES.items())
    assert score._BYTES_PER_LOGIT == asking.BYTES_PER_LOGIT


def test_only_what_is_trained_on_counts_as_length(small_dims: ModelDims) -> None:
    cut = predict(small_dims, recipe(longest=256), longest=100_000, device="cuda")
    whole = predict(small_dims, recipe(longest=256), longest=256, device="cuda")
    assert cut.total == whole.total


def test_the_cpu_computes_in_fp32(small_dims: ModelDims) -> None:
    cpu = predict(small_dims, recipe(), longest=256, device="cpu").parts["weights"]
    gpu = predict(small_dims, recipe(), longest=256, device="cuda").parts["weights"]
    assert cpu == pytest.approx(2 * gpu)


def test_it_takes_less_than_a_millisecond(eight_b: ModelDims) -> None:
    plan = recipe()
    predict(eight_b, plan, longest=512, device="cuda")
    started = time.process_time()
    for _ in range(200):
        predict(eight_b, plan, longest=512, device="cuda")
    assert (time.process_time() - started) / 200 < 1e-3


# ------------------------------------------------------------------------------------------- against autograd's count
def kept_by_autograd(layers: int, family: str, method: str, dropout: float, sixteen_bit: bool, batch: Batch) -> float:
    """Bytes that autograd keeps in the decoder layers of a real model with a real adapter, counted by its hooks."""
    import torch
    from peft import IA3Config, LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        family,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        vocab_size=64,
    )
    dtype = torch.bfloat16 if sixteen_bit else torch.float32
    model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    settings: Any = (
        IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"])
        if method == "ia3"
        else LoraConfig(
            r=4,
            lora_dropout=dropout,
            target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        )
    )
    adapted: Any = get_peft_model(model, settings).train()
    own = {tensor.untyped_storage().data_ptr() for tensor in (*adapted.parameters(), *adapted.buffers())}
    kept: dict[int, tuple[int, Any]] = {}

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    ids = torch.zeros(batch.sequences, batch.length, dtype=torch.long)
    mask = torch.ones_like(ids)
    if batch.masked:
        mask[0, -4:] = 0
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=sixteen_bit),
    ):
        output = adapted.get_base_model().model(input_ids=ids, attention_mask=mask, use_cache=False)
    assert output.last_hidden_state.requires_grad
    return sum(size for size, _ in kept.values())


ALONE, PADDED = Batch.padded(1, 128), Batch.padded(2, 64)


@pytest.mark.parametrize("sixteen_bit", [False, True])
@pytest.mark.parametrize(
    ("family", "method", "dropout", "batch"),
    [
        ("llama", "lora", 0.0, ALONE),
        ("llama", "lora", 0.0, PADDED),
        ("llama", "lora", 0.1, PADDED),
        ("llama", "ia3", 0.0, PADDED),
        ("qwen3", "lora", 0.1, PADDED),
    ],
)
def test_the_count_of_activations_is_autograds(
    family: str, method: str, dropout: float, sixteen_bit: bool, batch: Batch
) -> None:
    config = {
        "model_type": family,
        "hidden_size": 128,
        "intermediate_size": 352,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "vocab_size": 64,
    }
    dims = ModelDims.from_config(config)
    numbers = Numbers(2 if sixteen_bit else 4, 4)
    adapters = (
        IA3.kept_per_token(dims.linear_shapes(), Ia3Settings(), numbers)
        if method == "ia3"
        else LORA.kept_per_token(dims.linear_shapes(), LoraSettings(rank=4, dropout=dropout), numbers)
    )
    expected = batch.tokens * (kept_by_base(dims, numbers, batch) + adapters)
    # Two layers more: what lies outside the layers falls out of the difference.
    counted = kept_by_autograd(4, family, method, dropout, sixteen_bit, batch) - kept_by_autograd(
        2, family, method, dropout, sixteen_bit, batch
    )
    assert expected == pytest.approx(counted, rel=0.03)
