"""Training speed against a bare TRL script with the same settings: real tokens a second, set-up left out.

    python tests/bench/bench_train_speed.py --pairs 5 --seconds 60

Each side runs in a fresh process; sides alternate, and every other pair begins with the other side. The bare side is
what TRL's documentation shows: SFTTrainer, LoRA, rows tokenised beforehand, grouped by length. Both get equal tokens.
The result goes to tests/bench/results/train_speed_METHOD.json; with a spread above 5% it says that it is void.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
RESULTS = Path(__file__).parent / "results"
WARM_UP_STEPS = 5
ROWS, RANK, BATCH, LENGTH = 320, 8, 4, 512
LEARNING_RATE, DROPOUT = 2e-4, 0.05
# As the worker sets them (engine/worker/__main__.py); the bare script has what a script has.
WORKERS_THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "20000"}
HIGHEST_SPREAD = 0.05


# ------------------------------------------------------------------------------------------------------- the sides
class Clock:
    """Tokens a second from the end of the warm-up steps on."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.began = 0.0
        self.first = 0
        self.last = 0
        self.now = 0.0
        self.worked = 0.0
        self.worked_at_first = 0.0

    def step(self, step: int, tokens: int) -> bool:
        """A step is done; whether it is time to end."""
        self.now, self.worked, self.last = time.perf_counter(), time.process_time(), tokens
        if step <= WARM_UP_STEPS:
            self.began, self.worked_at_first, self.first = self.now, self.worked, tokens
        return self.now - self.began >= self.seconds

    @property
    def figures(self) -> dict[str, float]:
        """Real tokens per second, and per second of processor time (which a busy machine disturbs less)."""
        tokens = self.last - self.first
        return {
            "tokens_per_second": tokens / (self.now - self.began),
            "tokens_per_cpu_second": tokens / (self.worked - self.worked_at_first),
        }


def recipe(method: str) -> Any:
    """What both sides do."""
    from engine.catalogue import CATALOGUE
    from engine.recipe.file import from_plain

    return from_plain(
        {
            "model": {"source": str(DATA / "models" / "stories260K")},
            "data": {
                "files": [str(DATA / "datasets" / "llama-factory" / "alpaca_en_demo.json")],
                "held_out": 0.0,
                "max_length": LENGTH,
            },
            "method": {"name": method, "rank": RANK, "alpha": float(RANK), "dropout": DROPOUT},
            "train": {
                "epochs": 1000.0,
                "batch_size": BATCH,
                "accumulation": 1,
                "learning_rate": LEARNING_RATE,
                "warmup_ratio": 0.0,
                "max_grad_norm": 1.0,
                "save_every": 1_000_000,
                "precision": "fp32",
            },
        },
        CATALOGUE,
    )


def rows(method: str) -> Any:
    """The first rows as the data room prepares them."""
    from dataclasses import replace

    from engine.data.prepare import prepare

    wanted = recipe(method)
    prepared = prepare(wanted.data, preference=False, model_folder=Path(wanted.model.source))
    return replace(prepared, train=prepared.train[:ROWS])


def lorimer(method: str, seconds: float) -> dict[str, float]:
    """The whole of `engine.train.run.train`, its events encoded and written as a worker does."""
    from engine.project.run_folder import RunFolder
    from engine.protocol.codec import encode_event
    from engine.protocol.events import STOP, Command, Event, StepDone
    from engine.recipe.file import save
    from engine.train import run as training

    clock = Clock(seconds)

    class Channel:
        def __init__(self, file: Any) -> None:
            self.file = file
            self.end = False

        def emit(self, event: Event) -> None:
            self.file.write(encode_event(event) + "\n")
            self.file.flush()
            if isinstance(event, StepDone):
                self.end = clock.step(event.step, event.tokens)

        def commands(self) -> list[Command]:
            return [Command(name=STOP)] if self.end else []

    prepared = rows(method)
    training.prepare = lambda *_, **__: prepared  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "events.jsonl", "w", encoding="utf-8") as events:
        run = RunFolder(Path(folder))
        save(recipe(method), run.recipe)
        training.train(run, Channel(events))
    return clock.figures


