"""What a merged model holds: the base's tensors, those that became longer, and a head that had to be untied.

Embeddings and output head of a tied model are one tensor. An adapter that changes one of the two parts them: while it
trained, each was used as it then was (peft computes base and adapter side by side). They stay tied only where both
change alike: trained tokens, or an adapter that was made so (``ensure_weight_tying``). Otherwise the merged model holds
both, and its configuration says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from engine.merge.layout import Layout, Slot, is_embedding, is_head
from engine.merge.mapped import Mapped
from engine.merge.weights import BaseWeights
from engine.protocol.errors import UserError
from engine.protocol.text import say

AllParts = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Target:
    """One tensor of the merged model.

    Attributes:
        name: on disk.
        shape: of it.
        dtype: as safetensors names it; the base's.
        file: the file it is written to.
        base: the base's tensor it is made from.
        key: the weight of the loaded model whose parts change it; "" where none do.
        slot: where it lies in the loaded model.
        replaced_by: the adapter's tensor that stands in for the base's; "" where none does.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: str
    base: str
    key: str
    slot: Slot
    replaced_by: str = ""


@dataclass(frozen=True, slots=True)
class _Vocabulary:
    """The embeddings and the head of a model, by name in the loaded model; a name is "" where there is none."""

    embeddings: str
    head: str
    tied: bool


def plan_targets(
    base: BaseWeights, layout: Layout, config: Mapping[str, Any], parts: AllParts, mapped: Mapped, folder: Path
) -> tuple[dict[str, Target], dict[str, Any]]:
    """All tensors of the merged model in the order of the base, and what its ``config.json`` must say otherwise.

    Args:
        config: ``adapter_config.json``.
        parts: weight of the loaded model → {part → name in the adapter's file}.
        mapped: the adapter's file.
        folder: the adapter's, for errors.

    Raises:
        UserError: the adapter changes what the base does not have, or by tensors of other shapes.
    """
    vocabulary = _vocabulary(base, layout, parts)
    may_grow = {vocabulary.embeddings, vocabulary.head} - {""}
    targets: dict[str, Target] = {}
    for disk in base.tensors:
        targets[disk] = _target(base, disk, layout.slots[disk], config, parts, mapped, folder, may_grow)
    absent = set(parts) - {target.slot.name for target in targets.values()} - set(targets) - {vocabulary.head}
    if absent:
        raise missing(min(absent), folder)
    changed = _settle(targets, base, layout, config, parts, mapped, vocabulary)
    _check_rows(targets, vocabulary, folder)
    rows = _rows(targets, vocabulary.embeddings)
    if rows != _rows_before(base, layout, vocabulary.embeddings):
        changed["vocab_size"] = rows
    return targets, changed


def words_of(weights: Path) -> int:
    """How many words the embeddings have that an adapter's file brings along; 0 where it brings none.

    Raises:
        BrokenWeights, OSError: the file cannot be read.
    """
    entries = Mapped(weights).entries
    plain = {name.replace(".base_layer.", "."): entry.shape for name, entry in entries.items()}
    return next((shape[0] for name, shape in plain.items() if is_embedding(name) and len(shape) == 2), 0)


def scaled_bias(name: str, parts: AllParts, config: Mapping[str, Any]) -> str | None:
    """The weight whose (IA)³ scale of outputs also scales the bias ``name``; None where none does."""
    if not name.endswith(".bias"):
        return None
    module = name.removesuffix(".bias")
    if "ia3_l" not in parts.get(f"{module}.weight", {}):
        return None
    inner = config.get("feedforward_modules") or []
    if isinstance(inner, str):
        try:
            is_inner = re.fullmatch(inner, module) is not None
        except re.error:
            is_inner = False
    else:
        is_inner = any(module == end or module.endswith(f".{end}") for end in inner)
    return None if is_inner else f"{module}.weight"


def missing(name: str, folder: Path) -> UserError:
    """The adapter changes what the base does not have."""
    return _other_base(
        folder,
        say(
            "The adapter changes {name}, which the base model does not have.",
            "适配器修改了 {name}，但基础模型中没有该权重。",
            name=name,
        ),
    )


