"""The time model: its shape, and its order of magnitude against published speeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from engine.machine.dims import ModelDims
from engine.machine.time import (
    GPU_EFFICIENCY,
    cpu_speed,
    gpu_speed,
    measurements,
    saves,
    seconds,
    step_count,
    step_seconds,
)
from engine.methods.ia3 import Ia3Settings
from engine.methods.lora import LoraSettings, QloraSettings
from engine.objectives.dpo import DpoSettings
from engine.objectives.sft import SftSettings
from engine.recipe.recipe import DataSettings, MethodSettings, Recipe, TrainSettings


def recipe(method: MethodSettings | None = None, *, preference: bool = False, **train: Any) -> Recipe:
    return Recipe(
        method=method or LoraSettings(),
        objective=DpoSettings() if preference else SftSettings(),
        data=DataSettings(max_length=2048),
        train=TrainSettings(**({"epochs": 1.0} | train)),
    )


@pytest.mark.parametrize(("length", "published"), [(256, 1707), (512, 2731), (1024, 2926), (2048, 3151), (8192, 3077)])
def test_seven_billion_on_an_a100_as_published(
    config_dims: Callable[[str], ModelDims], length: int, published: int
) -> None:
    """Qwen's README: tokens per second of 7B LoRA r64, checkpointed, batch 1 × 8."""
    plan = recipe(LoraSettings(rank=64), batch_size=1, accumulation=8, checkpointing=True)
    speed = gpu_speed("NVIDIA A100-SXM4-80GB", (8, 0), 80.0)
    took = seconds(config_dims("Qwen2.5-7B-Instruct"), plan, speed, rows=800, held_out=0, mean_length=length)
    assert 800 * length / took == pytest.approx(published, rel=0.3)


@pytest.mark.parametrize("speed", [cpu_speed(4), gpu_speed("RTX 4090", None, 24.0)])
def test_more_work_takes_longer(small_dims: ModelDims, speed: Any) -> None:
    def took(plan: Recipe, rows: int = 500, held_out: int = 50, length: float = 200.0) -> float:
        return seconds(small_dims, plan, speed, rows=rows, held_out=held_out, mean_length=length)

    base = took(recipe())
    assert took(recipe(), rows=1000) > 1.5 * base
    assert took(recipe(), length=400) > base
    assert took(recipe(), held_out=500) > base
    assert took(recipe(epochs=2.0)) > 1.5 * base
    assert took(recipe(checkpointing=True)) > 1.2 * base
    assert took(recipe(QloraSettings())) > 1.2 * base
    assert took(recipe(preference=True)) > 1.1 * base
    assert took(recipe(Ia3Settings())) < base
    assert took(recipe(batch_size=1, accumulation=16, short_rows="shuffled")) > 0
    assert took(recipe(max_steps=3)) < base


def test_more_cores_are_faster(small_dims: ModelDims) -> None:
    def took(cores: int) -> float:
        return seconds(small_dims, recipe(), cpu_speed(cores), rows=500, held_out=0, mean_length=200)

    assert took(1) > took(2) > took(8)


@pytest.mark.parametrize(
    ("name", "capability", "memory", "tflops", "assumed"),
    [
        ("NVIDIA GeForce RTX 4090", (8, 9), 24.0, 165.0, False),
        ("NVIDIA GeForce RTX 4060 Ti", (8, 9), 16.0, 44.0, False),
        ("NVIDIA GeForce RTX 4060", (8, 9), 8.0, 30.0, False),
        ("NVIDIA L40S", (8, 9), 48.0, 362.0, False),
        ("NVIDIA L4", (8, 9), 24.0, 121.0, False),
        ("NVIDIA H100 PCIe", (9, 0), 80.0, 756.0, False),
        ("Some Future Card", (12, 0), 16.0, 60.0, False),
        ("", None, 24.0, 71.0, True),
        ("", None, 5.0, 25.0, True),
    ],
)
def test_cards_by_name_then_generation_then_memory(
    name: str, capability: tuple[int, int] | None, memory: float, tflops: float, assumed: bool
) -> None:
    speed = gpu_speed(name, capability, memory)
    assert speed.flops == pytest.approx(tflops * 1e12 * GPU_EFFICIENCY)
    assert speed.assumed is assumed


@pytest.mark.parametrize(("rows", "expected"), [(1, 1), (16, 1), (17, 2), (160, 10)])
def test_steps(rows: int, expected: int) -> None:
    assert step_count(recipe(batch_size=4, accumulation=4), rows) == expected


def test_steps_measurements_and_checkpoints_are_those_of_the_run() -> None:
    """The forecast counts as the training itself does."""
    from engine.train.plan import schedule

    given = (
        TrainSettings(),
        TrainSettings(epochs=0.5, batch_size=3),
        TrainSettings(max_steps=5),
        TrainSettings(evaluate_every=3),
        TrainSettings(evaluate_every=3, save_every=7),
    )
    for rows in (1, 7, 16, 33, 900):
        for held_out in (0, 9):
            for settings in given:
                plan = Recipe(method=LoraSettings(), objective=SftSettings(), train=settings)
                real = schedule(settings, rows=rows, held_out=held_out)
                steps = step_count(plan, rows)
                assert steps == real.steps
                whole_run = range(1, steps + 1)
                assert measurements(plan, steps, held_out) == sum(map(real.evaluates_at, whole_run))
                assert saves(plan, steps, held_out) == sum(map(real.saves_at, whole_run))


def test_a_step_is_the_whole_run_s_share(small_dims: ModelDims) -> None:
    plan, speed = recipe(batch_size=4, accumulation=2, short_rows="packed"), cpu_speed(2)
    whole = seconds(small_dims, plan, speed, rows=800, held_out=0, mean_length=200.0)
    step = step_seconds(small_dims, plan, speed, length=200.0)
    assert whole == pytest.approx(100 * step, rel=0.05)
