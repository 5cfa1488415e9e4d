"""GGUF of a tuned model in llama.cpp against the same weights in transformers.

    python tests/bench/bench_gguf_parity.py [RUN ...] [--types F16 Q8_0 Q4_K_M] [--prompts 50]

The reference is made by PEFT (``merge_and_unload`` in float32, then rounded to float16 for F16), not by Lorimer's own
merge; llama.cpp runs on the CPU with a cache in 32-bit floats. Counted are next tokens along the reference answers
(teacher-forced) and the first 32 greedy tokens; a difference where the best two logits lie within 0.05 counts apart.

Without RUN, two models are tuned first: the starter on its sample, and stories260K on Alpaca rows.
Bounds for F16: 99.5% of next tokens, 95% of greedy answers.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from results import ROOT, hardware, table, write

sys.path.insert(0, str(ROOT))

from engine.catalogue import CATALOGUE
from engine.export.gguf_check import Expected, compare
from engine.export.gguf_write import plan
from engine.export.gguf_write import write as write_gguf
from engine.export.llama_cpp import loaded
from engine.export.targets import QUANTISATIONS, quantisation
from engine.merge.delta import Adapter
from engine.merge.prompts import Sample, Trained, load_samples
from engine.merge.reference import Reference
from engine.merge.verify import ANSWER
from engine.merge.weights import BaseWeights
from engine.model.load import load_base
from engine.project.project import Project
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Recorder
from engine.recipe.file import changed, from_plain
from engine.train.run import train

NEXT_TOKEN, GREEDY = 0.995, 0.95


def tuned(folder: Path) -> list[RunFolder]:
    """The two runs that the bench makes for itself."""
    samples, data = ROOT / "resources" / "samples", ROOT.parent / "shared" / "data"
    recipe = from_plain({"method": {"name": "lora", "rank": 16}, "train": {"evaluate_every": 0}}, CATALOGUE)
    wanted = [("starter", "starter", samples / "orders_en.jsonl", 60)]
    alpaca = data / "datasets" / "llama-factory" / "alpaca_en_demo.json"
    if alpaca.is_file():
        wanted.append(("stories260K", str(data / "models" / "stories260K"), alpaca, 100))
    runs = []
    project = Project.open_or_create(folder)
    for title, model, file, steps in wanted:
        values = {"model.source": model, "data.files": [str(file)], "train.max_steps": steps, "data.held_out": 0.2}
        run = project.new_run(changed(recipe, values, CATALOGUE), title=title)
        train(run, Recorder())
        runs.append(run)
    return runs


def merged_by_peft(run: RunFolder, dtype: torch.dtype) -> Any:
    """Base and adapter as one model in ``dtype``, merged in float32 by PEFT."""
    base = load_base(Path(run.read_facts()["model_folder"]), quantised=False, precision="fp32", device="cpu")
    return PeftModel.from_pretrained(base, str(run.adapter)).merge_and_unload().to(dtype).eval()


def expect(run: RunFolder, samples: list[Sample], stops: tuple[int, ...], dtype: torch.dtype) -> list[Expected]:
    """What transformers says."""
    model = merged_by_peft(run, dtype)
    reference = Reference(model)
    found = []
    for sample in samples:
        greedy = reference.greedy(sample.prompt, ANSWER, stops)
        answer = sample.answer or [choice.token for choice in greedy]
        forced = reference.forced(sample.prompt + answer, len(sample.prompt))
        found.append(Expected(replace(sample, answer=answer), forced, greedy))
    del model, reference
    gc.collect()
    return found


def measure(run: RunFolder, kind: str, prompts: int, folder: Path) -> dict[str, Any]:
    """One row of the table."""
    facts, quantise = run.read_facts(), quantisation(kind)
    base, trained = BaseWeights.open(Path(facts["model_folder"])), Trained.load(run.adapter)
    samples = load_samples(run, trained, limit=prompts)
    dtype = torch.float16 if kind == "F16" else torch.float32
    expected = expect(run, samples, trained.stops, dtype)
    began = time.monotonic()
    path = folder / f"{run.id}-{kind}.gguf"
    about = {"run": run.id, "title": run.id, "model": "bench"}
    adapter = Adapter.open(run.adapter)
    write_gguf(
        path, plan(base, run.adapter, quantise), base, adapter, trained, quantise, about, lambda done, total: None
    )
    written = time.monotonic() - began
    longest = max(len(item.sample.prompt) + len(item.sample.answer) for item in expected) + 2 * ANSWER
    with loaded(path, longest) as model:
        agreement, stops_equal = compare(model, expected, trained.stops, lambda: None)
    return {
        "model": facts.get("title") or run.id,
        "type": kind,
        "reference": str(dtype).removeprefix("torch."),
        "bytes": path.stat().st_size,
        "write_s": written,
        "prompts": len(samples),
        "tokens": agreement.tokens,
        "next_token": agreement.share,
        "near_ties": agreement.near,
        "greedy_equal": agreement.greedy_share,
        "greedy_near_ties": agreement.near_prompts,
        "stops_equal": stops_equal,
    }


def main() -> int:
    """Measure, print, write; 1 when F16 misses a bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--types", nargs="+", default=list(reversed(QUANTISATIONS)), choices=list(QUANTISATIONS))
    parser.add_argument("--prompts", type=int, default=50)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs = [RunFolder(path.resolve()) for path in arguments.runs] or tuned(folder / "project")
        rows = [measure(run, kind, arguments.prompts, folder) for run in runs for kind in arguments.types]
    table(rows)
    missed = [
        row for row in rows if row["type"] == "F16" and (row["next_token"] < NEXT_TOKEN or row["greedy_equal"] < GREEDY)
    ]
    write("gguf_parity", {"hardware": hardware(), "bounds": {"next_token": NEXT_TOKEN, "greedy": GREEDY}, "rows": rows})
    print("F16 within its bounds" if not missed else f"F16 misses its bounds: {missed}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
