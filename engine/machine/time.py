"""The time model: seconds of a training run from a count of floating-point operations.

A token costs 2 operations per weight forward and 2 backward (only the gradient of the activations: the base is frozen),
6 per adapter weight, and attention's products; the classic 6 per weight is for full training (Kaplan et al. 2020,
section 2.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from engine.machine.activations import FP32, Batch, kept_by_base
from engine.machine.dims import ModelDims
from engine.machine.memory import number_width
from engine.methods.declare import Numbers
from engine.methods.registry import METHODS
from engine.objectives.registry import OBJECTIVES
from engine.recipe.recipe import Recipe

# Dense 16-bit tensor throughput with fp32 accumulation in TFLOP/s, from NVIDIA's data sheets and architecture white
# papers; the first name that is part of the GPU's name counts, so longer names stand first.
GPU_TFLOPS: tuple[tuple[str, float], ...] = (
    ("B200", 2250.0),
    ("H200", 989.0),
    ("H100 PCIE", 756.0),
    ("H100", 989.0),
    ("A100", 312.0),
    ("L40S", 362.0),
    ("L40", 181.0),
    ("L4", 121.0),
    ("RTX 6000 ADA", 364.0),
    ("RTX A6000", 155.0),
    ("A40", 150.0),
    ("A10G", 70.0),
    ("A10", 125.0),
    ("V100", 125.0),
    ("T4", 65.0),
    ("RTX 5090", 209.0),
    ("RTX 5080", 113.0),
    ("RTX 5070 TI", 88.0),
    ("RTX 5070", 62.0),
    ("RTX 4090", 165.0),
    ("RTX 4080", 97.0),
    ("RTX 4070 TI", 80.0),
    ("RTX 4070", 58.0),
    ("RTX 4060 TI", 44.0),
    ("RTX 4060", 30.0),
    ("RTX 3090", 71.0),
    ("RTX 3080", 60.0),
    ("RTX 3070", 41.0),
    ("RTX 3060", 25.0),
    ("RTX 2080 TI", 54.0),
)
# A GPU that the list lacks, by compute capability: a slow card of its generation (same sources).
CAPABILITY_TFLOPS: tuple[tuple[tuple[int, int], float], ...] = (
    ((12, 0), 60.0),
    ((9, 0), 750.0),
    ((8, 9), 30.0),
    ((8, 6), 25.0),
    ((8, 0), 300.0),
    ((7, 5), 27.0),
    ((7, 0), 100.0),
)
# A GPU of which only the memory is given (`--gpu-memory`): a common card of at least that size.
MEMORY_TFLOPS: tuple[tuple[float, str, float], ...] = (
    (80.0, "A100", 312.0),
    (40.0, "RTX A6000", 155.0),
    (24.0, "RTX 3090", 71.0),
    (16.0, "RTX 4060 Ti", 44.0),
    (0.0, "RTX 3060", 25.0),
)
# Share of that throughput which transformers with peft reaches, and what Python and kernel launches cost per layer and
# pass of a micro-batch: fitted to Qwen-7B LoRA, checkpointed, on an A100 at 256 tokens (0.15 s a micro-batch) and 2,048
# tokens (0.65 s), from Qwen's README. torchtune with torch.compile reaches twice that share on an RTX 4090 (its
# README).
GPU_EFFICIENCY = 0.45
GPU_LAYER_SECONDS = 1.6e-3

# fp32 matrix products per core: 65 GFLOP/s (ours: torch 2.13, a 2.4 GHz AMD EPYC core with AVX2), of which a step with
# products of many sizes reaches this share.
CPU_CORE_FLOPS = 65e9
CPU_EFFICIENCY = 0.8
# What is no matrix product: a fixed cost per layer, and the time to write and read what is kept for the backward
# pass. The latter grows less than the cores, because small tensors are not split (ours: LoRA steps with 0.3 to 30
# million weights).
CPU_LAYER_SECONDS = 5e-3
CPU_KEPT_BYTES = 250e6
CPU_KEPT_POWER = 0.5

# Checkpointing computes each layer's forward pass once more: "about 30% slower" (axolotl's documentation).
CHECKPOINTING_TIME = 1.3
# Held-out rows go forward only, about ten times a run and never closer than five steps (the recipe's
# ``evaluate_every`` 0; as `engine.train.plan` has it, which a test compares).
EVALUATIONS = 10
FEWEST_STEPS_BETWEEN = 5
# Tokens computed per real token: rows of like length together hardly differ, shuffled ones do; a row alone has no
# padding.
PADDING = {"grouped": 1.05, "shuffled": 1.5, "packed": 1.0, "alone": 1.0}
# What the trainer itself costs per micro-batch: loading rows, hooks, counting. Assumed.
MICRO_BATCH_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a device computes.

    Attributes:
        device: "cuda" or "cpu".
        flops: operations per second that training reaches.
        layer_seconds: fixed cost per layer and pass of a micro-batch.
        kept_bytes_per_second: on the CPU, how fast activations are written and read again; 0 where it does not count.
        of: the device or the card that stands for it, for people.
        assumed: the card is not known, only its memory.
    """

    device: str
    flops: float
    layer_seconds: float
    of: str
    assumed: bool = False
    kept_bytes_per_second: float = 0.0


def gpu_speed(name: str, capability: tuple[int, int] | None, memory_gib: float) -> Speed:
    """The speed of a GPU by its name, else by its compute capability, else by its memory."""
    upper = name.upper()
    listed = next((tflops for part, tflops in GPU_TFLOPS if part in upper), None)
    if listed is None and capability is not None:
        listed = next((tflops for least, tflops in CAPABILITY_TFLOPS if capability >= least), None)
    if listed is not None:
        return Speed("cuda", listed * 1e12 * GPU_EFFICIENCY, GPU_LAYER_SECONDS, name)
    _, card, tflops = next((row for row in MEMORY_TFLOPS if memory_gib >= row[0]), MEMORY_TFLOPS[-1])
    return Speed("cuda", tflops * 1e12 * GPU_EFFICIENCY, GPU_LAYER_SECONDS, card, assumed=True)


