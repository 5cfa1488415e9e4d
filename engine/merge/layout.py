"""Which tensor on disk is which weight of the loaded model: adapters are named by the model, files as it was stored.

transformers loads some architectures otherwise than they are stored: it renames weights, and stacks the experts of a
mixture into one tensor. Its own table of that (``transformers.conversion_mapping``) is read here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "embed_in")
HEADS = ("lm_head", "embed_out")
_EXPERT = re.compile(r"\.experts\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Slot:
    """The part of a loaded weight that one tensor on disk holds.

    Attributes:
        name: of the loaded weight.
        index: of its first dimension (an expert); None: all of it.
        start: the first row there.
    """

    name: str
    index: int | None = None
    start: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """The loaded model's weights by name.

    Attributes:
        slots: name on disk → where it lies in the loaded model.
        shapes: name in the loaded model → shape.
        model_type: as in ``config.json``.
    """

    slots: Mapping[str, Slot]
    shapes: Mapping[str, tuple[int, ...]]
    model_type: str = ""

    @classmethod
    def of(cls, shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any], wanted: Iterable[str]) -> Layout:
        """Of a model's files.

        Args:
            shapes: name on disk → shape.
            config: ``config.json``.
            wanted: names that the adapter uses; where they all stand on disk nothing is looked up.
        """
        model_type = str(config.get("model_type", ""))
        wanted = list(wanted)
        plain = _prefixed({name: Slot(name) for name in shapes}, wanted)
        if not {slot.name for slot in plain.values()}.issuperset(wanted):
            plain = _prefixed(_loaded(shapes, model_type), wanted)
        return cls(plain, _shapes(plain, shapes), model_type)

    def on_disk(self, name: str) -> str | None:
        """Where all of a loaded weight lies on disk; None: in several tensors, or nowhere."""
        return next((disk for disk, slot in self.slots.items() if slot.name == name and slot.index is None), None)

    def find(self, module: str) -> str | None:
        """The weight "MODULE.weight" of the loaded model, or as it is named on disk, which older adapters do."""
        name = f"{module}.weight"
        return name if name in self.shapes or name in self.slots else None

    def transposed(self, module: str) -> bool | None:
        """Whether a module keeps its weight with inputs first (GPT-2's Conv1D); None: the adapter must know."""
        if self.model_type in ("gpt2", "openai-gpt", "imagegpt", "decision_transformer"):
            return module.rpartition(".")[2] in ("c_attn", "c_proj", "c_fc", "q_attn")
        return False if self.model_type else None


def is_embedding(name: str) -> bool:
    """Whether a weight is the table of input embeddings."""
    return name.endswith(".weight") and name.removesuffix(".weight").rpartition(".")[2] in EMBEDDINGS


def is_head(name: str) -> bool:
    """Whether a weight is the output head; in a tied model it may stand nowhere."""
    return name.endswith(".weight") and name.removesuffix(".weight").rpartition(".")[2] in HEADS


def _prefixed(slots: dict[str, Slot], wanted: list[str]) -> dict[str, Slot]:
    """With the loaded model's first name ("model.", "transformer.") where the files leave it out."""
    firsts = {slot.name.partition(".")[0] for slot in slots.values()}
    missing = {name.partition(".")[0] for name in wanted if name.count(".") > 1} - firsts
    if len(missing) != 1 or any(name.partition(".")[0] in firsts for name in wanted if name.count(".") > 1):
        return slots
    prefix = missing.pop()
    return {
        disk: slot if slot.name.partition(".")[0] in HEADS else Slot(f"{prefix}.{slot.name}", slot.index, slot.start)
        for disk, slot in slots.items()
    }


def _loaded(shapes: Mapping[str, tuple[int, ...]], model_type: str) -> dict[str, Slot]:
    """As transformers renames and stacks while it loads."""
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping
    from transformers.core_model_loading import WeightConverter

    rules: list[Any] = list(get_checkpoint_conversion_mapping(model_type) or ())
    slots: dict[str, Slot] = {}
    for disk in shapes:
        name = disk
        for rule in rules:
            if not isinstance(rule, WeightConverter):
                name = str(rule.rename_source_key(name)[0])
        stacked = next((found for rule in rules if (found := _stacked(rule, disk, name, shapes))), None)
        slots[disk] = stacked or Slot(name)
    return slots


def _stacked(rule: Any, disk: str, name: str, shapes: Mapping[str, tuple[int, ...]]) -> Slot | None:
    """The slot of an expert's matrix in the stack of all of them, gate before up, as ``rule`` puts them."""
    steps = [type(step).__name__ for step in getattr(rule, "operations", ())]
    number = _EXPERT.search(name)
    if number is None or steps not in (["MergeModulelist"], ["MergeModulelist", "Concatenate"]):
        return None
    target, pattern = rule.rename_source_key(name)
    if pattern is None:
        return None
    before = list(rule.source_patterns[: rule.source_patterns.index(pattern)])
    start = 0
    for earlier in before:
        sibling = disk[: -len(_leaf(pattern))] + _leaf(earlier)
        if sibling not in shapes:
            return None
        start += shapes[sibling][0]
    return Slot(str(target), int(number.group(1)), start)


def _leaf(pattern: str) -> str:
    """ ".w1.weight" of a pattern as "….experts.<any number>.w1.weight"."""
    return "." + ".".join(pattern.replace("\\", "").split(".")[-2:])


def _shapes(slots: Mapping[str, Slot], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Loaded name → shape."""
    found: dict[str, tuple[int, ...]] = {}
    for disk, slot in slots.items():
        shape = shapes[disk]
        if slot.index is None:
            found[slot.name] = shape
            continue
        count, rows, *rest = found.get(slot.name, (0, 0, *shape[1:]))
        found[slot.name] = (max(count, slot.index + 1), max(rows, slot.start + shape[0]), *rest)
    return found
