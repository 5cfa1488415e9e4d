"""What every objective's trainer shares: what it is made of, its arguments, the order of rows, and TRL's hooks.

Heavy; imported by the work files only. Rows come tokenised from the data room: no trainer renders or tokenises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from peft import PeftModel
from torch.utils.data import Dataset, Sampler
from transformers import PreTrainedTokenizerBase, PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_pt_utils import get_length_grouped_indices

from engine.objectives.head import IGNORED
from engine.objectives.ladder import Ladder
from engine.objectives.recovering import Recovering, length_of
from engine.protocol.errors import UserError
from engine.protocol.text import say
from engine.recipe.recipe import Recipe, TrainSettings

if TYPE_CHECKING:
    from engine.data.token_store import Examples

Encode = Callable[["Examples", int], dict[str, Any]]
Configuration = TypeVar("Configuration", bound=TrainingArguments)

OPTIMIZERS = {
    "adamw": "adamw_torch_fused",
    "paged_adamw": "paged_adamw_32bit",
    "adamw_8bit": "adamw_bnb_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
}


@dataclass(frozen=True, slots=True)
class Parts:
    """What a trainer is made of.

    Attributes:
        model: with its adapter, on its device.
        recipe: with its precision decided.
        train, held_out: tokenised rows; ``held_out`` may be empty.
        steps, warmup: optimizer steps in all, and those in which the rate rises.
        folder: an empty folder for whatever the library insists on writing.
        callbacks: told of every step.
        save: called to write a checkpoint of the trainer.
        ladder: the way down when memory runs out; without one it ends the training.
        left_out: optimizer steps (from 1) whose rows are passed over.
    """

    model: PeftModel
    tokenizer: PreTrainedTokenizerBase
    recipe: Recipe
    train: Examples
    held_out: Examples
    steps: int
    warmup: int
    folder: Path
    callbacks: list[TrainerCallback]
    save: Callable[[Trainer], None]
    ladder: Ladder | None = None
    left_out: frozenset[int] = frozenset()


def one_device(configuration: Configuration) -> Configuration:
    """The configuration with one GPU, however many there are: the model is on the first, and TRL cannot split it."""
    if configuration.n_gpu > 1:  # reading it sets it
        configuration._n_gpu = 1
    return configuration


def arguments(parts: Parts) -> dict[str, Any]:
    """Keyword arguments that every TRL configuration understands. Raises `UserError` for what a Mac's GPU lacks."""
    settings: TrainSettings = parts.recipe.train
    on = next(parts.model.parameters()).device.type
    if on == "mps" and settings.optimizer != "adamw":
        raise UserError(
            "train.optimizer",
            say("8-bit and paged optimizers need an NVIDIA GPU or a CPU.", "8 位与分页优化器需要 NVIDIA GPU 或 CPU。"),
            say('Set the optimizer to "adamw".', "请将优化器设为“adamw”。"),
            where="train.optimizer",
        )
    return {
        "output_dir": str(parts.folder),
        "max_steps": parts.steps,
        "warmup_steps": parts.warmup,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.scheduler,
        "optim": OPTIMIZERS[settings.optimizer],
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "per_device_train_batch_size": settings.batch_size,
        "per_device_eval_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.accumulation,
        "activation_checkpointing": settings.checkpointing,
        "bf16": settings.precision == "bf16",
        "fp16": settings.precision == "fp16",
        "seed": settings.seed,
        "use_cpu": on == "cpu",
        "dataloader_pin_memory": on == "cuda",
        "logging_steps": 1,
        # A loss that is not a number must be seen, not averaged away.
        "logging_nan_inf_filter": False,
        # When to measure and to save is the run's decision, not the library's.
        "eval_strategy": "no",
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
    }


class Rows(Dataset[dict[str, Any]]):
    """Tokenised rows, read from the disk when their turn comes.

    Args:
        rows: where they are.
        encode: makes of a row what the collator is given.
        from_start: what is cut of a row is its beginning.

    Attributes:
        longest: tokens to which rows are cut; 0 leaves them as they are.
    """

    def __init__(self, rows: Examples, encode: Encode, *, from_start: bool = False) -> None:
        self._rows, self._encode, self._from_start = rows, encode, from_start
        self.longest = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self._encode(self._rows, index)
        return cut(row, self.longest, from_start=self._from_start) if self.longest else row


