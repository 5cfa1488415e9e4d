"""What a trained adapter makes of base weights: shared by merging and by every export.

An adapter may change weights, replace them, add rows to the vocabulary, or part an output head from the embeddings it
was tied to. `Adapter.targets` says what the merged model holds; `Adapter.change` and `Adapter.source` say of what each
weight is made. The file format is PEFT's (``adapter_config.json`` and ``adapter_model.safetensors``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.merge.arithmetic import Parts, by_pattern, change_of, lora_scaling
from engine.merge.changes import Change
from engine.merge.kinds import Kind, kind_of, part_of, refused_tensor
from engine.merge.layout import Layout, Slot
from engine.merge.mapped import DTYPES, BrokenWeights, Mapped
from engine.merge.targets import Target, missing, plan_targets, scaled_bias
from engine.merge.weights import BaseWeights
from engine.merge.wrapped import place_wrapped
from engine.project.atomic import read_json
from engine.protocol.errors import UserError
from engine.protocol.text import say

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

_PREFIX = "base_model.model."
_PROJECTIONS = ("base_model.vera_A", "base_model.vera_B")
_KEPT = 4
"""The tensors of so many weights are kept, for experts of one layer share theirs."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter folder whose weights are read one at a time.

    Attributes:
        folder: where it lies.
        config: ``adapter_config.json``.
        kind: what can be said of its kind.
        parts: weight of the loaded model → {part ("lora_A.weight", …, or "" for a whole tensor) → name in the file}.
        layout: where the loaded model's weights lie on disk; None when it was opened without a base.
        targets: name → what the merged model holds under it, in the order of the base; empty without a base.
        changed_config: keys of ``config.json`` that the merged model needs otherwise ("vocab_size", …).
    """

    folder: Path
    config: Mapping[str, Any]
    kind: Kind
    parts: Mapping[str, Mapping[str, str]]
    layout: Layout | None = None
    targets: Mapping[str, Target] = field(default_factory=dict)
    changed_config: Mapping[str, Any] = field(default_factory=dict)
    _base: BaseWeights | None = field(default=None, repr=False)
    _mapped: Mapped | None = field(default=None, repr=False, compare=False)
    _read: dict[tuple[str, str], Parts] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, folder: Path, base: BaseWeights | None = None) -> Adapter:
        """The adapter in ``folder``, for ``base``.

        Without a base, tensors are taken to be named on disk as in the loaded model, and only those that both have are
        known: no vocabulary that grew, no untied head, no stacked experts.

        Raises:
            UserError: a file is missing or damaged, the adapter is of a kind that cannot be merged, or it belongs to
                another base model.
        """
        config: dict[str, Any] = read_json(folder / CONFIG)
        kind = kind_of(config, str(folder / CONFIG))
        mapped = _open(folder / WEIGHTS)
        found = _sorted_parts(mapped, kind, folder)
        if base is None:
            return cls(folder, config, kind, {_plain(key): parts for key, parts in found.items()}, _mapped=mapped)
        layout = Layout.of(base.shapes, base.config, [_plain(key) for key in found])
        try:
            parts = place_wrapped(found, layout, config, {name: entry.shape for name, entry in mapped.entries.items()})
        except LookupError as error:
            raise missing(str(error.args[0]), folder) from error
        targets, changed = plan_targets(base, layout, config, parts, mapped, folder)
        return cls(folder, config, kind, parts, layout, targets, changed, base, mapped)

    def names_and_shapes(self) -> dict[str, tuple[int, ...]]:
        """All tensors of the merged model by name on disk, in the order of the base.

        They are the base's, but for two things: a vocabulary that grew makes embeddings and head longer
        (``changed_config["vocab_size"]``), and a head that was tied to the embeddings and no longer is stands as a
        tensor of its own (``changed_config["tie_word_embeddings"]`` is False then). Whoever writes the model asks for
        each by `whole`, or reads `source` and gives it to `merged`.
        """
        return {name: target.shape for name, target in self.targets.items()}

    def source(self, name: str) -> Tensor:
        """What tensor ``name`` of the merged model is made from, for reading only, in its own dtype: the base's
        tensor, or the adapter's where that replaces it. Raises `UserError` when a file is damaged."""
        target = self.targets[name]
        assert self._base is not None
        if target.replaced_by:
            return _part_of_stack(self._tensor(target.replaced_by), target.slot, target.shape)
        return self._base.view(target.base)

    def whole(self, name: str) -> Tensor:
        """Tensor ``name`` of the merged model, in float32; also one that only the adapter has. Raises as `merged`."""
        return self.merged(name, self.source(name))

    def changes(self, name: str) -> bool:
        """Whether tensor ``name`` of the merged model is other than the base's of this name."""
        target = self.targets[name]
        return bool(target.replaced_by or target.key or target.base != name)

    def merged(self, name: str, weight: Tensor) -> Tensor:
        """Tensor ``name`` (as on disk) with the adapter in it, in float32.

        The shape is that of ``weight``, or the adapter's where it replaces the tensor by a longer one. A bias of a
        layer whose outputs are scaled by (IA)³ is scaled with them.

        Args:
            weight: the base's tensor; not changed.

        Raises:
            UserError: the shapes do not fit: the adapter belongs to another base model.
        """
        key = self._key(name)
        whole = self.parts.get(key, {}).get("")
        target = self.targets.get(name)
        if target is not None and target.replaced_by:
            weight = self.source(name)
        elif target is None and whole:
            weight = self._tensor(whole).expand_as(weight)
        with self.fitting(name):
            change = self.change(name, weight)
            values = weight.to(torch.float32, copy=True)
            if change is None:
                return values
            change.begin(weight)
            return change.rows(0, values)

    def change(self, name: str, weight: Tensor, device: str = "cpu") -> Change | None:
        """The arithmetic on tensor ``name`` (as on disk), after what `source` gives; None where there is none.

        Args:
            weight: what it is done to; only its shape counts here.
            device: where it is computed.
        """
        key = self._key(name)
        slot = self.targets[name].slot if name in self.targets else Slot(key)
        parts = self._parts_of(key, device)
        return change_of(self, key, slot, parts, tuple(weight.shape), device) if parts else None

    def scaling(self, name: str) -> float:
        """alpha/rank, or alpha/√rank with rank stabilisation, of the layer that holds base tensor ``name``."""
        return lora_scaling(self.config, self.module_of(name))

    def rank(self, name: str) -> int:
        """The configured rank of the layer that holds base tensor ``name``."""
        return int(by_pattern(self.config.get("rank_pattern"), self.module_of(name), self.config["r"]))

    def module_of(self, name: str) -> str:
        """What a layer's patterns are matched against: its name, or that of a parameter that is trained by itself."""
        return name.removesuffix(".weight").removesuffix(".bias")

    def inputs_first(self, key: str) -> bool:
        """Whether a matrix is stored (inputs, outputs), as GPT-2's are."""
        known = self.layout.transposed(self.module_of(key)) if self.layout is not None else None
        return bool(self.config.get("fan_in_fan_out")) if known is None else known

    def projections(self, device: str) -> tuple[Tensor, Tensor] | None:
        """VeRA's shared matrices A (rank, inputs) and B (outputs, rank), if they were saved."""
        assert self._mapped is not None
        if _PROJECTIONS[0] not in self._mapped.entries:
            return None
        first, second = (self._tensor(name).to(device, torch.float32) for name in _PROJECTIONS)
        return first, second

    def bytes_of(self, key: str) -> int:
        """What the tensors that change a weight take in float32; those that replace it are not read at once."""
        assert self._mapped is not None
        shapes = [self._mapped.entries[name].shape for part, name in self.parts[key].items() if part]
        return sum(4 * math.prod(shape) for shape in shapes)

    def shape_of(self, key: str) -> tuple[int, ...]:
        """The shape of a weight of the loaded model."""
        assert self.layout is not None
        return self.layout.shapes[key]

    def dtype_of(self, key: str) -> torch.dtype:
        """The dtype in which the base stores a weight of the loaded model."""
        stored = next((target.dtype for target in self.targets.values() if target.slot.name == key), "F32")
        return DTYPES[stored]

    def part_shapes(self, part: str) -> Iterator[tuple[str, tuple[int, ...]]]:
        """(weight, shape) of every tensor of this part."""
        assert self._mapped is not None
        for key, parts in self.parts.items():
            if part in parts:
                yield key, self._mapped.entries[parts[part]].shape

    @contextmanager
    def fitting(self, name: str) -> Iterator[None]:
        """Tells that the adapter does not fit where arithmetic on tensor ``name`` fails."""
        try:
            yield
        except (RuntimeError, ValueError, TypeError, ArithmeticError, LookupError, AssertionError) as error:
            raise UserError(
                "adapter.other_base",
                say(
                    "The adapter does not fit {name} of the base model.",
                    "适配器与基础模型的 {name} 不匹配。",
                    name=name,
                ),
                say("Use the base model that the run was trained on.", "请使用该次训练所用的基础模型。"),
                where=str(self.folder),
                details=str(error),
            ) from error

    def _key(self, name: str) -> str:
        """The entry of `parts` that changes a tensor."""
        if name in self.targets:
            return self.targets[name].key
        return scaled_bias(name, self.parts, self.config) or name

    def _parts_of(self, key: str, device: str) -> Parts:
        """The float32 tensors that change a weight; a whole tensor that replaces it is none of them."""
        if (key, device) not in self._read:
            while len(self._read) >= _KEPT:
                self._read.pop(next(iter(self._read)))
            self._read[key, device] = {
                part: self._tensor(name).to(device, torch.float32)
                for part, name in self.parts.get(key, {}).items()
                if part
            }
        return self._read[key, device]

    def _tensor(self, name: str) -> Tensor:
        assert self._mapped is not None
        return self._mapped.tensor(name)


