"""Does it help that a model chooses or orders the rows? The demo's data and recipe, so many steps for each way.

    python tests/bench/bench_choice.py --steps 100 --seeds 1 2 3

Every way has the same steps of the same size, so the same compute; what differs is which rows they see, and in which
order. "half" is a random half (by lot of the seed), the fair comparison for a choice of half. "by a short run" is
scored by the model that 25 steps on shuffled rows made, since the starter knows nothing of these data. Figures are of
the same held-out rows, of the last weights. The result goes to tests/bench/results/choice.json: mean over the seeds,
and the spread between them, below which no difference means anything.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import results  # noqa: E402  (the repository is put on the path first)

SHORT = 25
WAYS: dict[str, dict[str, Any]] = {
    "all, shuffled": {},
    "all, shortest first": {"order": "shortest"},
    "all, easiest first": {"order": "easiest"},
    "all, easiest first by a short run": {"order": "easiest", "scored": True},
    "half by lot": {"lot": True},
    "half, uncertain": {"choice": "uncertain"},
    "half, hardest": {"choice": "hardest"},
    "half, easiest": {"choice": "easiest"},
    "half, uncertain by a short run": {"choice": "uncertain", "scored": True},
    "half, hardest by a short run": {"choice": "hardest", "scored": True},
    "half, easiest by a short run": {"choice": "easiest", "scored": True},
}


def trained(folder: Path, data: dict[str, Any], seed: int, steps: int) -> dict[str, Any]:
    """One run; the held-out figures at its end."""
    from engine.catalogue import CATALOGUE
    from engine.demo import demo_recipe
    from engine.project.project import Project
    from engine.protocol.channel import Recorder
    from engine.protocol.events import HeldOut, RunPlanned
    from engine.recipe.file import changed
    from engine.train.run import train

    values = {f"data.{name}": value for name, value in data.items()}
    train_only = {"train.max_steps": steps, "train.epochs": 100.0, "train.evaluate_every": steps, "train.patience": 0}
    recipe = changed(demo_recipe(seed), {**values, **train_only}, CATALOGUE)
    run, told = Project.open_or_create(folder).new_run(recipe), Recorder()
    train(run, told)
    held_out = [event for event in told.events if isinstance(event, HeldOut)][-1]
    planned = next(event for event in told.events if isinstance(event, RunPlanned))
    accuracy = held_out.token_accuracy
    return {"run": str(run.path), "rows": planned.rows, "held_out_loss": held_out.loss, "token_accuracy": accuracy}


def half(folder: Path, seed: int) -> dict[str, Any]:
    """The demo's data without half of what would be trained on; the same rows are held out."""
    from engine.data.prepare import prepare
    from engine.demo import demo_recipe
    from engine.model.locate import locate

    data = demo_recipe(seed).data
    prepared = prepare(data, preference=False, model_folder=locate("starter"))
    lines = Path(data.files[0]).read_text(encoding="utf-8").splitlines()

    def written(name: str, examples: Any) -> str:
        path = folder / name
        path.write_text("".join(lines[example.row.index] + "\n" for example in examples), encoding="utf-8")
        return str(path)

    rows = list(prepared.train)
    kept = random.Random(seed).sample(rows, len(rows) // 2)
    held_out = written("held_out.jsonl", list(prepared.held_out))
    return {"files": [written("half.jsonl", kept)], "held_out_file": held_out, "held_out": 0.0}


def main() -> None:
    """Run every way with every seed, and write the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--steps", type=int, default=100)
    options.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    given = options.parse_args()
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as name:
        os.environ["LORIMER_HOME"] = str(Path(name) / "home")
        for seed in given.seeds:
            folder = Path(name) / f"seed-{seed}"
            short = trained(folder, {}, seed, SHORT)["run"]
            for way, settings in WAYS.items():
                data = {key: value for key, value in settings.items() if key not in ("scored", "lot")}
                if settings.get("scored"):
                    data["scored_by"] = short
                if settings.get("lot"):
                    data |= half(folder, seed)
                found[way].append(trained(folder, data, seed, given.steps))
                print(f"seed {seed}: {way}: {found[way][-1]['held_out_loss']:.4f}", flush=True)
    rows = [{"way": way, **summary(runs)} for way, runs in found.items()]
    results.table(rows)
    results.write(
        "choice", {"hardware": results.hardware(), "steps": given.steps, "seeds": list(given.seeds), "ways": rows}
    )


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the seeds, and how far the seeds are apart."""
    loss, accuracy = ([run[name] for run in runs] for name in ("held_out_loss", "token_accuracy"))
    return {
        "rows": runs[0]["rows"],
        "held_out_loss": round(statistics.mean(loss), 4),
        "spread": round(max(loss) - min(loss), 4),
        "token_accuracy": round(statistics.mean(accuracy), 4),
    }


if __name__ == "__main__":
    main()
