"""The advice over card sizes, models and data: how fast it is, that more memory never leads to a lower place in its own
order, and that a random sample of what it advises fits by the simulated step, not by the formula that advised.

    python tests/bench/bench_advice.py [--data FOLDER] [--sample N] [--seed N]

The simulated peak is continued from models with four and eight layers; for some of the sample all layers are simulated
too, and the difference is told. A recipe fits when that peak, with the CUDA context and the allocator's fragments that
no simulation sees (`memory.FIXED_GIB`, `memory.FRAGMENTS`; assumed), stays within 95% of a card's memory, all of it
free.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results import ROOT, hardware, table, write

sys.path.insert(0, str(ROOT))

from engine.machine.advise import Advice, ModelFacts, Wish, advise
from engine.machine.detect import Machine
from engine.machine.dims import ModelDims
from engine.machine.forecast import DataFacts, Lengths
from engine.machine.memory import FIXED_GIB, FRAGMENTS, GIB
from engine.machine.table import CARDS, GOALS, ORDER
from engine.recipe.recipe import Recipe

USABLE = 0.95
# Layers of the two models that a deep one's peak is continued from.
SHALLOW = (4, 8)
LIMIT_MS = 50.0
# The fastest of so many counts: others work on this machine.
TRIES = 3
# In the manner of short messages with a label, of Alpaca, of long documents and of pairs of answers; chosen, not
# counted.
PROFILES: dict[str, DataFacts] = {
    "labels": DataFacts(5_572, Lengths(62.0, 55, 90, 100, 130, 420), task="classification"),
    "dialogue": DataFacts(52_000, Lengths(105.0, 80, 210, 290, 480, 1_250), task="dialogue"),
    "documents": DataFacts(2_000, Lengths(1_100.0, 750, 2_600, 3_600, 6_200, 12_400), task="domain"),
    "preferences": DataFacts(300, Lengths(480.0, 380, 900, 1_150, 2_100, 4_300), preference=True, task="dialogue"),
}
MACHINE = Machine((), "CPU", 8, 32.0, 28.0, None, "/", 100.0, "Linux", "3.11")


@dataclass(frozen=True)
class Cell:
    """One question to the advisor and its answer."""

    model: str
    profile: str
    goal: Any
    card: float
    advice: Advice
    ms: float


def ask(models: dict[str, dict[str, Any]]) -> Iterator[Cell]:
    """The whole grid, card sizes rising within a model, profile and wish."""
    for name, config in models.items():
        dims = ModelDims.from_config(config)
        for (profile, data), goal, card in itertools.product(PROFILES.items(), GOALS, CARDS):
            times = []
            for _ in range(TRIES):
                started = time.perf_counter()
                advice = advise(MACHINE, dims, ModelFacts(name), data, Wish(goal=goal), gpu_memory_gib=card)
                times.append((time.perf_counter() - started) * 1000)
            yield Cell(name, profile, goal, card, advice, min(times))


def falls(cells: list[Cell]) -> list[str]:
    """Where more memory led to a lower place, or to rows that are shorter."""
    found = []
    for one, other in itertools.pairwise(cells):
        same = (one.model, one.profile, one.goal) == (other.model, other.profile, other.goal)
        if not same:
            continue
        lower = other.advice.place > one.advice.place or (one.advice.fits and not other.advice.fits)
        shorter = other.advice.recipe.data.max_length < one.advice.recipe.data.max_length
        if lower or shorter:
            found.append(f"{one.model}, {one.profile}, {one.goal}: {one.card} to {other.card} GiB")
    return found


def steps_peak(config: dict[str, Any], recipe: Recipe, longest: int, layers: int) -> float:
    """GiB at the peak of a simulated step of the model with so many layers."""
    from engine.train.simulate import simulate

    shallow = {**config, "num_hidden_layers": layers}
    if layers != config["num_hidden_layers"]:
        shallow.pop("layer_types", None)
    return simulate(shallow, recipe, longest=longest, device="cuda").peak / GIB


def peak(config: dict[str, Any], recipe: Recipe, longest: int) -> float:
    """The same of all layers, which are alike: continued from two shallow models, because a deep one takes minutes."""
    layers = int(config["num_hidden_layers"])
    few, more = (steps_peak(config, recipe, longest, count) for count in SHALLOW)
    return few + (more - few) * (layers - SHALLOW[0]) / (SHALLOW[1] - SHALLOW[0])


def simulated(cell: Cell, config: dict[str, Any], known: dict[str, float]) -> dict[str, Any]:
    """The advised recipe's peak by the simulated step, beside what the formula told."""
    recipe, needs = cell.advice.recipe, cell.advice.forecast
    longest = min(PROFILES[cell.profile].lengths.longest, recipe.data.max_length)
    key = json.dumps([cell.model, longest, recipe.method.model_dump(), recipe.train.model_dump()], sort_keys=True)
    if key not in known:
        known[key] = peak(config, recipe, longest)
    found = known[key]
    resting = needs.memory.counted_gib - needs.memory.passing_gib
    held = found + FIXED_GIB["cuda"] + FRAGMENTS["cuda"] * max(0.0, found - resting)
    return {
        "model": cell.model,
        "profile": cell.profile,
        "wish": cell.goal,
        "card_gib": cell.card,
        "method": recipe.method.name,
        "length": longest,
        "batch": recipe.train.batch_size,
        "checkpointing": recipe.train.checkpointing,
        "place": cell.advice.place,
        "formula_gib": round(needs.memory.total, 3),
        "simulated_gib": round(found, 3),
        "held_gib": round(held, 3),
        "error": round(needs.memory.counted_gib / found - 1, 4),
        "share": round(held / cell.card, 4),
        "fits": held <= USABLE * cell.card,
    }


