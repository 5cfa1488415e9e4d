"""A count of the tensor storages that are alive, by what they are for, while torch runs on fake tensors.

torch's own `torch.distributed._tools.mem_tracker` counts too, but by phase and module: it cannot tell the loss from
the layers, nor answer what an operation's size depends on.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

ACTIVATIONS, LOGITS, GRADIENTS = "activations", "logits", "gradients"
WEIGHTS, ADAPTER, OPTIMIZER = "weights", "adapter", "optimizer"

Rule = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]


class Storages(TorchDispatchMode):
    """While entered, counts bytes of every storage that an operation gives, until the storage is freed.

    Attributes:
        phase: what storages made from now on are for.
        live: bytes alive now, by what they are for.
        peak: `live` at the moment of the highest sum since `start`.
        at: the operation that reached it.
    """

    def __init__(self, *, widths: Collection[int], granule: int, rule: Rule) -> None:
        """Storages whose last dimension is in ``widths`` count as logits; sizes are rounded up to ``granule`` bytes.

        ``rule`` is asked first: what it gives stands in for an operation, NotImplemented lets torch do it.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self._widths = widths
        self._granule = granule
        self._rule = rule
        # Not by id(): the id of a freed storage is used again, and two storages would count as one.
        self._known: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self.phase = ACTIVATIONS
        self.live: dict[str, int] = {}
        self.peak: dict[str, int] = {}
        self._total = self._highest = 0
        self.at = ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if func is torch.ops.prim.device.default:  # asked of every fake tensor, and makes nothing
            return func(*args)
        result = self._rule(func, args, named)
        if result is NotImplemented:
            result = func(*args, **named)
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.count(leaf, self._what(leaf))
        if self._total > self._highest:
            self._highest, self.peak, self.at = self._total, dict(self.live), str(func)
        return result

    def count(self, tensor: torch.Tensor, what: str) -> None:
        """Count a tensor's storage, if it is not counted yet."""
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        size = -(-storage.nbytes() // self._granule) * self._granule
        entry = [what, size]
        self._known[storage] = entry
        weakref.finalize(storage, self._freed, entry)
        self._add(what, size)

    def retag(self, tensor: torch.Tensor, what: str) -> None:
        """Say anew what a tensor is for."""
        self.count(tensor, what)
        entry = self._known[tensor.untyped_storage()]
        self._add(entry[0], -entry[1])
        entry[0] = what
        self._add(what, entry[1])

    def start(self) -> None:
        """Forget the peak."""
        self._highest, self.peak = self._total, dict(self.live)

    def _what(self, tensor: torch.Tensor) -> str:
        is_logits = self.phase == ACTIVATIONS and tensor.dim() > 1 and tensor.shape[-1] in self._widths
        return LOGITS if is_logits else self.phase

    def _freed(self, entry: list[Any]) -> None:
        self._add(entry[0], -entry[1])

    def _add(self, what: str, size: int) -> None:
        self.live[what] = self.live.get(what, 0) + size
        self._total += size


def total(parts: Mapping[str, int]) -> int:
    """Bytes of all parts."""
    return sum(parts.values())
