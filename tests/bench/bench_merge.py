"""Merging an adapter: our merge against PEFT's, in memory, time and numbers.

    python tests/bench/bench_merge.py [--gib 2] [--rounds 3] [--place FOLDER]

A Llama of random bfloat16 weights in several files and a LoRA on all its linear layers are made first. Then, in turn,
each in a process of its own:

- ours: `BaseWeights.open`, `Adapter.open` and `write_weights`, as the job "merge" calls them, with the folder's files
  flushed to the disk and put in place;
- PEFT: ``AutoModelForCausalLM.from_pretrained``, ``PeftModel.from_pretrained``, ``merge_and_unload`` and
  ``save_pretrained`` with files of the same size. It leaves its files in the system's cache; how long flushing them
  takes is told apart and not counted.

Time is from the first call to the last, imports left out on both sides, the whole process's told beside. Memory is the
highest anonymous resident memory (RssAnon of /proc/self/status, every 10 ms), imports and all. The files are read once
before, so that neither side waits for a cold disk.

Bounds: memory at most the largest file + 1 GiB, time at most PEFT's, every value within one unit in the last place.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from results import ROOT, hardware, table, write

sys.path.insert(0, str(ROOT))

GIB = 1024**3
SHARD = "400MB"


def make(folder: Path, gib: float) -> tuple[Path, Path]:
    """(base, adapter): a Llama of about this size, and a LoRA of rank 16 on its linear layers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    base, adapter = folder / "base", folder / "adapter"
    torch.manual_seed(1)
    width, inner, words = 2048, 5632, 32000
    layer = 2 * (2 * width * width + 2 * width * 512 + 3 * width * inner)
    layers = max(2, round((gib * GIB - 2 * 2 * words * width) / layer))
    config = LlamaConfig(
        vocab_size=words, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=32,
        num_key_value_heads=8, tie_word_embeddings=False,
    )  # fmt: skip
    with torch.device("meta"):
        model: Any = LlamaForCausalLM(config)
    model = model.to(torch.bfloat16).to_empty(device="cpu")
    with torch.no_grad():
        for value in model.parameters():
            value.normal_(0, 0.02) if value.ndim > 1 else value.fill_(1)
    model.save_pretrained(base, max_shard_size=SHARD)
    del model
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    tuned = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16),
        LoraConfig(r=16, lora_alpha=32, target_modules=targets, task_type="CAUSAL_LM"),
    )
    with torch.no_grad():
        for name, value in tuned.named_parameters():
            if "lora_" in name:
                value.normal_(0, 0.02)
    tuned.save_pretrained(str(adapter))
    return base, adapter


class Watch:
    """The highest anonymous resident memory of this process while the block runs."""

    def __enter__(self) -> Watch:
        self.before = self.peak = anonymous()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(0.01):
            self.peak = max(self.peak, anonymous())


def anonymous() -> int:
    """RssAnon of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status tells no RssAnon")


def ours(base: Path, adapter: Path, out: Path) -> dict[str, float]:
    """Our merge in this process."""
    from engine.merge.adapter import copy_companions
    from engine.merge.delta import Adapter
    from engine.merge.place import writing_folder
    from engine.merge.shards import write_weights
    from engine.merge.weights import BaseWeights

    with Watch() as watch:
        start = time.perf_counter()
        weights = BaseWeights.open(base)
        opened = Adapter.open(adapter, weights)
        with writing_folder(out, {"kind": "merged", "run": "bench"}) as folder:
            write_weights(weights, opened, folder, lambda done, total: None)
            copy_companions(base, adapter, folder)
            written = time.perf_counter()
        flushed = time.perf_counter()
    return {"seconds": flushed - start, "flush": flushed - written, "anonymous": watch.peak, "imports": watch.before}


def peft(base: Path, adapter: Path, out: Path) -> dict[str, float]:
    """PEFT's merge in this process."""
    import os

    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    with Watch() as watch:
        start = time.perf_counter()
        model: Any = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
        merged: Any = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
        merged.save_pretrained(out, max_shard_size=SHARD)
        written = time.perf_counter()
        for path in out.iterdir():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        flushed = time.perf_counter()
    return {"seconds": written - start, "flush": flushed - written, "anonymous": watch.peak, "imports": watch.before}


