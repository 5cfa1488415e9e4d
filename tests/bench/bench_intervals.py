"""Do the intervals hold what they promise: simulated data sets whose true figure is known, and how often it is inside.

    python tests/bench/bench_intervals.py [--sets 2000] [--rows 10 20 50 200]

Per setting and number of rows so many data sets are drawn from a large population; its own figure is the truth. Given
is the share of sets whose 90% and 95% intervals hold it, for one model's figure and for the difference of two models
on the same rows; and how often the paired test finds p < 0.05 where both models are equally good. Beside stand the
percentile intervals that most tools give. Results: tests/bench/results/intervals.json.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from results import ROOT, hardware, table, write

sys.path.insert(0, str(ROOT))

from engine.evaluate.comparing import perplexity_of
from engine.evaluate.intervals import Figure, Lots, compare, compare_shares, ends_of, ratio, resampled
from engine.evaluate.ngrams import bleu_of, chrf_of, counts

Numbers = NDArray[np.float64]
POPULATION, RESAMPLES = 200_000, 600
LEVELS, WHAT = (0.9, 0.95), ("figure", "change")


@dataclass(frozen=True)
class Setting:
    """A population: numbers of both models' rows, (N, K) each; without a figure they are right or wrong."""

    name: str
    base: Numbers
    tuned: Numbers
    figure: Figure | None

    def truth(self) -> tuple[float, float]:
        """Of the tuned model, and of the difference."""
        of: Callable[[Numbers], Any] = self.figure.of if self.figure is not None else ratio
        base, tuned = float(of(self.base.sum(0))), float(of(self.tuned.sum(0)))
        return tuned, tuned - base


def settings() -> list[Setting]:
    """All of them, by seed."""
    lots = np.random.default_rng(20)
    return [*_means(lots), *_shares(lots), *_texts()]


def _means(lots: np.random.Generator) -> list[Setting]:
    size = POPULATION
    one = np.ones(size)

    def rouge(exact: float, empty: float) -> Numbers:
        draw, middle = lots.random(size), lots.beta(2, 3, size)
        return np.where(draw < exact, 1.0, np.where(draw < exact + empty, 0.0, middle))

    tokens = lots.integers(5, 120, size).astype(float)
    hard = np.exp(lots.normal(0.5, 0.45, size))
    easier = hard * np.exp(lots.normal(-0.4, 0.25, size))
    right = [lots.binomial(tokens.astype(int), lots.beta(a, b, size)).astype(float) for a, b in ((4, 4), (9, 3))]
    losses = np.stack([hard * tokens, tokens], -1), np.stack([easier * tokens, tokens], -1)
    means = [np.stack([rouge(*mix), one], -1) for mix in ((0.02, 0.3), (0.4, 0.05), (0.97, 0.0))]
    return [
        Setting("ROUGE-L, mixed", means[0], means[1], Figure(ratio)),
        Setting("ROUGE-L, 97% exact", means[1], means[2], Figure(ratio)),
        Setting("ROUGE-L, no difference", means[1], np.roll(means[1], 1, 0), Figure(ratio)),
        Setting("loss", *losses, Figure(ratio, None, positive=True)),
        Setting("perplexity", *losses, Figure(perplexity_of, None, positive=True)),
        Setting("token accuracy", *(np.stack([each, tokens], -1) for each in right), Figure(ratio)),
    ]


def _shares(lots: np.random.Generator) -> list[Setting]:
    found = []
    for both, gained, lost in ((0.0, 0.02, 0.0), (0.05, 0.05, 0.05), (0.3, 0.3, 0.05), (0.9, 0.08, 0.0)):
        draw = lots.random(POPULATION)
        base = (draw < both) | (draw > 1 - lost)
        tuned = draw < both + gained
        numbers = [np.stack([side.astype(float), np.ones(POPULATION)], -1) for side in (base, tuned)]
        found.append(Setting(f"exact match, {tuned.mean():.0%} (base {base.mean():.0%})", *numbers, None))
    return found


