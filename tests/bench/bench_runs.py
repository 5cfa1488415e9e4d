"""How soon a project's runs are listed, searched and measured: ``python tests/bench/bench_runs.py [--runs N]``.

Writes runs with records by hand, lists them as a new window does (nothing is known yet), as the same window does again
(nothing is other), and as a window that is opened later does (what was read is kept); then with one run that grows.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.bench.results import hardware, table, write  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--long", type=int, default=1_000_000, help="steps of the one long run")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LORIMER_HOME"] = str(Path(folder) / "home")
        measured = measure(Path(folder) / "project", chosen.runs, chosen.steps, chosen.long)
    table([{"what": name, "seconds": round(value, 4)} for name, value in measured.items()])
    asked = {"runs": chosen.runs, "steps": chosen.steps, "long": chosen.long}
    write("runs", {"hardware": hardware(), **asked, "seconds": measured})


def measure(folder: Path, runs: int, steps: int, long: int) -> dict[str, float]:
    """Seconds of each way to list."""
    from engine.project.project import Project
    from engine.project.run_folder import RunFolder
    from engine.project.runs import Listing, found, query_of, sizes
    from tests.unit.project.made_run import leave, make_run, step, work_on
    from tests.unit.project.made_run import write as write_events

    template = make_run(folder, "first", saved=(), steps=0, status="")
    lines = record(steps)
    recipe = template.recipe.read_text("utf-8")
    project = Project.open_or_create(folder)
    template.events.write_bytes(lines)
    for number in range(1, runs):
        run = RunFolder(folder / "runs" / f"{number + 1:04d}-run")
        run.path.mkdir()
        run.write_facts(
            {"id": run.id, "title": f"run {number}", "created": float(number), "model": "m", "method": "lora"}
        )
        run.recipe.write_text(recipe, encoding="utf-8")
        run.events.write_bytes(lines)
    listing = Listing(project.path)
    times = {"first, nothing is known": timed(listing.read), "again, nothing is other": timed(listing.read)}
    times["by a new window"] = timed(Listing(project.path).read)
    rows = listing.read()
    query = query_of("run 2 status:done")
    times["search"] = timed(lambda: [found(row, query) for row in rows])
    times["sizes"] = timed(lambda: [sizes(row.folder) for row in rows])
    growing = RunFolder(folder / "runs" / "9999-long")
    growing.path.mkdir()
    growing.write_facts({"id": growing.id, "title": "long", "created": 1e9, "model": "m", "method": "lora"})
    growing.recipe.write_text(recipe, encoding="utf-8")
    growing.events.write_bytes(record(long, ends=False))
    work_on(growing)
    times["with a long run under way, first"] = timed(listing.read)
    write_events(growing, *(step(long + number) for number in range(1, 101)))
    times["with a long run under way, again"] = timed(listing.read)
    leave(growing)
    return times


def record(steps: int, *, ends: bool = True) -> bytes:
    """Lines of a run with so many steps."""
    from engine.protocol.codec import encode_event
    from engine.protocol.events import Finished, HeldOut, JobStarted, Launched
    from tests.unit.project.made_run import step

    line = encode_event(step(7_000_007, 1.0))
    lines = [encode_event(Launched(kind="train", time=1.0)), encode_event(JobStarted(kind="train", pid=1, time=1.0))]
    for number in range(1, steps + 1):
        lines.append(line.replace("7000007", str(number), 1))
        if number % 500 == 0:
            lines.append(encode_event(HeldOut(step=number, loss=2.0 - number / steps, time=1.0)))
    if ends:
        lines.append(encode_event(Finished(status="done", time=2.0)))
    return ("\n".join(lines) + "\n").encode()


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
