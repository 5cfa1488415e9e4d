"""What a method declares: light, so that the window, the planner and the docs can list it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engine.protocol.text import Text
from engine.recipe.recipe import MethodSettings


@dataclass(frozen=True, slots=True)
class LinearShape:
    """One kind of linear layer of a model.

    Attributes:
        name: module name ("q_proj").
        inputs, outputs: widths.
        count: how many of it the model has.
    """

    name: str
    inputs: int
    outputs: int
    count: int


@dataclass(frozen=True, slots=True)
class Numbers:
    """How wide numbers are while training, for a method's memory formula.

    Attributes:
        width: bytes of an activation: 2 in 16-bit (under autocast), 4 in fp32.
        mask: bytes that dropout keeps per value: 1 on a GPU, 4 on the CPU.
        quantised: whether the base weights are in 4-bit, whose layers hand adapters their input as it is; 16-bit layers
            hand them a copy in fp32, the adapter's format.
    """

    width: int
    mask: int
    quantised: bool = False

    @property
    def copied(self) -> bool:
        """Whether an adapter's input is copied to another format."""
        return self.width < 4 and not self.quantised


@dataclass(frozen=True, slots=True)
class Method:
    """A way to train few weights of a model.

    Attributes:
        name: the recipe's ``method.name``.
        label, summary: what people read.
        settings: the recipe section with the method's own fields.
        quantised: base weights are kept in 4-bit while training.
        trained_parameters: (linear layers, settings) → number of trained weights.
        kept_per_token: (linear layers, settings, numbers) → bytes per token, all layers together, that adapters keep
            for the backward pass beside what the base model keeps; for the memory forecast.
        passing_per_token: likewise → bytes per token that one layer's adapters need for a moment, at the most.
        describe: settings → a short label with the main figure ("QLoRA, rank 16").
        work: module that holds the heavy part, imported by name in a worker; see CONTRIBUTING.md, "A method".
        relative_time: seconds per step against 16-bit LoRA, for the forecast; ``source`` says where from.
        default_learning_rate: rate for which the method's scale was tuned.
    """

    name: str
    label: Text
    summary: Text
    settings: type[MethodSettings]
    quantised: bool
    trained_parameters: Callable[[tuple[LinearShape, ...], Any], int]
    kept_per_token: Callable[[tuple[LinearShape, ...], Any, Numbers], int]
    passing_per_token: Callable[[tuple[LinearShape, ...], Any, Numbers], int]
    describe: Callable[[Any], Text]
    work: str
    relative_time: float
    default_learning_rate: float
    source: str
