"""A trainer that repeats the step in which memory ran out, with less at once.

What is repeated is one optimizer step: its gradients are dropped, random state and figures are those of its beginning,
and the same rows are computed in smaller parts. Weights, optimizer, schedule and the order of the rows know nothing of
it: each row reaches exactly one update, and the loss is normalised over the same tokens, so that the gradient is that
of the undisturbed step up to rounding.
"""

from __future__ import annotations

import functools
import gc
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput

from engine.model.load import ran_out_of_memory
from engine.objectives.ladder import Ladder
from engine.protocol.errors import UserError

T = TypeVar("T")


class Order(Protocol):
    """In which order the rows are learned."""

    group: int

    def indices(self, epoch: int) -> Sequence[int]:
        """Places of the rows, in the order of a pass."""


@dataclass
class Step:
    """The optimizer step that is computed.

    Attributes:
        batches: as they were loaded.
        items: learned tokens in all of them, over which the loss is normalised; None where it is not.
        done: batches that were begun.
        undo: puts back what the step has changed so far, gradients apart.
    """

    batches: list[dict[str, Any]]
    items: Any
    done: int = 0
    undo: Callable[[], None] = lambda: None

    def is_next(self, batch: dict[str, Any]) -> bool:
        """Whether ``batch`` is the one whose turn it is."""
        return self.done < len(self.batches) and self.batches[self.done] is batch


