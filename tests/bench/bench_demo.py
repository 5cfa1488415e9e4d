"""`lorimer demo` on this machine: seconds, peak memory of the process tree sampled from outside, and what was learned.

    python tests/bench/bench_demo.py [--seeds 42 43 44]

For each seed a fresh project. Beside base and tuned it measures what needs no model: the best constant answer, and the
answer of the nearest training row (by words shared, Jaccard).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from results import ROOT, hardware, table, write

sys.path.insert(0, str(ROOT))

from engine.host.memory import GIB, tree_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    options = parser.parse_args()
    rows = [measure(seed) for seed in options.seeds]
    worst = {
        "seconds": max(row["seconds"] for row in rows),
        "peak_memory_gib": max(row["peak_memory_gib"] for row in rows),
        "exact_match_base": max(row["exact_match_base"] for row in rows),
        "exact_match_tuned": min(row["exact_match_tuned"] for row in rows),
        "perplexity_ratio": min(row["perplexity_ratio"] for row in rows),
        "constant_answer": max(row["constant_answer"] for row in rows),
        "nearest_row": max(row["nearest_row"] for row in rows),
    }
    table([*rows, {"seed": "worst", "held_out": min(row["held_out"] for row in rows), **worst}])
    write("demo", {"hardware": hardware(), "rows": rows, "worst": worst})


def measure(seed: int) -> dict[str, float]:
    """One demo in a fresh project."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "engine.cli", "demo", "--json", "--seed", str(seed), "--project", f"{folder}/p"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        peak = [0.0]
        watch = threading.Thread(target=_watch, args=(process, peak))
        watch.start()
        output = process.communicate()[0]
        watch.join()
        seconds = time.monotonic() - began
        document = json.loads(output)
        if process.returncode != 0:
            raise SystemExit(f"demo failed: {document['error']}")
        base, tuned = document["evaluation"]["base"], document["evaluation"]["tuned"]
        return {
            "seed": seed,
            "seconds": round(seconds, 1),
            "peak_memory_gib": round(peak[0], 3),
            "exact_match_base": base["exact_match"],
            "exact_match_tuned": tuned["exact_match"],
            "perplexity_ratio": round(base["perplexity"] / tuned["perplexity"], 2),
            **_without_a_model(Path(document["run"])),
        }


def _watch(process: subprocess.Popen[str], peak: list[float]) -> None:
    while process.poll() is None:
        peak[0] = max(peak[0], tree_bytes(process.pid) / GIB)
        time.sleep(0.1)


def _without_a_model(run: Path) -> dict[str, float]:
    """Shares of held-out rows that a constant answer, and the nearest training row's answer, get right."""
    held_out = [_pair(json.loads(line)) for line in (run / "held_out.jsonl").read_text(encoding="utf-8").splitlines()]
    questions = {question for question, _ in held_out}
    samples = (ROOT / "resources" / "samples" / "orders_en.jsonl").read_text(encoding="utf-8").splitlines()
    every = [(_question(row), row["output"]) for row in map(json.loads, samples)]
    training = [(question, answer) for question, answer in every if question not in questions]
    assert len(training) < len(every), "the held-out rows are not the sample's"
    constant = Counter(answer for _, answer in held_out).most_common(1)[0][1]
    words = [(set(question.split()), answer) for question, answer in training]
    right = sum(answer == max(words, key=lambda row: _jaccard(row[0], set(q.split())))[1] for q, answer in held_out)
    return {
        "held_out": len(held_out),
        "constant_answer": round(constant / len(held_out), 4),
        "nearest_row": round(right / len(held_out), 4),
    }


def _pair(row: dict) -> tuple[str, str]:
    asked = [message["content"] for message in row["messages"] if message["role"] == "user"]
    return asked[-1], row["messages"][-1]["content"]


def _question(row: dict) -> str:
    return f"{row['instruction']}\n{row['input']}" if row.get("input") else row["instruction"]


def _jaccard(a: set[str], b: set[str]) -> float:
    return len(a & b) / max(1, len(a | b))


if __name__ == "__main__":
    main()
