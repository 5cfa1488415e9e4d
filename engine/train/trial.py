"""One trial of a rehearsal, in a process of its own: what a run by the recipe does, on its longest rows.

Real weights, adapter, trainer, optimizer and rows; only the number of batches is small. Nothing of it stays: weights
and random numbers end with the process, and what is written lies in a folder that is removed.
"""

from __future__ import annotations

import importlib
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Subset
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.utils import logging as library_log

from engine.data.encode import Example
from engine.data.lengths import summary
from engine.data.prepare import Prepared, prepare
from engine.data.token_store import Examples
from engine.evaluate.watch import Watch
from engine.host.platform import be_ended_first
from engine.methods.registry import METHODS
from engine.model.inspect import inspect
from engine.model.load import (
    add_kernels,
    decide_attention,
    decide_precision,
    device,
    load_for,
    load_tokenizer,
    ran_out_of_memory,
)
from engine.model.locate import locate
from engine.objectives.registry import OBJECTIVES
from engine.objectives.trainer import Hooks, Parts
from engine.project.fingerprint import fingerprint
from engine.project.run_folder import JobFolder, RunFolder
from engine.protocol.channel import Channel
from engine.protocol.errors import Stopped
from engine.protocol.events import Note, Progress, Result, Stage
from engine.protocol.text import Text, say
from engine.recipe.file import to_plain
from engine.recipe.recipe import Recipe
from engine.train import checkpoints
from engine.train.adapter import save_state
from engine.train.listing import Line, Listing, in_batches, listing, padded
from engine.train.peak import Peak
from engine.train.plan import Schedule, schedule

SECONDS = 20.0
"""How long all of it may take, once the model is loaded."""
TRAINING, MEASURING = 0.6, 0.75
"""Share of that time after which no further batch is trained on, and none is measured."""
NEW_TOKENS = 16
LEARNED_SAMPLE = 500
PROBE_BYTES, PROBE_SECONDS, BLOCK_BYTES = 2**26, 1.0, 2**22
ROOM_BYTES = 2**30
"""With less than this free on the disk, its speed is not measured."""


def trial(
    recipe: Recipe, folder: JobFolder, channel: Channel, *, parent: int = 0, seconds: float = SECONDS
) -> dict[str, Any]:
    """Rehearse the recipe once.

    Before the model is loaded, a `Result` tells what is known of the data: a trial that the system ends has told it.

    Args:
        folder: the trial's; scratch files go to its disk.
        parent: the process that started it; without it the trial ends.
        seconds: how long it may take at the most, the model's loading left out; an optimizer step on the longest rows
            is done in any case.

    Returns:
        What `engine.train.rehearse` makes its `Rehearsed` of.

    Raises:
        UserError: the recipe, data or model are wrong, or memory or disk ran out (``memory.gpu``, ``memory.ram``).
        Stopped: the user asked.
    """
    library_log.set_verbosity_warning()
    be_ended_first()
    watch = _Watch(channel, parent)
    try:
        return _trial(recipe, folder, channel, watch, seconds)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if (failure := ran_out_of_memory(error)) is None:
            raise
        raise failure from error


class _Watch(Watch):
    """Ends the trial also when the process is gone that wants to know of it."""

    def __init__(self, channel: Channel, parent: int) -> None:
        super().__init__(channel)
        self._parent = parent

    def look(self) -> None:
        super().look()
        if self._parent and not psutil.pid_exists(self._parent):
            raise Stopped


@dataclass
class _Time:
    """The time that the trial has, told as its progress."""

    channel: Channel
    watch: Watch
    seconds: float
    began: float = field(default_factory=time.monotonic)

    @property
    def spent(self) -> float:
        """Share of it that is spent."""
        return (time.monotonic() - self.began) / self.seconds

    def stage(self, name: str, text: Text) -> None:
        """Another part begins."""
        self.channel.emit(Stage(name=name, text=text))
        self.tell()

    def tell(self) -> None:
        """Say how much is spent. Raises `Stopped` when the user asks."""
        self.channel.emit(Progress(done=round(min(1.0, self.spent) * self.seconds, 1), total=self.seconds, unit="s"))
        self.watch.look()


