"""All rows of a data set counted or cut into tokens, on all cores, in pieces that helper processes read themselves."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.data.dataset import DataSet
from engine.data.encode import Example, RowEncoder, longest
from engine.data.making import Piece
from engine.data.rows import Row, SetAside
from engine.data.scan import Helpers, cores
from engine.data.template import choose_template
from engine.data.tokenizer import TextTokenizer
from engine.data.turns import NOTES
from engine.recipe.recipe import DataSettings

T = TypeVar("T")
_PIECE = 512
"""Rows of a piece."""
_ALONE = 6 << 20
"""Rows of files up to so many bytes are done in this process: starting others takes longer."""
EXAMPLE = np.dtype(
    [
        ("end", "<i8"),
        ("row", "<i8"),
        ("whole", "<i4"),
        ("prompt", "<i4"),
        ("chosen", "<i4"),
        ("notes", "<u4"),
        ("cut", "?"),
    ]
)
"""What is kept of an example beside its tokens: where these end, the number of its row, its tokens before it was cut,
of a preference the tokens of prompt and chosen answer (-1 for a conversation), its notes as bits, whether it is cut."""
_BIT = {note: 1 << number for number, note in enumerate(NOTES)}


class Encoded:
    """Some rows as arrays.

    Attributes:
        ids: token ids of all examples, one behind the other (of a preference prompt, chosen and rejected answer).
        learned: of each whether the loss counts it.
        examples: of each example what `EXAMPLE` names, ends counted from the first token here.
        set_aside: rows that cannot be trained on.
    """

    def __init__(self, items: Iterator[Example | SetAside]) -> None:
        self.set_aside: list[SetAside] = []
        ids: list[int] = []
        learned: list[bool] = []
        found: list[tuple[int, int, int, int, int, int, bool]] = []
        for item in items:
            if isinstance(item, SetAside):
                self.set_aside.append(item)
                continue
            prompt = chosen = -1
            if item.chosen_ids:
                prompt, chosen = len(item.prompt_ids), len(item.chosen_ids)
                ids += item.prompt_ids + item.chosen_ids + item.rejected_ids
                learned += [False] * prompt + [True] * (chosen + len(item.rejected_ids))
            else:
                ids += item.input_ids
                learned += item.learned
            notes = sum(_BIT[note] for note in item.notes)
            found.append((len(ids), item.index, item.whole, prompt, chosen, notes, item.cut))
        self.ids = np.array(ids, np.int32)
        self.learned = np.array(learned, bool)
        self.examples = np.array(found, EXAMPLE)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of the longest sequence of each example, shape (examples,)."""
        return sequences(self.examples, np.r_[0, self.examples["end"][:-1]])

    @property
    def notes(self) -> Counter[str]:
        """Note → examples that have it."""
        kinds, often = np.unique(self.examples["notes"], return_counts=True)
        return Counter({note: int(often[kinds & bit > 0].sum()) for note, bit in _BIT.items() if (kinds & bit).any()})


def sequences(examples: NDArray[Any], begins: NDArray[np.int64]) -> NDArray[np.int64]:
    """Tokens of the longest sequence of examples: all of a conversation; of a preference prompt and longer answer.

    Args:
        examples: as `EXAMPLE`, shape (examples,).
        begins: where the tokens of each begin.
    """
    whole = examples["end"] - begins
    prompt, chosen = examples["prompt"], examples["chosen"]
    pair = prompt + np.maximum(chosen, whole - prompt - chosen)
    return np.asarray(np.where(prompt < 0, whole, pair), dtype=np.int64)


def noted(bits: int) -> tuple[str, ...]:
    """The notes that some bits stand for."""
    return tuple(note for note, bit in _BIT.items() if bits & bit)


def counted(
    rows: DataSet, indices: NDArray[np.int64], encoder: RowEncoder
) -> Generator[tuple[NDArray[np.int64], NDArray[np.int32]]]:
    """(numbers, tokens) of usable rows (rising), piece by piece, in order; 0 as `RowEncoder.count` tells it."""
    for piece, found in _by_piece(count_piece, rows, indices, encoder):
        yield piece.indices, found


def encoded(rows: DataSet, indices: NDArray[np.int64], encoder: RowEncoder) -> Iterator[tuple[int, Encoded]]:
    """(how many rows it is made of, what they come to) of usable rows (rising), piece by piece, in order."""
    for piece, found in _by_piece(encode_piece, rows, indices, encoder):
        yield len(piece.indices), found


def _by_piece(
    work: Callable[[RowEncoder, Piece], T], rows: DataSet, indices: NDArray[np.int64], encoder: RowEncoder
) -> Iterator[tuple[Piece, T]]:
    share = len(indices) / max(1, rows.count)
    workers = cores()
    if workers < 2 or rows.bytes * share <= _ALONE:
        for piece in rows.pieces(indices, most=_PIECE):
            yield piece, work(encoder, piece)
        return
    asked = encoder.data.model_dump_json()
    mine, theirs = itertools.tee(rows.pieces(indices, most=_PIECE))
    with Helpers(workers) as helpers:
        found = helpers.map(work_here, ((work, encoder.tokenizer.folder, asked, piece) for piece in theirs))
        yield from zip(mine, found, strict=True)


# ------------------------------------------------------------------------------------------------------- in a helper
def work_here(work: Callable[[RowEncoder, Piece], T], folder: Path, data: str, piece: Piece) -> T:
    """Do it with a tokenizer and template of this process' own; ``data``: the recipe's data section as JSON."""
    return work(_encoder(folder, data), piece)


@functools.lru_cache(maxsize=1)
def _encoder(folder: Path, data: str) -> RowEncoder:
    settings = DataSettings.model_validate_json(data)
    tokenizer = TextTokenizer.load(folder)
    template = choose_template(folder, settings.template, tokenizer=tokenizer)
    return RowEncoder(template, tokenizer, settings, longest(settings, tokenizer))


def count_piece(encoder: RowEncoder, piece: Piece) -> NDArray[np.int32]:
    """Tokens of each row of a piece, shape (rows,); 0 for one that a decision made unusable meanwhile."""
    items = list(piece.items())
    counts = iter(encoder.count([item for item in items if isinstance(item, Row)]))
    return np.array([next(counts) if isinstance(item, Row) else 0 for item in items], np.int32)


def encode_piece(encoder: RowEncoder, piece: Piece) -> Encoded:
    """The rows of a piece, tokenised."""
    return Encoded(encoder.encode(_rows(piece)))


def _rows(piece: Piece) -> list[Row]:
    found = []
    for item in piece.items():
        assert isinstance(item, Row), item
        found.append(item)
    return found
