"""The quality of a data set: what was found in how many rows, which rows, and what the data set is made of."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data.quality import style, tasks
from engine.data.quality.checker import RowChecker
from engine.data.quality.checks import BIT, BY_NAME, actions
from engine.data.quality.duplicates import Leaks
from engine.data.quality.groups import Groups
from engine.data.quality.language import language_of_row
from engine.data.rows import Row
from engine.protocol.text import Text
from engine.recipe.quality import Action, QualitySettings

Rows = NDArray[np.int64]
_NO_ROWS: Rows = np.zeros(0, np.int64)

LABEL_ROWS = 10
LABEL_SHARE = 0.002
"""A short answer that so many rows give, and such a share of all, is a label and not too short."""
_DIFFERENT_ANSWERS = 20_000
_LONGEST_LABEL = 40
_UNEVEN_SHARE = 0.05
_UNEVEN_ROWS = 5


def compared_text(row: Row) -> str:
    """What near duplicates are compared by: the last question and the answer, or a plain text."""
    return row.answer if row.text is not None else f"{row.question}\n{row.answer}"


class Tally:
    """What was found in rows so far: 13 bytes a row. Several may count parts of a data set in several processes (it can
    be pickled) and be merged.

    Raises:
        UserError: the settings name a check that there is not.
    """

    def __init__(self, settings: QualitySettings) -> None:
        self.settings = settings
        self._checker: RowChecker | None = RowChecker(settings)
        self.index = array("I")
        self.failed = array("I")
        self.style = array("H")
        self.task = array("B")
        self.language = array("H")
        self.languages: list[str] = []
        self._language_number: dict[str, int] = {}
        self.short_answers: dict[str, array[int]] = {}

    def __len__(self) -> int:
        return len(self.index)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_checker": None}

    def add(self, index: int, row: Row) -> tuple[str, ...]:
        """Look at one row; ``index`` is the caller's number of it, below 4.29 billion, each one once. Returns the
        checks that it fails.
        """
        if self._checker is None:
            self._checker = RowChecker(self.settings)
        failed = self._checker.check(row)
        question, answer = row.question, row.answer
        self.index.append(index)
        self.failed.append(sum(BIT[name] for name in failed) if failed else 0)
        self.style.append(style.style_of(answer))
        self.task.append(_TASK_NUMBER[tasks.task_of(question, answer)])
        self.language.append(self._number(language_of_row(row)))
        if "short_answer" in failed:
            self._add_short(answer.strip().casefold()[:_LONGEST_LABEL], array("I", [index]))
        return failed

    def merge(self, other: Tally) -> None:
        """Take over what ``other`` found in other rows."""
        for name in ("index", "failed", "style", "task"):
            getattr(self, name).extend(getattr(other, name))
        numbers = np.array([self._number(language) for language in other.languages], np.uint16)
        self.language.frombytes(numbers[np.frombuffer(other.language, np.uint16)].tobytes())
        for answer, rows in other.short_answers.items():
            self._add_short(answer, rows)

    def _number(self, language: str) -> int:
        number = self._language_number.get(language)
        if number is None:
            number = self._language_number[language] = len(self.languages)
            self.languages.append(language)
        return number

    def _add_short(self, answer: str, rows: array[int]) -> None:
        known = self.short_answers.get(answer)
        if known is not None:
            known.extend(rows)
        elif len(self.short_answers) < _DIFFERENT_ANSWERS:
            self.short_answers[answer] = array("I", rows)

    @property
    def labels(self) -> dict[str, int]:
        """Short answers that are labels, and how many rows give them."""
        least = max(LABEL_ROWS, LABEL_SHARE * len(self))
        return {answer: len(rows) for answer, rows in self.short_answers.items() if answer and len(rows) >= least}


_TASK_NUMBER = {name: number for number, name in enumerate(tasks.NAMES)}


@dataclass(frozen=True)
class Found:
    """What one check found.

    Attributes:
        name: of the check.
        action: what happens to the rows.
        count: how many rows.
    """

    name: str
    action: Action
    count: int

    @property
    def label(self) -> Text:
        """What people read."""
        return BY_NAME[self.name].label


class Report:
    """The finished count. Rows are given by the caller's numbers, ascending.

    Args:
        tally: all rows, looked at.
        exact, near: groups of duplicates, as far as they were sought.
        leaks: training rows near a held-out row, as far as they were sought.
    """

    def __init__(
        self, tally: Tally, *, exact: Groups | None = None, near: Groups | None = None, leaks: Leaks | None = None
    ) -> None:
        order = np.argsort(np.frombuffer(tally.index, np.uint32), kind="stable")
        self._index = np.frombuffer(tally.index, np.uint32)[order]
        self._failed = np.frombuffer(tally.failed, np.uint32)[order].copy()
        self._style = np.frombuffer(tally.style, np.uint16)[order]
        self._task = np.frombuffer(tally.task, np.uint8)[order]
        self._language = np.frombuffer(tally.language, np.uint16)[order]
        self._languages = list(tally.languages)
        self._labels = tally.labels
        self._forgive_labels(tally)
        self._actions = actions(tally.settings.actions)
        self.exact, self.near, self.leaks = exact, near, leaks
        self._others = {
            "exact_duplicate": np.sort(exact.copies) if exact else _NO_ROWS,
            "near_duplicate": np.sort(near.copies) if near else _NO_ROWS,
            "leak": np.unique(leaks.train) if leaks else _NO_ROWS,
        }
        if exact and near:
            # A row that is the same is told of once.
            only_near = np.setdiff1d(self._others["near_duplicate"], self._others["exact_duplicate"], True)
            self._others["near_duplicate"] = only_near

    def _forgive_labels(self, tally: Tally) -> None:
        for answer in self._labels:
            rows = np.frombuffer(tally.short_answers[answer], np.uint32)
            places = np.searchsorted(self._index, np.sort(rows))
            self._failed[places] &= np.uint32(~BIT["short_answer"] & 0xFFFFFFFF)

    def act(self, chosen: Mapping[str, Action]) -> bool:
        """Do other things with the rows from now on. Gives whether all that is asked for was looked for.

        Raises:
            UserError: ``chosen`` names a check that there is not.
        """
        wanted = actions(chosen)
        sought = {"near_duplicate": self.near, "leak": self.leaks}
        if any(wanted[name] != "off" and self._actions[name] == "off" for name in sought if sought[name] is None):
            return False
        self._actions = wanted
        return True

    @property
    def count(self) -> int:
        """How many rows were looked at."""
        return len(self._index)

    @property
    def found(self) -> list[Found]:
        """Every check that is not switched off, in the order of the report, those that found nothing among them."""
        sought = {"exact_duplicate": self.exact, "near_duplicate": self.near, "leak": self.leaks}
        return [
            Found(name, self._actions[name], len(self.rows(name)))
            for name in BY_NAME
            if self._actions[name] != "off" and sought.get(name, True) is not None
        ]

    def rows(self, check: str) -> Rows:
        """The rows in which the check found something. Raises `KeyError` for an unknown check."""
        if check in self._others:
            return self._others[check]
        return self._where((self._failed & np.uint32(BIT[check])) != 0)

    def set_aside(self) -> dict[str, Rows]:
        """Check → rows that it sets aside, each row under the first such check only; checks without rows left out."""
        taken: Rows = _NO_ROWS
        result: dict[str, Rows] = {}
        for item in self.found:
            rows = np.setdiff1d(self.rows(item.name), taken, True) if item.action == "set_aside" else _NO_ROWS
            if len(rows):
                result[item.name] = rows
                taken = np.union1d(taken, rows)
        return result

    @property
    def languages(self) -> dict[str, int]:
        """ISO 639 code → rows, the most frequent first."""
        counts = np.bincount(self._language, minlength=len(self._languages)).tolist()
        return dict(sorted(zip(self._languages, counts, strict=True), key=lambda item: (-item[1], item[0])))

    def rows_in(self, language: str) -> Rows:
        """Rows in that language; none for one that did not occur."""
        if language not in self._languages:
            return _NO_ROWS
        return self._where(self._language == self._languages.index(language))

    @property
    def tasks(self) -> dict[str, int]:
        """Task → rows, for every task of `engine.data.quality.tasks.TASKS`."""
        return dict(zip(tasks.NAMES, np.bincount(self._task, minlength=len(tasks.NAMES)).tolist(), strict=True))

    def rows_of(self, task: str) -> Rows:
        """Rows that teach the task. Raises `KeyError` for an unknown one."""
        return self._where(self._task == _TASK_NUMBER[task])

    @property
    def styles(self) -> dict[str, int]:
        """Habit → rows, for every habit of `engine.data.quality.style.STYLES`."""
        return {name: int(np.count_nonzero(self._style & np.uint16(bit))) for name, bit in style.BIT.items()}

    def rows_with(self, habit: str) -> Rows:
        """Rows whose answer has the habit. Raises `KeyError` for an unknown one."""
        return self._where((self._style & np.uint16(style.BIT[habit])) != 0)

    @property
    def uneven(self) -> list[tuple[str, ...]]:
        """Habits that do not agree, the prevailing one of each first: what else occurs in at least a twentieth of the
        rows, and in five.
        """
        counts = self.styles
        result = []
        for choice in style.CHOICES:
            habits = sorted((name for name in choice if counts[name]), key=lambda name: (-counts[name], name))
            total = sum(counts[name] for name in habits)
            others = total - counts[habits[0]] if habits else 0
            if others >= max(_UNEVEN_ROWS, _UNEVEN_SHARE * total):
                result.append(tuple(habits))
        return result

    def to_plain(self) -> dict[str, Any]:
        """All counts as JSON knows them, without the rows."""
        plain: dict[str, Any] = {
            "rows": self.count,
            "checks": {item.name: {"action": item.action, "rows": item.count} for item in self.found},
            "set_aside": {name: len(rows) for name, rows in self.set_aside().items()},
            "languages": self.languages,
            "tasks": self.tasks,
            "styles": self.styles,
            "uneven": [list(habits) for habits in self.uneven],
            "labels": self._labels,
        }
        if self.near:
            plain["near_duplicate_groups"] = self.near.count
            plain["partly_compared"] = self.near.partly
        return plain

    def _where(self, mask: NDArray[np.bool_]) -> Rows:
        return self._index[mask].astype(np.int64)