def _trial(recipe: Recipe, folder: JobFolder, channel: Channel, watch: Watch, seconds: float) -> dict[str, Any]:
    on = device()
    peak = Peak(on)
    method, objective = METHODS[recipe.method.name], OBJECTIVES[recipe.objective.name]

    watch.stage("data", say("Reading the data", "读取数据"), 0, "rows")
    model_folder = inspect(locate(recipe.model.source, revision=recipe.model.revision)).path
    prepared = prepare(recipe.data, preference=objective.preference, model_folder=model_folder, progress=watch.counting)
    plan = schedule(recipe.train, rows=recipe.data.chosen(len(prepared.train)), held_out=len(prepared.held_out))
    listed = listing(prepared.train.lengths, recipe)
    told = _facts(recipe, prepared, listed, model_folder)
    channel.emit(Result(value=dict(told)))

    watch.stage("model", say("Loading the model", "加载模型"), 0, "")
    began = time.monotonic()
    real = _listed_recipe(recipe, listed, on)
    with peak, tempfile.TemporaryDirectory(prefix="scratch-", dir=folder.path) as scratch:
        model = load_for(real, model_folder, attention=decide_attention(real, on), device=on)
        add_kernels(model, real)
        tokenizer = load_tokenizer(model_folder, prepared.template)
        set_seed(real.train.seed)
        adapted = importlib.import_module(method.work).build(model, real.method)
        clock = _Clock(on, _Time(channel, watch, seconds))
        parts = Parts(
            model=adapted,
            tokenizer=tokenizer,
            recipe=real,
            train=prepared.train.taken(listed.places),
            held_out=prepared.held_out,
            steps=listed.steps,
            warmup=0,
            folder=Path(scratch),
            callbacks=[clock],
            save=lambda trainer: None,
        )
        trainer: Hooks = importlib.import_module(objective.work).build_trainer(parts)
        told["load_seconds"] = time.monotonic() - began
        clock.time.began = time.monotonic()

        told |= _train(trainer, clock, listed, prepared.train, recipe, plan, peak)
        told |= _measure(trainer, clock, prepared.held_out, real, plan, peak)
        told |= _write(trainer, clock, Path(scratch), plan)
        told |= _generate(trainer, clock, tokenizer, prepared.train, recipe, peak)
    if not np.isfinite(clock.losses).all():
        text = say(
            "The loss was no number in the rehearsal: lower the learning rate, or use bf16 or fp32.",
            "排练中损失不是数字：请降低学习率，或使用 bf16 或 fp32。",
        )
        channel.emit(Note(code="rehearsal.not_finite", level="warning", text=text))
    told["seconds"] = told["training_seconds"] + told["measuring_seconds"] + told["writing_seconds"]
    return told


def _facts(recipe: Recipe, prepared: Prepared, listed: Listing, model_folder: Path) -> dict[str, Any]:
    """What the forecast needs to know of the data, and what tells whether all is still the same."""
    rows = prepared.train
    lengths = np.concatenate([each.lengths for each in (rows, prepared.held_out) if len(each)])
    sample = rows.taken(np.linspace(0, len(rows) - 1, min(len(rows), LEARNED_SAMPLE)).astype(np.int64))
    of_longest = rows.taken(listed.places[-listed.batch_size :])
    return {
        "about": fingerprint(to_plain(recipe), model_folder),
        "model_folder": str(model_folder),
        "rows": len(lengths),
        "lengths": summary(lengths.astype(np.int32)),
        "learned": float(min(1.0, sample.learned.sum() / max(1, sample.lengths.sum()))),
        "longest": int(rows.lengths.max()),
        "learned_longest": float(min(1.0, of_longest.learned.sum() / max(1, of_longest.lengths.sum()))),
        "torch": torch.__version__,
    }


def _listed_recipe(recipe: Recipe, listed: Listing, on: str) -> Recipe:
    """The recipe with its number format decided, for a trainer that takes the listed rows one after another."""
    train = recipe.train.model_copy(
        update={
            "precision": decide_precision(recipe.train.precision, on),
            "batch_size": listed.batch_size,
            "accumulation": listed.accumulation,
        }
    )
    return recipe.model_copy(update={"train": train, "data": recipe.data.model_copy(update={"order": "file"})})


