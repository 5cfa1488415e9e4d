"""Adapters beside a base on one set of weights: the memory and time of each, and what a token costs.

``python tests/bench/bench_columns.py [--layers 24] [--width 1024]`` makes a random Llama (about 1.4 GB in fp32 by
default) and LoRA adapters. Measured: anonymous memory that each adapter takes beside its own weights, seconds to
put it there, and tokens a second of base and tuned answers that grow by turns: modules of their own
(`engine.model.beside`) against one PEFT model whose adapter is switched off and on between the turns, interleaved, five
rounds. A spread above 5% voids the comparison of speed.
"""

from __future__ import annotations

import argparse
import gc
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import peft  # noqa: E402
import psutil  # noqa: E402
import torch  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402

from engine.model.beside import Untouched, put_beside, read_adapter  # noqa: E402
from tests.bench import results  # noqa: E402

ROUNDS, TOKENS, TURNS = 5, 8, 4
MIB = 2**20
SPREAD = 0.05


def anonymous() -> int:
    """Bytes of memory of this process that no file is behind."""
    gc.collect()
    return int(psutil.Process().memory_info().rss - psutil.Process().memory_info().shared)


def model_of(layers: int, width: int) -> Any:
    """A random Llama in fp32."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32000,
        hidden_size=width,
        intermediate_size=width * 8 // 3 // 64 * 64,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        max_position_embeddings=512,
    )
    return LlamaForCausalLM(config).requires_grad_(False).eval()


def adapter_of(model: Any, folder: Path, seed: int) -> int:
    """A LoRA adapter with random weights in a folder; gives the bytes of its weights."""
    torch.manual_seed(seed)
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=16, target_modules="all-linear", init_lora_weights=False)
    tuned = peft.get_peft_model(model, config)
    tuned.save_pretrained(folder)
    tuned.unload()
    return (folder / "adapter_model.safetensors").stat().st_size


class Answer:
    """One answer that grows, with its keys and values."""

    def __init__(self) -> None:
        self.input, self.past = torch.arange(5, 37).unsqueeze(0), None

    @torch.inference_mode()
    def grow(self, model: Any) -> None:
        output = model(input_ids=self.input, past_key_values=self.past, use_cache=True)
        self.past, self.input = output.past_key_values, output.logits[:, -1:].argmax(-1)


def rate(turn: Callable[[str, Answer], None]) -> float:
    """Tokens a second of two answers that grow by turns."""
    answers = {"base": Answer(), "tuned": Answer()}
    for side, answer in answers.items():
        turn(side, answer)
    began = time.perf_counter()
    for _ in range(TURNS):
        for side, answer in answers.items():
            for _ in range(TOKENS):
                turn(side, answer)
    return 2 * TURNS * TOKENS / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--width", type=int, default=1024)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options.layers, options.width)


def measure(folder: Path, layers: int, width: int) -> None:
    """Everything, told and written."""
    base = model_of(layers, width)
    weights = sum(p.numel() * p.element_size() for p in base.parameters())
    sizes = [adapter_of(base, folder / str(n), n) for n in range(3)]
    rows, beside = [], []
    untouched = Untouched(base)
    for n, size in enumerate(sizes):
        before, began = anonymous(), time.perf_counter()
        beside.append(put_beside(base, read_adapter(folder / str(n))))
        seconds = time.perf_counter() - began
        grown = anonymous() - before
        assert untouched.holds()
        rows.append(
            {
                "adapter": n + 1,
                "its weights MiB": size / MIB,
                "memory MiB": grown / MIB,
                "beside its weights MiB": (grown - size) / MIB,
                "of the base": (grown - size) / weights,
                "seconds": seconds,
            }
        )
    results.table(rows)
    switched = peft.PeftModel.from_pretrained(model_of(layers, width), folder / "0").eval()
    state: dict[str, Any] = {"side": "tuned", "context": None}

    def by_switching(side: str, answer: Answer) -> None:
        if side != state["side"]:
            if state["context"] is not None:
                state["context"].__exit__(None, None, None)
            state["context"] = switched.disable_adapter() if side == "base" else None
            if state["context"] is not None:
                state["context"].__enter__()
            state["side"] = side
        answer.grow(switched)

    def by_modules(side: str, answer: Answer) -> None:
        answer.grow(base if side == "base" else beside[0])

    rates: dict[str, list[float]] = {"modules of their own": [], "switched in turns": []}
    for _ in range(ROUNDS):
        rates["modules of their own"].append(rate(by_modules))
        rates["switched in turns"].append(rate(by_switching))
    own, turns = (statistics.median(values) for values in rates.values())
    speed = [
        {"way": name, "tokens/s": statistics.median(v), "spread": max(v) / min(v) - 1} for name, v in rates.items()
    ]
    results.table(speed)
    is_void = any(item["spread"] > SPREAD for item in speed)
    print(f"ratio {own / turns:.3f}" + (" (void: the spread is above 5%)" if is_void else ""))
    content = {"hardware": results.hardware(), "base_mib": weights / MIB, "adapters": rows, "speed": speed}
    results.write("columns", {**content, "ratio": own / turns, "void": is_void, "rates": rates})


if __name__ == "__main__":
    main()