def cpu_speed(cores: int, name: str = "") -> Speed:
    """The speed of a processor by its cores."""
    return Speed(
        "cpu",
        cores * CPU_CORE_FLOPS * CPU_EFFICIENCY,
        CPU_LAYER_SECONDS,
        name or "CPU",
        kept_bytes_per_second=CPU_KEPT_BYTES * cores**CPU_KEPT_POWER,
    )


def seconds(
    dims: ModelDims,
    recipe: Recipe,
    speed: Speed,
    *,
    rows: int,
    held_out: int,
    mean_length: float,
    learned: float = 1.0,
    scored: int = 0,
) -> float:
    """How long training takes, held-out measurements included; loading, writing checkpoints and what comes after
    training are not.

    Args:
        rows, held_out: rows trained on and held out.
        scored: rows that a model looks at before, to choose or order them.
        mean_length: mean tokens per sequence, after cutting.
        learned: share of the tokens that the loss counts (on a GPU only they pass the output layer).
    """
    objective, settings = OBJECTIVES[recipe.objective.name], recipe.train
    steps = step_count(recipe, rows)
    micro_batches = min(steps * settings.accumulation, math.ceil(settings.epochs * rows / settings.batch_size) + steps)
    sequences = min(settings.epochs * rows, steps * recipe.effective_batch) * objective.rows_per_example
    tokens = sequences * mean_length * PADDING[settings.short_rows if settings.batch_size > 1 else "alone"]
    work = _training(dims, recipe, speed, tokens, micro_batches, mean_length, learned)
    measured = held_out * measurements(recipe, steps, held_out) * objective.rows_per_example * objective.forward_passes
    forward = _forward_flops(dims, mean_length, learned if speed.device == "cuda" else 1.0)
    return work + (measured + scored) * mean_length * forward / speed.flops


def step_seconds(dims: ModelDims, recipe: Recipe, speed: Speed, *, length: float, learned: float = 1.0) -> float:
    """How long one optimizer step takes on rows that all have ``length`` tokens."""
    tokens = recipe.effective_batch * OBJECTIVES[recipe.objective.name].rows_per_example * length
    return _training(dims, recipe, speed, tokens, recipe.train.accumulation, length, learned)


def _training(
    dims: ModelDims, recipe: Recipe, speed: Speed, tokens: float, micro_batches: int, length: float, learned: float
) -> float:
    """Seconds of forward and backward passes over so many ``tokens``, padding included, of rows with ``length``."""
    method, objective = METHODS[recipe.method.name], OBJECTIVES[recipe.objective.name]
    trained = method.trained_parameters(dims.linear_shapes(), recipe.method)
    forward = _forward_flops(dims, length, learned if speed.device == "cuda" else 1.0)
    # Backward costs as much as forward; further forward passes (a reference model's) come on top.
    per_token = forward * (1 + objective.forward_passes) + 6 * trained
    passes = (1 + objective.forward_passes) / 2
    fixed = MICRO_BATCH_SECONDS + dims.layers * speed.layer_seconds * passes
    work = tokens * per_token / speed.flops + micro_batches * fixed
    work += _moving(dims, recipe, speed, tokens, length)
    return work * method.relative_time * (CHECKPOINTING_TIME if recipe.train.checkpointing else 1.0)


def measurements(recipe: Recipe, steps: int, held_out: int) -> int:
    """How often the held-out rows are measured in a run of so many steps."""
    return math.ceil(steps / (recipe.train.evaluate_every or _every(steps))) if held_out else 0


def saves(recipe: Recipe, steps: int, held_out: int) -> int:
    """How many checkpoints a run of so many steps writes."""
    every = recipe.train.save_every or (recipe.train.evaluate_every if held_out else 0) or _every(steps)
    return math.ceil(steps / every)


def _every(steps: int) -> int:
    """Steps between two measurements where the recipe leaves it open."""
    return max(math.ceil(steps / EVALUATIONS), FEWEST_STEPS_BETWEEN)


def step_count(recipe: Recipe, rows: int) -> int:
    """Optimizer steps of a run over ``rows``."""
    batches = math.ceil(max(rows, 1) / recipe.train.batch_size)
    steps = math.ceil(recipe.train.epochs * math.ceil(batches / recipe.train.accumulation))
    return max(1, min(steps, recipe.train.max_steps) if recipe.train.max_steps else steps)


def _forward_flops(dims: ModelDims, length: float, learned: float) -> float:
    """Operations per token of one forward pass: 2 per weight, and 2 · length per query width for each of attention's
    two products, half of which a causal mask leaves out. The output layer's gradient needs its product once more."""
    attention = 2 * length * dims.query_width * dims.layers
    return 2 * dims.active_parameters() + attention + 3 * learned * dims.vocab * dims.hidden


def _moving(dims: ModelDims, recipe: Recipe, speed: Speed, tokens: float, length: float) -> float:
    """Seconds that a CPU spends on what is kept for the backward pass."""
    if not speed.kept_bytes_per_second:
        return 0.0
    numbers = Numbers(number_width(recipe.train.precision, "cpu"), FP32)
    batch = Batch.padded(recipe.train.batch_size, max(1, round(length)))
    kept = kept_by_base(dims, numbers, batch) + METHODS[recipe.method.name].kept_per_token(
        dims.linear_shapes(), recipe.method, numbers
    )
    return tokens * kept / speed.kept_bytes_per_second
