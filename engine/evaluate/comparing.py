"""From what both models did with each row to measures with intervals and tests: over all rows, by task, by label.

A row counts where the measure applies to it, and for both models or for none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from engine.data.quality.tasks import TASKS
from engine.evaluate.intervals import Compared, Figure, Lots, compare, compare_shares, ratio
from engine.evaluate.labels import NONE, label_names, labels_of, measure, read_labels
from engine.evaluate.ngrams import Counts, bleu_of, chrf_of
from engine.evaluate.preference import PairLoss, prefers, ranks
from engine.evaluate.score import TextLoss
from engine.model.tuned import SIDES, Side
from engine.project.evaluation import EvaluatedRow, SideOfRow, exact_occurs
from engine.project.measures import MEASURES, Group, Labels, Measure
from engine.protocol.text import Text, say

FEWEST_IN_GROUP = 5
OTHER = "other"
_SHORT = 5
"""Words (characters in Chinese) up to which a right answer can be expected to be met exactly."""
_ROUGES = ("rouge_l", "rouge_1", "rouge_2")


@dataclass(frozen=True, slots=True)
class Measured:
    """All that both models did.

    Attributes:
        rows: row by row.
        losses: of each row's right answer.
        counts: what each answer has in common with the right one; None where none was asked.
        pairs: of both answers of a preference row; empty without preferences.
        words: length of each right answer in words.
    """

    rows: Sequence[EvaluatedRow]
    losses: dict[Side, list[TextLoss]]
    counts: dict[Side, list[Counts | None]]
    pairs: dict[Side, list[PairLoss]]
    words: Sequence[int]

    @property
    def asked(self) -> list[int]:
        """Places of the rows that both models answered."""
        return [i for i, row in enumerate(self.rows) if row.base.answer is not None and row.tuned.answer is not None]

    @property
    def short(self) -> bool:
        """Half of the right answers are a few words, which can be met exactly."""
        return is_short([self.words[place] for place in self.asked])


def is_short(words: Sequence[int]) -> bool:
    """Half of the texts are a few words at most."""
    return bool(words) and median(words) <= _SHORT


def labels_in(measured: Measured, lots: Lots) -> tuple[Labels | None, list[str]]:
    """Labels, where the right answers are labels, and the label of each row's right answer ("" for none)."""
    places = measured.asked
    references = [measured.rows[place].reference.strip() for place in places]
    names = label_names(references)
    of_row = [""] * len(measured.rows)
    if not names:
        return None, of_row
    right = read_labels(references, names)
    for place, label in zip(places, right.tolist(), strict=True):
        of_row[place] = names[label] if label != NONE else ""
    base, tuned = (read_labels([_side(measured.rows[place], side).answer for place in places], names) for side in SIDES)
    return labels_of(names, right, base, tuned, lots), of_row


def measures_of(measured: Measured, lots: Lots, labels: Labels | None = None) -> tuple[Measure, ...]:
    """Every measure that applies, in the order of `MEASURES`."""
    found = {name: of(measured, range(len(measured.rows)), lots) for name, of in _MEASURED.items()}
    if labels is not None:
        found |= {"label_accuracy": labels.accuracy, "macro_f1": labels.macro_f1}
    there = {name: one for name, one in found.items() if one is not None}
    return tuple(there[name] for name in MEASURES if name in there)


def groups_of(measured: Measured, keys: Sequence[str], lots: Lots, *, tasks: bool, labels: bool) -> tuple[Group, ...]:
    """The rows by task or by their own column, the largest group first.

    Args:
        keys: of each row.
        tasks: the keys are those of `TASKS`.
        labels: the right answers are labels.
    """
    places = measured.asked
    sizes = Counter(keys[place] for place in places)
    folded = [OTHER if sizes[keys[place]] < FEWEST_IN_GROUP else keys[place] for place in places]
    found = []
    for key, size in sorted(Counter(folded).items(), key=lambda item: (item[0] == OTHER, -item[1], item[0])):
        own = [place for place, group in zip(places, folded, strict=True) if group == key]
        name = TASKS.get(key) if tasks or key == OTHER else None
        one = _of_group(measured, key if tasks else "", own, lots, labels=labels)
        if one is not None:
            found.append(Group(key, name or Text(key, key), size, one))
    return tuple(found)


def _of_group(measured: Measured, task: str, places: list[int], lots: Lots, *, labels: bool) -> Measure | None:
    """By what suits the rows: exact match of answers short or often exact, chrF of translations, else ROUGE-L."""
    exact = _exact(measured, places, lots)
    if exact is not None and (labels or is_short([measured.words[i] for i in places]) or exact_occurs(exact)):
        return exact
    names = ("chrf", "rouge_l") if task == "translation" else ("rouge_l", "chrf")
    return next((one for name in names if (one := _MEASURED[name](measured, places, lots)) is not None), exact)


# ----------------------------------------------------------------------------------------------------- single measures
def _exact(measured: Measured, places: Sequence[int], lots: Lots) -> Measure | None:
    base, tuned = (_values(measured, side, places, "exact") for side in SIDES)
    return _shares("exact_match", base, tuned, lots)


