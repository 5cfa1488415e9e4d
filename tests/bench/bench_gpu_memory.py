"""The memory model and the simulated step against a GPU's own count, ``torch.cuda.max_memory_allocated``.

    python tests/bench/bench_gpu_memory.py [--only TEXT] [--rehearse]

Models of 0.5 to 32 billion random weights in the published shapes take three steps of Lorimer's own trainer by LoRA and
QLoRA, each in a process of its own. Weights are made on the GPU, layer by layer, so nothing is downloaded and no model
is held twice. Cases that the simulated step says do not fit are passed over, and named. What torch reserved and what
the driver counts beside it (with what other programs hold) is written down too: the formulas' reserve stands on it.
``--rehearse`` takes every case in small on the CPU, to see that the script works; it measures nothing."""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import statistics
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit, Params4bit
from made_rows import NONE, rows_of
from results import ROOT, hardware, table, write
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, TrainerCallback
from transformers.initialization import no_init_weights

sys.path.insert(0, str(ROOT))

from engine.machine.dims import ModelDims
from engine.machine.memory import GIB, predict
from engine.methods.lora import LoraSettings, QloraSettings
from engine.methods.registry import METHODS
from engine.model.load import attention_of, load_tokenizer
from engine.objectives.registry import OBJECTIVES
from engine.objectives.sft import SftSettings
from engine.objectives.trainer import Parts
from engine.recipe.recipe import DataSettings, Recipe, TrainSettings
from engine.train.simulate import simulate

# Family, layers, hidden, heads, key-value heads, inner, vocabulary, tied: from the models' config.json.
SHAPES: dict[str, tuple[str, int, int, int, int, int, int, bool]] = {
    "Qwen2.5-0.5B": ("qwen2", 24, 896, 14, 2, 4864, 151936, True),
    "Llama-3.2-1B": ("llama", 16, 2048, 32, 8, 8192, 128256, True),
    "Qwen2.5-1.5B": ("qwen2", 28, 1536, 12, 2, 8960, 151936, True),
    "Llama-3.2-3B": ("llama", 28, 3072, 24, 8, 8192, 128256, True),
    "Mistral-7B-v0.3": ("mistral", 32, 4096, 32, 8, 14336, 32768, False),
    "Llama-3.1-8B": ("llama", 32, 4096, 32, 8, 14336, 128256, False),
    "Qwen3-8B": ("qwen3", 36, 4096, 32, 8, 12288, 151936, False),
    "Qwen2.5-14B": ("qwen2", 48, 5120, 40, 8, 13824, 152064, False),
    "Qwen2.5-32B": ("qwen2", 64, 5120, 40, 8, 27648, 152064, False),
}
LORA, QLORA = LoraSettings(rank=16), QloraSettings(rank=16)
STEPS = 3


@dataclass(frozen=True)
class Case:
    """One model and recipe."""

    model: str
    method: LoraSettings
    length: int
    train: dict[str, Any] = field(default_factory=dict)

    def config(self, small: bool) -> dict[str, Any]:
        family, layers, hidden, heads, kv, inner, vocab, tied = SHAPES[self.model]
        if small:
            layers, hidden, heads, kv, inner, vocab = 2, 256, 4, 2, 512, 1024
        return {
            "model_type": family,
            "num_hidden_layers": layers,
            "hidden_size": hidden,
            "num_attention_heads": heads,
            "num_key_value_heads": kv,
            "head_dim": hidden // heads,
            "intermediate_size": inner,
            "vocab_size": vocab,
            "tie_word_embeddings": tied,
            "max_position_embeddings": 32768,
            "pad_token_id": 0,
        }

    def recipe(self, small: bool) -> Recipe:
        precision = "fp32" if small else "bf16"
        return Recipe(
            method=self.method,
            objective=SftSettings(),
            data=DataSettings(max_length=self.at_most(small), order="file"),  # so that every batch has padding
            train=TrainSettings(**{"precision": precision, "accumulation": 2, **self.train}),
        )

    def at_most(self, small: bool) -> int:
        """Tokens of its longest row."""
        return 64 if small else self.length