def one(name: str, base: Path, adapter: Path, out: Path) -> dict[str, float]:
    """One side in a process of its own."""
    shutil.rmtree(out, ignore_errors=True)
    start = time.perf_counter()
    command = [sys.executable, __file__, "--side", name, "--base", str(base), "--adapter", str(adapter)]
    result = subprocess.run([*command, "--out", str(out)], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return {**found, "process": time.perf_counter() - start}


def farthest(mine: Path, theirs: Path) -> tuple[int, int]:
    """(greatest distance in steps of bfloat16, values that differ)."""
    from engine.merge.weights import BaseWeights

    first, second = BaseWeights.open(mine), BaseWeights.open(theirs)
    if first.shapes != second.shapes:
        raise SystemExit("the merged models do not hold the same tensors")
    worst = differ = 0
    for name in first.tensors:
        a, b = ordered(first.view(name)), ordered(second.view(name))
        worst = max(worst, int((a - b).abs().max()))
        differ += int((a != b).sum())
    return worst, differ


def ordered(values: Any) -> Any:
    """bfloat16 as integers in which neighbours differ by one."""
    import torch

    bits = values.contiguous().view(torch.int16).to(torch.int32)
    return torch.where(bits < 0, -32768 - bits, bits)


def measure(folder: Path, gib: float, rounds: int) -> None:
    """All rounds, the table, the file of results."""
    base, adapter = make(folder, gib)
    files = sorted(path.stat().st_size for path in base.glob("*.safetensors"))
    for path in base.glob("*.safetensors"):
        with path.open("rb") as file:
            while file.read(1 << 24):
                pass
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "peft": []}
    for number in range(rounds):
        for name in runs if number % 2 == 0 else reversed(runs):
            runs[name].append(one(name, base, adapter, folder / name))
    worst, differ = farthest(folder / "ours", folder / "peft")
    middle = {
        name: {key: statistics.median(run[key] for run in each) for key in each[0]} for name, each in runs.items()
    }
    table(
        [
            {"side": name, "s": about["seconds"], "flush s": about["flush"], "whole process s": about["process"],
             "anonymous MiB": about["anonymous"] / 1024**2, "of it imports": about["imports"] / 1024**2}
            for name, about in middle.items()
        ]
    )  # fmt: skip
    bound = files[-1] + GIB
    ratios = [mine["seconds"] / theirs["seconds"] for mine, theirs in zip(runs["ours"], runs["peft"], strict=True)]
    peak = max(run["anonymous"] for run in runs["ours"])
    content = {
        "hardware": hardware(),
        "model": {"bytes": sum(files), "files": len(files), "largest_file": files[-1]},
        "medians": middle,
        "time_ratio": statistics.median(ratios),
        "time_ratios": ratios,
        "anonymous_peak": peak,
        "anonymous_bound": bound,
        "farthest_in_bf16_steps": worst,
        "values_that_differ": differ,
        "holds": {"memory": peak <= bound, "time": statistics.median(ratios) <= 1, "numbers": worst <= 1},
        "rounds": runs,
    }
    print(f"{len(files)} files, {sum(files) / GIB:.2f} GiB; time {content['time_ratio']:.2f} of PEFT's")
    print(f"memory {peak / 1024**2:.0f} MiB of {bound / 1024**2:.0f} allowed; {worst} steps at most, {differ} values")
    write("merge", content)


def main() -> None:
    """Measure, or be one side of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--place", type=Path, default=None, help="folder in which to make and write the models")
    parser.add_argument("--side", choices=("ours", "peft"))
    for name in ("--base", "--adapter", "--out"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()
    if options.side:
        side = {"ours": ours, "peft": peft}[options.side]
        print(json.dumps(side(options.base, options.adapter, options.out)))
        return
    with tempfile.TemporaryDirectory(dir=options.place) as folder:
        measure(Path(folder), options.gib, options.rounds)


if __name__ == "__main__":
    main()
