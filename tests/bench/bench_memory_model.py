"""The memory model against published measurements, and on request against runs on this machine's CPU.

    python tests/bench/bench_memory_model.py [--data FOLDER] [--cpu]

``--data`` holds ``measured.csv`` and ``configs``; the shared test data beside the repository is the default. Each
source's engine differs from ours, and what is known of the difference is put in: its loss, adapter layers and dropout.
Full fine-tuning, other adapters, several GPUs and authors' estimates are left out, and counted. With ``--cpu`` LoRA
steps of TRL's loss run in fresh processes, and their resident memory, sampled from outside, is compared."""

from __future__ import annotations

import argparse
import csv
import json
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
from results import RESULTS, ROOT, hardware, table, write

sys.path.insert(0, str(ROOT))

from engine.machine.dims import ModelDims
from engine.machine.memory import GIB, Memory, predict
from engine.methods.lora import LoraSettings, QloraSettings
from engine.objectives.sft import SftSettings
from engine.recipe.recipe import DataSettings, Recipe, TrainSettings


def llama(
    layers: int, hidden: int, heads: int, inner: int, vocab: int, *, kv: int = 0, bias: bool = False
) -> ModelDims:
    """Widths of a Llama-like model."""
    return ModelDims.from_config(
        {
            "model_type": "qwen2" if bias else "llama",
            "hidden_size": hidden,
            "intermediate_size": inner,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv or heads,
            "vocab_size": vocab,
            "max_position_embeddings": 131072,
        }
    )


# The first Qwen's configs give twice the inner width (w1 and w2 together).
MODELS: dict[str, ModelDims] = {
    "Llama 2 7": llama(32, 4096, 32, 11008, 32000),
    "Llama 2 13": llama(40, 5120, 40, 13824, 32000),
    "Llama-2-7B": llama(32, 4096, 32, 11008, 32000),
    "Llama 3.1 8B": llama(32, 4096, 32, 14336, 128256, kv=8),
    "Llama-3-8B": llama(32, 4096, 32, 14336, 128256, kv=8),
    "Llama-3.2-3B-Instruct": llama(28, 3072, 24, 8192, 128256, kv=8),
    "Qwen-1.8B": llama(24, 2048, 16, 5504, 151936, bias=True),
    "Qwen-7B": llama(32, 4096, 32, 11008, 151936, bias=True),
    "Qwen-14B": llama(40, 5120, 40, 13696, 152064, bias=True),
    "Qwen-72B": llama(80, 8192, 64, 24576, 152064, bias=True),
}


@dataclass(frozen=True)
class Engine:
    """What is known of a source's engine.

    Attributes:
        loss: whether it holds all logits.
        dropout: of its adapters.
        unit: bytes of the unit it prints.
    """

    loss: Literal["chunked", "full"]
    dropout: float
    unit: float


ENGINES: dict[str, Engine] = {
    "litgpt": Engine("full", 0.05, 1e9),
    "torchtune README": Engine("chunked", 0.0, GIB),
    "torchtune docs": Engine("chunked", 0.0, 1e9),
    "Qwen": Engine("full", 0.05, 1e9),
}
# "alpaca unpacked": the longest row has about 1,300 tokens.
LONGEST_ALPACA = 1300


def source_of(row: dict[str, str]) -> str:
    text = row["source"]
    if "torchtune" in text:
        return "torchtune README" if "README" in text else "torchtune docs"
    return next((name for name in ENGINES if name in text), "")


def left_out(row: dict[str, str]) -> str:
    """Why a row cannot be compared; empty when it can."""
    if "ESTIMATED" in row["source"]:
        return "an estimate, not a measurement"
    if row["method"] not in ("lora", "q-lora", "qlora"):
        return "another method"
    if not row["gpu"].startswith("1") or row["grad_ckpt"] == "FSDP":
        return "several GPUs"
    try:
        float(row["peak_vram_gb"])
    except ValueError:
        return "out of memory there"
    return "" if model_of(row) in MODELS else "another family of models"


def model_of(row: dict[str, str]) -> str:
    return f"{row['model']} {float(row['params_b']):.0f}" if row["model"] == "Llama 2" else row["model"]


