"""How often the rows of several files are seen: all, balanced, or in between, and by weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

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
