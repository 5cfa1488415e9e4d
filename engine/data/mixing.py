"""How often the rows of several files are seen: all, balanced, or in between, and by weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from engine.recipe.recipe import DataSettings

T = TypeVar("T")


def factors(
    counts: Mapping[int, int], mixing: str, *, temperature: float, weights: Mapping[int, float]
) -> dict[int, float]:
    """How often a row of each file is seen in a pass.

    Args:
        counts: number of a file → rows.
        mixing: "all": every row once. "balanced": files are seen alike. "temperature": a file of n rows is seen in
            proportion to n^(1/T) (Arivazhagan et al. 2019); 1 is "all", infinity "balanced". The number of rows of a
            pass stays the same in all three.
        temperature: T.
        weights: file → factor on top of that; 1 where it is not named.
    """
    power = {"all": 1.0, "balanced": 0.0, "temperature": 1.0 / temperature}[mixing]
    total = sum(counts.values())
    shares = {file: count**power for file, count in counts.items() if count}
    whole = sum(shares.values())
    return {file: weights.get(file, 1.0) * total * share / whole / counts[file] for file, share in shares.items()}


def factors_of(data: DataSettings, files: Sequence[Path], counts: Mapping[int, int]) -> dict[int, float]:
    """`factors` as a recipe wants them.

    Args:
        data: the recipe's data section.
        files: the data files, by number.
        counts: number of a file → rows of it that are trained on.
    """
    weights = {number: own.weight for number, path in enumerate(files) if (own := data.per_file.get(str(path)))}
    return factors(counts, data.mixing, temperature=data.temperature, weights=weights)


def rows_seen(count: int, factor: float) -> int:
    """Rows of a pass that come of so many rows, each seen so often."""
    whole, part = divmod(factor, 1.0)
    return int(whole) * count + round(part * count)


def mixed(rows: Sequence[T], files: Sequence[int], often: Mapping[int, float], seed: int) -> list[T]:
    """The rows, each as often as its file's factor says; of a fraction so many rows, chosen by lot.

    Args:
        rows: any.
        files: of each row its file.
        often: file → factor.
        seed: another seed, another choice.
    """
    if all(factor == 1.0 for factor in often.values()):
        return list(rows)
    random = np.random.default_rng(seed)
    again = Counter[int]()
    for file, factor in often.items():
        places = [place for place, of in enumerate(files) if of == file]
        whole, part = divmod(factor, 1.0)
        again.update({place: int(whole) for place in places})
        again.update(random.permutation(places)[: round(part * len(places))].tolist())
    return [row for place, row in enumerate(rows) for _ in range(again[place])]
