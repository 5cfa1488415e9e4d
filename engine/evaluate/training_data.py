"""What the data files still tell of held-out rows: whether they occur in the training data, and their own column."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.data.dataset import DataSet
from engine.data.rows import Row
from engine.project.measures import Overlap
from engine.project.run_folder import RunFolder
from engine.protocol.errors import UserError
from engine.protocol.text import Text, say
from engine.recipe.recipe import DataSettings

_COLUMNS = ("task", "category", "group", "type", "domain", "topic", "subject")
"""Columns that say what kind a row is, where the recipe names none."""
_MOST_VALUES = 30
_LONGEST_VALUE = 60
UNKNOWN = say(
    "Whether held-out rows occur in the training data is not known: the data files are gone or have changed.",
    "无法得知留出行是否出现在训练数据中：数据文件已不在或已更改。",
)


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What the files tell.

    Attributes:
        overlap: rows that occur in the training data; None where that is not known.
        column: the column that says what kind a row is; "" where there is none.
        values: what stands there, row by row; empty without column.
    """

    overlap: Overlap | None = None
    column: str = ""
    values: tuple[str, ...] = ()

    @property
    def note(self) -> Text | None:
        """Why it is not known."""
        return UNKNOWN if self.overlap is None else None


def look(run: RunFolder, data: DataSettings, measured: Sequence[Row], *, preference: bool) -> TrainingData:
    """Compare the measured rows with all rows of the recipe's files, by fingerprints of their texts.

    Args:
        data: the recipe's data section, as run.
        measured: held-out rows as the run kept them.
        preference: the run learned preferences.
    """
    try:
        rows = DataSet(data, preference=preference).scan()
        if not _same(rows, measured):
            return TrainingData()
        return TrainingData(_overlap(run, rows, measured), *_own_column(rows, measured))
    except (UserError, OSError, ValueError, KeyError):
        return TrainingData()


def _same(rows: DataSet, measured: Sequence[Row]) -> bool:
    """Whether the files still hold the measured rows, each in its place."""
    for row in measured:
        found = rows.seen(row.index) if row.index < rows.count else None
        if found is None or (found.question, found.answer) != (row.question, row.answer):
            return False
    return True


def _overlap(run: RunFolder, rows: DataSet, measured: Sequence[Row]) -> Overlap:
    held_out = _indices(run.held_out.read_text(encoding="utf-8"))
    aside = _indices(run.set_aside.read_text(encoding="utf-8")) if run.set_aside.is_file() else []
    trained = np.setdiff1d(rows.usable, np.array([*held_out, *aside], dtype=np.int64))
    own = np.array([row.index for row in measured], dtype=np.int64)
    whole = np.isin(rows.keys[own], rows.keys[trained])
    asked = np.isin(rows.prompts[own], rows.prompts[trained]) | whole
    return Overlap(int(whole.sum()), int(asked.sum()), len(measured))


def _indices(lines: str) -> list[int]:
    return [int(json.loads(line)["index"]) for line in lines.split("\n") if line]


def _own_column(rows: DataSet, measured: Sequence[Row]) -> tuple[str, tuple[str, ...]]:
    """The column that the recipe splits by, or that is named as such columns are, if it has a few short values."""
    wanted = [rows.data.split_column] if rows.data.split in ("group", "stratified") else []
    own = [row.index for row in measured]
    for name in (*wanted, *_COLUMNS):
        if not all(name in source.columns for source in rows.sources):
            continue
        values = tuple(str(rows.record(index).value.get(name, "")).strip() for index in own)
        kinds = Counter(values)
        if 2 <= len(kinds) <= _MOST_VALUES and all(0 < len(kind) <= _LONGEST_VALUE for kind in kinds):
            return name, values
    return "", ()
