"""The memory model's formulas against the simulated step of the real model class, by part and in total.

    python tests/bench/bench_memory_formula.py [--data FOLDER] [--only TEXT] [--deep] [--afterwards]

Published configs from 0.1 to 72 billion weights with methods, lengths, batches, checkpointing, optimizers and devices.
The formulas' reserve (context, fragments) is left out: the simulation has none. The first case of each model has all
its layers, the others eight, where a layer's peak, which is hardest to tell, counts most; with ``--deep`` all. What
follows training (texts measured, prompts answered) is compared apart, and the formulas are timed."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from results import RESULTS, ROOT, hardware, table, write

sys.path.insert(0, str(ROOT))

from engine.machine.calibration import Calibration
from engine.machine.dims import ModelDims
from engine.machine.memory import GIB, Memory, predict, predict_afterwards
from engine.methods.ia3 import Ia3Settings
from engine.methods.lora import LoraSettings, QloraSettings
from engine.objectives.dpo import DpoSettings
from engine.objectives.sft import SftSettings
from engine.recipe.recipe import DataSettings, EvaluateSettings, Recipe, TrainSettings
from engine.train.simulate import simulate, simulate_afterwards

# Qwen3-30B-A3B, whose config is not among the shared ones: its technical report (2025), table 2, and its model card.
QWEN3_MOE = {
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "tie_word_embeddings": False,
}


@dataclass(frozen=True)
class Case:
    """One model, recipe and device."""

    model: str
    method: Any
    length: int
    train: dict[str, Any] = field(default_factory=dict)
    device: Any = "cuda"
    preference: bool = False
    evaluate: dict[str, Any] = field(default_factory=dict)

    def recipe(self) -> Recipe:
        return Recipe(
            method=self.method,
            objective=DpoSettings() if self.preference else SftSettings(),
            data=DataSettings(max_length=self.length),
            train=TrainSettings(**self.train),
            evaluate=EvaluateSettings(**self.evaluate),
        )


def cases() -> Iterator[Case]:
    """The grid."""
    lora, qlora = LoraSettings(rank=16), QloraSettings(rank=16)
    small = ("SmolLM2-135M", "Qwen2-0.5B", "Qwen3-0.6B", "Llama-3.2-1B-Instruct")
    middle = ("Mistral-7B-Instruct-v0.3", "Qwen2.5-7B-Instruct", "Meta-Llama-3.1-8B", "Qwen3-8B")
    for model in (*small, *middle):
        yield Case(model, lora, 512, {"batch_size": 4})
        yield Case(model, qlora, 2048, {"batch_size": 1, "checkpointing": True})
        yield Case(model, lora, 1024, {"batch_size": 2, "checkpointing": True, "accumulation": 1})
        yield Case(model, QloraSettings(rank=8, dropout=0.0), 1024, {"batch_size": 2})
        yield Case(model, LoraSettings(rank=64, dropout=0.0, targets="attention"), 2048, {"batch_size": 1})
    for model in small:
        yield Case(model, lora, 256, {"batch_size": 2}, "cpu")
        yield Case(model, qlora, 512, {"batch_size": 4, "checkpointing": True}, "cpu")
        yield Case(model, Ia3Settings(), 512, {"batch_size": 2})
        yield Case(model, lora, 512, {"batch_size": 2}, preference=True)
        yield Case(model, lora, 512, {"batch_size": 4, "short_rows": "packed"})
    for model in middle:
        yield Case(model, qlora, 8192, {"batch_size": 1, "checkpointing": True, "optimizer": "paged_adamw_8bit"})
        yield Case(model, LoraSettings(rank=256), 128, {"batch_size": 1, "optimizer": "adamw_8bit"})
    yield Case("Meta-Llama-3.1-8B", LoraSettings(rank=8, targets="query_value"), 4096, {"batch_size": 1})
    yield Case("Meta-Llama-3.1-8B", lora, 1024, {"batch_size": 2, "loss": "all"})
    yield Case("Meta-Llama-3.1-8B", lora, 1024, {"batch_size": 2, "checkpointing": True, "loss": "all"})
    yield Case("gemma-2-2b", lora, 512, {"batch_size": 2})
    yield Case("gemma-2-2b", qlora, 1024, {"batch_size": 1, "checkpointing": True})
    yield Case("Llama-3.2-1B-Instruct", lora, 1024, {"batch_size": 2, "attention": "eager"})
    yield Case("Qwen2-0.5B", lora, 512, {"batch_size": 2, "attention": "eager"}, "cpu")
    yield Case("Llama-3.2-1B-Instruct", lora, 1024, {"batch_size": 4, "short_rows": "packed", "attention": "flash"})
    for model in ("Mixtral-8x7B-v0.1", "Qwen3-30B-A3B"):
        yield Case(model, lora, 512, {"batch_size": 2})
        yield Case(model, lora, 2048, {"batch_size": 1, "checkpointing": True})
        yield Case(model, qlora, 1024, {"batch_size": 2, "checkpointing": True})
    for model in ("Meta-Llama-3.1-70B", "Qwen2.5-72B-Instruct"):
        yield Case(model, qlora, 2048, {"batch_size": 1, "checkpointing": True})
        yield Case(model, lora, 1024, {"batch_size": 1})


def asked() -> Iterator[Case]:
    """Cases of what follows training."""
    lora, qlora = LoraSettings(rank=16), QloraSettings(rank=16)
    for model in ("SmolLM2-135M", "Qwen2-0.5B", "Llama-3.2-1B-Instruct", "Qwen2.5-7B-Instruct", "Meta-Llama-3.1-8B"):
        yield Case(model, lora, 512)
        yield Case(model, qlora, 2048, evaluate={"batch_size": 4, "max_new_tokens": 512})
        yield Case(model, lora, 1024, evaluate={"batch_size": 1, "max_new_tokens": 1024})
    for model in ("SmolLM2-135M", "Qwen2-0.5B"):
        yield Case(model, lora, 512, device="cpu", evaluate={"batch_size": 8})
        yield Case(model, Ia3Settings(), 512, device="cpu", evaluate={"batch_size": 8})
    yield Case("gemma-2-2b", lora, 512)
    yield Case("Mixtral-8x7B-v0.1", lora, 512)
    yield Case("Qwen3-30B-A3B", qlora, 512)


SHALLOW = 8
# With it the formulas tell what they count alone: the simulation has no context and no fragments.
BARE = Calibration(fixed_gib=0.0, share=0.0)


def config_of(case: Case, folder: Path) -> dict[str, Any]:
    if case.model == "Qwen3-30B-A3B":
        return QWEN3_MOE
    config: dict[str, Any] = json.loads((folder / f"{case.model}.json").read_text())
    return config


def compared_afterwards(case: Case, folder: Path) -> Iterator[dict[str, Any]]:
    config = {**config_of(case, folder), "num_hidden_layers": SHALLOW}
    config.pop("layer_types", None)
    recipe, dims = case.recipe(), ModelDims.from_config(config)
    told = simulate_afterwards(config, recipe, longest=case.length, device=case.device)
    formula = predict_afterwards(dims, recipe, longest=case.length, device=case.device, calibration=BARE)
    for name, simulated in told.items():
        by_formula = getattr(formula, f"{name}_gib") * GIB
        yield {
            "model": case.model,
            "method": recipe.method.name,
            "device": case.device,
            "length": case.length,
            "rows": recipe.evaluate.batch_size,
            "what": name,
            "simulated_gib": round(simulated.peak / GIB, 3),
            "formula_gib": round(by_formula / GIB, 3),
            "error": round(by_formula / simulated.peak - 1, 4),
            "at": simulated.at,
        }


def compared(case: Case, folder: Path, *, deep: bool) -> dict[str, Any]:
    config = config_of(case, folder)
    if not deep:
        config = {**config, "num_hidden_layers": SHALLOW}
        config.pop("layer_types", None)
    recipe, dims = case.recipe(), ModelDims.from_config(config)
    started = time.perf_counter()
    told = simulate(config, recipe, longest=case.length, device=case.device)
    seconds = time.perf_counter() - started
    memory, formula_ms = timed(dims, recipe, case)
    parts = {name: value * GIB for name, value in memory.parts.items() if name != "reserve"}
    # Which of the two is counted as loss depends on the moment of the peak.
    for each in (parts, told_parts := dict(told.parts)):
        each["activations"] = each.get("activations", 0) + each.pop("logits", 0)
    return {
        "model": case.model,
        "layers": dims.layers,
        "weights_b": round(dims.parameters() / 1e9, 2),
        "method": recipe.method.name + (" dpo" if case.preference else ""),
        "device": case.device,
        "length": case.length,
        "train": " ".join(f"{name}={value}" for name, value in case.train.items()),
        "simulated_gib": round(told.peak / GIB, 3),
        "formula_gib": round(sum(parts.values()) / GIB, 3),
        "error": round(sum(parts.values()) / told.peak - 1, 4),
        **{f"{name}_error": round((parts[name] - told_parts.get(name, 0)) / told.peak, 4) for name in parts},
        "simulated_seconds": round(seconds, 1),
        "formula_ms": round(formula_ms, 3),
        "at": told.at,
    }


def timed(dims: ModelDims, recipe: Recipe, case: Case) -> tuple[Memory, float]:
    """The formulas' answer, and the milliseconds that one takes: the middle of many."""
    took = []
    for _ in range(50):
        started = time.perf_counter()
        memory = predict(dims, recipe, longest=case.length, device=case.device)
        took.append(time.perf_counter() - started)
    return memory, statistics.median(took) * 1000


