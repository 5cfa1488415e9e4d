"""Kills of the real worker over its whole life, full disks at every file operation: is anything lost or damaged?

    python tests/bench/bench_kills.py [--kills 200] [--each 5] [--full 0]

Each life is killed some times and then left to end; final weights are compared bit for bit with those of an undisturbed
run, and the curve that a window shows with its curve. ``--full``: full disks, spread over a life; 0: one at every
operation. Then a real small file system is filled, where this process may mount one. The result goes to
tests/bench/results/kills.json.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import subprocess
import sys
import time
from typing import Any

from results import ROOT, hardware, table, write

sys.path.insert(0, str(ROOT))

from tests.process import killing
from tests.process.killing import Fault, Harness, curve, launch, replay, weights

SMALL_MIB = 3


def small_disk(one: Harness) -> dict[str, Any] | None:
    """A run on a file system that somebody else fills while it trains, and clears when the run waits."""
    place = one.folder / "small disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_MIB}m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        return None
    try:
        run = killing.make_run(place / "a run 训练", one.model, one.rows, keep_checkpoints=1)
        one.host.fault = Fault()
        launch.start_job(run, "train", {"run": str(run.path)})
        until(lambda: replay(run).step >= 4)
        filler = place / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        waits = until(lambda: replay(run).status == "waiting" or not launch.is_alive(run))
        said = replay(run).waiting
        filler.unlink()
        until(lambda: not launch.is_alive(run))
        return {
            "waited": bool(waits and said and said.reason == "disk"),
            "said": said.text.en if said else "",
            "status": replay(run).status,
            "same": weights(run) == one.weights,
            "curve": curve(run) == one.curve,
        }
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


def until(done: Any, seconds: float = 60.0) -> bool:
    """Wait for it; whether it came."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--each", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--full", type=int, default=0)
    asked = parser.parse_args()
    chance, began = random.Random(asked.seed), time.monotonic()
    with killing.harness() as one:
        lives: list[killing.Life] = []
        while sum(len(life.kills) for life in lives) < asked.kills:
            lives.append(one.life(chance, asked.each))
            print(lives[-1], flush=True)
        kills = killing.summary(lives)
        print(kills, flush=True)
        full = []
        count = asked.full or one.operations
        for number in range(count):
            full.append(killing.starve(one, 1 + number * one.operations // count))
        disk = small_disk(one)
    lines = [
        {"what": "kills", "times": kills["kills"], "lost": kills["lost"], "damaged": kills["damaged_files"],
         "identical": f"{kills['bit_identical']} of {kills['lives']}"},
        {"what": "full disk", "times": len(full), "lost": sum(not run["ends_well"] for run in full),
         "damaged": sum(len(run["damaged"]) for run in full),
         "identical": f"{sum(run['same'] for run in full)} of {len(full)}"},
    ]  # fmt: skip
    table(lines)
    print(disk)
    summary = {
        "times": len(full),
        "waited": sum(run["waited"] for run in full),
        "told_at_the_start": sum(run["told"] == "disk.full" for run in full),
        "ended_well": sum(run["ends_well"] for run in full),
        "bit_identical": sum(run["same"] for run in full),
        "curve_complete": sum(run["curve"] for run in full),
        "damaged_files": sum(len(run["damaged"]) for run in full),
        "others": [run for run in full if not (run["ends_well"] and run["same"] and run["curve"])],
    }
    found = {"operations": one.operations, "kills": kills, "full": summary, "small_disk": disk}
    write("kills", {"hardware": hardware(), **found, "seconds": round(time.monotonic() - began)})


if __name__ == "__main__":
    main()
