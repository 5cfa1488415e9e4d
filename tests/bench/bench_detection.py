"""Detection of shapes on changed copies of real data sets: what is stated as sure, likely or to be asked, and is right.

    python tests/bench/bench_detection.py [--data FOLDER] [--count N] [--seeds N …]

``--data`` holds the data sets; the shared test data beside the repository is the default. Each copy has its columns
renamed, shuffled, swapped, recast, nested or joined by others, and its truth is known (`tests/unit/data/
detection_variants.py`). "sure" must never be wrong."""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from results import ROOT, hardware, table, write

sys.path.insert(0, str(ROOT))

from engine.data.detect import detect
from engine.protocol.errors import UserError
from tests.unit.data.detection_variants import Variant, unchanged, variants

CERTAINTIES = ("sure", "likely", "ask", "refused")


def outcome(variant: Variant) -> tuple[str, bool]:
    """(certainty stated, whether the guess is right)."""
    try:
        guess = detect(variant.rows, variant.columns, variant.source)
    except UserError:
        return "refused", False
    return guess.certainty, variant.is_right(guess)


def shares(counts: Counter[tuple[str, bool]]) -> list[dict[str, Any]]:
    """One line per certainty."""
    total = sum(counts.values())
    return [
        {
            "certainty": certainty,
            "right": counts[certainty, True],
            "wrong": counts[certainty, False],
            "share %": round(100 * (counts[certainty, True] + counts[certainty, False]) / total, 1),
        }
        for certainty in CERTAINTIES
    ]


def main() -> int:
    """Print the tables and write ``results/detection.json``; 1 where "sure" was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "datasets")
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 77, 123, 998, 2024, 31337])
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"no data sets at {options.data}")
        return 2
    counts: Counter[tuple[str, bool]] = Counter()
    by_change: dict[str, Counter[tuple[str, bool]]] = defaultdict(Counter)
    times = []
    for variant in itertools.chain(*(variants(options.data, options.count, seed) for seed in options.seeds)):
        start = time.perf_counter()
        found = outcome(variant)
        times.append(1000 * (time.perf_counter() - start))
        counts[found] += 1
        for change in {"with more columns" if done.startswith("with ") else done for done in variant.done} or {"rows"}:
            by_change[change][found] += 1
        if found == ("sure", False):
            print("SURE AND WRONG:", variant.source, variant.done, variant.columns, variant.mapping)
    real = Counter(outcome(variant) for variant in unchanged(options.data))
    changes = [
        {"change": change, "copies": sum(c.values())}
        | {f"{k} right": c[k, True] for k in CERTAINTIES[:3]}
        | {f"{k} wrong": c[k, False] for k in CERTAINTIES}
        for change, c in sorted(by_change.items())
    ]
    print(f"{options.count} changed copies with each of the seeds {options.seeds}")
    table(shares(counts))
    print("\nthe files themselves")
    table(shares(real))
    print()
    table(changes)
    milliseconds = {"median": round(statistics.median(times), 1), "longest": round(max(times), 1)}
    print("\nmilliseconds a file:", milliseconds)
    write(
        "detection",
        {
            "hardware": hardware(),
            "count": options.count,
            "seeds": options.seeds,
            "changed": shares(counts),
            "unchanged": shares(real),
            "by_change": changes,
            "milliseconds": milliseconds,
        },
    )
    return 1 if counts["sure", False] else 0


if __name__ == "__main__":
    sys.exit(main())
