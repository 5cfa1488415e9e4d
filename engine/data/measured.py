"""What is known of rows' tokens whatever the longest length is: another limit is followed without tokenising again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.data.encode import Example
from engine.data.rows import SetAside
from engine.data.scan import CODE

NO_LIMIT = 2**31 - 1
CUTS = ("cut", "cut_start")
"""Ways with over-long rows by which they lose an end."""


class Measured:
    """Tokens of a data set's rows.

    Args:
        count: rows of the data set.
        preference: they hold preferences.

    Attributes:
        whole: tokens of each row before cutting, shape (rows,); 0 where they were not counted.
        learned: tokens that the loss counts before cutting; 0 where nobody looked.
        refused: why the template or the loss mask rules a row out whatever its length is, an index into
            `engine.data.scan.CODES`; 0 for none.
    """

    def __init__(self, count: int, *, preference: bool) -> None:
        self.preference = preference
        self.whole = np.zeros(count, dtype=np.int32)
        self.learned = np.zeros(count, dtype=np.int32)
        # Places of the first and the last learned token and one more, 0 where nobody looked; of a preference the first
        # is where its answers begin to differ. Memory that nobody writes to costs nothing: most rows are only counted.
        self._first = np.zeros(count, dtype=np.int32)
        self._last = np.zeros(count, dtype=np.int32)
        self.refused = np.zeros(count, dtype=np.uint8)

    # ----------------------------------------------------------------------------------------------------- finding out
    def take(self, found: Example | SetAside) -> None:
        """Take what an encoder without a limit made of a row."""
        if isinstance(found, SetAside):
            self.refused[found.index] = CODE[found.reason]
            return
        index = found.index
        self.whole[index], self.learned[index] = found.whole, found.learned_tokens
        if found.learned:
            self._first[index] = found.learned.index(True) + 1
            self._last[index] = len(found.learned) - found.learned[::-1].index(True)
        else:
            pairs = zip(found.chosen_ids, found.rejected_ids, strict=False)
            differ = next((place for place, (a, b) in enumerate(pairs) if a != b), None)
            alike = min(len(found.chosen_ids), len(found.rejected_ids)) if differ is None else differ
            self._first[index], self._last[index] = len(found.prompt_ids) + alike + 1, found.whole

    def forget(self, index: int) -> None:
        """The row is another now."""
        self.whole[index] = self.learned[index] = self.refused[index] = 0
        self._first[index] = self._last[index] = 0

    # ------------------------------------------------------------------------------------------------- with some limit
    def unknown(self, rows: NDArray[np.int64], limit: int, over_long: str) -> NDArray[np.bool_]:
        """Which of some rows must be looked at to know what becomes of them, shape (rows,)."""
        whole = self.whole[rows]
        # Whether a row that loses an end keeps any of its answer is known from places alone.
        closely = (whole > limit) & (self._first[rows] == 0)
        if over_long not in CUTS and not self.preference:
            closely[:] = False
        return np.asarray(((whole == 0) | closely) & (self.refused[rows] == 0))

    def codes(self, rows: NDArray[np.int64], limit: int, over_long: str) -> NDArray[np.uint8]:
        """Why each of some rows cannot be trained on with a longest length, as `engine.data.prepare.RowEncoder` has it:
        an index into `engine.data.scan.CODES`, shape (rows,); 0 for those that can, and where it is not known."""
        found = self.refused[rows].copy()
        whole, first, last = self.whole[rows], self._first[rows] - 1, self._last[rows] - 1
        over = (whole > limit) & (found == 0)
        if over_long == "drop":
            found[over] = CODE["too_long"]
            return found
        gone = np.zeros(len(rows), bool)
        if over_long == "cut" or self.preference:
            gone = first >= limit
        elif over_long == "cut_start":
            # The first token that is kept begins the row and is not learned.
            gone = last <= whole - limit
        found[over & (first >= 0) & gone] = CODE["answer_cut_away"]
        return found

    def learned_share(self, rows: NDArray[np.int64], limit: int, over_long: str) -> float | None:
        """Share of the tokens of some rows that the loss counts, 0 to 1; None where nobody looked at any.

        Of a row that loses an end it is taken that what is learned lies evenly between its first and its last place.
        """
        rows = rows[self._first[rows] > 0]
        if not len(rows):
            return None
        whole, first, last = (part[rows].astype(np.float64) for part in (self.whole, self._first, self._last))
        first, last = first - 1, last - 1
        kept = np.minimum(whole, limit)
        inside = np.ones(len(rows))
        if over_long == "cut" or self.preference:
            inside = (np.minimum(last + 1, limit) - first) / (last + 1 - first)
        elif over_long == "cut_start":
            inside = (last + 1 - np.maximum(first, whole - kept)) / (last + 1 - first)
        learned = self.learned[rows] * np.clip(inside, 0, 1)
        return min(1.0, float(learned.sum() / kept.sum()))
