"""What a model made of the rows, read from the file that `lorimer data score` writes: the rows in the order of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.project.atomic import disk_error

MOST = 200
"""Rows of each kind that are shown, first of them the hardest, the most uncertain or the easiest."""
KINDS = ("hardest", "uncertain", "easiest")


class RowScores:
    """Loss and uncertainty of rows by their number, in nats a token.

    Args:
        file: JSON Lines with ``index``, ``loss`` and ``uncertainty``.

    Raises:
        UserError: it cannot be read.
    """

    def __init__(self, file: Path) -> None:
        try:
            lines = [json.loads(line) for line in file.read_bytes().splitlines()]
        except OSError as error:
            raise disk_error(error, file) from error
        self._index = np.array([line["index"] for line in lines], dtype=np.int64)
        known = {name: [line[name] for line in lines] for name in ("loss", "uncertainty")}
        self._figures = {
            name: np.array([np.nan if value is None else value for value in values], dtype=np.float64)
            for name, values in known.items()
        }

    def rows(self, kind: str) -> NDArray[np.int64]:
        """Numbers of rows, the hardest, most uncertain or easiest (``kind``) first, at most `MOST`; none of others."""
        if kind not in KINDS:
            return np.zeros(0, dtype=np.int64)
        figures = self._figures["uncertainty" if kind == "uncertain" else "loss"]
        order = np.argsort(figures if kind == "easiest" else -figures, kind="stable")
        return self._index[order[~np.isnan(figures[order])][:MOST]]

    def of(self, index: int) -> dict[str, float | None]:
        """``loss`` and ``uncertainty`` of a row, None where it was not scored."""
        at = int(np.searchsorted(self._index, index))
        is_known = at < len(self._index) and self._index[at] == index
        found = {name: float(values[at]) if is_known else np.nan for name, values in self._figures.items()}
        return {name: None if np.isnan(value) else value for name, value in found.items()}

    def to_plain(self) -> dict[str, Any]:
        """``rows`` (scored), ``loss`` and ``uncertainty`` (medians), and how many rows each of `KINDS` shows."""
        medians = {name: float(np.nanmedian(v)) if np.isfinite(v).any() else None for name, v in self._figures.items()}
        return {"rows": len(self._index), **medians, **{kind: len(self.rows(kind)) for kind in KINDS}}
