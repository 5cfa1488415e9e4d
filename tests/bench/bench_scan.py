"""A JSON Lines file of 0.1, 1 and 4 GB: the first rows, a full scan, and exact token lengths.

    python tests/bench/bench_scan.py [--gb 0.1 1 4] [--folder TMP]

The files are made of words of a fixed list, mean 650 bytes a row, one row in fifty a copy. Memory is that of the whole
process tree, sampled from outside. Limits: first rows in 0.5 s; scan (parse, shape, character lengths, exact
duplicates) at least 40 MB/s with at most 600 MB; exact token lengths at least 3 MB/s.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from results import ROOT, hardware, table, write

sys.path.insert(0, str(ROOT))

from engine.host.memory import tree_bytes

MEASURED_BYTES = 60_000_000
STARTER = ROOT / "resources" / "starter"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, nargs="+", default=[0.1, 1.0, 4.0])
    parser.add_argument(
        "--folder", type=Path, help="where the files are made; the system's temporary folder if left out"
    )
    parser.add_argument("--child", type=Path, help="be the process that is measured: look at this file")
    options = parser.parse_args()
    if options.child is not None:
        print(json.dumps(look(options.child)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rows = [measure(Path(folder), gb) for gb in options.gb]
    table(rows)
    limits = {"first_rows_s": 0.5, "scan_mb_s": 40, "peak_mb": 600, "tokens_mb_s": 3}
    write("scan", {"hardware": hardware(), "load": os.getloadavg()[0], "limits": limits, "rows": rows})


def measure(folder: Path, gb: float) -> dict[str, Any]:
    """Make a file of a size, and have a fresh process look at it."""
    path = folder / f"{gb}.jsonl"
    count = generate(path, int(gb * 1e9))
    environment = {**os.environ, "LORIMER_HOME": str(folder / f"home-{gb}")}
    child = subprocess.Popen(
        [sys.executable, __file__, "--child", str(path)], stdout=subprocess.PIPE, env=environment, text=True
    )
    peak, is_over = [0], threading.Event()

    def watch() -> None:
        while not is_over.wait(0.05):
            peak[0] = max(peak[0], tree_bytes(child.pid))

    thread = threading.Thread(target=watch)
    thread.start()
    found = json.loads(child.communicate()[0])
    is_over.set()
    thread.join()
    path.unlink()
    assert found["count"] == count
    return {"gb": gb, "peak_mb": peak[0] / 1e6, **found}


def look(path: Path) -> dict[str, Any]:
    """What the data session does with a file: open, show, scan, and count tokens."""
    from engine.data.preview import DataView
    from engine.recipe.recipe import DataSettings

    size = path.stat().st_size
    began = time.perf_counter()
    view = DataView(DataSettings(files=(str(path),)), STARTER)
    assert len(view.page(0, 50)["rows"]) == 50
    first = time.perf_counter() - began
    began = time.perf_counter()
    if not view.is_scanned:
        view.scan()
    scan = time.perf_counter() - began
    view.guess_lengths()
    facts = view.facts()
    rows = MEASURED_BYTES * facts["total"] // size
    began = time.perf_counter()
    view.measure(rows=rows)
    tokens = time.perf_counter() - began
    return {
        "count": facts["total"],
        "duplicates": facts["set_aside"].get("duplicate", 0),
        "first_rows_s": first,
        "scan_s": scan,
        "scan_mb_s": size / 1e6 / scan,
        "length_error": facts["error"],
        "tokens_mb_s": rows * size / facts["total"] / 1e6 / tokens,
    }


def generate(path: Path, size: int) -> int:
    """Write rows until the file has so many bytes; gives their number."""
    rng = random.Random(5)
    words = [
        f"{a}{b}"
        for a in "the of and to in is you that it he was for on are as with his they".split()
        for b in ("", "s", "ing", "ed")
    ]

    def text(least: int, most: int) -> str:
        return " ".join(rng.choices(words, k=rng.randint(least, most))).capitalize() + "."

    pool = [
        json.dumps(
            {
                "instruction": f"Explain {text(4, 30)}",
                "input": "" if rng.random() < 0.7 else text(3, 30),
                "output": "@ " + text(20, 160),
            }
        )
        for _ in range(50_000)
    ]
    count = written = 0
    with path.open("wb") as file:
        while written < size:
            number = count if count % 50 else 0
            line = (pool[number % len(pool)].replace("@", str(number), 1) + "\n").encode()
            file.write(line)
            written += len(line)
            count += 1
    return count


if __name__ == "__main__":
    main()