def figures(errors: list[float]) -> dict[str, float]:
    sizes = [abs(error) for error in errors]
    return {
        "median": round(statistics.median(sizes), 4),
        "worst": round(max(sizes), 4),
        "within_10": round(sum(size <= 0.1 for size in sizes) / len(sizes), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "configs")
    parser.add_argument("--only", default="")
    parser.add_argument("--deep", action="store_true")
    parser.add_argument("--afterwards", action="store_true", help="only what follows training")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    if not options.afterwards:
        training(options)
    later = [line for case in asked() if options.only in case.model for line in compared_afterwards(case, options.data)]
    table(later)
    afterwards = figures([line["error"] for line in later])
    print(f"afterwards: {afterwards}")
    if not options.only:
        add({"afterwards": afterwards, "afterwards_cases": later})


def training(options: argparse.Namespace) -> None:
    """Steps of training."""
    lines, seen = [], Counter[str]()
    for case in cases():
        if options.only in case.model:
            seen[case.model] += 1
            lines.append(compared(case, options.data, deep=options.deep or seen[case.model] == 1))
            print(json.dumps(lines[-1]), flush=True)
    names = [name for name in lines[0] if name.endswith("_error")]
    summary = {"total": figures([line["error"] for line in lines])}
    # A part's error is a share of the whole peak.
    summary |= {name.removesuffix("_error"): figures([line[name] for line in lines]) for name in names}
    table([{"part": name, **values} for name, values in summary.items()])
    milliseconds = max(line["formula_ms"] for line in lines)
    print(f"{len(lines)} combinations; formula {milliseconds:.3f} ms at the most")
    if not options.only:
        add({"summary": summary, "formula_ms_worst": milliseconds, "cases": lines})


def add(content: dict[str, Any]) -> None:
    """Put a part of the results in the place of what was there."""
    before = RESULTS / "memory_formula.json"
    known = json.loads(before.read_text(encoding="utf-8")) if before.is_file() else {}
    known.pop("date", None)
    write("memory_formula", {**known, "hardware": hardware(), **content})


if __name__ == "__main__":
    main()