def bare(method: str, seconds: float) -> dict[str, float]:
    """A TRL script without Lorimer."""
    prepared = rows(method)
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    folder = recipe(method).model.source
    table = Dataset.from_list(
        [
            {
                "input_ids": row.input_ids,
                "labels": [i if learned else -100 for i, learned in zip(row.input_ids, row.learned, strict=True)],
                "length": len(row.input_ids),
            }
            for row in prepared.train
        ]
    )
    quantisation = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, quantization_config=quantisation if method == "qlora" else None
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.unk_token
    clock = Clock(seconds)

    class Timer(TrainerCallback):
        trainer: Any = None

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if clock.step(state.global_step, self.trainer._total_train_tokens):
                control.should_training_stop = True

    timer = Timer()
    with tempfile.TemporaryDirectory() as output:
        timer.trainer = SFTTrainer(
            model=model,
            args=SFTConfig(
                output_dir=output,
                num_train_epochs=1000,
                per_device_train_batch_size=BATCH,
                learning_rate=LEARNING_RATE,
                lr_scheduler_type="cosine",
                train_sampling_strategy="group_by_length",
                activation_checkpointing=False,
                bf16=False,
                max_length=None,
                save_strategy="no",
                report_to=[],
                use_cpu=not torch.cuda.is_available(),
            ),
            train_dataset=table,
            processing_class=tokenizer,
            peft_config=LoraConfig(
                task_type="CAUSAL_LM",
                r=RANK,
                lora_alpha=RANK,
                use_rslora=True,
                lora_dropout=DROPOUT,
                target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
            ),
            callbacks=[timer],
        )
        timer.trainer.train()
    return clock.figures


# ---------------------------------------------------------------------------------------------------- the measuring
def measure(side: str, method: str, seconds: float, threads: int) -> dict[str, float]:
    """The figures of one side, in a process of its own."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        **(WORKERS_THREADS if side == "lorimer" else {}),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "true",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
    }
    command = [sys.executable, "-W", "ignore", __file__, "--side", side, "--method", method, "--seconds", str(seconds)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-4000:]}")
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def spread(values: list[float]) -> float:
    """Half the distance between the quartiles, against the median."""
    if len(values) < 2:
        return 0.0
    quartiles = statistics.quantiles(values, n=4, method="inclusive")
    return (quartiles[2] - quartiles[0]) / 2 / statistics.median(values)


def main() -> None:
    """Run pairs and write the table, or be one side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--method", choices=["lora", "qlora"], default="lora")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--side", choices=["lorimer", "bare"])
    options = parser.parse_args()
    if options.side:
        print(json.dumps({"lorimer": lorimer, "bare": bare}[options.side](options.method, options.seconds)))
        return
    sides: dict[str, list[dict[str, float]]] = {"lorimer": [], "bare": []}
    for pair in range(options.pairs):
        for side in ("bare", "lorimer") if pair % 2 == 0 else ("lorimer", "bare"):
            sides[side].append(measure(side, options.method, options.seconds, options.threads))
        mine, theirs = sides["lorimer"][-1], sides["bare"][-1]
        ratios = ", ".join(
            f"{name} {theirs[name]:.0f} → {mine[name]:.0f} ({mine[name] / theirs[name]:.3f})" for name in mine
        )
        print(f"pair {pair + 1}, bare → lorimer: {ratios}", flush=True)
    result = {
        "method": options.method,
        "pairs": options.pairs,
        "seconds": options.seconds,
        "threads": options.threads,
        **{name: summary(sides, name) for name in ("tokens_per_second", "tokens_per_cpu_second")},
    }
    result["void"] = result["tokens_per_second"]["spread"] > HIGHEST_SPREAD
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"train_speed_{options.method}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


def summary(sides: dict[str, list[dict[str, float]]], name: str) -> dict[str, Any]:
    """Values, medians and ratios of one figure; the spread is the largest of both sides and the ratio."""
    values = {side: [figures[name] for figures in runs] for side, runs in sides.items()}
    ratios = [mine / theirs for mine, theirs in zip(values["lorimer"], values["bare"], strict=True)]
    return {
        **values,
        "median": {side: statistics.median(numbers) for side, numbers in values.items()},
        "ratios": ratios,
        "ratio": statistics.median(ratios),
        "spread": max(spread(numbers) for numbers in (*values.values(), ratios)),
    }


if __name__ == "__main__":
    main()
