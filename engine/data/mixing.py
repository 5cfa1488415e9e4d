"""How often the rows of several files are seen: all, balanced, or in between, and by weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.data.hub_data import settings_of
from engine.recipe.recipe import DataSettings


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


def factors_of(
    data: DataSettings, files: Sequence[Path], counts: Mapping[int, int], general: Collection[int] = ()
) -> dict[int, float]:
    """`factors` as a recipe wants them; general data take their share of the whole.

    Args:
        data: the recipe's data section.
        files: the data files, by number.
        counts: number of a file → rows of it that are trained on.
        general: numbers of the files of general data: all of them are seen alike.
    """
    weights = {number: own.weight for number, path in enumerate(files) if (own := settings_of(data, path))}
    tasks = {number: count for number, count in counts.items() if number not in general}
    often = factors(tasks, data.mixing, temperature=data.temperature, weights=weights)
    there = sum(counts.get(number, 0) for number in general)
    if there:
        wanted = sum(factor * tasks[number] for number, factor in often.items())
        wanted *= data.general_share / (1 - data.general_share)
        often |= {number: min(MOST_AGAIN, wanted / there) for number in general if counts.get(number)}
    return often


MOST_AGAIN = 4.0
"""A row of general data is seen so often in a pass at most: repeated up to four times, data are nearly as good as new
(Muennighoff et al. 2023, Scaling data-constrained language models)."""


def rows_seen(count: int, factor: float) -> int:
    """Rows of a pass that come of so many rows, each seen so often."""
    whole, part = divmod(factor, 1.0)
    return int(whole) * count + round(part * count)


def mixed(files: NDArray[np.int64], often: Mapping[int, float], seed: int) -> NDArray[np.int64]:
    """Rows, each as often as its file's factor says; of a fraction so many rows, chosen by lot.

    Args:
        files: of each row its file, shape (rows,).
        often: file → factor.
        seed: another seed, another choice.

    Returns:
        places of the rows, rising, each as often as it is seen.
    """
    again = np.zeros(len(files), np.int64)
    random = np.random.default_rng(seed)
    for file, factor in often.items():
        places = np.flatnonzero(files == file)
        whole, part = divmod(factor, 1.0)
        again[places] = int(whole)
        again[random.permutation(places)[: round(part * len(places))]] += 1
    return np.repeat(np.arange(len(files)), again)
