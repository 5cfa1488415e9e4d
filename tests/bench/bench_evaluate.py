"""Evaluation in batches against one row at a time: losses and greedy answers of base and tuned model.

    python tests/bench/bench_evaluate.py [--rounds 5] [--rows 64]

Both sides ask one and the same loaded model, in turns, every other round backwards. "one by one" is a forward pass and
transformers' `generate` for each row alone; "lorimer" is what the evaluation does. Models: the starter, tuned by the
demo's recipe for so many steps (its own held-out rows), and a Llama of 52 M random weights with an adapter of random
weights (rows of a public instruction set; neither model ever ends by itself, so that nothing leaves a batch early).
Counted are the processor's seconds of one thread, which other work on the machine lengthens least. In fp32 answers must
be equal; losses to 1e-4. Results: tests/bench/results/evaluate.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from results import ROOT, hardware, table, write

sys.path.insert(0, str(ROOT))

DATA = ROOT.parent / "shared" / "data" / "datasets" / "llama-factory" / "alpaca_en_demo.json"
BATCH, LONGEST, RANDOM = 16, 48, "llama-50m"


def starter(folder: Path, steps: int) -> Any:
    """A run of the demo's recipe."""
    from engine.catalogue import CATALOGUE
    from engine.demo import demo_recipe
    from engine.project.project import Project
    from engine.protocol.channel import Recorder
    from engine.recipe.file import changed
    from engine.train.run import train

    recipe = changed(demo_recipe(42), {"train.max_steps": steps}, CATALOGUE)
    run = Project.open_or_create(folder).new_run(recipe)
    train(run, Recorder())
    return run


def random_llama(folder: Path, rows: int) -> Any:
    """A run of a model that knows nothing, on real rows."""
    from bench_train_speed import MODELS, llama, model_folder

    from engine.data.rows import ASSISTANT, USER, Message, Row
    from tests.unit.tuned_run import make_run

    content = json.loads(DATA.read_text(encoding="utf-8"))
    chosen = [item for item in content if not item["input"]][:rows]
    held_out = [
        Row(i, f"{DATA.name}:{i}", (Message(USER, item["instruction"]), Message(ASSISTANT, item["output"])))
        for i, item in enumerate(chosen)
    ]
    MODELS[RANDOM] = llama(6, 512, 8, 8, 1408, 32064)
    with model_folder(RANDOM) as model:
        copied = Path(shutil.copytree(model, folder / "model"))
        return make_run(folder / "run", copied, held_out, method="lora", evaluate={"max_new_tokens": LONGEST})


def sides(run: Any, rows: int) -> dict[str, Callable[[], tuple[list[float], list[str]]]]:
    """What is measured, by name: each gives the losses and the answers of base and tuned model."""
    from engine.evaluate.answers import _generate, answers
    from engine.evaluate.metrics import answer_limit
    from engine.evaluate.questions import prepare_questions, read_rows, sample
    from engine.evaluate.score import losses
    from engine.model.tuned import SIDES, load_tuned

    tuned = load_tuned(run)
    questions = prepare_questions(tuned, sample(read_rows(run), rows, 42))
    limit = answer_limit(tuned.recipe.evaluate.max_new_tokens, max(q.reference_tokens for q in questions))
    texts = [text for question in questions for text in question.texts]
    prompts, expected = [q.prompt for q in questions], [q.reference_tokens for q in questions]

    def nothing(done: float) -> None:
        pass

    def one_by_one() -> tuple[list[float], list[str]]:
        found, said = [], []
        for side in SIDES:
            with tuned.as_side(side):
                found += [loss.total for text in texts for loss in losses(tuned, [text], batch_size=1, watch=nothing)]
                said += [answer.text for prompt in prompts for answer in _generate(tuned, [prompt], limit, nothing)]
        return found, said

    def lorimer() -> tuple[list[float], list[str]]:
        found, said = [], []
        for side in SIDES:
            with tuned.as_side(side):
                found += [loss.total for loss in losses(tuned, texts, batch_size=BATCH, watch=nothing)]
                answered = answers(tuned, prompts, limit=limit, batch_size=BATCH, watch=nothing, expected=expected)
                said += [answer.text for answer in answered if answer is not None]
        return found, said

    return {"one by one": one_by_one, "lorimer": lorimer}


def measure(run: Any, rows: int, rounds: int) -> dict[str, Any]:
    """Seconds of each side, the ratio, and how far both agree."""
    asking = sides(run, rows)
    seconds: dict[str, list[float]] = {name: [] for name in asking}
    found: dict[str, tuple[list[float], list[str]]] = {}
    for number in range(rounds):
        for name in list(asking)[:: -1 if number % 2 else 1]:
            began = time.process_time()
            found[name] = asking[name]()
            seconds[name].append(time.process_time() - began)
    ratios = [slow / fast for slow, fast in zip(seconds["one by one"], seconds["lorimer"], strict=True)]
    (slow_losses, slow_said), (fast_losses, fast_said) = found["one by one"], found["lorimer"]
    return {
        "rows": len(slow_said) // 2,
        **{f"{name}, s": round(statistics.median(each), 2) for name, each in seconds.items()},
        "times faster": round(statistics.median(ratios), 2),
        "lowest": round(min(ratios), 2),
        "highest": round(max(ratios), 2),
        "equal answers": sum(a == b for a, b in zip(slow_said, fast_said, strict=True)) / len(slow_said),
        "largest difference of a loss": max(
            abs(a - b) / max(1.0, abs(a)) for a, b in zip(slow_losses, fast_losses, strict=True)
        ),
    }


def main() -> None:
    """Measure and write."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--rows", type=int, default=64)
    asked.add_argument("--steps", type=int, default=120)
    options = asked.parse_args()
    import torch

    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, made in (
            ("starter, tuned", lambda: starter(Path(folder) / "starter", options.steps)),
            ("random Llama, 52 M", lambda: random_llama(Path(folder) / "random", options.rows)),
        ):
            rows.append({"model": name, **measure(made(), options.rows, options.rounds)})
            table(rows[-1:])
    write("evaluate", {"hardware": hardware(), "threads": 1, "batch": BATCH, "rows": rows})


if __name__ == "__main__":
    main()
