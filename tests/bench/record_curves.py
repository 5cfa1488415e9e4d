"""Records curves of the real engine for the tests of "Reading the curve", and prints what is read from them.

    python tests/bench/record_curves.py [--only overfit stable] [--seeds 3] [--again]

Each behaviour is produced honestly by settings that cause it, with several seeds: the starter learns from few rows with
many passes and a high rate (overfitting), with absurd rates (unstable), with rates far too low, from answers that do
not belong to their questions, and so on. Only the numbers are kept, in tests/unit/project/curves/NAME.json; the table
at the end says, for each behaviour, what is read from its curves at their end. With ``--again`` nothing is trained:
the table of what is recorded is printed.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(Path(__file__).resolve().parent))
# So small a model is quicker without the threads' waiting for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import results  # noqa: E402  (the repository is put on the path first)

from tests.curves import CURVES, behaviours, read  # noqa: E402

ROWS = ROOT / "resources" / "samples" / "orders_en.jsonl"
DIGITS = 4
CALM: dict[str, Any] = {
    "epochs": 1000.0,
    "batch_size": 4,
    "accumulation": 1,
    "patience": 0,
    "save_every": 1000,
    "evaluate_every": 15,
    "max_steps": 150,
}
RATE = "learning_rate"
UNBOUND: dict[str, Any] = {"unstable": "warn", "max_grad_norm": 1000.0, "scheduler": "constant"}
LONG: dict[str, Any] = {"scheduler": "constant", "max_steps": 240, "evaluate_every": 20}
MANY: dict[str, Any] = {"rows": 1000, "held_out": 0.024}
FEW: dict[str, Any] = {"rows": 48, "held_out": 0.4, "shuffled": True}
BEHAVIOURS: dict[str, dict[str, Any]] = {
    # As one would have it: many rows, each seen once, and the loss falls.
    "healthy": {**MANY, "train": {RATE: 1e-3}},
    "healthy_slow": {**MANY, "train": {RATE: 2e-4, "scheduler": "constant"}},
    "healthy_small_batch": {**MANY, "train": {RATE: 5e-4, "batch_size": 1, "max_steps": 200, "evaluate_every": 25}},
    "healthy_unmeasured": {**MANY, "held_out": 0.0, "train": {RATE: 5e-4}},
    # Few rows that are learned by heart, all answers shuffled: what is learned of them holds for no other row.
    "overfit": {**FEW, "train": {RATE: 3e-3}},
    "overfit_stopped": {**FEW, "train": {RATE: 3e-3, "patience": 2, "evaluate_every": 10}},
    # Rates that no model survives: one that knew nothing of the rows and stays so, and ones that knew them and forget.
    "unstable": {**MANY, "train": {RATE: 0.3, **UNBOUND}},
    "unstable_tuned": {**MANY, "tuned": True, "train": {RATE: 0.3, **UNBOUND}},
    "unstable_later": {**MANY, "tuned": True, "train": {RATE: 0.03, **UNBOUND, "warmup_ratio": 0.5}},
    # A model that does what the rows teach, at a usual rate.
    "known": {**MANY, "tuned": True, "train": {RATE: 2e-4}},
    # Much too low a rate, and one at which no weight moves.
    "not_learning": {**MANY, "train": {RATE: 1e-7}},
    "not_learning_small_batch": {**MANY, "train": {RATE: 3e-8, "batch_size": 2, "scheduler": "constant"}},
    "nothing": {**MANY, "train": {RATE: 1e-12}},
    "nothing_unmeasured": {**MANY, "held_out": 0.0, "train": {RATE: 1e-12}},
    # Answers of other rows: how they look is learned soon, which one belongs there never; and each row is seen once.
    "levelled": {**MANY, "shuffled": True, "train": {RATE: 1e-3, **LONG}},
    "levelled_unmeasured": {**MANY, "held_out": 0.0, "shuffled": True, "train": {RATE: 1e-3, **LONG}},
    # The same at a rate so high that the weights never come to rest, and under a schedule that ends before they do.
    "wavering": {**MANY, "shuffled": True, "train": {RATE: 3e-3, "scheduler": "constant"}},
    "wavering_cosine": {**MANY, "shuffled": True, "train": {RATE: 3e-3, "max_steps": 200, "evaluate_every": 20}},
    "short": {**MANY, "train": {RATE: 1e-3, "max_steps": 15, "evaluate_every": 5}},
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", default=list(BEHAVIOURS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--again", action="store_true", help="train nothing, print what is recorded")
    asked = parser.parse_args()
    began = time.monotonic()
    for name in [] if asked.again else asked.only:
        runs = [record(name, seed) for seed in range(asked.seeds)]
        lines = ",\n".join(json.dumps(run, separators=(",", ":")) for run in runs)
        (CURVES / f"{name}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
        print(f"{name}: {[len(run['steps']) for run in runs]} steps, {time.monotonic() - began:.0f} s", flush=True)
    confusion()


def record(name: str, seed: int) -> dict[str, Any]:
    """One run of a behaviour, as numbers."""
    from engine.catalogue import CATALOGUE
    from engine.project.run_folder import RunFolder
    from engine.protocol.channel import Recorder
    from engine.protocol.errors import UserError
    from engine.recipe.file import from_plain, save
    from engine.train.run import train

    told, chosen = Recorder(), BEHAVIOURS[name]
    model = {"model": {"source": str(tuned_model())}} if chosen.get("tuned") else {}
    plain: dict[str, Any] = {
        "data": {"held_out": chosen.get("held_out", 0.1)},
        "method": {"name": "lora", "rank": 8},
        "train": {**CALM, **chosen["train"], "seed": seed},
    }
    with tempfile.TemporaryDirectory() as folder:
        run, data = RunFolder(Path(folder) / "run"), Path(folder) / ROWS.name
        run.path.mkdir()
        data.write_text("".join(rows(chosen["rows"], shuffled=chosen.get("shuffled", False), seed=seed)), "utf-8")
        save(from_plain({**plain, **model, "data": {**plain["data"], "files": [str(data)]}}, CATALOGUE), run.recipe)
        try:
            train(run, told)
        except UserError as error:
            print(f"{name} {seed}: {error}", flush=True)
    return {"seed": seed, "recipe": plain, **numbers(told.events)}


@cache
def tuned_model() -> Path:
    """The starter after a healthy run, merged, as a base model that knows such rows; removed when the script ends."""
    from engine.catalogue import CATALOGUE
    from engine.merge.adapter import merge
    from engine.project.run_folder import RunFolder
    from engine.protocol.channel import Recorder
    from engine.recipe.file import from_plain, save
    from engine.train.run import train

    home = tempfile.TemporaryDirectory()
    atexit.register(home.cleanup)
    run, data = RunFolder(Path(home.name) / "run"), Path(home.name) / ROWS.name
    run.path.mkdir()
    data.write_text("".join(rows(1000, shuffled=False, seed=99)), "utf-8")
    settings = {**CALM, RATE: 1e-3, "max_steps": 250, "evaluate_every": 250}
    plain = {"data": {"files": [str(data)], "held_out": 0.024}, "method": {"name": "lora"}, "train": settings}
    save(from_plain(plain, CATALOGUE), run.recipe)
    train(run, Recorder())
    merge(run, Path(home.name) / "model", Recorder())
    return Path(home.name) / "model"


def rows(count: int, *, shuffled: bool, seed: int) -> list[str]:
    """Lines of the sample; ``shuffled``: each question has the answer of another."""
    lines = ROWS.read_text("utf-8").splitlines()
    chance = random.Random(seed)
    chosen = [json.loads(line) for line in chance.sample(lines, count)]
    if shuffled:
        answers = [row["output"] for row in chosen]
        chance.shuffle(answers)
        for row, answer in zip(chosen, answers, strict=True):
            row["output"] = answer
    return [json.dumps(row) + "\n" for row in chosen]


def numbers(events: list[Any]) -> dict[str, Any]:
    """What is kept of a run's events."""
    from engine.protocol.events import HeldOut, Note, RunPlanned
    from engine.protocol.state import JobState, apply_all

    state = apply_all(JobState(), events)
    plan = next(event for event in events if isinstance(event, RunPlanned))
    kept = [event for event in events if isinstance(event, Note) and event.code.startswith("train.")]
    assert all(isinstance(event, HeldOut) for event in state.held_out)
    return {
        "total": plan.steps,
        "epochs": plan.epochs,
        "steps": [[s.step, brief(s.loss), brief(s.grad_norm), brief(s.learning_rate)] for s in state.steps],
        "held_out": [[event.step, brief(event.loss)] for event in state.held_out],
        "notes": [[event.step, event.code, event.level] for event in kept],
    }


def brief(value: float | None) -> float | None:
    """So many digits as can be seen in a curve."""
    return None if value is None else float(f"{value:.{DIGITS}e}")


def confusion() -> None:
    """What is read from each recorded curve at its end, by behaviour."""
    table = []
    for name, curves in behaviours().items():
        found = Counter(read(curve).verdict for curve in curves)
        table.append({"behaviour": name, **dict(found)})
    results.table(table)
    results.write("curves", {"hardware": results.hardware(), "read": table})


if __name__ == "__main__":
    main()
