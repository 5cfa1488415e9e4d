"""Training speed against TRL scripts with the same settings: real tokens a second, set-up left out.

    python tests/bench/bench_train_speed.py [--model llama-100m] [--method lora] [--rounds 5] [--seconds 60]

Each side runs in a fresh process; sides take turns, and every other round goes backwards. All get the same tokenised
rows, rate, precision and effective batch, and LoRA on all linear layers. The sides:

- lorimer: `engine.train.run.train`, with its default order of rows.
- trl: SFTTrainer as its documentation shows it, with its own default of recomputing activations.
- trl_plain: the same, keeping activations; rows padded to their batch.
- trl_grouped: the same, and rows of like length together.
- tutorial: as trl, with every row padded to 512 tokens, as the tutorials' recipes do.

The models have random weights, and a real tokenizer, except stories260K. On a GPU the peak of the allocator and the
model's share of the card's throughput (MFU) are given too. Results: tests/bench/results/train_speed_MODEL_METHOD.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from results import ROOT, hardware, table, write

sys.path.insert(0, str(ROOT))

DATA = ROOT.parent / "shared" / "data"
ROWS, RANK, LENGTH = 500, 16, 512
LEARNING_RATE, DROPOUT = 2e-4, 0.05
# As the worker sets them (engine/worker/__main__.py); a script has what a script has.
WORKERS_THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "20000"}
SIDES = ("lorimer", "trl", "trl_plain", "trl_grouped", "tutorial")
# Rows at once and accumulated; 16 a step on a GPU, as the tutorials have it.
BATCHES = {"cpu": (4, 2), "cuda": (4, 4)}
WARM_UP = {"cpu": 1, "cuda": 5}


def llama(layers: int, hidden: int, heads: int, key_values: int, inner: int, vocab: int) -> dict[str, Any]:
    """The config of a Llama with untied embeddings."""
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": key_values,
        "intermediate_size": inner,
        "vocab_size": vocab,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 32000,
    }


# Phi-3's tokenizer is Llama 2's with the turn tokens of a chat template: 32,064 tokens.
MODELS: dict[str, dict[str, Any] | None] = {
    "stories260K": None,
    "llama-100m": llama(8, 768, 12, 12, 2048, 32064),
    "llama-1b": llama(16, 2048, 32, 8, 8192, 32064),
    "llama-8b": llama(32, 4096, 32, 8, 14336, 32064),
}


@contextlib.contextmanager
def model_folder(name: str) -> Iterator[Path]:
    """The model's folder: the stored one, or random weights with Phi-3's tokenizer, removed at the end."""
    config = MODELS[name]
    if config is None:
        yield DATA / "models" / name
        return
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    with tempfile.TemporaryDirectory(prefix="lorimer-speed-") as made:
        folder = Path(made)
        torch.manual_seed(0)
        settings = CONFIG_MAPPING[config["model_type"]].from_dict(dict(config))
        dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
        AutoModelForCausalLM.from_config(settings, dtype=dtype).save_pretrained(folder)
        for file in (DATA / "tokenizers" / "phi-3-mini").iterdir():
            shutil.copyfile(file, folder / file.name)
        yield folder


# ------------------------------------------------------------------------------------------------------- the sides
class Clock:
    """Tokens a second from the end of the warm-up steps on."""

    def __init__(self, seconds: float, warm_up: int) -> None:
        self.seconds, self.warm_up = seconds, warm_up
        self.began = self.now = self.worked = self.worked_at_first = 0.0
        self.first = self.last = 0

    def step(self, step: int, tokens: int) -> bool:
        """A step is done; whether it is time to end."""
        self.now, self.worked, self.last = time.perf_counter(), time.process_time(), tokens
        if step <= self.warm_up:
            self.began, self.worked_at_first, self.first = self.now, self.worked, tokens
        return self.now - self.began >= self.seconds and step > self.warm_up

    @property
    def figures(self) -> dict[str, float]:
        """Real tokens per second, and per second of processor time (which a busy machine disturbs less)."""
        import torch

        tokens = self.last - self.first
        figures = {
            "tokens_per_second": tokens / (self.now - self.began),
            "tokens_per_cpu_second": tokens / (self.worked - self.worked_at_first),
        }
        if torch.cuda.is_available():
            figures["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        return figures


def device() -> str:
    """Where this machine trains."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def recipe(folder: Path, method: str) -> Any:
    """What all sides do."""
    from engine.catalogue import CATALOGUE
    from engine.recipe.file import from_plain

    batch, accumulation = BATCHES[device()]
    return from_plain(
        {
            "model": {"source": str(folder)},
            "data": {
                "files": [str(DATA / "datasets" / "llama-factory" / "alpaca_en_demo.json")],
                "held_out": 0.0,
                "max_length": LENGTH,
            },
            "method": {"name": method, "rank": RANK, "alpha": float(RANK), "dropout": DROPOUT},
            "train": {
                "epochs": 1000.0,
                "batch_size": batch,
                "accumulation": accumulation,
                "learning_rate": LEARNING_RATE,
                "warmup_ratio": 0.0,
                "max_grad_norm": 1.0,
                "save_every": 1_000_000,
                "precision": "fp32" if device() == "cpu" else "bf16",
            },
        },
        CATALOGUE,
    )


def rows(folder: Path, method: str) -> Any:
    """The first rows as the data room prepares them."""
    from dataclasses import replace

    from engine.data.prepare import prepare

    prepared = prepare(recipe(folder, method).data, preference=False, model_folder=folder)
    return replace(prepared, train=prepared.train[:ROWS])


