"""What two texts are compared by: their word 3-grams, or character 5-grams where a language writes no spaces.

How a text is normalised: NFKC (full-width letters become plain ones), lower case; every run of characters that are
neither letter, digit nor combining mark counts as one space, so that punctuation and layout make no difference. A
text is cut into characters when its letters of scripts without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese,
Tibetan), each counted three times, are at least as many as its other letters; inside a text cut into words, each such
letter is a word of its own. A text with fewer than three words (five characters) has one shingle: all of it.

The work is done by numpy on many texts at once, since a loop over words in Python takes five times as long.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

LONGEST = 100_000
"""Characters of a text that are compared; what follows is not looked at, which bounds time and memory."""
WORDS = 3
CHARACTERS = 5
WEIGHT = 3
"""As many letters does one letter of a script without spaces count for."""
_TABLE = 0x20000
_SPACELESS = (
    (0x0E00, 0x0FFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3005, 0x3007),
    (0x3040, 0x312F),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
)
_SEPARATOR, _LETTER, _SPACELESS_LETTER = 0, 1, 2

U64 = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Shingles:
    """The shingles of several texts.

    Attributes:
        hashes: uint64 [shingles], text after text; a shingle that a text has twice stands twice.
        offsets: int64 [texts + 1], where each text's shingles begin.
        sequence: uint64 [texts], equal for texts that are the same once normalised.
    """

    hashes: U64
    offsets: NDArray[np.int64]
    sequence: U64

    def sets(self) -> list[set[int]]:
        """Each text's shingles as a set."""
        flat = self.hashes.tolist()
        ends = self.offsets.tolist()
        return [set(flat[start:end]) for start, end in pairwise(ends)]


def jaccard(first: set[int], second: set[int]) -> float:
    """Share of shingles that both have among those that either has; 0 when both are empty."""
    both = len(first & second)
    either = len(first) + len(second) - both
    return both / either if either else 0.0


def similarity(first: str, second: str) -> float:
    """Jaccard similarity of the shingles of two texts."""
    one, two = shingles((first, second)).sets()
    return jaccard(one, two)


def shingles(texts: Sequence[str]) -> Shingles:
    """The shingles of each text; see the module's head for what they are."""
    plain = [normalised(text) for text in texts]
    lengths = np.fromiter(map(len, plain), np.int64, len(plain))
    points = np.frombuffer("".join(plain).encode("utf-32-le", "surrogatepass"), np.uint32)
    kinds = _kinds()[np.minimum(points, _TABLE)]
    rows = np.repeat(np.arange(len(plain), dtype=np.int32), lengths)
    by_character = _by_character(kinds, rows, len(plain))
    tokens, token_rows = _tokens(points, kinds, rows, by_character)
    counts = np.bincount(token_rows, minlength=len(plain))
    return _windows(tokens, token_rows, counts, np.where(by_character, CHARACTERS, WORDS))


def normalised(text: str) -> str:
    """The text as it is compared, its separators still in place."""
    text = text[:LONGEST]
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).lower()


@cache
def _kinds() -> NDArray[np.uint8]:
    """Kind of every code point; what lies beyond the table (rare Han, mostly) writes no spaces."""
    kinds = np.zeros(_TABLE + 1, np.uint8)
    for point in range(_TABLE):
        letter = chr(point)
        if letter.isalnum() or unicodedata.category(letter)[0] == "M":
            kinds[point] = _LETTER
    for first, last in _SPACELESS:
        block = kinds[first : last + 1]
        block[block == _LETTER] = _SPACELESS_LETTER
    kinds[_TABLE] = _SPACELESS_LETTER
    return kinds


def _by_character(kinds: NDArray[np.uint8], rows: NDArray[np.int32], count: int) -> NDArray[np.bool_]:
    """Which texts are cut into characters."""
    spaceless = np.bincount(rows[kinds == _SPACELESS_LETTER], minlength=count)
    if not spaceless.any():
        return np.zeros(count, np.bool_)
    letters = np.bincount(rows[kinds == _LETTER], minlength=count)
    return (spaceless > 0) & (WEIGHT * spaceless >= letters)


def _tokens(
    points: NDArray[np.uint32], kinds: NDArray[np.uint8], rows: NDArray[np.int32], by_character: NDArray[np.bool_]
) -> tuple[U64, NDArray[np.int32]]:
    """Hash of each token, and the text that it belongs to."""
    where = np.flatnonzero(kinds)
    if not len(where):
        return np.zeros(0, np.uint64), np.zeros(0, np.int32)
    kept_kinds, kept_rows = kinds[where], rows[where]
    starts = np.empty(len(where), np.bool_)
    starts[0] = True
    # A token starts after a separator, in a new text, and at each letter that stands for itself.
    starts[1:] = (np.diff(where) > 1) | (np.diff(kept_rows) != 0)
    alone = kept_kinds == _SPACELESS_LETTER
    starts |= alone
    starts[1:] |= alone[:-1]
    starts |= by_character[kept_rows]
    first = np.flatnonzero(starts)
    lengths = np.diff(first, append=len(where))
    inside = np.arange(len(where)) - np.repeat(first, lengths)
    # A token's hash is the sum of its letters' hashes, each mixed with its place.
    letters = mixed(points[where].astype(np.uint64) | (inside.astype(np.uint64) << np.uint64(21)))
    return np.add.reduceat(letters, first), kept_rows[first]


def _windows(tokens: U64, rows: NDArray[np.int32], counts: NDArray[np.int64], sizes: NDArray[np.int64]) -> Shingles:
    """Every run of as many tokens as ``sizes`` says for its text; all tokens of a text that has fewer."""
    ends = np.cumsum(counts)
    size = sizes[rows]
    left = ends[rows] - np.arange(len(tokens))
    hashes = tokens.copy()
    for step in range(1, int(sizes.max(initial=0))):
        hashes *= _STEP
        inside = np.flatnonzero((left > step) & (size > step))
        hashes[inside] += tokens[inside + step]
    starts = ends - counts
    valid = left >= size
    valid[starts[(counts > 0) & (counts < sizes)]] = True
    kept = np.flatnonzero(valid)
    kept_rows = rows[kept]
    hashes = mixed(hashes[kept])
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(np.bincount(kept_rows, minlength=len(counts)), out=offsets[1:])
    return Shingles(hashes, offsets, _sequence(hashes, offsets))


def _sequence(hashes: U64, offsets: NDArray[np.int64]) -> U64:
    """One number for all shingles of a text in their order."""
    counts = np.diff(offsets)
    placed = mixed(hashes + (np.arange(len(hashes)) - np.repeat(offsets[:-1], counts)).astype(np.uint64) * _STEP)
    total = np.zeros(len(counts), np.uint64)
    some = counts > 0
    if some.any():
        total[some] = np.add.reduceat(placed, offsets[:-1][some])
    return total


_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)


def mixed(values: U64) -> U64:
    """Values spread over all 64 bits: the first round of splitmix64 (Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * _MIX
    values ^= values >> np.uint64(27)
    values *= _STEP
    values ^= values >> np.uint64(31)
    return values


def batched(texts: Iterable[tuple[int, str]], characters: int, rows: int) -> Iterable[tuple[list[int], list[str]]]:
    """Indices and texts in batches of about ``characters`` and at most ``rows``."""
    indices: list[int] = []
    batch: list[str] = []
    size = 0
    for index, text in texts:
        indices.append(index)
        batch.append(text)
        size += min(len(text), LONGEST)
        if size >= characters or len(batch) >= rows:
            yield indices, batch
            indices, batch, size = [], [], 0
    if batch:
        yield indices, batch
