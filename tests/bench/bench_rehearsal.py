"""What a rehearsal told against the run that follows: the whole training's time, and the memory it held.

    python tests/bench/bench_rehearsal.py [--steps 60] [--repeats 2]

Each case is rehearsed and then run, as jobs of their own on the starter and the sample data, on a machine that does
nothing else. "told" is the plan's time before anything was measured, "rehearsed" the rehearsal's, "took" the run's,
from its first step to its last measurement. Memory is that of the rehearsal's training and of the run's process, whose
peak has the loading in it. The result goes to tests/bench/results/rehearsal.json.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import results  # noqa: E402  (the repository is put on the path first)

GIB = 2**30
CASES: dict[str, dict[str, Any]] = {
    "LoRA, 16 at once": {"method": {"name": "lora"}},
    "LoRA, 4 × 4, recomputed": {
        "method": {"name": "lora"},
        "train.batch_size": 4,
        "train.accumulation": 4,
        "train.checkpointing": True,
    },
    "LoRA, in random order": {"method": {"name": "lora"}, "train.short_rows": "shuffled"},
    "QLoRA, 16 at once": {},
}


def peak_of(pid: int) -> float:
    """GiB that a process held at the most; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1024 / GIB for line in lines if line.startswith("VmHWM:")), 0.0)


def followed(folder: Any, kind: str, arguments: dict[str, Any]) -> tuple[list[Any], float]:
    """A job's events, and its process's peak in GiB."""
    from engine.host.follow import Follower
    from engine.host.launch import running_pid, start_job
    from engine.protocol.events import Finished

    start_job(folder, kind, arguments)
    follower, events, peak = Follower(folder), list[Any](), 0.0
    while not any(isinstance(event, Finished) for event in events):
        events += follower.poll()
        peak = max(peak, peak_of(running_pid(folder) or 0))
        time.sleep(0.02)
    failure = events[-1].failure
    if failure is not None:
        raise SystemExit(f"{kind}: {failure.message.en}\n{failure.details}")
    return events, peak


def case(home: Path, values: dict[str, Any], steps: int) -> dict[str, Any]:
    """One rehearsal and the run after it."""
    from engine.catalogue import CATALOGUE
    from engine.demo import demo_recipe
    from engine.project.project import Project
    from engine.protocol.events import HeldOut, Rehearsed, Stage
    from engine.recipe.file import changed, to_plain

    own = {"train.max_steps": steps, "train.evaluate_every": steps, "train.patience": 0, **values}
    recipe = changed(demo_recipe(42), own, CATALOGUE)
    project = Project.open_or_create(home / "project")
    job = project.new_data_job("rehearse")
    began = time.monotonic()
    events, _ = followed(job, "rehearse", {"recipe": to_plain(recipe), "folder": str(job.path)})
    took = time.monotonic() - began
    (told,) = [event for event in events if isinstance(event, Rehearsed)]
    events, peak = followed(run := project.new_run(recipe), "train", {"run": str(run.path)})
    start = next(event.time for event in events if isinstance(event, Stage) and event.name == "train")
    end = [event.time for event in events if isinstance(event, HeldOut)][-1]
    return {
        "rehearsal_s": took,
        "told_s": told.predicted_seconds,
        "rehearsed_s": told.seconds,
        "took_s": end - start,
        "error": told.seconds / (end - start) - 1,
        "predicted_gib": told.predicted_gib,
        "measured_gib": told.peak_gib,
        "run_gib": peak,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=2)
    chosen = parser.parse_args()
    lines = []
    for repeat in range(chosen.repeats):
        for name, values in CASES.items():
            with tempfile.TemporaryDirectory() as home:
                os.environ["LORIMER_HOME"] = home  # nothing is known of this machine
                lines.append({"case": name, "repeat": repeat, **case(Path(home), values, chosen.steps)})
                print(f"{name}: {lines[-1]['error']:+.0%}", flush=True)
    results.table(lines)
    errors = [abs(line["error"]) for line in lines]
    summary = {"median_absolute": statistics.median(errors), "worst": max(errors), "cases": len(lines)}
    print(summary)
    results.write("rehearsal", {"hardware": results.hardware(), "steps": chosen.steps, **summary, "lines": lines})


if __name__ == "__main__":
    main()