ALONE, PAIR, FOUR = {"batch_size": 1}, {"batch_size": 2}, {"batch_size": 4}
AGAIN = {"checkpointing": True}
CASES: tuple[Case, ...] = (
    Case("Qwen2.5-0.5B", LORA, 1024, FOUR),
    Case("Qwen2.5-0.5B", QLORA, 2048, PAIR | AGAIN),
    Case("Llama-3.2-1B", LORA, 1024, PAIR),
    Case("Llama-3.2-1B", LORA, 512, FOUR | {"short_rows": "packed"}),
    Case("Qwen2.5-1.5B", QLORA, 1024, PAIR),
    Case("Llama-3.2-3B", LORA, 2048, ALONE | AGAIN),
    Case("Llama-3.2-3B", QLORA, 1024, FOUR | AGAIN),
    Case("Mistral-7B-v0.3", LoraSettings(rank=64, dropout=0.0), 1024, PAIR),
    Case("Mistral-7B-v0.3", QLORA, 2048, ALONE),
    Case("Llama-3.1-8B", LORA, 1024, PAIR | AGAIN),
    Case("Llama-3.1-8B", QLORA, 2048, ALONE | AGAIN | {"optimizer": "paged_adamw_8bit"}),
    Case("Llama-3.1-8B", QloraSettings(rank=16, double_quantisation=False), 1024, PAIR | AGAIN),
    Case("Qwen3-8B", LoraSettings(rank=16, targets="query_value"), 1024, ALONE),
    Case("Qwen3-8B", QLORA, 1024, FOUR | AGAIN),
    Case("Qwen2.5-14B", LORA, 1024, ALONE | AGAIN),
    Case("Qwen2.5-14B", QLORA, 2048, ALONE | AGAIN),
    Case("Qwen2.5-32B", LORA, 1024, ALONE | AGAIN),
    Case("Qwen2.5-32B", QLORA, 1024, PAIR | AGAIN),
)


# ------------------------------------------------------------------------------------------------------- what is built
def random_model(config: dict[str, Any], recipe: Recipe, device: str) -> nn.Module:
    """The model class with random weights on ``device``; linear layers are quantised one after another."""
    settings = CONFIG_MAPPING[config["model_type"]].from_dict(config)
    dtype = torch.float32 if recipe.train.precision == "fp32" else torch.bfloat16
    with torch.device("meta"), no_init_weights():
        model: Any = AutoModelForCausalLM.from_config(settings, dtype=dtype, attn_implementation=attention_of(settings))
    head = model.get_output_embeddings()
    if METHODS[recipe.method.name].quantised:
        for parent in list(model.modules()):
            for name, layer in list(parent.named_children()):
                if isinstance(layer, nn.Linear) and layer is not head:
                    setattr(parent, name, four_bit(layer, recipe.method, dtype, device))
        model.is_loaded_in_4bit = True
    for module in model.modules():
        fill(module, device)
    model.tie_weights()
    return model.requires_grad_(False).eval()  # type: ignore[no-any-return]


def fill(module: nn.Module, device: str) -> None:
    """Random weights in the place of those that the device meta holds; rotary tables are computed anew."""
    for name, weight in list(module._parameters.items()):
        if weight is not None and weight.is_meta:
            made = torch.empty(weight.shape, dtype=weight.dtype, device=device).normal_(0, 0.02)
            module._parameters[name] = nn.Parameter(made, requires_grad=False)
    tables = [name for name, held in module._buffers.items() if held is not None and held.is_meta]
    if tables:
        made_anew: Any = type(module)(module.config)  # type: ignore[call-arg]
        fresh = made_anew.to(device)
        module._buffers.update({name: fresh._buffers[name] for name in tables})
        # What a table was made from may be kept beside it, as a plain attribute.
        held = {name: value.to(device) for name, value in vars(fresh).items() if torch.is_tensor(value)}
        module.__dict__.update(held)


def four_bit(layer: nn.Linear, method: Any, dtype: torch.dtype, device: str) -> nn.Module:
    """A random layer in 4-bit, quantised on ``device``."""
    rows, columns = layer.weight.shape
    new = Linear4bit(columns, rows, bias=layer.bias is not None, compute_dtype=dtype, quant_type=method.quant_type)
    values = torch.empty(rows, columns, dtype=dtype, device=device).normal_(0, 0.02)
    double, kind = method.double_quantisation, method.quant_type
    held = Params4bit(values, requires_grad=False, compress_statistics=double, quant_type=kind, module=new)
    new.weight = held.to(device)
    if layer.bias is not None:
        new.bias = nn.Parameter(torch.zeros(rows, dtype=dtype, device=device), requires_grad=False)
    new.support_avx512bf16_for_cpu = False
    return new


