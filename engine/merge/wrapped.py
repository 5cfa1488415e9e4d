"""Which parameter an adapter beside a module's own parameters belongs to.

PEFT can adapt parameters that are in no linear layer (``target_parameters``), such as the stacked experts of a mixture.
Their low-rank matrices are saved under the module's name, once for each parameter, one wrapped in the other
("….experts.lora_A.weight", "….experts.base_layer.lora_A.weight"). The name does not say which parameter each is of; the
shapes do.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from typing import Any

from engine.merge.layout import Layout, is_head

Shape = tuple[int, ...]


def place_wrapped(
    found: Mapping[str, Mapping[str, str]], layout: Layout, config: Mapping[str, Any], shapes: Mapping[str, Shape]
) -> dict[str, dict[str, str]]:
    """The adapter's parts by the weight they belong to.

    Args:
        found: name of a weight as the adapter's file suggests it → {part → name in the file}.
        config: ``adapter_config.json``.
        shapes: name in the file → shape.

    Raises:
        LookupError: no parameter fits, or several do; carries the module's name.
    """
    placed: dict[str, dict[str, str]] = {}
    wrapped: dict[str, list[Mapping[str, str]]] = {}
    for key, parts in found.items():
        plain = key.replace(".base_layer.", ".")
        known = plain in layout.shapes or plain in layout.slots or is_head(plain)
        if known or "lora_A.weight" not in parts or "lora_B.weight" not in parts:
            placed.setdefault(plain, {}).update(parts)
        else:
            wrapped.setdefault(plain.removesuffix(".weight"), []).append(parts)
    for module, each in wrapped.items():
        for name, parts in zip(_parameters(module, each, layout, config, shapes), each, strict=True):
            placed.setdefault(name, {}).update(parts)
    return placed


def fits(shape: Shape, first: Shape, second: Shape) -> bool | None:
    """How matrices A (count·rank, inputs) and B (outputs, count·rank) fit a parameter.

    Returns:
        True: it is stored (count, outputs, inputs); False: (count, inputs, outputs); None: they do not fit.
    """
    count, height, width = shape if len(shape) == 3 else (1, *shape) if len(shape) == 2 else (0, 0, 0)
    if not count or len(first) != 2 or len(second) != 2 or first[0] != second[1] or first[0] % count:
        return None
    if (height, width) == (second[0], first[1]):
        return True
    return False if (height, width) == (first[1], second[0]) and len(shape) == 3 else None


def _parameters(
    module: str, each: list[Mapping[str, str]], layout: Layout, config: Mapping[str, Any], shapes: Mapping[str, Shape]
) -> tuple[str, ...]:
    """The parameter of each wrapped part, in the order of ``each``."""
    asked = [str(name) for name in config.get("target_parameters") or ()]
    own = [name for name in layout.shapes if name.rpartition(".")[0] == module]
    named = [name for name in own if any(name == end or name.endswith(f".{end}") for end in asked)] or own
    pairs = [(shapes[parts["lora_A.weight"]], shapes[parts["lora_B.weight"]]) for parts in each]
    ways = [
        names
        for names in permutations(named, len(each))
        if all(fits(layout.shapes[name], *pair) is not None for name, pair in zip(names, pairs, strict=True))
    ]
    if len(ways) != 1:
        raise LookupError(module)
    return ways[0]