class Recovering(Trainer):
    """Goes down its `Ladder` when memory runs out, in training as in measuring.

    Attributes:
        order: of the rows.
        ladder: where it stands; None: memory that runs out ends the training.
        left_out: optimizer steps (from 1) whose rows are passed over: nothing is updated.
        tokens: real (not padding) tokens trained on by this trainer.
    """

    order: Order
    model: Any
    optimizer: Any
    train_dataset: Any
    eval_dataset: Any
    ladder: Ladder | None = None
    left_out: frozenset[int] = frozenset()
    tokens: int = 0
    _step: Step | None = None
    _measured: int = 0

    # -------------------------------------------------------------------------------------------------- one micro-batch
    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The batches of an optimizer step, kept until it is done."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.train_dataset.longest:  # one of them may have been loaded before rows were cut
            batches = [self.data_collator(self._rows_of(self._of_batch(place))) for place in range(len(batches))]
            items = self._get_num_items_in_batch(batches, device)
        self._step = Step(batches, items)
        return batches, items

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Gradients of one batch, in as many parts as memory asks for; gives its share of the step's loss."""
        step = self._step
        if step is None or not step.is_next(inputs):  # not a batch of a run, as in a rehearsal
            return self._learn_part(model, inputs, num_items_in_batch)
        if self._passes_over:
            step.done += 1
            return torch.zeros((), device=self.args.device)
        if not step.done:
            step.undo = self._undo("train")
        place = step.done
        step.done += 1
        found = self._attempt(lambda: self._learn(model, place))
        loss = self._again(model, found) if isinstance(found, UserError) else found
        # Batches lie in RAM: counting makes no GPU wait. Packed rows come without a mask: there is no padding.
        mask = inputs.get("attention_mask")
        self.tokens += inputs["input_ids"].numel() if mask is None else int(mask.sum())
        return loss

    def _learn(self, model: Any, place: int) -> torch.Tensor:
        """Gradients of the step's batch ``place``, part by part."""
        step = self._step
        assert step is not None
        total = torch.zeros((), device=self.args.device)
        rows, batches = len(self._of_batch(place)), len(step.batches)
        for part, count in self._parts(place):
            # Losses that are means over rows (preferences) are divided by this: a part has its rows' share of a batch.
            self.current_gradient_accumulation_steps = batches * rows / count  # type: ignore[assignment]
            total = total + self._learn_part(model, part, step.items)
        return total

    def _learn_part(self, model: Any, part: dict[str, Any], items: Any) -> torch.Tensor:
        return super().training_step(model, part, items)

    def _again(self, model: Any, failure: UserError) -> torch.Tensor:
        """The step's batches so far once more, lower and lower until they fit; gives the last one's share of the loss.

        Raises:
            UserError: nothing is left to give up.
        """
        step = self._step
        assert step is not None
        self._check_order(failure)
        found: torch.Tensor | UserError = failure
        while isinstance(found, UserError):
            self._lower(found)
            found = self._attempt(lambda: [self._learn(model, place) for place in range(step.done)][-1])
        return found

    def _lower(self, failure: UserError) -> None:
        """Forget what was computed of the step, and go one rung down."""
        step, ladder = self._step, self.ladder
        assert step is not None
        assert ladder is not None
        self.model.zero_grad(set_to_none=True)
        step.undo()
        before, longest = ladder.rung, max(length_of(row) for row in self._rows_of(self._places()))
        ladder.down(failure, step=self.state.global_step + 1, longest=longest)
        self.stand_on(ladder)
        if ladder.rung.longest != before.longest:
            step.items = self._get_num_items_in_batch(
                [self.data_collator(self._rows_of(self._of_batch(place))) for place in range(len(step.batches))],
                self.args.device,
            )
        free()

    def stand_on(self, ladder: Ladder) -> None:
        """Make model and rows as the rung says; recomputing is never switched off."""
        if ladder.rung.checkpointing and not self.args.activation_checkpointing:
            self.args.activation_checkpointing = self.args.gradient_checkpointing = True
            self.model.enable_input_require_grads()
            self.model.activation_checkpointing_enable()
        for dataset in (self.train_dataset, self.eval_dataset):
            if dataset is not None:
                dataset.longest = ladder.rung.longest

    # ---------------------------------------------------------------------------------------------------- one update
    def _prepare_for_training(self, *arguments: Any, **named: Any) -> Any:
        """The update repeats the step, too, where memory runs out in it."""
        prepared = super()._prepare_for_training(*arguments, **named)  # type: ignore[no-untyped-call]
        update = self.optimizer.step

        @functools.wraps(update)
        def step(closure: Any = None) -> None:
            self._update(lambda: update(closure))

        self.optimizer.step = step
        return prepared

    def _update(self, update: Callable[[], None]) -> None:
        if self._passes_over:
            return
        if self.ladder is None:
            update()
            return
        kept = Kept(getattr(self.optimizer, "optimizer", self.optimizer))
        found = self._attempt(update)
        while isinstance(found, UserError):
            kept.put_back(found)
            self._again_to_its_end(found)
            found = self._attempt(update)

    def _clip_grad_norm(self, model: Any) -> Any:
        if self._passes_over:
            return torch.zeros((), device=self.args.device)
        found = self._attempt(lambda: self._clip(model))
        return self._again_to_its_end(found) if isinstance(found, UserError) else found

    def _again_to_its_end(self, failure: UserError) -> Any:
        """All gradients of the step once more, clipped; gives their norm, None where none is wanted."""
        found: Any = failure
        while isinstance(found, UserError):
            if self.accelerator.scaler is not None:  # its gradients are not those that were unscaled
                self.accelerator.scaler.update(self.accelerator.scaler.get_scale())
            self._again(self.model_wrapped, found)
            if self.args.max_grad_norm <= 0:
                return None
            found = self._attempt(lambda: self._clip(self.model_wrapped))
        return found

    def _clip(self, model: Any) -> Any:
        return super()._clip_grad_norm(model)  # type: ignore[no-untyped-call]

    @property
    def _passes_over(self) -> bool:
        return self.state.global_step + 1 in self.left_out

    # ----------------------------------------------------------------------------------------------------- measuring
    def evaluation_loop(self, *arguments: Any, **named: Any) -> EvalLoopOutput:
        """Measure, from the first row on."""
        self._measured = 0
        return super().evaluation_loop(*arguments, **named)

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Any, Any, Any]:
        """One batch, in as many parts as memory asks for."""
        ladder, size = self.ladder, self.args.per_device_eval_batch_size
        if ladder is None or not prediction_loss_only:
            return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        places = range(self._measured, min(self._measured + size, len(self.eval_dataset)))
        self._measured = places.stop
        undo = self._undo("eval")
        found = self._attempt(lambda: self._measure(model, inputs, places))
        while isinstance(found, UserError):
            undo()
            rows = [self.eval_dataset[place] for place in places]
            ladder.down(found, step=self.state.global_step, longest=max(length_of(row) for row in rows), measuring=True)
            self.stand_on(ladder)
            free()
            found = self._attempt(lambda: self._measure(model, inputs, places))
        return found, None, None

    def _measure(self, model: Any, inputs: dict[str, Any], places: range) -> torch.Tensor:
        """Mean loss of a batch of held-out rows."""
        assert self.ladder is not None
        rung = self.ladder.rung
        if rung.held_out >= len(places) and not rung.longest:
            return self._measure_part(model, inputs)
        total = torch.zeros((), device=self.args.device)
        for start in range(0, len(places), rung.held_out):
            rows = [self.eval_dataset[place] for place in places[start : start + rung.held_out]]
            total = total + self._measure_part(model, self.data_collator(rows)) * (len(rows) / len(places))
        return total

    def _measure_part(self, model: Any, part: dict[str, Any]) -> torch.Tensor:
        loss = super().prediction_step(model, part, True)[0]
        assert loss is not None
        return loss

    # ---------------------------------------------------------------------------------------------------------- rows
    def _parts(self, place: int) -> Iterator[tuple[dict[str, Any], int]]:
        """(batch, rows) of the parts in which the step's batch ``place`` is computed."""
        step, places = self._step, self._of_batch(place)
        assert step is not None
        rung = self.ladder.rung if self.ladder is not None else None
        if rung is None or (rung.rows >= len(places) and not rung.longest):
            yield step.batches[place], len(places)
            return
        for start in range(0, len(places), rung.rows):
            rows = self._rows_of(places[start : start + rung.rows])
            yield self.data_collator(rows), len(rows)

    def places(self, step: int) -> Sequence[int]:
        """Places of the rows that an optimizer step (from 1) learns."""
        group = self.order.group
        epoch, of_epoch = divmod(step - 1, math.ceil(len(self.train_dataset) / group))
        return self.order.indices(epoch)[of_epoch * group : (of_epoch + 1) * group]

    def _places(self) -> Sequence[int]:
        return self.places(self.state.global_step + 1)

    def _of_batch(self, place: int) -> Sequence[int]:
        size = self.args.per_device_train_batch_size
        return self._places()[place * size : (place + 1) * size]

    def _rows_of(self, places: Sequence[int]) -> list[dict[str, Any]]:
        return [self.train_dataset[place] for place in places]

    def _check_order(self, failure: UserError) -> None:
        """Make sure that the rows which are computed again are those of the step; else memory has run out for good."""
        step = self._step
        assert step is not None
        if self.train_dataset.longest:
            return
        for place, batch in enumerate(step.batches):
            again = self.data_collator(self._rows_of(self._of_batch(place)))
            if not torch.equal(again["input_ids"], batch["input_ids"].cpu()):
                raise failure

    # --------------------------------------------------------------------------------------------------------- trying
    def _attempt(self, work: Callable[[], T]) -> T | UserError:
        """What ``work`` gives, or how memory ran out in it. Its frames, which hold tensors, are let go."""
        try:
            return work()
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            failure = ran_out_of_memory(error)
            if failure is None or self.ladder is None:
                raise
            return failure

    def _undo(self, mode: str) -> Callable[[], None]:
        """A function that puts back random state and figures as they are now; ``mode`` as TRL names its figures."""
        cpu = torch.get_rng_state()
        gpu = torch.cuda.get_rng_state() if self.args.device.type == "cuda" else None
        counted = getattr(self, "_counted", None)
        figures: dict[str, list[float]] = getattr(self, "_metrics", {}).get(mode, {})
        lengths = {name: len(values) for name, values in figures.items()}
        tokens = getattr(self, "_total_train_tokens", 0)

        def undo() -> None:
            torch.set_rng_state(cpu)
            if gpu is not None:
                torch.cuda.set_rng_state(gpu)
            self._counted = counted
            self._total_train_tokens = tokens
            for name in list(figures):
                del figures[name][lengths.get(name, 0) :]
                if name not in lengths:
                    del figures[name]

        return undo