def lorimer(folder: Path, method: str, clock: Clock) -> None:
    """The whole of `engine.train.run.train`, its events encoded and written as a worker does."""
    from engine.project.run_folder import RunFolder
    from engine.protocol.codec import encode_event
    from engine.protocol.events import STOP, Command, Event, StepDone
    from engine.recipe.file import save
    from engine.train import run as training

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

    prepared = rows(folder, method)
    training.prepare = lambda *_, **__: prepared  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as made, open(Path(made) / "events.jsonl", "w", encoding="utf-8") as events:
        run = RunFolder(Path(made))
        save(recipe(folder, method), run.recipe)
        training.train(run, Channel(events))


def trl(folder: Path, method: str, clock: Clock, **chosen: Any) -> None:
    """A TRL script without Lorimer; ``chosen`` are the settings in which its sides differ."""
    prepared = rows(folder, method)
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    on = device()
    batch, accumulation = BATCHES[on]
    dtype = torch.float32 if on == "cpu" else torch.bfloat16
    examples = Dataset.from_list(
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
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        quantization_config=quantisation if method == "qlora" else None,
        device_map={"": 0 if on == "cuda" else "cpu"},
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.unk_token

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
                per_device_train_batch_size=batch,
                gradient_accumulation_steps=accumulation,
                learning_rate=LEARNING_RATE,
                lr_scheduler_type="cosine",
                bf16=on == "cuda",
                max_length=None,
                save_strategy="no",
                report_to=[],
                use_cpu=on == "cpu",
                **chosen,
            ),
            train_dataset=examples,
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


CHOSEN: dict[str, dict[str, Any]] = {
    "trl": {},
    "trl_plain": {"activation_checkpointing": False},
    "trl_grouped": {"activation_checkpointing": False, "train_sampling_strategy": "group_by_length"},
    "tutorial": {"pad_to_multiple_of": LENGTH},
}


def one_side(side: str, folder: Path, method: str, seconds: float) -> dict[str, float]:
    """The figures of one side, in this process."""
    clock = Clock(seconds, WARM_UP[device()])
    if side == "lorimer":
        lorimer(folder, method, clock)
    else:
        trl(folder, method, clock, **CHOSEN[side])
    return clock.figures


# ---------------------------------------------------------------------------------------------------- the measuring
def measure(side: str, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """The figures of one side, in a process of its own."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(options.threads),
        **(WORKERS_THREADS if side == "lorimer" else {}),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "true",
    }
    asked = ["--side", side, "--folder", str(folder), "--method", options.method, "--seconds", str(options.seconds)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, *asked], env=environment, capture_output=True, text=True, check=False
    )
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


def summary(rounds: list[dict[str, dict[str, float]]], model: str) -> list[dict[str, Any]]:
    """One line for each side: medians, and how often faster Lorimer was in the same round."""
    lines = []
    for side in rounds[0]:
        speeds = [each[side]["tokens_per_second"] for each in rounds]
        ratios = [each["lorimer"]["tokens_per_second"] / each[side]["tokens_per_second"] for each in rounds]
        busy = [each["lorimer"]["tokens_per_cpu_second"] / each[side]["tokens_per_cpu_second"] for each in rounds]
        line = {
            "side": side,
            "tokens_per_second": round(statistics.median(speeds), 1),
            "spread": round(spread(speeds), 3),
            "lorimer_faster": round(statistics.median(ratios), 3),
            "lowest": round(min(ratios), 3),
            "highest": round(max(ratios), 3),
            "per_cpu_second": round(statistics.median(busy), 3),
        }
        if "peak_gib" in rounds[0][side]:
            line["peak_gib"] = round(max(each[side]["peak_gib"] for each in rounds), 2)
            line["mfu"] = round(statistics.median(speeds) * flops_per_token(model) / card_flops(), 3)
        lines.append(line)
    return lines


def flops_per_token(model: str) -> float:
    """4 operations per weight: forward, and the gradient of the inputs; frozen weights have none of their own."""
    from engine.machine.dims import ModelDims

    config = MODELS[model] or json.loads((DATA / "models" / model / "config.json").read_text(encoding="utf-8"))
    return 4.0 * ModelDims.from_config(config).parameters()


def card_flops() -> float:
    """What the card can do in its data sheet, in operations per second."""
    import torch

    from engine.machine.time import GPU_EFFICIENCY, gpu_speed

    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    speed = gpu_speed(torch.cuda.get_device_name(0), torch.cuda.get_device_capability(0), memory)
    return speed.flops / GPU_EFFICIENCY


def main() -> None:
    """Run rounds and write the table, or be one side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="llama-100m")
    parser.add_argument("--method", choices=["lora", "qlora"], default="lora")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(one_side(options.side, options.folder, options.method, options.seconds)))
        return
    sides = ["lorimer", *(side for side in options.sides if side != "lorimer")]
    rounds: list[dict[str, dict[str, float]]] = []
    with model_folder(options.model) as folder:
        for number in range(options.rounds):
            order = sides if number % 2 else list(reversed(sides))
            figures = {side: measure(side, folder, options) for side in order}
            rounds.append({side: figures[side] for side in sides})
            speeds = ", ".join(f"{side} {rounds[-1][side]['tokens_per_second']:.0f}" for side in sides)
            print(f"round {number + 1}: {speeds} tokens/s", flush=True)
    lines = summary(rounds, options.model)
    table(lines)
    content = {
        "hardware": hardware(),
        "model": options.model,
        "method": options.method,
        "seconds": options.seconds,
        "threads": options.threads,
        "sides": lines,
        "rounds": rounds,
    }
    write(f"train_speed_{options.model}_{options.method}", content)


if __name__ == "__main__":
    main()
