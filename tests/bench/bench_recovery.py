"""Memory that runs out at random steps and points: does the run end as an undisturbed one, every row counted once?

    python tests/bench/bench_recovery.py --seeds 6 --runs 3 --faults 3

Per seed: one undisturbed run of the starter on the sample rows, and disturbed ones with the same seed. What counts as
noise is how far undisturbed runs of different seeds (order of rows, dropout) lie apart. The result goes to
tests/bench/results/recovery.json.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(Path(__file__).resolve().parent))
# As a worker has it: threads that spin while they wait make a busy machine crawl.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

import pytest  # noqa: E402  (the repository is put on the path first)
import results  # noqa: E402
import torch  # noqa: E402

from engine.catalogue import CATALOGUE  # noqa: E402
from engine.project.run_folder import RunFolder  # noqa: E402
from engine.protocol.channel import Recorder  # noqa: E402
from engine.protocol.events import HeldOut, Note, StepDone  # noqa: E402
from engine.recipe.file import from_plain, load, save  # noqa: E402
from engine.train.run import train  # noqa: E402
from tests.faults import POINTS, RAM, Fault, Faults  # noqa: E402

ROWS = ROOT / "resources" / "samples" / "orders_en.jsonl"
STEPS, BATCH, ACCUMULATION = 24, 4, 2
MEASURED = 6
TAKEN = 120
"""Rows, a tenth of which is held out: measuring them one at a time would take longer than the training."""
LAST = 6
"""Training losses of so many last steps are averaged."""
GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--runs", type=int, default=3, help="disturbed runs for each seed")
    parser.add_argument("--faults", type=int, default=3, help="at most so many in one run")
    asked = parser.parse_args()
    began = time.monotonic()
    rows: list[dict[str, Any]] = []
    settings = {"steps": STEPS, "batch_size": BATCH, "accumulation": ACCUMULATION, "data": ROWS.name, "rows": TAKEN}
    for seed in range(asked.seeds):
        rows += of_seed(seed, asked.runs, asked.faults)
        results.table([{name: value for name, value in row.items() if name != "points"} for row in rows])
        found = summary(rows)
        print("\n".join(["", *(f"{name}: {value}" for name, value in found.items()), ""]), flush=True)
        content = {"hardware": results.hardware(), "settings": settings, "summary": found, "runs": rows}
        results.write("recovery", {**content, "seconds": round(time.monotonic() - began)})


def of_seed(seed: int, runs: int, most: int) -> list[dict[str, Any]]:
    """The undisturbed run of a seed, and disturbed ones beside it."""
    chance = random.Random(seed)
    calm = run_with(seed, ())
    found = [{"seed": seed, "faults": 0, **calm.figures()}]
    for number in range(runs):
        faults = tuple(fault_at(chance, step) for step in sorted(chance.sample(range(1, STEPS + 1), 1 + number % most)))
        disturbed = run_with(seed, faults, error=GPU if number % 2 else RAM)
        found.append({"seed": seed, "faults": len(faults), **disturbed.figures(calm)})
    return found


def fault_at(chance: random.Random, step: int) -> Fault:
    """Memory runs out at a random point of a step; only at some steps there is something to measure."""
    points = [point for point in POINTS if point != "measuring" or step % MEASURED == 0]
    point = chance.choice(points)
    if point == "update":
        return Fault(step, point, chance.randrange(8) if step == 1 else 0)
    return Fault(step, point, 0 if point == "measuring" else chance.randrange(ACCUMULATION))


class Ran:
    """What a run came to."""

    def __init__(self, told: Recorder, faults: Faults, asked: tuple[Fault, ...], batch: int) -> None:
        self.held_out = [event.loss for event in told.events if isinstance(event, HeldOut)][-1]
        losses = [event.loss for event in told.events if isinstance(event, StepDone)]
        self.steps, self.loss = len(losses), statistics.fmean(losses[-LAST:])
        self.rows: Counter[tuple[int, ...]] = faults.rows
        self.updates = len(faults.updates)
        self.met, self.asked = faults.met, asked
        self.recoveries = sum(isinstance(event, Note) and event.level == "recovery" for event in told.events)
        self.batch = batch

    def figures(self, calm: Ran | None = None) -> dict[str, Any]:
        """A line of the table; ``calm`` is the undisturbed run of the seed."""
        line: dict[str, Any] = {
            "held_out": self.held_out,
            "loss": self.loss,
            "updates": self.updates,
            "recovered": self.recoveries,
            "rows_at_once": self.batch,
        }
        if calm is not None:
            line |= {
                "held_out_off": self.held_out - calm.held_out,
                "loss_off": self.loss - calm.loss,
                "rows_once": self.rows == calm.rows and self.updates == calm.updates == STEPS,
                "all_met": Counter(self.met) == Counter(self.asked) and self.recoveries == len(self.asked),
                "points": [f"{each.point} {each.step}.{each.part}" for each in self.met],
            }
        return line


def run_with(seed: int, faults: tuple[Fault, ...], error: BaseException = RAM) -> Ran:
    """A run of the starter in which memory runs out there."""
    told = Recorder()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        run, data = RunFolder(Path(folder) / "run"), Path(folder) / ROWS.name
        run.path.mkdir()
        data.write_text("".join(ROWS.read_text("utf-8").splitlines(keepends=True)[:TAKEN]), "utf-8")
        train_settings = {
            "epochs": 100.0,
            "max_steps": STEPS,
            "batch_size": BATCH,
            "accumulation": ACCUMULATION,
            "learning_rate": 1e-3,
            "evaluate_every": MEASURED,
            "patience": 0,
            "seed": seed,
        }
        plain = {"data": {"files": [str(data)]}, "method": {"name": "lora", "dropout": 0.05}, "train": train_settings}
        save(from_plain(plain, CATALOGUE), run.recipe)
        injected = Faults(patch, *faults, error=error)
        train(run, told)
        return Ran(told, injected, faults, load(run.recipe_as_run, CATALOGUE).train.batch_size)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How far disturbed runs lie from their undisturbed ones, beside how far seeds lie apart."""
    calm = [row for row in rows if not row["faults"]]
    disturbed = [row for row in rows if row["faults"]]
    off = [abs(row["held_out_off"]) for row in disturbed]
    trained = [abs(row["loss_off"]) for row in disturbed]
    return {
        "undisturbed_runs": len(calm),
        "disturbed_runs": len(disturbed),
        "faults": sum(row["faults"] for row in disturbed),
        "every_row_once": sum(row["rows_once"] for row in disturbed),
        "every_fault_met_and_recovered": sum(row["all_met"] for row in disturbed),
        "held_out_off_median": statistics.median(off),
        "held_out_off_worst": max(off),
        "held_out_between_seeds": statistics.stdev(row["held_out"] for row in calm) if len(calm) > 1 else None,
        "loss_off_worst": max(trained),
        "loss_between_seeds": statistics.stdev(row["loss"] for row in calm) if len(calm) > 1 else None,
    }


if __name__ == "__main__":
    main()
