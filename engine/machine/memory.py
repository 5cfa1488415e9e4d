"""The memory model: what a training run needs at its peak, by part, from ``config.json`` and the recipe alone.

It is arithmetic over widths and takes well under a millisecond. Checked against the simulated step of the real model
class (tests/bench/bench_memory_formula.py) and against published measurements (tests/bench/bench_memory_model.py); not
yet against a GPU of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from engine.machine import activations, asking
from engine.machine.activations import FP32, Batch
from engine.machine.calibration import UNCALIBRATED, Calibration
from engine.machine.dims import ModelDims
from engine.methods.declare import Method, Numbers
from engine.methods.registry import METHODS
from engine.objectives.registry import OBJECTIVES
from engine.protocol.text import Text, say
from engine.recipe.recipe import Recipe

GIB = 2**30

Device = Literal["cuda", "cpu"]
Loss = Literal["chunked", "full"]

PARTS: dict[str, Text] = {
    "weights": say("Weights", "权重"),
    "adapter": say("Adapter", "适配器"),
    "gradients": say("Gradients", "梯度"),
    "optimizer": say("Optimizer", "优化器"),
    "activations": say("Activations", "激活值"),
    "logits": say("Logits and loss", "输出与损失"),
    "reserve": say("Framework reserve", "框架预留"),
}

# NF4 and FP4 keep 4 bits and one constant per block of 64 weights: fp32, or 8 bits with double quantisation, whose own
# fp32 constants come one to 256 blocks (Dettmers et al. 2023, section 3; bitsandbytes 0.50, nn/modules.py).
BITS_4 = 4 + 32 / 64
BITS_4_DOUBLE = 4 + 8 / 64 + 32 / (64 * 256)

# Bytes of optimizer state per trained weight: AdamW's two moments in fp32; in 8 bits with an fp32 constant each per 256
# (Dettmers et al. 2022, bitsandbytes functional.py, blocksize 256).
OPTIMIZER_BYTES = {"adamw": 8.0, "paged_adamw": 8.0, "adamw_8bit": 2 + 8 / 256, "paged_adamw_8bit": 2 + 8 / 256}

# A CUDA context with cuBLAS and the kernels loaded by torch and bitsandbytes; published load figures lie 0.5 to 1.4 GiB
# above the weights (Unsloth Studio, lib/vram.ts). Not measured by us yet.
CUDA_CONTEXT_GIB = 0.75
# The caching allocator's rounding and fragments, as a share of what comes and goes in a step. Assumed; not measured
# yet.
CUDA_FRAGMENTS = 0.06
# Resident memory of a training process on the CPU beside what the formulas count: libraries and first allocations, and
# a share of what comes and goes in a step (arenas of the C library's allocator). Of 24 kinds of steps with 0.1 to 0.5
# billion weights on a machine of ours all but one need no more (tests/bench/bench_simulated_step.py).
CPU_PROCESS_GIB = 0.6
CPU_FRAGMENTS = 0.5
# Both apply until something was measured on the machine (`calibration`).
FIXED_GIB: dict[Device, float] = {"cuda": CUDA_CONTEXT_GIB, "cpu": CPU_PROCESS_GIB}
FRAGMENTS: dict[Device, float] = {"cuda": CUDA_FRAGMENTS, "cpu": CPU_FRAGMENTS}


@dataclass(frozen=True, slots=True)
class Memory:
    """A run's peak memory.

    Attributes:
        parts: GiB by part, in the order of `PARTS`; they add up to the total.
        passing_gib: what of it comes and goes in a step, the reserve left out.
    """

    parts: Mapping[str, float] = field(default_factory=dict)
    passing_gib: float = 0.0

    @property
    def total(self) -> float:
        """GiB of all parts."""
        return sum(self.parts.values())

    @property
    def counted_gib(self) -> float:
        """GiB that the formulas count: all but the reserve."""
        return self.total - self.parts["reserve"]


@dataclass(frozen=True, slots=True)
class Afterwards:
    """Peaks of what follows training, in a process of its own without gradients or optimizer.

    Attributes:
        measuring_gib: while held-out rows are measured.
        answering_gib: while they are answered, the longest row taken for the longest prompt.
    """

    measuring_gib: float
    answering_gib: float


def number_width(precision: str, device: Device) -> int:
    """Bytes of a number while computing: "auto" is 16-bit on a GPU and fp32 on the CPU, as the recipe documents."""
    if precision == "auto":
        return 2 if device == "cuda" else FP32
    return FP32 if precision == "fp32" else 2


def predict(
    dims: ModelDims,
    recipe: Recipe,
    *,
    longest: int,
    device: Device,
    loss: Loss | None = None,
    calibration: Calibration = UNCALIBRATED,
) -> Memory:
    """The peak memory of training by ``recipe``.

    Args:
        dims: the base model's widths.
        recipe: what is done; its micro-batch, method, optimizer, precision and checkpointing count.
        longest: tokens of the longest row that is trained on (at most ``data.max_length`` counts).
        device: "cuda" counts device memory, "cpu" the resident memory of the process.
        loss: "chunked" as TRL computes it, "full" for engines that hold all logits; None as the recipe says.
        calibration: what was measured on this machine.

    Liger's kernels and flash-attention that "auto" may choose are counted as if they were not there: they need less.
    """
    method, objective = METHODS[recipe.method.name], OBJECTIVES[recipe.objective.name]
    width = number_width(recipe.train.precision, device)
    numbers = Numbers(width, 1 if device == "cuda" else FP32, method.quantised)
    rows = recipe.train.batch_size * objective.rows_per_example
    length = max(1, min(longest, recipe.data.max_length, dims.context))
    batch = (Batch.packed if recipe.train.short_rows == "packed" else Batch.padded)(rows, length)
    fused = recipe.train.attention != "eager" and not dims.bent_scores
    batch = replace(batch, masked=batch.masked and recipe.train.attention != "flash", whole_scores=not fused)
    trained = method.trained_parameters(dims.linear_shapes(), recipe.method)
    if loss is None:
        loss = "full" if recipe.train.loss == "all" and not objective.preference else "chunked"
    lost = activations.logits(dims, numbers, batch, device=device, loss=loss, learns_pairs=objective.preference)
    at_loss, at_layer = _passing(dims, recipe, method, numbers, batch, trained)
    # The loss is gone when the layers' backward pass begins: only the higher of the two moments counts.
    in_layers = at_layer >= at_loss + lost
    gradients, states = trained * FP32, trained * OPTIMIZER_BYTES[recipe.train.optimizer]
    parts = {
        "weights": weight_bytes(dims, recipe, width),
        "adapter": trained * FP32,
        "gradients": gradients,
        "optimizer": states,
        "activations": at_layer if in_layers else at_loss,
        "logits": 0 if in_layers else lost,
        "reserve": _reserve(passing := max(at_layer, at_loss + lost), device, calibration),
    }
    return Memory(MappingProxyType({name: parts[name] / GIB for name in PARTS}), passing / GIB)


def predict_afterwards(
    dims: ModelDims,
    recipe: Recipe,
    *,
    longest: int,
    device: Device,
    calibration: Calibration = UNCALIBRATED,
) -> Afterwards:
    """The peaks of evaluating what was trained by ``recipe``; arguments as of `predict`.

    On a GPU both try again with half the rows when memory runs out; on a CPU, 4-bit weights are expanded where there
    is room, which is not counted here. Held-out rows that are measured during training need less than training does.
    """
    method = METHODS[recipe.method.name]
    width = number_width(recipe.train.precision, device)
    numbers = Numbers(width, 1 if device == "cuda" else FP32, method.quantised)
    length = max(1, min(longest, recipe.data.max_length, dims.context))
    answer = max(0, min(recipe.evaluate.max_new_tokens, dims.context - length))
    batch = replace(Batch.padded(recipe.evaluate.batch_size, length), whole_scores=dims.bent_scores)
    trained = method.trained_parameters(dims.linear_shapes(), recipe.method)
    held = weight_bytes(dims, recipe, width) + trained * FP32

    def peak(passing: float) -> float:
        return (held + passing + _reserve(passing, device, calibration)) / GIB

    return Afterwards(
        measuring_gib=peak(asking.measuring(dims, numbers, batch, device=device)),
        answering_gib=peak(asking.answering(dims, numbers, batch, answer)),
    )


def weight_bytes(dims: ModelDims, recipe: Recipe, width: int) -> float:
    """Bytes of the base weights: linear layers in 4-bit where the method quantises, the rest in the compute format."""
    rest = dims.embedding_parameters() + dims.small_parameters() + dims.expert_parameters()
    if not METHODS[recipe.method.name].quantised:
        return float((dims.linear_parameters() + rest) * width)
    double = bool(getattr(recipe.method, "double_quantisation", True))
    return dims.linear_parameters() * (BITS_4_DOUBLE if double else BITS_4) / 8 + rest * width


def _passing(
    dims: ModelDims, recipe: Recipe, method: Method, numbers: Numbers, batch: Batch, trained: int
) -> tuple[float, float]:
    """Bytes of activations at the loss, the loss itself left out, and at the peak of the layers' backward pass.

    With checkpointing each layer keeps its input alone, and one layer at a time is computed again. Under autocast each
    adapter weight has a 16-bit copy for as long as its layer's activations are kept.
    """
    shapes, again = dims.linear_shapes(), recipe.train.checkpointing
    all_layers = activations.kept_by_base(dims, numbers, batch) + method.kept_per_token(shapes, recipe.method, numbers)
    copies = trained * numbers.width if numbers.width < FP32 else 0
    around = activations.around(dims, numbers)
    adapted = method.passing_per_token(shapes, recipe.method, numbers)
    # Before the gated product's turn comes, what the last linear layer's adapter kept is freed.
    freed = method.kept_per_token(tuple(each for each in shapes if each.name == "down_proj"), recipe.method, numbers)
    moments = [
        adapted,
        activations.gated_product(dims, numbers, again=again) - freed // max(1, dims.dense_layers),
        activations.scores(dims, numbers, batch),
    ]
    if not again:
        moments.append(activations.final_norm(dims, numbers))
    moment = float(batch.tokens * max(moments))
    if method.quantised:
        product = batch.tokens * numbers.width * max(dims.intermediate // 2, dims.hidden)
        moment = max(moment, product + activations.dequantised(dims, numbers))
    if not again:
        kept = batch.tokens * (all_layers + around) + copies
        return kept, kept + moment
    inputs = batch.tokens * (dims.layers * numbers.width * dims.hidden + around)
    return inputs + copies, inputs + (batch.tokens * all_layers + copies) / dims.layers + moment


def _reserve(passing: float, device: Device, calibration: Calibration) -> float:
    """Bytes of the framework itself and of the allocator's fragments, as measured here where that was done."""
    share = FRAGMENTS[device] if calibration.share is None else calibration.share
    fixed = FIXED_GIB[device] if calibration.fixed_gib is None else calibration.fixed_gib
    return fixed * GIB + share * passing
