"""Memory that runs out where a test wants it, and a count of the rows that reached an update."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from engine.objectives.dpo_work import Preference
from engine.objectives.sft_work import Supervised

POINTS = ("forward", "backward", "update", "measuring")
RAM = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 2147483648 bytes")


@dataclass(frozen=True)
class Fault:
    """Where memory runs out once.

    Attributes:
        step: optimizer step, from 1; of "measuring" the one it follows.
        point: one of `POINTS`.
        part: how many micro-batches (of "update": new states) of the step went well before.
    """

    step: int
    point: str
    part: int = 0


class Faults:
    """Lets memory run out, and watches which rows the optimizer gets to see.

    Rows count when the optimizer updates with their gradients: those whose gradients were dropped do not.

    Attributes:
        met: faults that happened.
        updates: of each update, how often it saw which row (a row: its token ids).
    """

    def __init__(self, patch: pytest.MonkeyPatch, *faults: Fault, error: BaseException = RAM) -> None:
        self._left, self._error = list(faults), error
        self.met: list[Fault] = []
        self.updates: list[Counter[tuple[int, ...]]] = []
        self._seen: Counter[tuple[int, ...]] = Counter()
        self._step = self._part = 0
        for kind in (Supervised, Preference):
            patch.setattr(kind, "compute_loss", self._loss(kind.compute_loss))
        patch.setattr(torch.optim.AdamW, "step", self._update(torch.optim.AdamW.step))

    @property
    def rows(self) -> Counter[tuple[int, ...]]:
        """How often each row reached an update."""
        return sum(self.updates, Counter())

    def _due(self, point: str) -> bool:
        """Whether memory is to run out here, which it does once."""
        found = next((each for each in self._left if each == Fault(self._step, point, self._part)), None)
        if found is not None:
            self._left.remove(found)
            self.met.append(found)
        return found is not None

    def _loss(self, plain: Any) -> Any:
        def compute_loss(trainer: Any, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
            if not model.training:
                self._step, self._part = trainer.state.global_step, 0
                if self._due("measuring"):
                    raise self._error
                return plain(trainer, model, inputs, *rest, **named)
            self._step = trainer.state.global_step + 1
            trained = [weight for weight in model.parameters() if weight.requires_grad]
            if all(weight.grad is None for weight in trained):
                self._seen.clear()
                self._part = 0
            self._seen.update(rows_in(inputs))
            if self._due("forward"):
                raise self._error
            loss = plain(trainer, model, inputs, *rest, **named)
            if self._due("backward"):
                # Weights behind this one have their gradients by then, those before it have not.
                self._run_out_at(trained[len(trained) // 2])
            self._part += 1
            return loss

        return compute_loss

    def _run_out_at(self, weight: torch.Tensor) -> None:
        def full(gradient: torch.Tensor) -> torch.Tensor:
            handle.remove()
            raise self._error

        handle = weight.register_hook(full)

    def _update(self, plain: Any) -> Any:
        def step(optimizer: Any, closure: Any = None) -> Any:
            made = 0
            whole = torch.zeros_like

            def zeros_like(*given: Any, **named: Any) -> torch.Tensor:
                nonlocal made
                self._part = made
                if self._due("update"):
                    raise self._error
                made += 1
                return whole(*given, **named)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(torch, "zeros_like", zeros_like)
                if optimizer.state:  # nothing is made any more: it runs out at the beginning
                    self._part = 0
                    if self._due("update"):
                        raise self._error
                found = plain(optimizer, closure)
            self.updates.append(Counter(self._seen))
            self._seen.clear()
            return found

        return step


def rows_in(inputs: dict[str, torch.Tensor]) -> list[tuple[int, ...]]:
    """Token ids of each row of a batch, without padding; of packed rows and preferences likewise."""
    ids = inputs["input_ids"]
    if "attention_mask" in inputs:
        return [tuple(row[kept.bool()].tolist()) for row, kept in zip(ids, inputs["attention_mask"], strict=True)]
    starts = (inputs["position_ids"][0] == 0).nonzero().flatten().tolist()
    return [tuple(ids[0, a:b].tolist()) for a, b in zip(starts, [*starts[1:], ids.shape[1]], strict=True)]
