"""The simulated training step, and the resident memory told for a CPU, against real ones.

    python tests/bench/bench_simulated_step.py [--small] [--only N] [--keep FILE [--resident]]

Models of 100 to 500 million weights take three steps of Lorimer's own trainer on the CPU, each in a process of
its own. The last is recorded by torch's profiler: the allocator's own peak, against `engine.train.simulate`. Over those
before, the system's own mark of the process's highest resident memory (Linux) stands against the formulas,
corrected as a machine's rehearsals correct them: each case by the measurements of all others. ``--small`` takes the
same in small; ``--keep`` adds each case to a file and passes over those that are there, to go on later."""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from made_rows import NONE, rows_of
from results import ROOT, hardware, table, write
from torch.profiler import ProfilerActivity, profile
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, TrainerCallback
from transformers.initialization import no_init_weights

sys.path.insert(0, str(ROOT))

from engine.machine.calibration import Measured, calibrate
from engine.machine.dims import ModelDims
from engine.machine.forecast import Room, measured
from engine.machine.memory import CPU_PROCESS_GIB, FRAGMENTS, GIB, predict
from engine.machine.time import cpu_speed
from engine.methods.ia3 import Ia3Settings
from engine.methods.lora import LoraSettings, QloraSettings
from engine.methods.registry import METHODS
from engine.model.load import decide_attention, load_for, load_tokenizer
from engine.objectives.dpo import DpoSettings
from engine.objectives.registry import OBJECTIVES
from engine.objectives.sft import SftSettings
from engine.objectives.trainer import Parts
from engine.recipe.recipe import DataSettings, Recipe, TrainSettings
from engine.train.simulate import simulate

MIB = 2**20


@dataclass(frozen=True)
class Case:
    """One model and recipe. ``shape``: family, layers, hidden, heads, key-value heads, inner, vocabulary, tied."""

    shape: tuple[str, int, int, int, int, int, int, bool]
    length: int
    method: Any = field(default_factory=lambda: LoraSettings(rank=16))
    train: dict[str, Any] = field(default_factory=dict)
    preference: bool = False

    def config(self, small: bool) -> dict[str, Any]:
        family, layers, hidden, heads, kv, inner, vocab, tied = self.shape
        if small:
            layers, hidden, inner, vocab = 2, hidden // 4, inner // 4, vocab // 8
        config = {
            "model_type": family,
            "num_hidden_layers": layers,
            "hidden_size": hidden,
            "num_attention_heads": heads,
            "num_key_value_heads": kv,
            "head_dim": hidden // heads,
            "intermediate_size": inner,
            "vocab_size": vocab,
            "tie_word_embeddings": tied,
            "max_position_embeddings": 4096,
            "pad_token_id": 0,
        }
        if family in ("mixtral", "qwen3_moe"):
            config |= {
                "num_local_experts": 4,
                "num_experts": 4,
                "num_experts_per_tok": 2,
                "moe_intermediate_size": inner,
            }
        return config

    def recipe(self) -> Recipe:
        return Recipe(
            method=self.method,
            objective=DpoSettings() if self.preference else SftSettings(),
            data=DataSettings(max_length=self.length, order="file"),  # so that every batch has padding
            train=TrainSettings(**{"precision": "fp32", "accumulation": 1, **self.train}),
        )


LLAMA_110 = ("llama", 12, 768, 12, 12, 2048, 32000, True)
LLAMA_180 = ("llama", 12, 1024, 16, 4, 2816, 32000, False)
LLAMA_500 = ("llama", 24, 1280, 20, 5, 3456, 32000, False)
QWEN_105 = ("qwen2", 10, 768, 12, 2, 2304, 49152, True)
QWEN_250 = ("qwen2", 16, 1024, 16, 2, 3072, 65536, True)
QWEN3_110 = ("qwen3", 10, 768, 12, 6, 2304, 49152, True)
GEMMA_120 = ("gemma3_text", 8, 768, 4, 1, 3072, 65536, True)
GEMMA_350 = ("gemma3_text", 14, 1152, 4, 1, 4608, 65536, True)
MISTRAL_120 = ("mistral", 12, 768, 12, 4, 2048, 32000, False)
MOE_110 = ("mixtral", 4, 768, 12, 4, 1536, 32000, False)

