"""Groups of rows that say the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Groups:
    """Rows that are copies of one another; the first of each group, in the order in which they came, is kept.

    A group is joined by chains: its first and last row need not be alike themselves.

    Attributes:
        index: int64 [rows], the caller's number of each row, in the order in which the rows came.
        root: int32 [rows], position in `index` of the first row of the group that the row belongs to.
        first, second, similarity: [links] positions of two rows that were compared and found alike, and how alike
            they are (1.0 for rows that are the same once normalised). There are enough links to hold each group
            together, not all that there could be.
        partly: rows that had too many neighbours to be compared with all of them.
    """

    index: NDArray[np.int64]
    root: NDArray[np.int32]
    first: NDArray[np.int32]
    second: NDArray[np.int32]
    similarity: NDArray[np.float32]
    partly: int = 0

    @property
    def pairs(self) -> Iterator[tuple[int, int, float]]:
        """The links as (row, row, similarity)."""
        return zip(
            self.index[self.first].tolist(), self.index[self.second].tolist(), self.similarity.tolist(), strict=True
        )

    @cached_property
    def copies(self) -> NDArray[np.int64]:
        """Rows that are not the first of their group."""
        return self._where(self.root != np.arange(len(self.root)))

    @property
    def kept(self) -> NDArray[np.int64]:
        """Rows that are alone or the first of their group."""
        return self._where(self.root == np.arange(len(self.root)))

    @property
    def count(self) -> int:
        """How many groups of at least two rows there are."""
        return len(self._starts) - 1

    def group_of(self, index: int) -> NDArray[np.int64]:
        """The rows of the row's group, the row itself among them. Raises `KeyError` for a row that never came."""
        root = int(self.root[self._position(index)])
        at = int(np.searchsorted(self._roots, root))
        if at == len(self._roots) or self._roots[at] != root:
            return np.array([index], np.int64)
        return self.index[self._members[self._starts[at] : self._starts[at + 1]]]

    def first_of(self, index: int) -> int:
        """The row that is kept of the row's group. Raises `KeyError` for a row that never came."""
        return int(self.index[self.root[self._position(index)]])

    def groups(self) -> Iterator[NDArray[np.int64]]:
        """Every group of at least two rows."""
        for start, end in pairwise(self._starts.tolist()):
            yield self.index[self._members[start:end]]

    def _where(self, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        found: NDArray[np.int64] = self.index[mask]
        return found

    def _position(self, index: int) -> int:
        order, ordered = self._by_index
        at = int(np.searchsorted(ordered, index))
        if at == len(ordered) or ordered[at] != index:
            raise KeyError(index)
        return at if order is None else int(order[at])

    @cached_property
    def _by_index(self) -> tuple[NDArray[np.int64] | None, NDArray[np.int64]]:
        if np.all(self.index[1:] > self.index[:-1]):
            return None, self.index
        order = np.argsort(self.index)
        return order, self.index[order]

    @cached_property
    def _members(self) -> NDArray[np.int64]:
        """Positions of all rows in groups, group after group."""
        sizes = np.bincount(self.root, minlength=len(self.root))
        members = np.flatnonzero(sizes[self.root] > 1)
        return members[np.argsort(self.root[members], kind="stable")]

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        roots = self.root[self._members]
        return np.concatenate([np.flatnonzero(np.diff(roots, prepend=-1)), [len(roots)]])

    @cached_property
    def _roots(self) -> NDArray[np.int32]:
        return self.root[self._members[self._starts[:-1]]]


class Joining:
    """Union-find over ``count`` rows; the root of a set is its first row."""

    def __init__(self, count: int) -> None:
        self.parent = np.arange(count, dtype=np.int32)
        self._links: list[tuple[int, int, float]] = []
        self._bulk: list[tuple[NDArray[np.int32], NDArray[np.int32]]] = []

    def join(self, first: int, second: int, similarity: float) -> None:
        """Put the sets of two rows together."""
        one, two = self.root(first), self.root(second)
        if one != two:
            self.parent[max(one, two)] = min(one, two)
            self._links.append((first, second, similarity))

    def join_equal(self, first: NDArray[np.int32], second: NDArray[np.int32]) -> None:
        """Put each of ``second``, rows that are alone yet, under the root of ``first``, all earlier rows."""
        self.parent[second] = first
        self._bulk.append((first, second))

    def root(self, row: int) -> int:
        """First row of the row's set."""
        parent = self.parent
        while (above := int(parent[row])) != row:
            parent[row] = parent[above]
            row = above
        return row

    def roots(self, rows: NDArray[np.int32]) -> NDArray[np.int32]:
        """First row of each row's set."""
        found = self.parent[rows]
        while True:
            above = self.parent[found]
            if np.array_equal(above, found):
                return found
            found = above

    def groups(self, index: NDArray[np.int64], partly: int = 0) -> Groups:
        """What was joined."""
        count = len(self._links)
        first = np.fromiter((link[0] for link in self._links), np.int32, count)
        second = np.fromiter((link[1] for link in self._links), np.int32, count)
        alike = np.fromiter((link[2] for link in self._links), np.float32, count)
        bulk = sum(len(pair[0]) for pair in self._bulk)
        return Groups(
            index,
            self.roots(np.arange(len(self.parent), dtype=np.int32)),
            np.concatenate([*[pair[0] for pair in self._bulk], first]),
            np.concatenate([*[pair[1] for pair in self._bulk], second]),
            np.concatenate([np.ones(bulk, np.float32), alike]),
            partly,
        )


def exact_duplicates(index: NDArray[np.int64], hashes: NDArray[np.uint64]) -> Groups:
    """Groups of rows with the same hash.

    Args:
        index: int64 [rows], the caller's number of each row.
        hashes: uint64 [rows], a hash of what a row says; 64 good bits let two of 5 million rows fall together by
            chance once in 1.5 million data sets.
    """
    joining = Joining(len(index))
    join_equal_values(joining, hashes, np.arange(len(index), dtype=np.int32))
    return joining.groups(index)


def join_equal_values(joining: Joining, values: NDArray[np.uint64], rows: NDArray[np.int32]) -> None:
    """Join ``rows`` (ascending) that have the same value."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(order) else order
    lengths = np.diff(starts, append=len(order))
    firsts = np.repeat(order[starts], lengths)
    copies = firsts != order
    joining.join_equal(rows[firsts[copies]], rows[order[copies]])
