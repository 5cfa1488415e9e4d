"""Equal fingerprints among millions, found with little memory: part by part, each of fingerprints that begin alike."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1 << 20
_PART = 1 << 18
"""About so many rows are looked at together."""


def repeats(
    keys: NDArray[np.uint64], wanted: NDArray[np.bool_], start: int, stop: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows whose key an earlier row has, too.

    Args:
        keys: fingerprint of each row, shape (rows,).
        wanted: which rows are looked at, shape (rows,).
        start, stop: only rows from ``start`` up to ``stop``.

    Returns:
        the rows, and for each the first row with its key; both of one length, in no order.
    """
    again: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    first: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    for rows in _parts(keys, wanted, start, stop):
        found = keys[rows]
        order = np.argsort(found, kind="stable")  # stable: the first of equal ones stays the first
        found = found[order]
        is_same = np.zeros(len(rows), bool)
        is_same[1:] = found[1:] == found[:-1]
        if is_same.any():
            heads = np.flatnonzero(~is_same)
            head = heads[np.cumsum(~is_same)[is_same] - 1]
            again.append(rows[order[is_same]])
            first.append(rows[order[head]])
    return np.concatenate(again), np.concatenate(first)


def _parts(keys: NDArray[np.uint64], wanted: NDArray[np.bool_], start: int, stop: int) -> Iterator[NDArray[np.int64]]:
    """Numbers of the wanted rows, rising, so divided that equal keys are in one part."""
    parts = max(1, min(256, (stop - start) // _PART))
    if parts == 1:
        yield np.flatnonzero(wanted[start:stop]) + start
        return
    part = np.empty(stop - start, np.uint8)
    for begin, some in _chunks(keys, start, stop):
        part[begin - start : begin - start + len(some)] = ((some >> np.uint64(56)) * np.uint64(parts)) >> np.uint64(8)
    for number in range(parts):
        yield np.flatnonzero((part == number) & wanted[start:stop]) + start


def _chunks(keys: NDArray[np.uint64], start: int, stop: int) -> Iterator[tuple[int, NDArray[np.uint64]]]:
    for begin in range(start, stop, _CHUNK):
        yield begin, np.asarray(keys[begin : min(begin + _CHUNK, stop)])


def parts(indices: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Numbers of rows, a quarter of a million at a time."""
    for start in range(0, len(indices), _PART):
        yield indices[start : start + _PART]


def asked_too(
    prompts: NDArray[np.uint64], held_out: NDArray[np.bool_], trained: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which held-out rows ask what a training row asks, too; all three and the result of shape (rows,)."""
    measured = np.flatnonzero(held_out)
    asked, which = np.unique(prompts[measured], return_inverse=True)
    is_trained = np.zeros(len(asked), bool)
    for start in range(0, len(prompts), _CHUNK):
        some = prompts[start : start + _CHUNK][trained[start : start + _CHUNK]]
        place = places_of(some, asked)
        is_trained[place[place >= 0]] = True
    found = np.zeros(len(prompts), bool)
    found[measured] = is_trained[which]
    return found


def places_of(keys: NDArray[np.uint64], among: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Where each key stands in ``among`` (rising, each once); -1 for one that it does not hold, shape (keys,)."""
    found = np.full(len(keys), -1, np.int64)
    if not len(among):
        return found
    for begin, some in _chunks(keys, 0, len(keys)):
        place = np.minimum(np.searchsorted(among, some), len(among) - 1)
        found[begin : begin + len(some)] = np.where(among[place] == some, place, -1)
    return found