ALONE, PAIR, FOUR = {"batch_size": 1}, {"batch_size": 2}, {"batch_size": 4}
AGAIN = {"checkpointing": True}
QLORA = QloraSettings(rank=16)
CASES: tuple[Case, ...] = (
    Case(LLAMA_110, 256, train=ALONE),
    Case(LLAMA_110, 512, train=PAIR),
    Case(LLAMA_110, 256, train=PAIR | AGAIN),
    # Without AVX512-BF16 a CPU's bf16 products are very slow.
    Case(LLAMA_110, 64, train=ALONE | {"precision": "bf16"}),
    Case(LLAMA_110, 128, QLORA, train=PAIR),
    Case(LLAMA_110, 128, Ia3Settings(), train=PAIR),
    Case(LLAMA_110, 128, train=ALONE, preference=True),
    Case(LLAMA_180, 128, LoraSettings(rank=64, dropout=0.0), train=PAIR),
    Case(LLAMA_180, 256, LoraSettings(rank=8, targets="query_value"), train=ALONE | AGAIN),
    Case(QWEN_105, 128, train=PAIR),
    Case(QWEN_105, 128, train=PAIR | AGAIN | {"accumulation": 2}),
    Case(QWEN_105, 64, QloraSettings(rank=8, double_quantisation=False), train=FOUR),
    Case(QWEN3_110, 64, train=FOUR),
    Case(QWEN3_110, 128, QLORA, train=PAIR | AGAIN),
    Case(QWEN3_110, 128, train=PAIR | {"short_rows": "packed"}),
    Case(GEMMA_120, 128, train=PAIR),
    Case(GEMMA_120, 256, train=ALONE | AGAIN),
    Case(MISTRAL_120, 128, LoraSettings(rank=32, targets="attention"), train=PAIR | {"optimizer": "adamw_8bit"}),
    Case(MISTRAL_120, 128, Ia3Settings(feed_forward=False), train=PAIR),
    Case(MOE_110, 128, LoraSettings(rank=8, dropout=0.0, targets="attention"), train=PAIR),
    Case(QWEN_250, 64, train=PAIR),
    Case(GEMMA_350, 64, train=PAIR),
    Case(LLAMA_500, 64, train=PAIR),
    Case(LLAMA_110, 128, train=PAIR | {"loss": "all", "attention": "eager"}),
)


# Steps whose resident memory is marked; the one after them is profiled.
PLAIN = 2


class Watch(TrainerCallback):
    """Marks the resident memory of the first steps and profiles the one after."""

    def __init__(self) -> None:
        self.profiler = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
        self.resting = self.resident = 0
        self.seconds: list[float] = []
        self.began = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # forgets the highest mark (Linux, Documentation, proc.rst)

    def on_step_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self.began = time.perf_counter()
        if state.global_step == PLAIN:
            states = (value for held in given["optimizer"].state.values() for value in held.values())
            self.resting = held_bytes(
                [*tensors_of(given["model"]), *(each for each in states if torch.is_tensor(each))]
            )
            gc.collect()
            self.profiler.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.seconds.append(time.perf_counter() - self.began)
        if state.global_step == PLAIN:
            self.resident = highest_resident()
        if state.global_step == PLAIN + 1:
            self.profiler.stop()

    def peak(self) -> int:
        """Highest sum of what was allocated, on top of what was there."""
        now = highest = 0
        for event in sorted(
            (each for each in self.profiler.profiler.kineto_results.events() if each.name() == "[memory]"),
            key=lambda each: each.start_ns(),
        ):
            now += event.nbytes()
            highest = max(highest, now)
        return self.resting + highest


