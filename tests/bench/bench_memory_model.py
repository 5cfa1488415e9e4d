"""The memory model against published measurements.

    python tests/bench/bench_memory_model.py [--data FOLDER]

``--data`` holds ``measured.csv``; the shared test data beside the repository is the default. Each source's engine
differs from ours, and what is known of the difference is put in: its loss, adapter layers and dropout. Full
fine-tuning, other adapters, several GPUs and authors' estimates are left out, and counted. Runs that ran out of memory
must be told not to fit."""

from __future__ import annotations

import argparse
import csv
import re
import statistics
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from results import ROOT, hardware, table, write

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


# litgpt's phi-1.5, StableLM Alpha and Falcon have no gate: two matrices of four hidden widths, of which forward keeps
# the inner values twice. Three matrices of a third less, of which it keeps them three times, weigh and keep the same.
# Their one norm for attention and feed-forward and its format remain unlike; their rows stand apart in the table.
# The first Qwen's configs give twice the inner width (w1 and w2 together).
MODELS: dict[str, ModelDims] = {
    "Llama 2 7": llama(32, 4096, 32, 11008, 32000),
    "Llama 2 13": llama(40, 5120, 40, 13824, 32000),
    "phi-1.5": llama(24, 2048, 32, 8 * 2048 // 3, 51200),
    "StableLM Alpha": llama(16, 4096, 32, 8 * 4096 // 3, 50688),
    "Falcon": llama(60, 8192, 128, 8 * 8192 // 3, 65024, kv=8),
    "Llama-2-7B": llama(32, 4096, 32, 11008, 32000),
    "Llama 3.1 8B": llama(32, 4096, 32, 14336, 128256, kv=8),
    "Llama-3-8B": llama(32, 4096, 32, 14336, 128256, kv=8),
    "Llama-3.2-3B-Instruct": llama(28, 3072, 24, 8192, 128256, kv=8),
    "Qwen-1.8B": llama(24, 2048, 16, 5504, 151936, bias=True),
    "Qwen-7B": llama(32, 4096, 32, 11008, 151936, bias=True),
    "Qwen-14B": llama(40, 5120, 40, 13696, 152064, bias=True),
    "Qwen-72B": llama(80, 8192, 64, 24576, 152064, bias=True),
}


STAND_INS = ("phi-1.5", "StableLM Alpha", "Falcon")


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
# Of a card's GiB by name, what programs find: 39.4 of 40, 79.1 of 80 (torch's own messages on an A100).
OF_A_CARD = 0.985
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
            named = f"{source}, stand-ins" if model_of(row) in STAND_INS else source
            measured = float(row["peak_vram_gb"]) * engine.unit / GIB
            total = predicted(row, engine).total
            lines.append(
                {
                    "source": named,
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
            card, total = float(found[1]) * OF_A_CARD, predicted(row, ENGINES[source_of(row)]).total
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
    sizes = {"7B generic": "Llama-2-7B", "14B generic": "Qwen-14B", "70B generic": "Qwen-72B"}
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "memory")
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
    content = {
        "hardware": hardware(),
        "by_source": by_source,
        "qwen_median_absolute": round(qwen, 4),
        "rows": lines,
        "out_of_memory": oom,
        "estimates": guessed,
        "left_out": dict(skipped),
    }
    write("memory_model", content)


if __name__ == "__main__":
    main()
