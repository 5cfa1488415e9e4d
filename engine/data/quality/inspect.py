"""A data set's quality: every usable row looked at, on all cores, and compared with the others."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.data.dataset import DataSet
from engine.data.making import Piece
from engine.data.quality.duplicates import Leaks, leaks, near_duplicates
from engine.data.quality.groups import Groups
from engine.data.quality.report import Report, Tally, compared_text
from engine.data.rows import Row
from engine.data.scan import Helpers, cores
from engine.data.splits import held_out_of
from engine.recipe.quality import QualitySettings

Progress = Callable[[int, int], None]
_PIECE = 4096
_ALONE = 8000
"""Rows up to so many are looked at in this process: starting others takes longer."""


def inspect(rows: DataSet, usable: NDArray[np.int64], held_out: NDArray[np.int64], progress: Progress | None) -> Report:
    """Look at rows, and compare them with one another.

    Args:
        rows: the data set, scanned.
        usable: numbers of the rows that are used, rising.
        held_out: those of them that are held out, rising.
        progress: called with (steps done, steps in all); what it raises ends it.

    Raises:
        UserError: the settings name a check that there is not.
    """
    tally = Tally(rows.data.quality)
    total = 3 * len(usable)
    for part in _tallies(rows, usable):
        tally.merge(part)
        if progress is not None:
            progress(len(tally), total)
    with tempfile.TemporaryDirectory(prefix="lorimer-") as scratch:
        near = _near(rows, usable, Path(scratch), progress, total)
        found = _leaks(rows, np.setdiff1d(usable, held_out, True), held_out, Path(scratch))
    if progress is not None:
        progress(total, total)
    return Report(tally, near=near, leaks=found)


def set_poor_aside(rows: DataSet) -> Report:
    """Look at all usable rows of a data set, and set aside those that its recipe wants to be. Raises as `inspect`."""
    report = inspect(rows, rows.usable, np.flatnonzero(held_out_of(rows)), None)
    rows.set_poor_aside(report.set_aside())
    return report


def _tallies(rows: DataSet, usable: NDArray[np.int64]) -> Iterator[Tally]:
    settings = rows.data.quality
    pieces = rows.pieces(usable, most=_PIECE)
    if len(usable) <= _ALONE or cores() < 2:
        for piece in pieces:
            yield tally_rows(settings, piece)
        return
    with Helpers(cores()) as helpers:
        yield from helpers.map(tally_rows, ((settings, piece) for piece in pieces))


def tally_rows(settings: QualitySettings, piece: Piece) -> Tally:
    """Look at some rows, in whatever process."""
    tally = Tally(settings)
    for row in piece.items():
        assert isinstance(row, Row), row
        tally.add(row.index, row)
    return tally


def _near(
    rows: DataSet, usable: NDArray[np.int64], scratch: Path, progress: Progress | None, total: int
) -> Groups | None:
    if rows.data.quality.actions.get("near_duplicate") == "off":
        return None

    def tell(stage: str, done: int, of: int | None, /) -> None:
        if progress is not None:
            before = total // 3 if stage == "read" else 2 * total // 3
            progress(before + (total // 3) * done // max(1, of or len(usable)), total)

    texts = ((row.index, compared_text(row)) for row in rows.rows(usable))
    return near_duplicates(
        texts,
        _texts_of(rows, compared_text),
        threshold=rows.data.quality.near_duplicate,
        scratch=scratch,
        progress=tell,
    )


def _leaks(rows: DataSet, train: NDArray[np.int64], held_out: NDArray[np.int64], scratch: Path) -> Leaks | None:
    """Training rows whose question a held-out row nearly asks."""
    if rows.data.quality.actions.get("leak") == "off" or not len(held_out):
        return None
    again = _texts_of(rows, _asked)
    return leaks(
        ((row.index, _asked(row)) for row in rows.rows(train)),
        ((row.index, _asked(row)) for row in rows.rows(held_out)),
        again,
        again,
        threshold=rows.data.quality.near_duplicate,
        scratch=scratch,
    )


def _asked(row: Row) -> str:
    return row.answer if row.text is not None else row.question


def _texts_of(rows: DataSet, text: Callable[[Row], str]) -> Callable[[Sequence[int]], list[str]]:
    def again(indices: Sequence[int]) -> list[str]:
        found = {index: text(item) for index in set(indices) if isinstance(item := rows.item(index), Row)}
        return [found[index] for index in indices]

    return again