def highest_resident() -> int:
    """Bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def tensors_of(model: Any) -> list[torch.Tensor]:
    found = [*model.parameters(), *model.buffers()]
    for weight in model.parameters():
        state = getattr(weight, "quant_state", None)
        while state is not None:
            found += [each for each in (state.absmax, state.code, state.offset) if torch.is_tensor(each)]
            state = state.state2
    return found


def held_bytes(tensors: list[torch.Tensor]) -> int:
    sizes = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in tensors}
    return sum(sizes.values())


def save_model(config: dict[str, Any], folder: Path) -> None:
    """A model with 16-bit weights, as published ones have; what they are does not matter here."""
    settings = CONFIG_MAPPING[config["model_type"]].from_dict(config)
    with no_init_weights():
        model = AutoModelForCausalLM.from_config(settings, dtype=torch.bfloat16)
    for weight in model.parameters():
        weight.data.fill_(0.01)
    model.tie_weights()
    model.save_pretrained(folder)


def real(case: Case, folder: Path, *, resident_only: bool) -> Watch:
    """What steps of the real trainer came to."""
    recipe = case.recipe()
    method, objective = METHODS[recipe.method.name], OBJECTIVES[recipe.objective.name]
    base = load_for(recipe, folder, attention=decide_attention(recipe, "cpu"), device="cpu")
    watch = Watch()
    with tempfile.TemporaryDirectory() as scratch:
        parts = Parts(
            model=importlib.import_module(method.work).build(base, recipe.method),
            tokenizer=load_tokenizer(ROOT / "resources" / "starter"),  # of its ids only the padding's is used
            recipe=recipe,
            train=rows_of(recipe, case.length, PLAIN + 1),  # type: ignore[arg-type]
            held_out=NONE,  # type: ignore[arg-type]
            steps=PLAIN if resident_only else PLAIN + 1,
            warmup=0,
            folder=Path(scratch),
            callbacks=[watch],
            save=lambda trainer: None,
        )
        importlib.import_module(objective.work).build_trainer(parts).train()
    return watch


def compared(case: Case, small: bool, folder: Path, known: dict[str, Any] | None) -> dict[str, Any]:
    """One case, in this process; of a known one only the resident memory is measured again."""
    config, recipe = case.config(small), case.recipe()
    dims = ModelDims.from_config(config)
    watch = real(case, folder, resident_only=known is not None)
    where = Room("cpu", "CPU", 0.0, 0.0, cpu_speed(torch.get_num_threads()))
    took = statistics.median(watch.seconds[1:PLAIN])
    line = asdict(measured(recipe, dims, where, length=case.length, held_gib=watch.resident / GIB, seconds=took))
    if known is not None:
        return {**known, "measured": line}
    gc.collect()
    started = time.perf_counter()
    told = simulate(config, recipe, longest=case.length, device="cpu", learned=0.5 if case.preference else 1.0)
    seconds = time.perf_counter() - started
    formula = predict(dims, recipe, longest=case.length, device="cpu").counted_gib * GIB
    peak = watch.peak()
    return {
        "family": config["model_type"],
        "weights_m": round(dims.parameters() / 1e6, 1),
        "method": recipe.method.name + (" dpo" if case.preference else ""),
        "batch": recipe.train.batch_size,
        "length": case.length,
        "train": " ".join(f"{name}={value}" for name, value in case.train.items() if name != "batch_size"),
        "real_mib": round(peak / MIB, 2),
        "simulated_mib": round(told.peak / MIB, 2),
        "error": round(told.peak / peak - 1, 4),
        "error_of_passing": round((told.peak - peak) / (peak - watch.resting), 4),
        "formula_error": round(formula / peak - 1, 4),
        "simulated_seconds": round(seconds, 1),
        "at": told.at,
        "measured": line,
    }


def resident(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Resident memory of each case, told with what all others measured, and told before anything was measured."""
    cases = [Measured(**line["measured"]) for line in lines]
    found = []
    for place, (case, line) in enumerate(zip(cases, lines, strict=True)):
        correction = calibrate(cases[:place] + cases[place + 1 :], CPU_PROCESS_GIB, FRAGMENTS["cpu"])
        assert correction.fixed_gib is not None
        told = case.counted_gib + correction.fixed_gib + (correction.share or 0.0) * case.passing_gib
        fresh = case.counted_gib + CPU_PROCESS_GIB + FRAGMENTS["cpu"] * case.passing_gib
        found.append(
            {
                **{name: line[name] for name in ("family", "weights_m", "method", "batch", "length", "train")},
                "resident_gib": round(case.held_gib, 3),
                "told_gib": round(told, 3),
                "error": round(told / case.held_gib - 1, 4),
                "uncorrected_error": round(fresh / case.held_gib - 1, 4),
                "share": round((case.held_gib - case.counted_gib - correction.fixed_gib) / case.passing_gib, 3),
                "slower": round(case.seconds / case.told_seconds, 3),
            }
        )
    return found


def figures(errors: list[float]) -> dict[str, float]:
    """Sizes of the errors, and the share of cases that need no more than told."""
    sizes = [abs(error) for error in errors]
    covered = sum(error >= 0 for error in errors) / len(errors)
    return {"median": statistics.median(sizes), "worst": max(sizes), "not_above": round(covered, 3)}


def in_own_process(case: Case, small: bool, known: dict[str, Any] | None) -> dict[str, Any]:
    """Two forks of this one, which has imported everything and computed nothing: the model is written by another
    process than the one that is measured."""
    fork = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with fork.Pool(1) as pool:
            pool.apply(save_model, (case.config(small), folder))
        with fork.Pool(1) as pool:
            return pool.apply(compared, (case, small, folder, known))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--only", type=int, default=None)
    parser.add_argument("--keep", type=Path, default=None)
    parser.add_argument("--resident", action="store_true", help="of kept cases measure the resident memory again")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    lines = []
    kept = json.loads(options.keep.read_text()) if options.keep and options.keep.is_file() else {}
    for number in range(len(CASES)) if options.only is None else [options.only]:
        case = CASES[number]
        known = kept.get(str(case))
        line = known if known and not options.resident else in_own_process(case, options.small, known)
        kept[str(case)] = line
        if options.keep:
            options.keep.write_text(json.dumps(kept))
        lines.append(line)
        print(line, flush=True)
    table([{name: value for name, value in line.items() if name != "measured"} for line in lines])
    step = figures([line["error"] for line in lines])
    print(f"\nsimulated step: median {step['median']:.2%}, worst {step['worst']:.2%} of {len(lines)}")
    if options.only is not None:
        return
    memory = resident(lines)
    table(memory)
    corrected = figures([line["error"] for line in memory])
    fresh = figures([line["uncorrected_error"] for line in memory])
    print(f"\nresident memory: {corrected}; before anything was measured: {fresh}")
    if not options.small:
        write("simulated_step", {"hardware": hardware(), **step, "cases": lines})
        content = {"hardware": hardware(), "corrected": corrected, "uncorrected": fresh, "cases": memory}
        write("resident_memory", content)


if __name__ == "__main__":
    main()
