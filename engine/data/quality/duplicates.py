"""Near duplicates: rows whose shingles are nearly the same, found without comparing every row with every other.

MinHash (Broder 1997; signatures by rensa) and locality-sensitive hashing by bands (Leskovec, Rajaraman, Ullman,
"Mining of Massive Datasets", chapter 3) give the candidates. Each candidate is then compared exactly, on its texts.
Memory stays bounded: what is kept of a row while candidates are sought is 32 bytes of sketch and its place in a
group; the bands lie in files of a scratch folder, about 170 bytes a row, which are deleted at the end.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import rensa
from numpy.typing import NDArray

from engine.data.quality.groups import Groups, Joining, join_equal_values
from engine.data.quality.shingles import LONGEST, U64, Shingles, batched, jaccard, mixed, shingles

SLOTS = 128
"""Hashes of a signature."""
RECALL = 0.98
"""Share of the pairs just at the threshold that fall into a band together."""
NEIGHBOURS = 24
"""In a band, a row is compared with so many that share its hash: enough for all but boiler-plate."""
_SEED = 42
_CHARACTERS = 1 << 17  # of a batch: its arrays stay in the processor's cache
_ROWS = 4096
_SORTED_AT_ONCE = 4_000_000
_SKETCHED_AT_ONCE = 1 << 18
_VERIFIED_AT_ONCE = 2048
_VERIFIED_CHARACTERS = 400_000  # of one side; a set of shingles takes 70 bytes a character
_REMEMBERED = 4_000_000
# A sketch tells a similarity within 0.13 at four standard deviations.
_SKETCH_ERROR = 0.13
_SKETCH_WORDS = SLOTS * 2 // 64
_LOW_BITS = np.uint64(0x5555555555555555)

Texts = Callable[[Sequence[int]], list[str]]
Stage = Literal["read", "compare"]


class Progress(Protocol):
    """Is told of every step; what it raises ends the search."""

    def __call__(self, stage: Stage, done: int, total: int | None, /) -> None:
        """``done`` of ``total`` (None while it is not known) rows read, or bands compared."""


def near_duplicates(
    texts: Iterable[tuple[int, str]],
    text_of: Texts,
    *,
    threshold: float = 0.8,
    scratch: Path,
    progress: Progress | None = None,
) -> Groups:
    """Groups of rows whose shingles have a Jaccard similarity of at least ``threshold``.

    Args:
        texts: (the caller's number of a row, its text), each row once; read once from first to last. A row without
            a letter or digit is left alone.
        text_of: gives the texts of rows again, for the exact comparison of candidates.
        threshold: 0.3 to 1.
        scratch: a folder on a disk with room for 170 bytes a row (more for a threshold below 0.75).
        progress: may raise in order to cancel; nothing is left on disk then.

    Raises:
        ValueError: the threshold is out of bounds.
        OSError: the scratch folder cannot be written.
    """
    with _Search(scratch, threshold, progress) as search:
        search.read(texts)
        index = search.index()

        def of_positions(positions: Sequence[int]) -> list[str]:
            return text_of(index[np.asarray(positions, np.int64)].tolist())

        joining = search.compare(of_positions)
        return joining.groups(index, search.partly)


@dataclass(frozen=True)
class Leaks:
    """Training rows that a held-out row nearly repeats.

    Attributes:
        train, held_out, similarity: [pairs] each such training row with the held-out row most like it, and each
            held-out row not named thereby with the training row most like it.
    """

    train: NDArray[np.int64]
    held_out: NDArray[np.int64]
    similarity: NDArray[np.float32]

    @property
    def pairs(self) -> Iterator[tuple[int, int, float]]:
        """(training row, held-out row, similarity)."""
        return zip(self.train.tolist(), self.held_out.tolist(), self.similarity.tolist(), strict=True)


def leaks(
    train: Iterable[tuple[int, str]],
    held_out: Iterable[tuple[int, str]],
    train_text: Texts,
    held_out_text: Texts,
    *,
    threshold: float = 0.8,
    scratch: Path,
    progress: Progress | None = None,
) -> Leaks:
    """Near duplicates between two sets of texts (questions, usually); arguments as for `near_duplicates`."""
    with _Search(scratch, threshold, progress) as search:
        search.read(train)
        split = search.count
        search.read(held_out)
        index = search.index()

        def of_positions(positions: Sequence[int]) -> list[str]:
            places = np.asarray(positions, np.int64)
            ours = places < split
            found = np.empty(len(places), object)
            found[ours] = train_text(index[places[ours]].tolist())
            found[~ours] = held_out_text(index[places[~ours]].tolist())
            return list(found)

        groups = search.compare(of_positions).groups(np.arange(search.count, dtype=np.int64))
        pairs = list(_across(groups, split, of_positions, threshold))
    return Leaks(
        index[np.array([pair[0] for pair in pairs], np.int64)],
        index[np.array([pair[1] for pair in pairs], np.int64)],
        np.array([pair[2] for pair in pairs], np.float32),
    )


def _across(groups: Groups, split: int, texts: Texts, threshold: float) -> Iterator[tuple[int, int, float]]:
    """Pairs of a training and a held-out row that are alike, from groups that have both. A row is compared with the
    first `NEIGHBOURS` different ones of the other side.
    """
    for group in groups.groups():
        ours, theirs = group[group < split], group[group >= split]
        if not (len(ours) and len(theirs)):
            continue
        named: set[int] = set()
        for row, other, alike in _best(ours, _different(theirs, texts), texts, threshold):
            named.add(other)
            yield row, other, alike
        rest = theirs[~np.isin(theirs, list(named))]
        for row, other, alike in _best(rest, _different(ours, texts), texts, threshold):
            yield other, row, alike


def _different(rows: NDArray[np.int64], texts: Texts) -> list[tuple[int, set[int]]]:
    """The first rows with shingles of their own, and these."""
    found: dict[frozenset[int], int] = {}
    some = rows[:_VERIFIED_AT_ONCE].tolist()
    for row, own in zip(some, shingles(texts(some)).sets(), strict=True):
        found.setdefault(frozenset(own), row)
    return [(row, set(own)) for own, row in list(found.items())[:NEIGHBOURS]]


def _best(
    rows: NDArray[np.int64], others: list[tuple[int, set[int]]], texts: Texts, threshold: float
) -> Iterator[tuple[int, int, float]]:
    """Each of ``rows`` that is like one of ``others``, the one most like it, and how much."""
    for start in range(0, len(rows), _VERIFIED_AT_ONCE):
        some = rows[start : start + _VERIFIED_AT_ONCE].tolist()
        for row, own in zip(some, shingles(texts(some)).sets(), strict=True):
            alike, negative = max((jaccard(own, other), -number) for number, other in others)
            if alike >= threshold:
                yield row, -negative, alike


# --------------------------------------------------------------------------------------------------------- search
def bands(threshold: float) -> tuple[int, int]:
    """How many bands of how many slots: the widest bands with which `RECALL` of the pairs at ``threshold`` share at
    least one, by 1 − (1 − s^slots)^bands.
    """
    if not 0.3 <= threshold <= 1.0:
        raise ValueError(f"a threshold between 0.3 and 1, not {threshold}")
    wide = [slots for slots in range(1, 17) if 1 - (1 - threshold**slots) ** (SLOTS // slots) >= RECALL]
    return SLOTS // max(wide), max(wide)


class _Search:
    """Signatures in files, and candidates from them. Positions count the rows that have a shingle and those that
    have none alike, in the order in which they came.
    """

    def __init__(self, scratch: Path, threshold: float, progress: Progress | None) -> None:
        self.bands, self.slots = bands(threshold)
        self.threshold = threshold
        self.count = 0
        self._characters = 0
        self.partly = 0
        self._progress = progress
        self._scratch = scratch
        self._band = 0
        self._failed: U64 = np.zeros(0, np.uint64)
        self._failed_now: list[U64] = []

    def __enter__(self) -> _Search:
        with ExitStack() as stack:
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self._scratch, prefix="bands-")))
            names = ["index", "rows", "sequence", "sketch", *(f"band{i}" for i in range(self.bands))]
            self._files = {name: stack.enter_context((self._folder / name).open("ab")) for name in names}
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _tell(self, stage: Stage, done: int, total: int | None) -> None:
        if self._progress is not None:
            self._progress(stage, done, total)

    def _path(self, name: str) -> Path:
        self._files[name].flush()
        return self._folder / name

    def _hashes(self, name: str) -> U64:
        return np.fromfile(self._path(name), np.uint64)

    def index(self) -> NDArray[np.int64]:
        """The callers' numbers by position."""
        return np.fromfile(self._path("index"), np.int64)

    def read(self, texts: Iterable[tuple[int, str]]) -> None:
        """Write signatures of more rows."""
        for indices, batch in batched(texts, _CHARACTERS, _ROWS):
            np.array(indices, np.int64).tofile(self._files["index"])
            cut = shingles(batch)
            self._write(cut, np.flatnonzero(np.diff(cut.offsets)))
            self.count += len(batch)
            self._characters += sum(min(len(text), LONGEST) for text in batch)
            self._tell("read", self.count, None)

    def _write(self, cut: Shingles, some: NDArray[np.int64]) -> None:
        if not len(some):
            return
        offsets = np.append(cut.offsets[some], cut.offsets[-1]).astype(np.uint64)
        digests = rensa.RMinHash.digest_matrix_from_flat_token_hashes(cut.hashes, offsets, SLOTS, _SEED)
        signatures = np.array(digests.to_rows(), np.uint64)
        (some + self.count).astype(np.int32).tofile(self._files["rows"])
        cut.sequence[some].tofile(self._files["sequence"])
        _sketch(signatures).tofile(self._files["sketch"])
        weights = mixed(np.arange(1, self.slots + 1, dtype=np.uint64)) | np.uint64(1)
        used = signatures[:, : self.bands * self.slots].reshape(len(some), self.bands, self.slots)
        for band, hashes in enumerate(mixed((used * weights).sum(axis=2, dtype=np.uint64)).T):
            np.ascontiguousarray(hashes).tofile(self._files[f"band{band}"])

    def compare(self, texts: Texts) -> Joining:
        """Join all rows that are alike."""
        joining = Joining(self.count)
        rows: NDArray[np.int32] = np.fromfile(self._path("rows"), np.int32)
        join_equal_values(joining, self._hashes("sequence"), rows)
        # Copies of an earlier row are in its group already: only the first need be compared.
        alone = joining.parent[rows] == rows
        sketches = self._hashes("sketch").reshape(len(rows), _SKETCH_WORDS)
        for band in range(self.bands):
            self._band = band
            self._tell("compare", band, self.bands)
            hashes = self._hashes(f"band{band}")
            parts = 1 + len(rows) // _SORTED_AT_ONCE
            for part in range(parts):
                chosen = alone if parts == 1 else alone & (hashes % np.uint64(parts) == np.uint64(part))
                order, same = self._buckets(hashes, np.flatnonzero(chosen).astype(np.int32), band)
                self._neighbours(joining, rows, sketches, order, same, texts)
            self._remember()
        self._tell("compare", self.bands, self.bands)
        return joining

    def _buckets(self, hashes: U64, chosen: NDArray[np.int32], band: int) -> tuple[NDArray[np.int32], U64]:
        """The places that share their hash with another, bucket by bucket, and that hash."""
        values = hashes[chosen]
        order = np.argsort(values, kind="stable")
        ordered = values[order]
        equal = ordered[1:] == ordered[:-1]
        shared = np.zeros(len(order), np.bool_)
        shared[1:] = equal
        shared[:-1] |= equal
        places, values = chosen[order[shared]], ordered[shared]
        if len(values) > NEIGHBOURS and bool((values[NEIGHBOURS:] == values[:-NEIGHBOURS]).any()):
            # Some bucket is too large to compare all with all: those that share another band as well come together.
            other = self._hashes(f"band{(band + 1) % self.bands}")[places]
            sorting = np.lexsort((places, other, values))
            places, values = places[sorting], values[sorting]
        return places, values

    def _neighbours(
        self,
        joining: Joining,
        rows: NDArray[np.int32],
        sketches: U64,
        order: NDArray[np.int32],
        same: U64,
        texts: Texts,
    ) -> None:
        """Compare each place with the next ones of its bucket."""
        for step in range(1, NEIGHBOURS + 2):
            near = np.flatnonzero(same[:-step] == same[step:])
            if step > NEIGHBOURS:
                apart = joining.roots(rows[order[near]]) != joining.roots(rows[order[near + step]])
                self.partly = max(self.partly, int(apart.sum()))
            elif not len(near):
                return
            else:
                for start in range(0, len(near), _SKETCHED_AT_ONCE):
                    some = near[start : start + _SKETCHED_AT_ONCE]
                    self._candidates(joining, rows, sketches, order[some], order[some + step], texts)

    def _candidates(
        self,
        joining: Joining,
        rows: NDArray[np.int32],
        sketches: U64,
        one: NDArray[np.int32],
        two: NDArray[np.int32],
        texts: Texts,
    ) -> None:
        """Join the pairs that are not joined yet, have not failed before, look alike, and are."""
        apart = joining.roots(rows[one]) != joining.roots(rows[two])
        one, two = one[apart], two[apart]
        alike = _sketched_similarity(sketches[one], sketches[two]) >= self.threshold - _SKETCH_ERROR
        first, second = rows[np.minimum(one[alike], two[alike])], rows[np.maximum(one[alike], two[alike])]
        keys = first.astype(np.uint64) << np.uint64(32) | second.astype(np.uint64)
        fresh = ~_contains(self._failed, keys)
        first, second, keys = first[fresh], second[fresh], keys[fresh]
        mean = self._characters // max(1, self.count)
        at_once = min(_VERIFIED_AT_ONCE, 8 + _VERIFIED_CHARACTERS // max(1, mean))
        for start in range(0, len(first), at_once):
            part = slice(start, start + at_once)
            failed = self._verify(joining, first[part], second[part], keys[part], texts)
            if sum(map(len, self._failed_now)) < _REMEMBERED:
                self._failed_now.append(failed)

    def _remember(self) -> None:
        """Pairs that failed in this band need no comparing in the next ones. Where there are too many, the older ones
        are forgotten: they are only compared once more.
        """
        kept = self._failed if len(self._failed) < _REMEMBERED else self._failed[:0]
        self._failed = np.union1d(kept, np.concatenate([*self._failed_now, self._failed[:0]]))
        self._failed_now = []

    def _verify(
        self, joining: Joining, first: NDArray[np.int32], second: NDArray[np.int32], keys: U64, texts: Texts
    ) -> U64:
        """Compare pairs exactly and join those that are alike; returns the keys of the others."""
        apart = joining.roots(first) != joining.roots(second)
        first, second, keys = first[apart], second[apart], keys[apart]
        needed = np.unique(np.concatenate([first, second])).tolist()
        sets: dict[int, set[int]] = {}
        for places, batch in batched(zip(needed, texts(needed), strict=True), _CHARACTERS, _ROWS):
            sets.update(zip(places, shingles(batch).sets(), strict=True))
        failed = np.zeros(len(first), np.bool_)
        for at, (one, two) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
            alike = jaccard(sets[one], sets[two])
            if alike >= self.threshold:
                joining.join(one, two, alike)
            else:
                failed[at] = True
        self._tell("compare", self._band, self.bands)
        return keys[failed]


def _sketch(signatures: U64) -> U64:
    """Two bits of every slot: uint64 [rows, 4] (b-bit MinHash, Li and König 2010)."""
    bits = (signatures * np.uint64(0x9E3779B1) & np.uint64(0xFFFFFFFF)) >> np.uint64(30)
    parts = bits.reshape(len(signatures), _SKETCH_WORDS, 32) << np.arange(0, 64, 2, dtype=np.uint64)
    sketches: U64 = np.bitwise_or.reduce(parts, axis=2)
    return sketches


def _sketched_similarity(one: U64, two: U64) -> NDArray[np.float64]:
    """Similarity as sketches tell it: a quarter of the slots that differ agree in their two bits by chance."""
    differ = one ^ two
    differ = (differ | (differ >> np.uint64(1))) & _LOW_BITS
    similarity: NDArray[np.float64] = 1 - np.bitwise_count(differ).sum(axis=1) / SLOTS / 0.75
    return similarity


def _contains(ordered: U64, values: U64) -> NDArray[np.bool_]:
    if not len(ordered):
        return np.zeros(len(values), np.bool_)
    at = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    found: NDArray[np.bool_] = ordered[at] == values
    return found