class Kept:
    """What an update changes, kept in RAM where it is to allocate something: that is where memory runs out.

    Optimizers make their states at the first update of each weight, some of them weight by weight between updates, so
    that a failure can leave some weights updated and others not. Later updates work in place.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._state = optimizer.state
        self._trained = [
            weight for group in optimizer.param_groups for weight in group["params"] if weight.grad is not None
        ]
        self._marks = self._marked()
        self._kept: list[tuple[torch.Tensor, dict[str, Any]]] | None = None
        if any(not self._state.get(weight) for weight in self._trained):
            self._kept = [(_copy(weight), _copies(self._state.get(weight, {}))) for weight in self._trained]

    def _marked(self) -> list[tuple[int, int | None]]:
        """What changes when a weight is updated, without looking at it: its version, and a count kept in RAM."""
        counts = [self._state.get(weight, {}).get("step") for weight in self._trained]
        return [
            (weight._version, count if isinstance(count, int) else None)
            for weight, count in zip(self._trained, counts, strict=True)
        ]

    def put_back(self, failure: UserError) -> None:
        """Weights and states as they were. Raises ``failure`` when they have changed and were not kept."""
        if self._kept is None:
            if self._marked() != self._marks:
                raise failure
            return
        for weight, (value, state) in zip(self._trained, self._kept, strict=True):
            weight.data.copy_(value)
            if not state:
                self._state.pop(weight, None)
                continue
            for name, old in state.items():
                if isinstance(old, torch.Tensor):
                    self._state[weight][name].copy_(old)
                else:
                    self._state[weight][name] = old


def _copy(value: torch.Tensor) -> torch.Tensor:
    return value.detach().to("cpu", copy=True)


def _copies(state: dict[str, Any]) -> dict[str, Any]:
    return {name: _copy(value) if isinstance(value, torch.Tensor) else value for name, value in state.items()}


def length_of(row: dict[str, Any]) -> int:
    """Tokens of a row as the collator is given it; of a preference those of its longer answer."""
    if "input_ids" in row:
        return len(row["input_ids"])
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))


def free() -> None:
    """Give memory that nothing holds any more back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