def _texts(rows: int = 4000) -> list[Setting]:
    """Texts of made-up words, spoilt more or less: corpus BLEU and chrF."""
    lots = random.Random(9)
    words = ["".join(lots.choice("abcdefghij") for _ in range(lots.randrange(2, 8))) for _ in range(400)]
    sides: list[list[Any]] = [[], []]
    for _ in range(rows):
        text = [lots.choice(words) for _ in range(lots.randrange(4, 30))]
        for side, spoilt in zip(sides, (0.5, 0.2), strict=True):
            share = min(0.95, max(0.0, lots.gauss(spoilt, 0.2)))
            said = [lots.choice(words) if lots.random() < share else word for word in text]
            side.append(
                counts(" ".join(text), " ".join(said[: max(1, round(len(said) * lots.uniform(0.7, 1)))]), "13a")
            )
    return [
        Setting("corpus BLEU", *(np.array([c.bleu for c in side]) for side in sides), Figure(bleu_of, 100.0)),
        Setting("corpus chrF", *(np.array([c.chrf for c in side]) for side in sides), Figure(chrf_of, 100.0)),
    ]


def covered(setting: Setting, rows: int, sets: int) -> dict[str, Any]:
    """Shares of the sets."""
    lots = np.random.default_rng(rows)
    truths = setting.truth()
    held = np.zeros((len(LEVELS) + 1, 2))
    clear = 0
    for number in range(sets):
        chosen = lots.integers(0, len(setting.base), rows)
        base, tuned = setting.base[chosen], setting.tuned[chosen]
        for place, ends in enumerate(_all_ends(setting, base, tuned, number)):
            held[place] += [
                low - 1e-12 <= truth <= high + 1e-12 for truth, (low, high) in zip(truths, ends, strict=True)
            ]
        if abs(truths[1]) < 1e-9:
            clear += (_compared(setting, base, tuned, Lots(number, RESAMPLES)).p_value or 0.0) < 0.05
    names = [f"{level:.0%}" for level in LEVELS] + ["95% percentile:"]
    shares = {f"{name} {what}": float(held[i, j]) / sets for i, name in enumerate(names) for j, what in enumerate(WHAT)}
    return {"setting": setting.name, "rows": rows, **shares, "p < 0.05": clear / sets if abs(truths[1]) < 1e-9 else ""}


def _all_ends(setting: Setting, base: Numbers, tuned: Numbers, seed: int) -> list[list[Any]]:
    """Intervals of the tuned model's figure and of the change: at each level, and by percentiles."""
    lots = Lots(seed, RESAMPLES)
    figure = setting.figure or Figure(ratio)
    drawn = resampled(base, tuned, figure, lots)
    before, after = (float(figure.of(side.sum(0))) for side in (base, tuned))
    found = []
    for level in LEVELS:
        if setting.figure is None:
            compared = _compared(setting, base, tuned, Lots(seed, RESAMPLES, level))
            found.append([(each.low, each.high) for each in (compared.tuned, compared.difference)])
        else:
            found.append(list(ends_of((before, after, after - before), base, tuned, figure, drawn, level))[1:])
    return [*found, [np.quantile(values, (0.025, 0.975)) for values, _, _ in drawn[1:]]]


def _compared(setting: Setting, base: Numbers, tuned: Numbers, lots: Lots) -> Any:
    if setting.figure is None:
        return compare_shares(base[:, 0] > 0, tuned[:, 0] > 0, lots)
    return compare(base, tuned, setting.figure, lots)


def main() -> None:
    """Simulate and write."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--sets", type=int, default=2000)
    asked.add_argument("--rows", type=int, nargs="+", default=[10, 20, 50, 200])
    options = asked.parse_args()
    began = time.monotonic()
    found = []
    for setting in settings():
        for rows in options.rows:
            found.append(covered(setting, rows, options.sets))
            print(f"{time.monotonic() - began:6.0f} s  {found[-1]}", file=sys.stderr, flush=True)
    table(found)
    write(
        "intervals",
        {
            "hardware": hardware(),
            "sets": options.sets,
            "resamples": RESAMPLES,
            "seconds_for_1000_rows": speed(),
            "rows": found,
        },
    )


def speed() -> dict[str, float]:
    """Seconds for one measure of 1,000 rows with 2,000 resamples: intervals of both and of the change, and the test."""
    lots = np.random.default_rng(1)
    found = {}
    for setting in settings():
        chosen = lots.integers(0, len(setting.base), 1000)
        began = time.perf_counter()
        _compared(setting, setting.base[chosen], setting.tuned[chosen], Lots(1, 2000))
        found[setting.name] = round(time.perf_counter() - began, 4)
    return found


if __name__ == "__main__":
    main()