def _plain(key: str) -> str:
    return key.replace(".base_layer.", ".")


def _part_of_stack(tensor: Tensor, slot: Slot, shape: tuple[int, ...]) -> Tensor:
    """What one tensor on disk holds of a stack."""
    return tensor if slot.index is None else tensor[slot.index][slot.start : slot.start + shape[0]]


def _open(path: Path) -> Mapped:
    try:
        mapped = Mapped(path)
        for name in mapped.entries:
            mapped.tensor(name)  # a dtype that is unknown here
    except (BrokenWeights, OSError, KeyError) as error:
        raise UserError(
            "adapter.damaged",
            say("The adapter's weights {name} cannot be read.", "无法读取适配器权重 {name}。", name=path.name),
            say("Resume the run, or train it again.", "请恢复该次训练，或重新训练。"),
            where=str(path),
            details=repr(error),
        ) from error
    return mapped


def _sorted_parts(mapped: Mapped, kind: Kind, folder: Path) -> dict[str, dict[str, str]]:
    """Name of a weight, with ".base_layer" where a parameter was wrapped twice → {part → name in the file}."""
    found: dict[str, dict[str, str]] = {}
    for name in mapped.entries:
        # Where a vocabulary grew, PEFT saves trained embeddings twice, and the untrained ones beside them.
        if name in _PROJECTIONS or ".original_module." in name:
            continue
        try:
            module, part = part_of(name.removeprefix(_PREFIX).replace(".modules_to_save.", "."), kind)
        except ValueError:
            raise refused_tensor(name, kind, str(folder / WEIGHTS)) from None
        if not part:
            key = _plain(module)
        elif part.endswith(".bias"):
            key = f"{_plain(module + '.')}bias"
        else:
            key = f"{module}.weight"
        found.setdefault(key, {})[part] = name
    return found