# --------------------------------------------------------------------------------------------------------- what is run
class Marks(TrainerCallback):
    """Forgets what loading needed, and what the first step alone does."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 1 and torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()


def train(case: Case, *, small: bool) -> dict[str, float]:
    """GiB at the peak: allocated, reserved, and what the driver counts beside what torch reserved."""
    config, recipe = case.config(small), case.recipe(small)
    device = "cpu" if small else "cuda"
    model = random_model(config, recipe, device)
    adapted = importlib.import_module(METHODS[recipe.method.name].work).build(model, recipe.method)
    with tempfile.TemporaryDirectory() as scratch:
        parts = Parts(
            model=adapted,
            tokenizer=load_tokenizer(ROOT / "resources" / "starter"),  # of its ids only the padding's is used
            recipe=recipe,
            train=rows_of(recipe, case.at_most(small), STEPS),  # type: ignore[arg-type]
            held_out=NONE,  # type: ignore[arg-type]
            steps=STEPS,
            warmup=0,
            folder=Path(scratch),
            callbacks=[Marks()],
            save=lambda trainer: None,
        )
        importlib.import_module(OBJECTIVES[recipe.objective.name].work).build_trainer(parts).train()
    if small:
        return {}
    free, whole = torch.cuda.mem_get_info()
    beside = whole - free - torch.cuda.memory_reserved()
    return {
        "allocated_gib": round(torch.cuda.max_memory_allocated() / GIB, 3),
        "reserved_gib": round(torch.cuda.max_memory_reserved() / GIB, 3),
        "beside_gib": round(beside / GIB, 3),
    }


def told(case: Case, *, small: bool) -> dict[str, float]:
    """GiB by the simulated step and by the formulas' count."""
    config, recipe, length = case.config(small), case.recipe(small), case.at_most(small)
    peak = simulate(config, recipe, longest=length, device="cuda").peak
    formula = predict(ModelDims.from_config(config), recipe, longest=length, device="cuda").counted_gib
    return {"simulated_gib": round(peak / GIB, 3), "formula_gib": round(formula, 3)}


def compared(case: Case, *, small: bool) -> dict[str, Any]:
    """One case, in this process."""
    line: dict[str, Any] = {
        "model": case.model,
        "method": case.method.name,
        "length": case.at_most(small),
        "train": " ".join(f"{name}={value}" for name, value in case.train.items()),
        **told(case, small=small),
    }
    gc.collect()
    if not small and line["simulated_gib"] * GIB > 0.95 * torch.cuda.mem_get_info()[0]:
        return {**line, "passed_over": "does not fit on this GPU"}
    line |= train(case, small=small)
    if not small:
        line["error"] = round(line["simulated_gib"] / line["allocated_gib"] - 1, 4)
        line["formula_error"] = round(line["formula_gib"] / line["allocated_gib"] - 1, 4)
    return line


def in_own_process(number: int, small: bool) -> dict[str, Any]:
    command = [sys.executable, __file__, "--case", str(number), *(["--rehearse"] if small else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    line: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return line


def figures(errors: list[float]) -> dict[str, float]:
    sizes = [abs(error) for error in errors]
    return {"median": statistics.median(sizes), "worst": max(sizes)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--case", type=int, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    if options.case is not None:
        print(json.dumps(compared(CASES[options.case], small=options.rehearse)))
        return
    if not options.rehearse and not torch.cuda.is_available():
        raise SystemExit("no GPU that torch can use; --rehearse runs the script in small on the CPU")
    lines = []
    for number, case in enumerate(CASES):
        if options.only in case.model:
            lines.append(in_own_process(number, options.rehearse))
            print(lines[-1], flush=True)
    table(lines)
    judged = [line for line in lines if "error" in line]
    if not judged:
        return
    summary = {
        "cases": len(judged),
        "simulated": figures([line["error"] for line in judged]),
        "formula": figures([line["formula_error"] for line in judged]),
        "beside_gib": statistics.median(line["beside_gib"] for line in judged),
        "fragments": statistics.median(line["reserved_gib"] / line["allocated_gib"] - 1 for line in judged),
    }
    print(json.dumps(summary, indent=2))
    if not options.only:
        write("gpu_memory", {"hardware": hardware(), "summary": summary, "cases": lines})


if __name__ == "__main__":
    main()
