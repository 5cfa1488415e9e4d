"""Tokenised rows on the disk: made once for the same files, template and settings, and read by number."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import xxhash
from numpy.typing import NDArray

from engine.data import cache
from engine.data.dataset import DataSet
from engine.data.encode import Example, RowEncoder
from engine.data.rows import Row, SetAside, set_aside_from_plain, set_aside_to_plain
from engine.data.tokenise import EXAMPLE, encoded, noted, sequences
from engine.project.atomic import disk_error

_TOGETHER = 1024
VERSION = 1
"""Raised when rows come to be tokenised in another way."""
_SETTINGS = ("system", "learn_from", "over_long", "few_shot")


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row of a data set, read when it is asked for.

    Attributes:
        rows: the data set.
        index: the row's number.
    """

    rows: DataSet
    index: int

    def read(self) -> Row:
        """The row, as the recipe wants it. Raises `UserError` when its file cannot be read any more."""
        found = self.rows.item(self.index)
        assert isinstance(found, Row), found
        return found


class TokenStore:
    """All usable rows of a data set, tokenised.

    Args:
        folder: where they lie.
        rows: the data set.

    Attributes:
        examples: of each example what `EXAMPLE` names, ends counted over all, shape (examples,).
    """

    def __init__(self, folder: Path, rows: DataSet) -> None:
        known = json.loads((folder / cache.DONE).read_text("utf-8"))
        self._folder, self._data = folder, rows
        self._count, self._tokens = known["examples"], known["tokens"]
        self.set_aside_count: int = known["set_aside"]
        self.examples = self._mapped("examples", EXAMPLE, self._count)
        self._ids = self._mapped("ids", np.int32, self._tokens)
        self._learned = self._mapped("learned", np.bool_, self._tokens)

    def _mapped(self, name: str, kind: Any, count: int) -> NDArray[Any]:
        if not count:
            return np.empty(0, kind)
        return np.memmap(self._folder / f"{name}.bin", dtype=kind, mode="r", shape=(count,))

    def set_aside(self) -> Iterator[SetAside]:
        """Rows that cannot be trained on, rising."""
        with (self._folder / "set_aside.jsonl").open(encoding="utf-8") as file:
            for line in file:
                yield set_aside_from_plain(json.loads(line))

    @property
    def rows(self) -> NDArray[np.int64]:
        """Number of each example's row, rising, shape (examples,)."""
        return np.asarray(self.examples["row"])

    def all(self) -> Examples:
        """Every example."""
        return Examples(self, np.arange(self._count))

    def read(self, indices: NDArray[np.int64]) -> Iterator[Row]:
        """Some rows (rising) of the data set."""
        return self._data.rows(indices)

    def tokens(self, number: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """(token ids, which are learned) of an example."""
        begin = int(self.examples["end"][number - 1]) if number else 0
        end = int(self.examples["end"][number])
        return self._ids[begin:end], self._learned[begin:end]

    def example(self, number: int) -> Example:
        """One example."""
        facts = self.examples[number]
        ids, learned = (array.tolist() for array in self.tokens(number))
        source = StoredRow(self._data, int(facts["row"]))
        cut, whole, notes = bool(facts["cut"]), int(facts["whole"]), noted(int(facts["notes"]))
        prompt, chosen = int(facts["prompt"]), int(facts["chosen"])
        if prompt < 0:
            return Example(source, ids, learned, cut, whole, notes)
        answer = prompt + chosen
        return Example(source, [], [], cut, whole, notes, ids[:prompt], ids[prompt:answer], ids[answer:])

    def lengths(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Tokens of the longest sequence of examples, shape (numbers,)."""
        begins = np.where(numbers > 0, self.examples["end"][numbers - 1], 0)
        return sequences(self.examples[numbers], begins)

    def learned(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Tokens of examples that the loss counts, shape (numbers,)."""
        return np.fromiter((int(self.tokens(n)[1].sum()) for n in numbers.tolist()), np.int64, len(numbers))


class Examples(Sequence[Example]):
    """Examples of a `TokenStore` in an order of their own, some perhaps several times.

    Attributes:
        store: where they are.
        numbers: which of them, shape (examples,).
    """

    def __init__(self, store: TokenStore, numbers: NDArray[np.int64]) -> None:
        self.store, self.numbers = store, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, place: int) -> Example: ...
    @overload
    def __getitem__(self, place: slice) -> Examples: ...
    def __getitem__(self, place: int | slice) -> Example | Examples:
        if isinstance(place, slice):
            return Examples(self.store, self.numbers[place])
        return self.store.example(int(self.numbers[place]))

    def with_rows(self) -> Iterator[Example]:
        """All of them in order, with their rows in memory; many are read at once."""
        rows = self.rows
        for start in range(0, len(self), _TOGETHER):
            wanted = np.unique(rows[start : start + _TOGETHER])
            found = {row.index: row for row in self.store.read(wanted)}
            for place in range(start, min(start + _TOGETHER, len(self))):
                example = self[place]
                yield replace(example, source=found[example.index])

    def taken(self, places: NDArray[Any]) -> Examples:
        """Those at some places, or those that a mask names."""
        return Examples(self.store, self.numbers[places])

    def tokens(self, place: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """(token ids, which are learned) of one; of a preference prompt, chosen and rejected answer behind one
        another."""
        return self.store.tokens(int(self.numbers[place]))

    @property
    def rows(self) -> NDArray[np.int64]:
        """Numbers of their rows, shape (examples,)."""
        return np.asarray(self.store.rows[self.numbers])

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of the longest sequence of each, shape (examples,)."""
        return self.store.lengths(self.numbers)

    @property
    def learned(self) -> NDArray[np.int64]:
        """Tokens of each that the loss counts, shape (examples,)."""
        return self.store.learned(self.numbers)


def tokenised(rows: DataSet, encoder: RowEncoder, progress: Callable[[int, int], None] | None = None) -> TokenStore:
    """All usable rows of a data set as token ids; taken from the cache where they were made before.

    Args:
        rows: looked at, poor rows set aside.
        encoder: makes tokens of them.
        progress: called with (rows done, rows in all); what it raises ends it, and nothing is kept.

    Raises:
        UserError: a file cannot be read, or the disk does not take the tokens.
    """
    place = cache.place("tokens", _key(rows, encoder))
    total = int(np.count_nonzero(rows.codes == 0))

    def write(folder: Path) -> None:
        try:
            _write(folder, rows, encoder, total, progress)
        except OSError as error:
            raise disk_error(error, folder) from error

    cache.made(place, write)
    if progress is not None:
        progress(total, total)
    return TokenStore(place, rows)


def _key(rows: DataSet, encoder: RowEncoder) -> str:
    """What the tokens depend on."""
    files = sorted(
        file for pattern in ("*.json", "*.jinja", "*.model") for file in encoder.tokenizer.folder.glob(pattern)
    )
    named = [
        VERSION,
        [source.reading for source in rows.sources],
        [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files],
        [encoder.template.name, encoder.template.sources, encoder.template.eos, encoder.limit],
        {name: getattr(encoder.data, name) for name in _SETTINGS},
        {file: own.prefix for file, own in encoder.data.per_file.items()},
        rows.preference,
        [str(item) for item in rows.decisions.items],
        xxhash.xxh3_64_hexdigest(rows.codes.tobytes()),
    ]
    return hashlib.blake2b(json.dumps(named).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def _write(
    folder: Path, rows: DataSet, encoder: RowEncoder, total: int, progress: Callable[[int, int], None] | None
) -> None:
    done = examples = tokens = aside = 0
    with (
        (folder / "ids.bin").open("wb") as ids,
        (folder / "learned.bin").open("wb") as learned,
        (folder / "examples.bin").open("wb") as facts,
        (folder / "set_aside.jsonl").open("w", encoding="utf-8", newline="\n") as set_aside,
    ):
        for count, found in encoded(rows, np.flatnonzero(rows.codes == 0), encoder):
            found.examples["end"] += tokens
            ids.write(found.ids.tobytes())
            learned.write(found.learned.tobytes())
            facts.write(found.examples.tobytes())
            for item in found.set_aside:
                set_aside.write(json.dumps(set_aside_to_plain(item), ensure_ascii=False) + "\n")
            examples, tokens = examples + len(found.examples), tokens + len(found.ids)
            aside, done = aside + len(found.set_aside), done + count
            if progress is not None:
                progress(done, total)
    known = {"examples": examples, "tokens": tokens, "set_aside": aside}
    (folder / cache.DONE).write_text(json.dumps(known), "utf-8")
