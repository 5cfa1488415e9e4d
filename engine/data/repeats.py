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


def places_of(keys: NDArray[np.uint64], among: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Where each key stands in ``among`` (rising, each once); -1 for one that it does not hold, shape (keys,)."""
    found = np.full(len(keys), -1, np.int64)
    if not len(among):
        return found
    for begin, some in _chunks(keys, 0, len(keys)):
        place = np.minimum(np.searchsorted(among, some), len(among) - 1)
        found[begin : begin + len(some)] = np.where(among[place] == some, place, -1)
    return found