def predicted(row: dict[str, str], engine: Engine) -> Memory:
    quantised = row["quant"] not in ("none(bf16)", "none(bf16-true)")
    only_two = row["target_modules"].startswith("q,v") and "mlp" not in row["target_modules"]
    settings: dict[str, Any] = {
        "rank": int(row["lora_rank"]),
        "dropout": engine.dropout,
        "targets": "query_value" if only_two else "all",
    }
    length = int(row["seq_len"]) if row["seq_len"].isdigit() else LONGEST_ALPACA
    method = (
        QloraSettings(**settings, double_quantisation="dq" in row["quant"] or engine.loss == "chunked")
        if quantised
        else LoraSettings(**settings)
    )
    # The A6000 row of torchtune's README was made without recomputation, as its notes say.
    checkpointing = row["grad_ckpt"].startswith("yes") and "apparently off" not in row["notes"]
    recipe = Recipe(
        method=method,
        objective=SftSettings(),
        data=DataSettings(max_length=length),
        train=TrainSettings(batch_size=int(row["micro_batch"]), checkpointing=checkpointing),
    )
    return predict(MODELS[model_of(row)], recipe, longest=length, device="cuda", loss=engine.loss)


def compare(path: Path) -> tuple[list[dict[str, Any]], Counter[str]]:
    """One line per measurement that can be compared, and how many were left out for what reason."""
    lines: list[dict[str, Any]] = []
    skipped: Counter[str] = Counter()
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            reason = left_out(row)
            if reason:
                skipped[reason] += 1
                continue
            source = source_of(row)
            engine = ENGINES[source]
            measured = float(row["peak_vram_gb"]) * engine.unit / GIB
            total = predicted(row, engine).total
            lines.append(
                {
                    "source": source,
                    "model": model_of(row),
                    "method": row["method"],
                    "quant": row["quant"],
                    "length": row["seq_len"][:12],
                    "batch": row["micro_batch"],
                    "rank": row["lora_rank"],
                    "measured_gib": round(measured, 2),
                    "predicted_gib": round(total, 2),
                    "error": round(total / measured - 1, 3),
                }
            )
    return lines, skipped