def _rouge(name: str) -> Callable[[Measured, Sequence[int], Lots], Measure | None]:
    def of(measured: Measured, places: Sequence[int], lots: Lots) -> Measure | None:
        base, tuned = (_values(measured, side, places, name) for side in SIDES)
        return _figures(name, _weighed(base), _weighed(tuned), Figure(ratio), lots)

    return of


def _bleu(measured: Measured, places: Sequence[int], lots: Lots) -> Measure | None:
    base, tuned = (_counts(measured, side, places, "bleu") for side in SIDES)
    # Right answers without four words in a row can be met by none: BLEU would be 0 for the right answers themselves.
    if not len(base) or base[:, 1].max() < 4:
        return None
    return _figures("bleu", base, tuned, Figure(bleu_of, 100.0), lots)


def _chrf(measured: Measured, places: Sequence[int], lots: Lots) -> Measure | None:
    base, tuned = (_counts(measured, side, places, "chrf") for side in SIDES)
    if not len(base) or not base[:, 1].any():
        return None
    return _figures("chrf", base, tuned, Figure(chrf_of, 100.0), lots)


def _of_losses(name: str, number: str, figure: Figure) -> Callable[[Measured, Sequence[int], Lots], Measure | None]:
    def of(measured: Measured, places: Sequence[int], lots: Lots) -> Measure | None:
        counted = [place for place in places if measured.losses["base"][place].tokens]
        base, tuned = (
            np.array([_loss_numbers(measured.losses[side][place], number) for place in counted]).reshape(-1, 2)
            for side in SIDES
        )
        return _figures(name, base, tuned, figure, lots)

    return of


def _loss_numbers(loss: TextLoss, number: str) -> tuple[float, float]:
    return float(getattr(loss, number)), float(loss.tokens)


def _preference(measured: Measured, places: Sequence[int], lots: Lots) -> Measure | None:
    pairs = _pairs(measured, places)
    base, tuned = [ranks(before) for before, _ in pairs], [prefers(*pair) for pair in pairs]
    return _shares("preference_accuracy", base, tuned, lots)


def _ranking(measured: Measured, places: Sequence[int], lots: Lots) -> Measure | None:
    pairs = _pairs(measured, places)
    return _shares("ranking_accuracy", [ranks(before) for before, _ in pairs], [ranks(now) for _, now in pairs], lots)


def perplexity_of(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """exp of a mean loss, (…, 2) sums; infinite where no float holds it."""
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(ratio(sums)))


_MEASURED: dict[str, Callable[[Measured, Sequence[int], Lots], Measure | None]] = {
    "exact_match": _exact,
    **{name: _rouge(name) for name in _ROUGES},
    "chrf": _chrf,
    "bleu": _bleu,
    "preference_accuracy": _preference,
    "ranking_accuracy": _ranking,
    "token_accuracy": _of_losses("token_accuracy", "right", Figure(ratio)),
    "perplexity": _of_losses("perplexity", "total", Figure(perplexity_of, None, positive=True)),
    "loss": _of_losses("loss", "total", Figure(ratio, None, positive=True)),
}


# -------------------------------------------------------------------------------------------------------------- shared
def _side(row: EvaluatedRow, side: Side) -> SideOfRow:
    return row.base if side == "base" else row.tuned


def _values(measured: Measured, side: Side, places: Sequence[int], name: str) -> list[float]:
    """What a measure gives the rows that both models answered and to which it applies."""
    rows = [measured.rows[place] for place in places]
    there = [row for row in rows if None not in (getattr(row.base, name), getattr(row.tuned, name))]
    return [float(getattr(_side(row, side), name)) for row in there]


def _counts(measured: Measured, side: Side, places: Sequence[int], name: str) -> NDArray[np.float64]:
    of_rows = [(measured.counts["base"][place], measured.counts["tuned"][place]) for place in places]
    both = [pair for pair in of_rows if None not in pair]
    return np.array([getattr(pair[SIDES.index(side)], name) for pair in both])


def _pairs(measured: Measured, places: Sequence[int]) -> list[tuple[PairLoss, PairLoss]]:
    base, tuned = measured.pairs["base"], measured.pairs["tuned"]
    return [(base[place], tuned[place]) for place in places] if base else []


def _weighed(values: Sequence[float]) -> NDArray[np.float64]:
    return np.stack([np.array(values, dtype=float), np.ones(len(values))], -1)


def _shares(name: str, base: Sequence[float], tuned: Sequence[float], lots: Lots) -> Measure | None:
    if not base:
        return None
    return measure(name, compare_shares(np.array(base, bool), np.array(tuned, bool), lots), len(base))


def _figures(
    name: str, base: NDArray[np.float64], tuned: NDArray[np.float64], figure: Figure, lots: Lots
) -> Measure | None:
    if not len(base):
        return None
    found: Compared = compare(base, tuned, figure, lots)
    if found.base.value is None and found.tuned.value is None:
        return None
    return measure(name, found, len(base))


def no_interval(rows: int) -> Text:
    """Why figures stand without interval."""
    if rows == 1:
        return say("One row alone gives no intervals: it decides every figure.", "只有 1 行，无法给出区间。")
    return say(
        "{n} rows are too few for intervals: a single row decides much of every figure.",
        "只有 {n} 行，不足以给出区间：单独一行就会左右各项数字。",
        n=rows,
    )
