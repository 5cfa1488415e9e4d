"""Rows of given lengths as a trainer takes them, without files or a tokenizer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.recipe.recipe import Recipe


class MadeRows:
    """Stands in for `engine.data.token_store.Examples`.

    Attributes:
        lengths: tokens of each row; all are learned. Of a preference half of them are the prompt's.
    """

    def __init__(self, lengths: NDArray[np.int64]) -> None:
        self.lengths = lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, place: int) -> Any:
        ids = self.tokens(place)[0].tolist()
        half = len(ids) // 2
        return SimpleNamespace(prompt_ids=ids[:half], chosen_ids=ids[half:], rejected_ids=ids[half:])

    def tokens(self, place: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """(token ids, which are learned) of one."""
        ids = 2 + (7 * np.arange(self.lengths[place]) + place) % 500
        return ids.astype(np.int32), np.ones(len(ids), dtype=np.bool_)

    def taken(self, places: NDArray[Any]) -> MadeRows:
        """Those at some places."""
        return MadeRows(self.lengths[places])


NONE = MadeRows(np.zeros(0, dtype=np.int64))


def rows_of(recipe: Recipe, longest: int, steps: int) -> MadeRows:
    """So many steps' rows; every other one is a little shorter, so that there is padding where rows are not packed."""
    lengths = np.full(recipe.effective_batch * steps, longest)
    if recipe.train.short_rows != "packed":
        lengths[1::2] -= 2
    return MadeRows(lengths)