# ------------------------------------------------------------------------------------------------------------- training
class _Clock(TrainerCallback):
    """Times batches and steps, and ends the training when its share of the time is spent.

    Attributes:
        batches, steps: seconds of each.
        losses: of each batch.
    """

    def __init__(self, on: str, limit: _Time) -> None:
        self._on = on
        self.time = limit
        self.batches: list[float] = []
        self.steps: list[float] = []
        self.losses: list[float] = []
        self._step_began = 0.0

    def watch(self, trainer: Hooks) -> None:
        """Time each batch of the trainer from now on."""
        plain: Callable[..., torch.Tensor] = trainer.training_step

        def timed(*given: Any, **named: Any) -> torch.Tensor:
            loss: torch.Tensor
            seconds, loss = self.timed(lambda: plain(*given, **named))
            self.batches.append(seconds)
            self.losses.append(float(loss))
            self.time.tell()
            return loss

        trainer.training_step = timed  # type: ignore[method-assign]

    def timed(self, work: Callable[[], Any]) -> tuple[float, Any]:
        """Seconds until the device has done ``work``, and what it gives."""
        self._finish()
        began = time.perf_counter()
        found = work()
        self._finish()
        return time.perf_counter() - began, found

    def _finish(self) -> None:
        if self._on == "cuda":
            torch.cuda.synchronize()
        elif self._on == "mps":
            torch.mps.synchronize()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._step_began = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._finish()
        self.steps.append(time.perf_counter() - self._step_began)
        self._step_began = time.perf_counter()
        names = {1: LONGEST, 2: TYPICAL}
        if state.global_step in names:
            self.time.stage("train", names[state.global_step])
        # The step on the longest rows is what all this is for.
        control.should_training_stop |= state.global_step >= 2 and self.time.spent > TRAINING


SHORT = say("Rehearsing: first step", "排练：第一步")
LONGEST = say("Rehearsing: the longest rows", "排练：最长的行")
TYPICAL = say("Rehearsing: rows of usual length", "排练：通常长度的行")


def _train(
    trainer: Hooks, clock: _Clock, listed: Listing, rows: Examples, recipe: Recipe, plan: Schedule, peak: Peak
) -> dict[str, Any]:
    """Short rows, the longest, then usual ones as long as there is time; and what the run's steps will take by that."""
    clock.time.stage("train", SHORT)
    clock.watch(trainer)
    peak.begin()
    trainer.train()
    each = listed.accumulation
    # The first step is slower than all others: libraries and kernels are loaded with it.
    line = Line.through(listed.tokens[each : len(clock.batches)].tolist(), clock.batches[each:])
    beside = [
        whole - sum(clock.batches[each * number : each * (number + 1)])
        for number, whole in enumerate(clock.steps)
        if number
    ]
    between = statistics.median(beside)
    # Of a choice of rows, a pass has fewer batches than were listed.
    batches = math.ceil(recipe.data.chosen(len(rows)) / recipe.train.batch_size) / plan.steps_per_epoch
    step = batches * line.all(listed.every) / len(listed.every) + between
    longest = statistics.fmean(clock.batches[each : 2 * each])
    return {
        "peak_gib": peak.gib,
        "step_seconds": step,
        # On a machine that does something else meanwhile, usual rows may seem to take longer.
        "longest_step_seconds": max(step, recipe.train.accumulation * longest + between),
        "steps": plan.steps,
        "training_seconds": plan.steps * step,
        "batches": len(clock.batches),
    }


# ------------------------------------------------------------------------------------------------------------ measuring
def _measure(
    trainer: Hooks, clock: _Clock, held_out: Examples, real: Recipe, plan: Schedule, peak: Peak
) -> dict[str, Any]:
    """The longest held-out rows, then others as long as there is time; and what all of them take by that."""
    if not len(held_out) or not plan.evaluate_every:
        return {"evaluation_gib": None, "evaluation_seconds": None, "measuring_seconds": 0.0}
    clock.time.stage("evaluate", say("Rehearsing: measuring held-out rows", "排练：评估留出数据"))
    lengths = np.sort(held_out.lengths)  # the trainer measures from short to long
    batches = in_batches(np.arange(len(lengths)), real.train.batch_size)
    tokens = padded(lengths, batches, real.train.short_rows == "packed")
    peak.begin()
    seconds = [_evaluated(trainer, clock, batches[-1])]
    known = [float(tokens[-1])]
    for place in _halves(len(batches) - 1):
        if clock.time.spent > MEASURING:
            break
        seconds.append(_evaluated(trainer, clock, batches[place]))
        known.append(float(tokens[place]))
        clock.time.tell()
    # The first is slower: the evaluation's own preparation is in it.
    line = Line.through(known[1:], seconds[1:]) if len(known) > 2 else Line.through(known, seconds)
    whole = line.all(tokens)
    times = plan.evaluations_after(0)
    return {"evaluation_gib": peak.gib, "evaluation_seconds": whole, "measuring_seconds": times * whole}