def _target(
    base: BaseWeights,
    disk: str,
    slot: Slot,
    config: Mapping[str, Any],
    parts: AllParts,
    mapped: Mapped,
    folder: Path,
    may_grow: set[str],
) -> Target:
    stored = base.tensors[disk]
    key = next((name for name in (slot.name, disk) if name in parts), scaled_bias(slot.name, parts, config) or "")
    slot = Slot(disk) if key == disk else slot
    target = Target(disk, stored.shape, stored.dtype, stored.file, disk, key, slot)
    whole = parts.get(key, {}).get("") if key in (slot.name, disk) else None
    if whole is None:
        return target
    shape = mapped.entries[whole].shape
    expected = stored.shape if slot.index is None else None
    if expected is not None and shape != expected and not (key in may_grow and shape[1:] == expected[1:]):
        raise _other_shape(disk, expected, shape, folder)
    only = set(parts[key]) == {""}
    return replace(target, shape=shape if expected else stored.shape, replaced_by=whole, key="" if only else key)


def _vocabulary(base: BaseWeights, layout: Layout, parts: AllParts) -> _Vocabulary:
    embeddings = next((name for name in layout.shapes if is_embedding(name)), "")
    head = next((name for name in (*layout.shapes, *parts) if is_head(name)), "lm_head.weight")
    says = base.config.get("tie_word_embeddings", (base.config.get("text_config") or {}).get("tie_word_embeddings"))
    stored = layout.on_disk(head) is not None
    return _Vocabulary(embeddings, head, bool(embeddings) and (not stored or bool(says)))


def _settle(
    targets: dict[str, Target],
    base: BaseWeights,
    layout: Layout,
    config: Mapping[str, Any],
    parts: AllParts,
    mapped: Mapped,
    words: _Vocabulary,
) -> dict[str, Any]:
    """Decide what becomes of a tied head. Gives what ``config.json`` must say otherwise."""
    if not words.tied or not (words.embeddings in parts or words.head in parts):
        return {}
    source = layout.on_disk(words.embeddings) or words.embeddings
    head = layout.on_disk(words.head) or words.head
    if _stay_tied(config, parts, mapped, words):
        if head in targets:  # some checkpoints hold the one tensor twice
            targets[head] = replace(targets[source], name=head, file=base.tensors[head].file)
        return {}
    own = parts.get(words.head, {})
    whole = own.get("", "")
    targets[head] = replace(
        targets[source],
        name=head,
        file=base.tensors[head].file if head in base.tensors else targets[source].file,
        base=source,
        shape=mapped.entries[whole].shape if whole else base.tensors[source].shape,
        key=words.head if set(own) - {""} else "",
        slot=Slot(words.head),
        replaced_by=whole,
    )
    return {"tie_word_embeddings": False}


def _stay_tied(config: Mapping[str, Any], parts: AllParts, mapped: Mapped, words: _Vocabulary) -> bool:
    """Whether embeddings and head change alike."""
    mine, theirs = parts.get(words.embeddings, {}), parts.get(words.head, {})
    if config.get("ensure_weight_tying") and words.embeddings in parts:
        return True
    if set(mine) | set(theirs) == {""} and mine and theirs:
        first, second = mapped.tensor(mine[""]), mapped.tensor(theirs[""])
        return first.shape == second.shape and torch.equal(first, second)
    return not theirs and all(part.endswith("trainable_tokens_delta") for part in mine)


def _rows(targets: Mapping[str, Target], loaded: str) -> int:
    return next((target.shape[0] for target in targets.values() if target.slot.name == loaded), 0)


def _rows_before(base: BaseWeights, layout: Layout, loaded: str) -> int:
    disk = layout.on_disk(loaded)
    return base.tensors[disk].shape[0] if disk else 0


def _check_rows(targets: Mapping[str, Target], words: _Vocabulary, folder: Path) -> None:
    """See that embeddings and head know as many words as each other."""
    head = next((target for target in targets.values() if target.slot.name == words.head), None)
    if head is None or not words.embeddings:
        return
    rows = _rows(targets, words.embeddings)
    if head.shape[0] != rows:
        raise _other_base(
            folder,
            say(
                "The adapter's embeddings have {rows} words, the output head has {others}.",
                "适配器的词嵌入有 {rows} 个词，而输出层有 {others} 个。",
                rows=rows,
                others=head.shape[0],
            ),
        )


def _other_shape(name: str, expected: tuple[int, ...], found: tuple[int, ...], folder: Path) -> UserError:
    return _other_base(
        folder,
        say("The adapter does not fit {name} of the base model.", "适配器与基础模型的 {name} 不匹配。", name=name),
        f"{found} in the adapter, {expected} in the base",
    )


def _other_base(folder: Path, message: Any, details: str = "") -> UserError:
    return UserError(
        "adapter.other_base",
        message,
        say("Use the base model that the run was trained on.", "请使用该次训练所用的基础模型。"),
        where=str(folder),
        details=details,
    )