def continued_error(cell: Cell, config: dict[str, Any], line: dict[str, Any]) -> float:
    """How far the continued peak is from that of all layers."""
    layers = int(config["num_hidden_layers"])
    whole = steps_peak(config, cell.advice.recipe, int(line["length"]), layers)
    return float(line["simulated_gib"]) / whole - 1


def summary(cells: list[Cell]) -> list[dict[str, Any]]:
    """Per wish: how often something fits, and how fast the answer is."""
    lines = []
    for goal in GOALS:
        mine = [cell for cell in cells if cell.goal == goal]
        times = sorted(cell.ms for cell in mine)
        lines.append(
            {
                "wish": goal,
                "asked": len(mine),
                "fit": sum(cell.advice.fits for cell in mine),
                "places": len(ORDER[goal]),
                "median_ms": round(statistics.median(times), 2),
                "worst_ms": round(times[-1], 2),
            }
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "configs")
    parser.add_argument("--sample", type=int, default=66)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--whole", type=int, default=10, help="so many of the sample are simulated with all layers too")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    models = {path.stem: json.loads(path.read_text()) for path in sorted(options.data.glob("*.json"))}
    next(ask(models))  # what is imported at the first question is no matter of its speed
    cells = list(ask(models))
    fallen = falls(cells)
    lines = summary(cells)
    table(lines)
    print(f"{len(cells)} questions; {len(fallen)} times more memory led to a lower place")
    for line in fallen:
        print("  " + line)
    fitting = [cell for cell in cells if cell.advice.fits]
    chosen = random.Random(options.seed).sample(fitting, min(options.sample, len(fitting)))
    known: dict[str, float] = {}
    checked = []
    for cell in chosen:
        checked.append(simulated(cell, models[cell.model], known))
        print(json.dumps(checked[-1]), flush=True)
    off = [
        continued_error(cell, models[cell.model], line)
        for cell, line in list(zip(chosen, checked, strict=True))[: options.whole]
    ]
    furthest = max((abs(each) for each in off), default=0.0)
    print(f"{len(off)} of them with all layers: at most {furthest:.2%} from the continued peak")
    fit = sum(line["fits"] for line in checked)
    worst = max(line["share"] for line in checked)
    print(
        f"{fit} of {len(checked)} advised recipes fit by the simulated step; the fullest fills {worst:.1%} of its card"
    )
    write(
        "advice",
        {
            "hardware": hardware(),
            "summary": lines,
            "slower_than_50_ms": sum(cell.ms > LIMIT_MS for cell in cells),
            "fallen": fallen,
            "seed": options.seed,
            "simulated": {"checked": len(checked), "different": len(known), "fit": fit, "fullest": worst},
            "with_all_layers": {"checked": len(off), "furthest": round(furthest, 5)},
            "cases": checked,
        },
    )


if __name__ == "__main__":
    main()
