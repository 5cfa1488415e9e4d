"""Where the right answers are labels: which there are, what was answered instead, and macro-F1."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.evaluate.intervals import Compared, Figure, Lots, compare, compare_shares
from engine.project.measures import Label, Labels, Measure

_MOST_LETTERS = 40
_MOST_WORDS = 5
_MOST_LABELS = 30
_FEWEST_ROWS = 10
_ROWS_A_LABEL = 3
"""So many rows a label there must be on average: fewer repeat by chance."""
NONE = -1
_ENDINGS = " \t\n.,;:!?\"'`*()[]。，；：！？“”‘’「」（）【】"


def label_names(references: Sequence[str]) -> tuple[str, ...]:
    """The labels among the right answers, the most frequent first; none where they are no labels.

    Labels are few short texts, each many times: at least ten rows, three a label, and two labels.
    """
    if any(len(text) > _MOST_LETTERS or len(text.split()) > _MOST_WORDS or not _plain(text) for text in references):
        return ()
    written: dict[str, str] = {}
    for text in references:
        written.setdefault(_plain(text), text)
    found = Counter(map(_plain, references))
    if len(written) != len(set(references)):  # labels that differ by case alone are told apart by it
        found, written = Counter(references), {text: text for text in references}
    enough = len(references) >= max(_FEWEST_ROWS, _ROWS_A_LABEL * len(found))
    if not (enough and 2 <= len(found) <= _MOST_LABELS):
        return ()
    return tuple(written[text] for text, _ in sorted(found.items(), key=lambda item: (-item[1], item[0])))


def read_labels(texts: Sequence[str | None], names: Sequence[str]) -> NDArray[np.int64]:
    """Which label each text is, (n,); `NONE` for another text. Case and marks at its ends do not count where the labels
    differ without them, so that a base model that answers "Positive." is not put down for the full stop."""
    plain = {_plain(name): place for place, name in enumerate(names)}
    if len(plain) < len(names):
        whole = {name: place for place, name in enumerate(names)}
        found = (NONE if text is None else whole.get(text.strip(), NONE) for text in texts)
    else:
        found = (NONE if text is None else plain.get(_plain(text), NONE) for text in texts)
    return np.fromiter(found, np.int64, len(texts))


def labels_of(
    names: Sequence[str], right: NDArray[np.int64], base: NDArray[np.int64], tuned: NDArray[np.int64], lots: Lots
) -> Labels:
    """How both models name the labels.

    Args:
        right, base, tuned: label of each row's reference and answers, (n,).
    """
    count = len(names)
    confusion = [_confusion(right, answered, count) for answered in (base, tuned)]
    found = [matrix.diagonal() / np.maximum(matrix.sum(1), 1) for matrix in confusion]
    rows = np.bincount(right, minlength=count).tolist()
    labels = tuple(
        Label(name, rows[place], float(found[0][place]), float(found[1][place])) for place, name in enumerate(names)
    )
    accuracy = measure("label_accuracy", compare_shares(right == base, right == tuned, lots), len(right))
    sides = [_f1_counts(right, answered, count) for answered in (base, tuned)]
    macro = measure("macro_f1", compare(sides[0], sides[1], Figure(macro_f1), lots), len(right))
    return Labels(labels, accuracy, macro, *(tuple(map(tuple, matrix.tolist())) for matrix in confusion))


def measure(name: str, found: Compared, rows: int) -> Measure:
    """What was compared, under its name."""
    return Measure(name, found.base, found.tuned, found.difference, found.p_value, rows, found.test, found.interval)


def macro_f1(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean F1 over the labels that occur, of (…, 3L) sums: right ones, answered ones, those of the reference."""
    right, answered, there = (sums[..., place::3] for place in range(3))
    occurs = there + answered > 0
    each = np.where(occurs, 2 * right / np.where(occurs, there + answered, 1), 0)
    return np.asarray(each.sum(-1) / np.maximum(occurs.sum(-1), 1))


def _f1_counts(right: NDArray[np.int64], answered: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    of_label = np.arange(count)
    there, said = right[:, None] == of_label, answered[:, None] == of_label
    return np.stack([there & said, said, there], -1).reshape(len(right), 3 * count).astype(float)


def _confusion(right: NDArray[np.int64], answered: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    found = np.zeros((count, count + 1), np.int64)
    np.add.at(found, (right, np.where(answered == NONE, count, answered)), 1)
    return found


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip(_ENDINGS).casefold()
