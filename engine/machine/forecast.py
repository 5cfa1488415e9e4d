"""What one recipe needs on one machine: memory, time, steps and disk. The Plan page asks it for every draft."""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.machine.calibration import UNCALIBRATED, Calibration, calibrate, known
from engine.machine.detect import Machine
from engine.machine.dims import ModelDims
from engine.machine.memory import FIXED_GIB, GIB, OPTIMIZER_BYTES, Device, Memory, predict
from engine.machine.time import Speed, cpu_speed, gpu_speed, seconds, step_count
from engine.methods.registry import METHODS
from engine.recipe.recipe import Recipe

# Share of the free memory that a run may plan with; the rest is for what the model does not see. Other programs share
# a processor's memory, and start while a run goes on.
USABLE: dict[str, float] = {"cuda": 0.95, "cpu": 0.85}
# Above this share of the usable memory it fits, but closely.
TIGHT = 0.9
# The adapter's folder also has the tokenizer; tokenizer.json of a family with 150,000 tokens has 11 MB.
TOKENIZER_BYTES = 12_000_000


@dataclass(frozen=True, slots=True)
class Lengths:
    """Token lengths of the rows, as the model sees them (template included). For preferences: of the longer answer's.

    Attributes:
        mean, p50, p90, p95, p99, longest: tokens.
    """

    mean: float
    p50: int
    p90: int
    p95: int
    p99: int
    longest: int


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What the advice needs to know of the data.

    Attributes:
        rows: rows that can be trained, held-out ones included.
        lengths: their token lengths.
        preference: rows hold a better and a worse answer.
        learned: share of the tokens that the loss counts.
        files: as they stand in the recipe.
    """

    rows: int
    lengths: Lengths
    preference: bool = False
    learned: float = 1.0
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Room:
    """The device that a run goes to.

    Attributes:
        device: "cuda" or "cpu".
        name: for people.
        free_gib, whole_gib: memory free for the run, and all of it.
        speed: how fast it computes.
        imagined: the size was given by the user and is not this machine's.
        calibration: the correction by what was measured on it.
    """

    device: Device
    name: str
    free_gib: float
    whole_gib: float
    speed: Speed
    imagined: bool = False
    calibration: Calibration = UNCALIBRATED

    @property
    def usable_gib(self) -> float:
        """What a run may plan with."""
        return self.free_gib * USABLE[self.device]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What one recipe needs.

    Attributes:
        memory: by part.
        room: where it runs.
        seconds: of training.
        steps: optimizer steps.
        disk_bytes: adapter and checkpoints.
        trained_parameters: weights that are trained.
    """

    memory: Memory
    room: Room
    seconds: float
    steps: int
    disk_bytes: int
    trained_parameters: int

    @property
    def fits(self) -> bool:
        """Whether the peak stays within what may be planned with."""
        return self.memory.total <= self.room.usable_gib

    @property
    def tight(self) -> bool:
        """Whether it fits, but closely."""
        return self.fits and self.memory.total > self.room.usable_gib * TIGHT

    @property
    def spare_gib(self) -> float:
        """What is left of the usable memory; negative when it does not fit."""
        return self.room.usable_gib - self.memory.total


def room(machine: Machine, *, gpu_memory_gib: float | None = None, torch_cuda: bool = True) -> Room:
    """The device that a run goes to on ``machine``, with the correction by what was measured on it (a small file).

    Args:
        gpu_memory_gib: imagine a GPU with so much memory, all of it free; 0 for the CPU.
        torch_cuda: whether the installed torch can use a GPU.
    """
    gpu = machine.gpu if torch_cuda else None
    if gpu_memory_gib:
        same = gpu is not None and gpu.total_gib is not None and abs(gpu.total_gib - gpu_memory_gib) < 1
        speed = gpu_speed(gpu.name if gpu and same else "", gpu.capability if gpu and same else None, gpu_memory_gib)
        return Room("cuda", f"GPU ({gpu_memory_gib:g} GiB)", gpu_memory_gib, gpu_memory_gib, speed, imagined=True)
    if gpu is not None and gpu.total_gib is not None and gpu_memory_gib is None:
        free = gpu.total_gib if gpu.free_gib is None else gpu.free_gib
        speed = gpu_speed(gpu.name, gpu.capability, gpu.total_gib)
        return _measured(Room("cuda", gpu.name, free, gpu.total_gib, speed))
    speed = cpu_speed(machine.cores, machine.cpu)
    return _measured(Room("cpu", machine.cpu or "CPU", machine.ram_free_gib, machine.ram_total_gib, speed))


def _measured(where: Room) -> Room:
    lines = known(where.device, where.name, where.whole_gib)
    return replace(where, calibration=calibrate(lines, FIXED_GIB[where.device]))


def forecast(recipe: Recipe, dims: ModelDims, data: DataFacts, where: Room) -> Forecast:
    """What ``recipe`` needs in ``where``. Well under a millisecond; no file is read."""
    cut = min(recipe.data.max_length, dims.context)
    whole, held_out = split_rows(data.rows, recipe.data.held_out)
    trained_rows = recipe.data.chosen(whole)
    method = METHODS[recipe.method.name]
    trained = method.trained_parameters(dims.linear_shapes(), recipe.method)
    return Forecast(
        memory=predict(dims, recipe, longest=data.lengths.longest, device=where.device, calibration=where.calibration),
        room=where,
        seconds=where.calibration.time
        * seconds(
            dims,
            recipe,
            where.speed,
            rows=trained_rows,
            held_out=held_out,
            mean_length=min(data.lengths.mean, cut),
            learned=data.learned,
            scored=whole if recipe.data.asks_model else 0,
        ),
        steps=step_count(recipe, trained_rows),
        disk_bytes=disk_bytes(trained, recipe),
        trained_parameters=trained,
    )


def split_rows(rows: int, held_out: float) -> tuple[int, int]:
    """Rows trained on and rows held out."""
    out = round(rows * held_out)
    return max(1, rows - out), out


def disk_bytes(trained: int, recipe: Recipe) -> int:
    """Bytes that the run writes: the adapter in fp32 and each kept checkpoint with the optimizer's state, one more
    while the newest is written, and the best one."""
    state = OPTIMIZER_BYTES[recipe.train.optimizer]
    checkpoints = recipe.train.keep_checkpoints + 2
    return int(trained * 4 + TOKENIZER_BYTES + checkpoints * trained * (4 + state))


def gib(count: int) -> float:
    """Bytes as GiB."""
    return count / GIB