def summary(lines: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Errors by source and by whether the base was quantised."""
    groups: dict[tuple[str, str], list[float]] = {}
    for line in lines:
        kind = "16-bit" if line["quant"].startswith("none") else "4-bit"
        groups.setdefault((line["source"], kind), []).append(line["error"])
    for (source, kind), errors in groups.items():
        yield {
            "source": source,
            "base": kind,
            "rows": len(errors),
            "median_error": statistics.median(errors),
            "median_absolute": statistics.median(abs(error) for error in errors),
            "mean_absolute": statistics.fmean(abs(error) for error in errors),
            "lowest": min(errors),
            "highest": max(errors),
        }


def ran_out(path: Path) -> list[dict[str, Any]]:
    """Runs of one GPU that ran out of memory there, and whether they are predicted not to fit on that card."""
    lines = []
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["peak_vram_gb"] != "OOM" or not row["gpu"].startswith("1") or model_of(row) not in MODELS:
                continue
            found = re.search(r"(\d+)GB", row["gpu"])
            assert found is not None, row["gpu"]
            card, total = float(found[1]) * 1e9 / GIB, predicted(row, ENGINES[source_of(row)]).total
            lines.append(
                {
                    "model": model_of(row),
                    "batch": row["micro_batch"],
                    "card_gib": round(card, 2),
                    "predicted_gib": round(total, 2),
                    "told": total > card,
                }
            )
    return lines


def estimates(path: Path) -> list[dict[str, Any]]:
    """What LLaMA-Factory's authors estimate, beside ours for a Llama of about that size at 512 tokens; not judged."""
    lines = []
    sizes = {"7": "Llama-2-7B", "14": "Qwen-14B", "70": "Qwen-72B"}
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            model = sizes.get(row["model"])
            if "ESTIMATED" not in row["source"] or model is None or row["quant"] not in ("16 bit", "4 bit"):
                continue
            if "lora" not in row["method"]:
                continue
            method = QloraSettings(rank=8) if row["quant"] == "4 bit" else LoraSettings(rank=8)
            recipe = Recipe(
                method=method,
                objective=SftSettings(),
                data=DataSettings(max_length=512),
                train=TrainSettings(batch_size=1),
            )
            ours = predict(MODELS[model], recipe, longest=512, device="cuda").total
            theirs = row["peak_vram_gb"]
            lines.append(
                {"billions": row["model"], "quant": row["quant"], "theirs_gb": theirs, "ours_gib": round(ours, 1)}
            )
    return lines


# ------------------------------------------------------------------------------------------------ this machine's CPU
CPU_CASES: tuple[dict[str, Any], ...] = (
    {"layers": 5, "hidden": 64, "heads": 8, "inner": 172, "vocab": 512, "batch": 4, "length": 256},
    {"layers": 4, "hidden": 256, "heads": 4, "inner": 768, "vocab": 2899, "batch": 8, "length": 128},
    {"layers": 8, "hidden": 512, "heads": 8, "inner": 1408, "vocab": 8192, "batch": 4, "length": 256},
    {
        "layers": 8,
        "hidden": 512,
        "heads": 8,
        "inner": 1408,
        "vocab": 8192,
        "batch": 4,
        "length": 256,
        "checkpointing": True,
    },
    {"layers": 12, "hidden": 1024, "heads": 16, "inner": 2816, "vocab": 32000, "batch": 2, "length": 256},
)
STEPS = """
import json, sys, warnings
warnings.filterwarnings("ignore")
case = json.loads(sys.argv[1])
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM
from trl import SFTTrainer
from trl.trainer.utils import add_fused_lm_head
config = LlamaConfig(hidden_size=case["hidden"], intermediate_size=case["inner"], num_hidden_layers=case["layers"],
    num_attention_heads=case["heads"], vocab_size=case["vocab"], tie_word_embeddings=True)
model = LlamaForCausalLM(config).float()
add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
if case.get("checkpointing"):
    model.gradient_checkpointing_enable({"use_reentrant": False})
names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
model = get_peft_model(model, LoraConfig(r=16, lora_dropout=0.05, target_modules=names)).train()
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
ids = torch.randint(0, case["vocab"], (case["batch"], case["length"]))
mask = torch.ones_like(ids)
mask[0, -3:] = 0
for _ in range(3):
    (-model(input_ids=ids, attention_mask=mask, labels=ids, fused_lm_head=True).log_probs.mean()).backward()
    optimizer.step()
    optimizer.zero_grad()
"""


def on_this_cpu(case: dict[str, Any]) -> dict[str, Any]:
    """Peak resident memory of a few LoRA steps in a fresh process, and what is predicted for them."""
    dims = llama(case["layers"], case["hidden"], case["heads"], case["inner"], case["vocab"])
    dims = ModelDims(**{name: getattr(dims, name) for name in dims.__slots__} | {"tied": True})
    recipe = Recipe(
        method=LoraSettings(rank=16, dropout=0.05),
        objective=SftSettings(),
        data=DataSettings(max_length=case["length"]),
        train=TrainSettings(batch_size=case["batch"], checkpointing=case.get("checkpointing", False)),
    )
    process = subprocess.Popen([sys.executable, "-c", STEPS, json.dumps(case)])
    watched, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        try:
            peak = max(peak, watched.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.01)
    if process.wait() != 0:
        raise SystemExit(f"the steps of {case} failed")
    total = predict(dims, recipe, longest=case["length"], device="cpu").total
    return {
        "parameters": dims.parameters(),
        **{name: case[name] for name in ("layers", "hidden", "batch", "length")},
        "checkpointing": case.get("checkpointing", False),
        "measured_gib": round(peak / GIB, 3),
        "predicted_gib": round(total, 3),
        "error": round(total * GIB / peak - 1, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "memory")
    parser.add_argument("--cpu", action="store_true", help="measure LoRA steps on this machine's CPU too")
    options = parser.parse_args()
    lines, skipped = compare(options.data / "measured.csv")
    table(lines)
    by_source = list(summary(lines))
    print()
    table(by_source)
    print("\nleft out:", ", ".join(f"{count} ({reason})" for reason, count in skipped.items()))
    qwen = statistics.median(abs(line["error"]) for line in lines if line["source"] == "Qwen")
    print(f"\nQwen's README: median {qwen:.1%} of {sum(line['source'] == 'Qwen' for line in lines)} rows")
    oom, guessed = ran_out(options.data / "measured.csv"), estimates(options.data / "measured.csv")
    print("\nran out of memory there:")
    table(oom)
    print("\nauthors' estimates:")
    table(guessed)
    cpu = []
    if options.cpu:
        print()
        cpu = [on_this_cpu(case) for case in CPU_CASES]
        table(cpu)
    if not cpu and (RESULTS / "memory_model.json").is_file():
        cpu = json.loads((RESULTS / "memory_model.json").read_text(encoding="utf-8")).get("cpu", [])
    content = {
        "hardware": hardware(),
        "by_source": by_source,
        "qwen_median_absolute": round(qwen, 4),
        "rows": lines,
        "out_of_memory": oom,
        "estimates": guessed,
        "left_out": dict(skipped),
        "cpu": cpu,
    }
    write("memory_model", content)


if __name__ == "__main__":
    main()