def _halves(last: int) -> list[int]:
    """Some places before ``last``, spread."""
    return sorted({last // 2, last // 4, 3 * last // 4, 0} - {last}, reverse=True) if last > 0 else []


def _evaluated(trainer: Hooks, clock: _Clock, places: NDArray[np.int64]) -> float:
    rows: Dataset[dict[str, Any]] = Subset(trainer.eval_dataset, places.tolist())
    return clock.timed(lambda: trainer.evaluate(eval_dataset=rows))[0]


# -------------------------------------------------------------------------------------------------------------- writing
def _write(trainer: Hooks, clock: _Clock, scratch: Path, plan: Schedule) -> dict[str, Any]:
    """A whole checkpoint, as a run writes it, and how fast the disk is."""
    clock.time.stage("checkpoint", say("Rehearsing: writing a checkpoint", "排练：写入检查点"))
    began = time.perf_counter()
    saved = checkpoints.write(RunFolder(scratch), 1, {}, lambda folder: save_state(trainer, folder))
    seconds = time.perf_counter() - began
    size = sum(path.stat().st_size for path in saved.path.rglob("*") if path.is_file())
    return {
        "checkpoint_bytes": size,
        "checkpoint_seconds": seconds,
        "writing_seconds": len([step for step in range(1, plan.steps + 1) if plan.saves_at(step)]) * seconds,
        "disk_bytes_per_second": size / seconds if size > PROBE_BYTES else disk_speed(scratch),
    }


def disk_speed(folder: Path) -> float | None:
    """Bytes a second that the folder's disk takes, flushed; None where it is nearly full. Takes about a second."""
    if psutil.disk_usage(str(folder)).free < ROOM_BYTES:
        return None
    block, written = os.urandom(BLOCK_BYTES), 0
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        began = time.perf_counter()
        while written < PROBE_BYTES and time.perf_counter() - began < PROBE_SECONDS:
            file.write(block)
            file.flush()
            os.fsync(file.fileno())
            written += BLOCK_BYTES
        return written / (time.perf_counter() - began)


# ----------------------------------------------------------------------------------------------------------- generation
def _generate(
    trainer: Hooks, clock: _Clock, tokenizer: PreTrainedTokenizerBase, rows: Examples, recipe: Recipe, peak: Peak
) -> dict[str, Any]:
    """Some tokens for the rows with the longest questions, as many at once as the evaluation asks."""
    clock.time.stage("generate", say("Rehearsing: answering", "排练：生成回答"))
    longest = np.argsort(rows.lengths, kind="stable")[-recipe.evaluate.batch_size :]
    prompts = [_prompt(rows[int(place)]) for place in longest]
    ids, mask = _left_padded(prompts, int(tokenizer.pad_token_id or 0))
    model: Any = trainer.model
    settings = GenerationConfig(max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=tokenizer.pad_token_id)
    model.eval()
    peak.begin()
    with torch.inference_mode():
        seconds, given = clock.timed(
            lambda: model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                generation_config=settings,
                stopping_criteria=StoppingCriteriaList([_Until(clock.time)]),
            )
        )
    tokens = (given.shape[1] - ids.shape[1]) * len(prompts)
    return {"generation_gib": peak.gib, "tokens_per_second": tokens / seconds}


def _prompt(example: Example) -> list[int]:
    """What stands before the first learned token; of a text that is learned from its start, its first half."""
    if example.prompt_ids:
        return example.prompt_ids
    first = example.learned.index(True) if any(example.learned) else len(example.learned)
    return example.input_ids[: first or max(1, len(example.input_ids) // 2)]


def _left_padded(prompts: Sequence[Sequence[int]], padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width), padding)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    return ids, mask


class _Until(StoppingCriteria):
    """Ends the answers when the time is spent."""

    def __init__(self, limit: _Time) -> None:
        self._limit = limit

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: object) -> torch.Tensor:
        """B times whether it is."""
        self._limit.tell()
        return torch.full((input_ids.shape[0],), self._limit.spent > 1, dtype=torch.bool, device=input_ids.device)
