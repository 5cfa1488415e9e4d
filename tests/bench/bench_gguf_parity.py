"""GGUF of tuned models in llama.cpp, in every type, against base and adapter in transformers.

    python tests/bench/bench_gguf_parity.py [RUN ...] [--types F16 Q8_0 Q4_K_M] [--prompts 50]

The reference is PEFT's own: base and adapter side by side in 32-bit floats, never merged by Lorimer. The GGUF is asked
as the product asks it (`engine.export.gguf_check`), with more prompts. Counted are next tokens along the reference
answers (teacher-forced), the first 32 greedy tokens, and the perplexity of the held-out answers; a difference where the
best two logits of either side lie within 0.05 counts apart.

Without RUN, four models are tuned first: the starter on its English and on its Chinese sample, and stories260K (whose
width is no multiple of 256, so that K-quants fall back) on Alpaca rows, with a small and with a large learning rate.

Bounds: F16 99.5% of next tokens and 95% of greedy answers; perplexity within 0.5% (F16), 1% (Q8_0), 6% (Q4_K_M).
The limits of the other types (`engine.export.parity.LIMITS`) have to hold for every model here.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from results import ROOT, hardware, table, write

sys.path.insert(0, str(ROOT))

from engine.catalogue import CATALOGUE
from engine.export.gguf_check import verify_gguf
from engine.export.gguf_write import plan
from engine.export.gguf_write import write as write_gguf
from engine.export.parity import LIMITS
from engine.export.targets import QUANTISATIONS, quantisation
from engine.merge.delta import Adapter
from engine.merge.verify import Expected, Place, Subject, expect
from engine.project.project import Project
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Recorder
from engine.recipe.file import changed, from_plain
from engine.train.run import train

GREEDY, NEXT_TOKEN = 0.95, 0.995
PERPLEXITY = {"F32": 0.005, "F16": 0.005, "Q8_0": 0.01, "Q4_K_M": 0.06}


def tuned(folder: Path) -> list[RunFolder]:
    """The runs that the bench makes for itself."""
    samples, data = ROOT / "resources" / "samples", ROOT.parent / "shared" / "data"
    recipe = from_plain({"method": {"name": "lora", "rank": 16}, "train": {"evaluate_every": 0}}, CATALOGUE)
    wanted = [
        ("starter, English", "starter", samples / "orders_en.jsonl", 60, None),
        ("starter, Chinese", "starter", samples / "orders_zh.jsonl", 60, None),
    ]
    alpaca = data / "datasets" / "llama-factory" / "alpaca_en_demo.json"
    if alpaca.is_file():
        stories = str(data / "models" / "stories260K")
        wanted += [("stories260K", stories, alpaca, 100, None), ("stories260K, 5e-3", stories, alpaca, 100, 0.005)]
    project = Project.open_or_create(folder)
    runs = []
    for title, model, file, steps, rate in wanted:
        values = {"model.source": model, "data.files": [str(file)], "train.max_steps": steps, "data.held_out": 0.2}
        if rate is not None:
            values["train.learning_rate"] = rate
        run = project.new_run(changed(recipe, values, CATALOGUE), title=title)
        train(run, Recorder())
        runs.append(run)
    return runs


def watch(done: int, total: int) -> None:
    """Nobody waits."""


def measure(run: RunFolder, subject: Subject, expected: list[Expected], kind: str, folder: Path) -> dict[str, Any]:
    """One row of the table."""
    facts, quantise = run.read_facts(), quantisation(kind)
    adapter = Adapter.open(run.adapter, subject.base)
    path = folder / f"{run.id}-{kind}.gguf"
    about = {"run": run.id, "title": run.id, "model": "bench"}
    began = time.monotonic()
    planned = plan(subject.base, adapter, subject.trained, quantise)
    write_gguf(path, planned, subject.base, adapter, subject.trained, quantise, about, watch)
    written = time.monotonic() - began
    parity = verify_gguf(subject, path, kind, watch, expected=expected)
    path.unlink()
    return {
        "model": facts.get("title") or run.id,
        "type": kind,
        "write_s": written,
        "check_s": parity.seconds,
        "prompts": parity.greedy_prompts,
        "tokens": parity.tokens,
        "next_token": parity.agreement,
        "near_ties": parity.near_ties,
        "greedy_equal": parity.greedy_equal,
        "greedy_near_ties": parity.greedy_near_ties,
        "perplexity": parity.perplexity,
        "change": parity.perplexity_change,
        "passed": parity.passed,
        "differs": [item.text.en for item in parity.differs],
    }


def missed(row: dict[str, Any]) -> bool:
    """Whether a row lies outside the bounds."""
    if row["type"] in ("F32", "F16") and (row["next_token"] < NEXT_TOKEN or row["greedy_equal"] < GREEDY):
        return True
    return not row["passed"] or abs(row["change"]) > PERPLEXITY.get(row["type"], float("inf"))


def main() -> int:
    """Measure, print, write; 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--types", nargs="+", default=list(reversed(QUANTISATIONS)), choices=list(QUANTISATIONS))
    parser.add_argument("--prompts", type=int, default=50)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for run in [RunFolder(path.resolve()) for path in arguments.runs] or tuned(folder / "project"):
            subject = Subject.of(run, rows=arguments.prompts)
            began = time.monotonic()
            expected = expect(subject, Place("fp32"), watch, asked=arguments.prompts)
            print(f"{run.id}: base and adapter said it in {time.monotonic() - began:.1f} s", file=sys.stderr)
            rows += [measure(run, subject, expected, kind, folder) for kind in arguments.types]
    table([{key: value for key, value in row.items() if key != "differs"} for row in rows])
    bounds = {"next_token": NEXT_TOKEN, "greedy": GREEDY, "perplexity": PERPLEXITY}
    limits = {
        kind: {"next_token": found.next_token, "greedy": found.greedy, "perplexity": found.perplexity}
        for kind, found in LIMITS.items()
    }
    write("gguf_parity", {"hardware": hardware(), "bounds": bounds, "limits": limits, "rows": rows})
    wrong = [(row["model"], row["type"], row["differs"]) for row in rows if missed(row)]
    print("all within their bounds" if not wrong else f"outside their bounds: {wrong}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
