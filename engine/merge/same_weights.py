"""Whether a merged model's weights are base and adapter: tensor by tensor, whatever the rows happen to show of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from engine.export.parity import Difference
from engine.merge.changes import rows_at_once
from engine.merge.delta import Adapter
from engine.merge.weights import FLOATS, BaseWeights
from engine.protocol.errors import UserError
from engine.protocol.text import say

LIMIT = 0.01
"""‖W − W′‖ / ‖W‖ of a tensor. Rounding to bf16 makes 0.002 at most; weights expanded from 4 bits, 0.05 to 0.1."""


def other_weights(
    base: BaseWeights, adapter_folder: Path, folder: Path, watch: Callable[[], object]
) -> list[Difference]:
    """The tensor in ``folder`` that lies farthest from base and adapter, where one lies beyond `LIMIT`.

    Nothing where that cannot be told: the adapter is of a kind that is not merged, or the folder has no safetensors in
    floats (whether it can be used at all, loading it says). What only one of both has is left to the answers.

    Args:
        watch: called before each tensor; may raise to end it.

    Raises:
        UserError: a file of the base or of the adapter is damaged.
    """
    try:
        adapter, found = Adapter.open(adapter_folder, base), BaseWeights.open(folder)
    except UserError:
        return []
    worst, place = LIMIT, ""
    for name in adapter.targets:
        watch()
        stored = found.tensors.get(name)
        if stored is None or stored.dtype not in FLOATS:
            continue
        apart = _apart(adapter, name, found.view(name))
        if not apart <= worst:  # also where it is no number
            worst, place = apart, name
    return [_told(place, worst)] if place else []


def _apart(adapter: Adapter, name: str, theirs: Tensor) -> float:
    """‖W − W′‖ / ‖W‖, a few rows at a time; infinite where the shapes differ, or a weight is no number."""
    if adapter.targets[name].shape != tuple(theirs.shape):
        return math.inf
    source = adapter.source(name)
    change = adapter.change(name, source) if adapter.changes(name) else None
    off = size = 0.0
    with adapter.fitting(name):
        if change is not None:
            change.begin(source)
        rows = rows_at_once(source) if source.ndim else 1
        for start, piece in enumerate(source.split(rows) if source.ndim else (source,)):
            ours = piece.to(torch.float32, copy=True)
            if change is not None:
                ours = change.rows(start * rows, ours)
            other = theirs[start * rows : (start + 1) * rows] if source.ndim else theirs
            off += float((ours - other.float()).square().sum())
            size += float(ours.square().sum())
    if not math.isfinite(off):
        return math.inf
    return math.sqrt(off / size) if size else (math.inf if off else 0.0)


def _told(name: str, apart: float) -> Difference:
    if math.isinf(apart):
        text = say(
            "Its weights {name} have another shape than what was trained, or hold values that are no numbers.",
            "其权重 {name} 与训练结果形状不同，或含有无效数值。",
            name=name,
        )
    else:
        text = say(
            "Its weights {name} are {apart:.1%} apart from base and adapter (at most {limit:.0%}).",
            "其权重 {name} 与基础模型加适配器相差 {apart:.1%}（最多 {limit:.0%}）。",
            name=name,
            apart=apart,
            limit=LIMIT,
        )
    hint = say(
        "Merge again into the original 16-bit weights; a file may be damaged, or was merged into quantised weights.",
        "请重新合并到原始 16 位权重；文件可能已损坏，或曾合并到量化权重中。",
    )
    return Difference("weights", text, hint)
