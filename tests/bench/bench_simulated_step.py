"""The simulated training step against real ones: the allocator's own peak, as torch's profiler records it.

    python tests/bench/bench_simulated_step.py [--small] [--only N]

Random models of 100 to 500 million weights take two steps of Lorimer's own trainer on the CPU; the second is profiled,
and `engine.train.simulate` tells the same step without allocating. ``--small`` takes the same cases in small."""

from __future__ import annotations

import argparse
import gc
import importlib
import statistics
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from results import ROOT, hardware, table, write
from torch.profiler import ProfilerActivity, profile
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, TrainerCallback

sys.path.insert(0, str(ROOT))

from engine.methods.ia3 import Ia3Settings
from engine.methods.lora import LoraSettings, QloraSettings
from engine.methods.registry import METHODS
from engine.model.load import DTYPES, _frozen, load_base, load_tokenizer
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
            data=DataSettings(max_length=self.length),
            train=TrainSettings(**{"precision": "fp32", "accumulation": 1, **self.train}),
        )


LLAMA_100 = ("llama", 12, 768, 12, 12, 2048, 32000, True)
LLAMA_180 = ("llama", 12, 1024, 16, 4, 2816, 32000, False)
QWEN_250 = ("qwen2", 16, 1024, 16, 2, 3072, 65536, True)
QWEN3_300 = ("qwen3", 20, 1024, 16, 8, 3072, 49152, True)
GEMMA_350 = ("gemma3_text", 14, 1152, 4, 1, 4608, 65536, True)
LLAMA_500 = ("llama", 24, 1280, 20, 5, 3456, 32000, False)
MISTRAL_220 = ("mistral", 12, 1152, 12, 4, 3456, 32768, False)
MOE_220 = ("mixtral", 8, 768, 12, 4, 1536, 32000, False)

ROWS = {"batch_size": 2}
CASES: tuple[Case, ...] = (
    Case(LLAMA_100, 256, train={"batch_size": 1}),
    Case(LLAMA_100, 512, train=ROWS),
    Case(LLAMA_100, 512, train=ROWS | {"checkpointing": True}),
    # Without AVX512-BF16 a CPU's bf16 products are very slow.
    Case(LLAMA_100, 64, train={"batch_size": 1, "precision": "bf16"}),
    Case(LLAMA_100, 256, QloraSettings(rank=16), train=ROWS),
    Case(LLAMA_100, 64, QloraSettings(rank=16), train={"batch_size": 1, "checkpointing": True, "precision": "bf16"}),
    Case(LLAMA_100, 256, Ia3Settings(), train=ROWS),
    Case(LLAMA_100, 256, train={"batch_size": 1}, preference=True),
    Case(LLAMA_180, 256, LoraSettings(rank=64, dropout=0.0), train=ROWS),
    Case(LLAMA_180, 512, LoraSettings(rank=8, targets="query_value"), train={"batch_size": 1, "checkpointing": True}),
    Case(LLAMA_180, 256, train=ROWS | {"optimizer": "adamw_8bit"}),
    Case(LLAMA_180, 128, QloraSettings(rank=8, double_quantisation=False), train={"batch_size": 4}),
    Case(QWEN_250, 256, train=ROWS),
    Case(QWEN_250, 256, LoraSettings(rank=32, targets="attention"), train={"batch_size": 1}),
    Case(QWEN_250, 256, train=ROWS | {"checkpointing": True, "accumulation": 2}),
    Case(QWEN3_300, 128, train={"batch_size": 4}),
    Case(QWEN3_300, 256, QloraSettings(rank=16), train=ROWS | {"checkpointing": True}),
    Case(QWEN3_300, 256, train=ROWS | {"short_rows": "packed"}),
    Case(GEMMA_350, 128, train=ROWS),
    Case(GEMMA_350, 256, train={"batch_size": 1, "checkpointing": True}),
    Case(MISTRAL_220, 256, train=ROWS | {"checkpointing": True}),
    Case(MISTRAL_220, 256, Ia3Settings(feed_forward=False), train=ROWS),
    Case(MOE_220, 128, LoraSettings(rank=8, dropout=0.0, targets="attention"), train=ROWS),
    Case(LLAMA_500, 128, train=ROWS),
    Case(LLAMA_500, 256, QloraSettings(rank=16), train=ROWS | {"checkpointing": True}),
)


