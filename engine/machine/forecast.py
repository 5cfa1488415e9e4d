"""What one recipe needs on one machine: memory, time, steps and disk. The Plan page asks it for every draft."""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.machine.calibration import UNCALIBRATED, Calibration, Measured, calibrate, known
from engine.machine.detect import Machine
from engine.machine.dims import ModelDims
from engine.machine.memory import (
    FIXED_GIB,
    FRAGMENTS,
    GIB,
    OPTIMIZER_BYTES,
    Afterwards,
    Device,
    Memory,
    predict,
    predict_afterwards,
)
from engine.machine.time import Speed, cpu_speed, gpu_speed, saves, seconds, step_count, step_seconds
from engine.methods.registry import METHODS
from engine.recipe.recipe import Recipe

# Share of the free memory that a run may plan with; the rest is for what the model does not see. Other programs share
# a processor's memory, and start while a run goes on.
USABLE: dict[str, float] = {"cuda": 0.95, "cpu": 0.85}
# Above this share of the usable memory it fits, but closely.
TIGHT = 0.9
# The adapter's folder also has the tokenizer; tokenizer.json of a family with 150,000 tokens has 11 MB.
TOKENIZER_BYTES = 12_000_000
# What a checkpoint has beside weights and optimizer: random states, progress, manifest (ours).
CHECKPOINT_BYTES = 40_000
# How fast checkpoints reach the disk, flushed and read again for their hashes, until it was measured. Assumed.
WRITE_BYTES_PER_SECOND = 200e6


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
        task: what the rows teach, a key of `table.TASKS`; empty while unknown.
    """

    rows: int
    lengths: Lengths
    preference: bool = False
    learned: float = 1.0
    files: tuple[str, ...] = ()
    task: str = ""


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
        seconds: of training, writing checkpoints included.
        steps: optimizer steps.
        disk_bytes: adapter and checkpoints.
        trained_parameters: weights that are trained.
        step_seconds: of an optimizer step on rows of mean length.
        checkpoint_bytes: of one checkpoint.
        afterwards: memory of the evaluation that follows; not part of `fits`.
    """

    memory: Memory
    room: Room
    seconds: float
    steps: int
    disk_bytes: int
    trained_parameters: int
    step_seconds: float
    checkpoint_bytes: int
    afterwards: Afterwards

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
    return replace(where, calibration=calibrate(lines, FIXED_GIB[where.device], FRAGMENTS[where.device]))


def forecast(recipe: Recipe, dims: ModelDims, data: DataFacts, where: Room) -> Forecast:
    """What ``recipe`` needs in ``where``. Well under a millisecond; no file is read."""
    cut = min(recipe.data.max_length, dims.context)
    whole, held_out = split_rows(data.rows, recipe.data.held_out)
    trained_rows = recipe.data.chosen(whole)
    steps = step_count(recipe, trained_rows)
    correction, length = where.calibration, min(data.lengths.mean, cut)
    slower = correction.time_of(recipe.method.name)
    trained = METHODS[recipe.method.name].trained_parameters(dims.linear_shapes(), recipe.method)
    checkpoint = round(correction.checkpoint * checkpoint_bytes(trained, recipe))
    training = seconds(
        dims,
        recipe,
        where.speed,
        rows=trained_rows,
        held_out=held_out,
        mean_length=length,
        learned=data.learned,
        scored=whole if recipe.data.asks_model else 0,
    )
    written = saves(recipe, steps, held_out) + safety_saves(recipe, slower * training)
    writing = written * checkpoint / (correction.write_bytes_per_second or WRITE_BYTES_PER_SECOND)
    longest, device = data.lengths.longest, where.device
    return Forecast(
        memory=predict(dims, recipe, longest=longest, device=device, calibration=correction),
        room=where,
        seconds=slower * training + writing,
        steps=steps,
        disk_bytes=disk_bytes(trained, recipe, checkpoint, written),
        trained_parameters=trained,
        step_seconds=slower * step_seconds(dims, recipe, where.speed, length=length, learned=data.learned),
        checkpoint_bytes=checkpoint,
        afterwards=predict_afterwards(dims, recipe, longest=longest, device=device, calibration=correction),
    )


def measured(
    recipe: Recipe,
    dims: ModelDims,
    where: Room,
    *,
    length: int,
    held_gib: float,
    seconds: float = 0.0,
    learned: float = 1.0,
    checkpoint: tuple[int, float] | None = None,
    torch: str = "",
) -> Measured:
    """A measurement beside what the formulas tell uncorrected; for `calibration.record`, with ``where``'s device, name
    and whole_gib.

    Args:
        length: tokens of the longest row of the batches that ran.
        held_gib: as in `Measured`.
        seconds: of an optimizer step whose rows all have about that length; 0 when it was not measured.
        learned: share of the tokens that the loss counted.
        checkpoint: bytes of a checkpoint that was written, and the seconds until it was on the disk.
        torch: its version.
    """
    memory = predict(dims, recipe, longest=length, device=where.device)
    trained = METHODS[recipe.method.name].trained_parameters(dims.linear_shapes(), recipe.method)
    written, took = checkpoint or (0, 0.0)
    return Measured(
        counted_gib=memory.counted_gib,
        passing_gib=memory.passing_gib,
        held_gib=held_gib,
        told_seconds=step_seconds(dims, recipe, where.speed, length=length, learned=learned) if seconds else 0.0,
        seconds=seconds,
        torch=torch,
        method=recipe.method.name,
        told_checkpoint_bytes=checkpoint_bytes(trained, recipe) if written else 0,
        checkpoint_bytes=written,
        write_bytes_per_second=written / took if took > 0 else 0.0,
    )


def split_rows(rows: int, held_out: float) -> tuple[int, int]:
    """Rows trained on and rows held out."""
    out = round(rows * held_out)
    return max(1, rows - out), out


def checkpoint_bytes(trained: int, recipe: Recipe) -> int:
    """Bytes of one checkpoint: the adapter in fp32 and the optimizer's state."""
    return int(trained * (4 + OPTIMIZER_BYTES[recipe.train.optimizer])) + CHECKPOINT_BYTES


def safety_saves(recipe: Recipe, seconds: float) -> int:
    """Checkpoints that a run of so many seconds writes at the most so that little work can be lost."""
    return int(seconds / (60 * recipe.train.save_minutes)) if recipe.train.save_minutes else 0


def disk_bytes(trained: int, recipe: Recipe, checkpoint: int, written: int) -> int:
    """Bytes that the run holds on the disk at the most: the adapter in fp32 and the kept checkpoints, one more while
    the newest is written, and the best one.

    Args:
        checkpoint: bytes of one.
        written: how many are written in all.
    """
    return trained * 4 + TOKENIZER_BYTES + min(written, recipe.train.keep_checkpoints + 2) * checkpoint


def gib(count: int) -> float:
    """Bytes as GiB."""
    return count / GIB