class EpochSampler(Sampler[int]):
    """The order of rows in each pass, a function of seed and pass alone, so that a resumed run repeats it exactly.

    transformers' own sampler draws from the global generator, whose state at the start of a pass no checkpoint holds.
    """

    def __init__(self, lengths: Sequence[int], *, group: int, grouped: bool, seed: int, as_given: bool = False) -> None:
        """``group`` rows make one optimizer step; with ``grouped`` rows of like length share one; ``as_given``: in the
        order in which the rows stand."""
        self.group = group
        self._as_given = as_given
        self._lengths = list(lengths)
        self._grouped = grouped
        self._seed = seed
        self._epoch = 0
        self._known: tuple[int, list[int]] = (-1, [])

    def __len__(self) -> int:
        return len(self._lengths)

    def set_epoch(self, epoch: int) -> None:
        """Choose the pass, from 0."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices(self._epoch))

    def indices(self, epoch: int) -> Sequence[int]:
        """Places of the rows, in the order of a pass."""
        if self._known[0] != epoch:
            self._known = (epoch, self._ordered(epoch))
        return self._known[1]

    def _ordered(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(self._seed + epoch)
        if self._as_given:
            return list(range(len(self._lengths)))
        if not self._grouped:
            order: list[int] = torch.randperm(len(self._lengths), generator=generator).tolist()
            return order
        order = get_length_grouped_indices(self._lengths, self.group, generator=generator)
        steps = [order[start : start + self.group] for start in range(0, len(order), self.group)]
        # The library leaves long before short, which the loss curve shows as a saw. The first step stays, because it
        # has the longest row (what does not fit fails at once), and the last, because it may be short of rows.
        middle = torch.randperm(max(len(steps) - 2, 0), generator=generator).tolist()
        mixed = [*steps[:1], *(steps[1 + place] for place in middle), *steps[1:][-1:]]
        return [index for step in mixed for index in step]


class GivenUp(Exception):
    """A callback ends a measurement early."""


class Hooks(Recovering):
    """What Lorimer's trainers do otherwise than TRL's. Stands before TRL's class in the order of bases."""

    order: EpochSampler
    save: Callable[[Trainer], None]

    def attach(self, parts: Parts, encode: Encode) -> None:
        """Give the built trainer its rows, their order and its checkpoints; ``encode`` as in `Rows`."""
        settings = parts.recipe.train
        from_start = parts.recipe.data.over_long == "cut_start"
        self.train_dataset = Rows(parts.train, encode, from_start=from_start)
        # Measured from short to long: that saves padding.
        measured = parts.held_out.taken(np.argsort(parts.held_out.lengths, kind="stable"))
        self.eval_dataset = Rows(measured, encode, from_start=from_start) if len(measured) else None
        self.order = EpochSampler(
            parts.train.lengths.tolist(),
            group=settings.batch_size * settings.accumulation,
            grouped=settings.short_rows == "grouped",
            seed=settings.seed,
            as_given=parts.recipe.data.order != "shuffled",
        )
        self.save = parts.save
        self.ladder, self.left_out = parts.ladder, parts.left_out
        if self.ladder is not None:
            self.stand_on(self.ladder)
        self.remove_callback(PrinterCallback)

    def _send_telemetry(self) -> None:
        """Nothing. TRL would tell its maker which model family is trained on which machine."""

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:
        return self.order

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.save(self)

    def _evaluate(self, *arguments: Any, **named: Any) -> dict[str, float]:
        """Measure; nothing is told of a measurement that was given up."""
        try:
            return super()._evaluate(*arguments, **named)
        except GivenUp:
            self.control.should_evaluate = False
            return {}

    def _get_dataloader(self, *arguments: Any, **named: Any) -> Any:
        """Batches stay in RAM until their part is computed: counting their tokens makes no GPU wait."""
        placed = self.accelerator.device_placement
        self.accelerator.device_placement = False
        try:
            return super()._get_dataloader(*arguments, **named)
        finally:
            self.accelerator.device_placement = placed

    def _prepare_input(self, data: Any) -> Any:
        """To the device; from pinned memory a GPU fetches it by itself."""
        if isinstance(data, torch.Tensor):
            return data.to(self.args.device, non_blocking=self.args.device.type == "cuda")
        return super()._prepare_input(data)


def cut(row: dict[str, Any], longest: int, *, from_start: bool) -> dict[str, Any]:
    """A row of at most ``longest`` tokens, as the collator is given it.

    Its end is cut, or with ``from_start`` its beginning, unless nothing that is learned would be left. Of a preference
    at most three quarters are the prompt, whose beginning is cut, and answers lose their end.
    """
    if "prompt_ids" in row:
        prompt = row["prompt_ids"][-(longest * 3 // 4) :]
        answers = {name: row[name][: longest - len(prompt)] for name in ("chosen_ids", "rejected_ids")}
        return {**row, "prompt_ids": prompt, **answers} if length_of(row) > longest else row
    end, beginning = slice(None, longest), slice(-longest, None)
    ways = (beginning, end) if from_start else (end, beginning)
    way = next((each for each in ways if bool((row["labels"][each][1:] != IGNORED).any())), ways[0])
    return {name: value[way] for name, value in row.items()}


def full_precision(model: PeftModel) -> Callable[[], None]:
    """A function that gives the adapter the weights it has now.

    On 4-bit models TRL's constructors round adapters to bf16, in which a small rate's updates vanish (8 bits of
    mantissa: a change below 1/256 of the weight is lost), and which old GPUs and CPUs compute slowly. Lorimer keeps
    them in fp32, as peft makes them.
    """
    kept = {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}

    def restore() -> None:
        for name, weight in model.named_parameters():
            if name in kept:
                weight.data = kept[name].to(weight.device)

    return restore