class OneStep(TrainerCallback):
    """Profiles the second step."""

    def __init__(self) -> None:
        self.profiler = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
        self.resting = 0

    def on_step_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if state.global_step == 1:
            states = (value for held in given["optimizer"].state.values() for value in held.values())
            self.resting = held_bytes(
                [*tensors_of(given["model"]), *(each for each in states if torch.is_tensor(each))]
            )
            gc.collect()
            self.profiler.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 2:
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


def real(case: Case, config: dict[str, Any]) -> tuple[int, int]:
    """Peak of the second step of the real trainer in bytes, and the model's weights."""
    recipe = case.recipe()
    method, objective = METHODS[recipe.method.name], OBJECTIVES[recipe.objective.name]
    settings = CONFIG_MAPPING[config["model_type"]].from_dict(config)
    dtype = DTYPES[recipe.train.precision]
    model = AutoModelForCausalLM.from_config(settings, dtype=dtype, attn_implementation="sdpa")
    count = sum(weight.numel() for weight in model.parameters())
    if method.quantised:
        model = quantised(model, recipe, dtype)
    adapted = importlib.import_module(method.work).build(_frozen(model), recipe.method)
    watch = OneStep()
    with tempfile.TemporaryDirectory() as scratch:
        parts = Parts(
            model=adapted,
            tokenizer=load_tokenizer(ROOT / "resources" / "starter"),  # of its ids only the padding's is used
            recipe=recipe,
            train=rows(case),
            held_out=(),
            steps=2,
            warmup=0,
            folder=Path(scratch),
            callbacks=[watch],
            save=lambda trainer: None,
        )
        trainer = importlib.import_module(objective.work).build_trainer(parts)
        trainer.train()
    return watch.peak(), count


def quantised(model: Any, recipe: Recipe, dtype: torch.dtype) -> Any:
    """Through a folder, as a run loads it."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_base(
            Path(folder),
            quantised=True,
            double=recipe.method.double_quantisation,
            precision=recipe.train.precision,
            device="cpu",
        )


def rows(case: Case) -> tuple[Any, ...]:
    """Two steps' rows, all of the case's length but one, so that there is padding."""
    made = []
    count = case.train.get("batch_size", 4) * case.train.get("accumulation", 1) * 2
    for number in range(count):
        length = case.length - (2 if number % 2 and case.train.get("short_rows") != "packed" else 0)
        ids = tuple(2 + (7 * place + number) % 500 for place in range(length))
        half = length // 2
        made.append(
            SimpleNamespace(
                input_ids=ids,
                learned=tuple([True] * length),
                length=length,
                prompt_ids=ids[:half],
                chosen_ids=ids[half:],
                rejected_ids=ids[half:],
            )
        )
    return tuple(made)


def compared(case: Case, small: bool) -> dict[str, Any]:
    config = case.config(small)
    recipe = case.recipe()
    started = time.perf_counter()
    learned = 0.5 if case.preference else 1.0
    told = simulate(config, recipe, longest=case.length, device="cpu", learned=learned)
    seconds = time.perf_counter() - started
    gc.collect()
    peak, count = real(case, config)
    gc.collect()
    return {
        "family": config["model_type"],
        "weights_m": round(count / 1e6, 1),
        "method": recipe.method.name + (" dpo" if case.preference else ""),
        "batch": recipe.train.batch_size,
        "length": case.length,
        "train": " ".join(f"{name}={value}" for name, value in case.train.items() if name != "batch_size"),
        "real_mib": round(peak / MIB, 2),
        "simulated_mib": round(told.peak / MIB, 2),
        "error": round(told.peak / peak - 1, 4),
        "seconds": round(seconds, 1),
        "at": told.at,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--only", type=int, default=None)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    lines = []
    for case in CASES if options.only is None else CASES[options.only : options.only + 1]:
        lines.append(compared(case, options.small))
        print(lines[-1], flush=True)
    table(lines)
    errors = [abs(line["error"]) for line in lines]
    print(f"\nmedian {statistics.median(errors):.2%}, worst {max(errors):.2%} of {len(lines)}")
    if not options.small and options.only is None:
        write(
            "simulated_step",
            {"hardware": hardware(), "median": statistics.median(errors), "worst": max(errors), "cases": lines},
        )


if __name__ == "__main__":
    main()
