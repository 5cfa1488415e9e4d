"""A run's folder as training leaves it, made by hand in a second: real base weights, a quickly fitted adapter."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from engine.catalogue import CATALOGUE
from engine.data.encode import Example, RowEncoder, longest
from engine.data.rows import ASSISTANT, USER, Message, Row, row_to_plain
from engine.data.template import choose_template
from engine.data.tokenizer import TextTokenizer
from engine.methods.registry import METHODS
from engine.model.load import load_base, load_tokenizer
from engine.project.run_folder import RunFolder
from engine.recipe.file import from_plain, save
from engine.train.adapter import save_adapter

NAMES = ("Tom", "Lily", "Ben", "Mia", "Sam", "Anna")


def stories() -> list[Row]:
    """Rows that a small story model learns in a few steps; answers of several lengths."""
    return [
        conversation(i, f"Who is {name}?", f"{name} likes to play{' in the big park' * (i % 2)}.")
        for i, name in enumerate(NAMES)
    ]


def words() -> list[Row]:
    """Rows that `tests.tiny_model` learns by heart, ends included; one answer needs several tokens a character."""
    pairs = (("cat", "one"), ("sun", "two red"), ("boat", "three blue tree"), ("tree", "猫 four"))
    return [conversation(i, f"{question}?", answer) for i, (question, answer) in enumerate(pairs)]


def conversation(index: int, *turns: str) -> Row:
    """A row of turns, the user's first."""
    messages = tuple(Message(ASSISTANT if i % 2 else USER, turn) for i, turn in enumerate(turns))
    return Row(index, f"rows.jsonl:{index + 1}", messages)


def preference(index: int, prompt: str, chosen: str, rejected: str) -> Row:
    """A row with a better and a worse answer."""
    return Row(index, f"rows.jsonl:{index + 1}", (Message(USER, prompt),), chosen, rejected)


def make_run(
    folder: Path, base: Path, rows: Sequence[Row], *, method: str = "qlora", steps: int = 0, **changes: Any
) -> RunFolder:
    """A finished run in ``folder`` whose held-out rows are ``rows``.

    Args:
        method: the recipe's method.
        steps: how long the adapter is fitted to the rows; 0 leaves it with random weights.
        changes: sections of the recipe, such as ``evaluate={"rows": 2}``.
    """
    run = RunFolder(folder)
    objective = "sft" if rows[0].chosen is None else "dpo"
    plain = {"model": {"source": str(base)}, "method": {"name": method}, "objective": {"name": objective}, **changes}
    plain["evaluate"] = {"probes": False, **changes.get("evaluate", {})}  # general questions take seconds
    recipe = from_plain(plain, CATALOGUE)
    save(recipe, run.recipe_as_run)
    run.write_facts({"id": folder.name, "title": "made", "model_folder": str(base), "method": method})
    run.held_out.write_text("".join(json.dumps(row_to_plain(row)) + "\n" for row in rows), encoding="utf-8")

    template = choose_template(base, recipe.data.template)
    declared = METHODS[method]
    torch.manual_seed(0)
    model = importlib.import_module(declared.work).build(load_base(base, quantised=declared.quantised), recipe.method)
    text = TextTokenizer.load(base)
    encoder = RowEncoder(template, text, recipe.data, longest(recipe.data, text))
    examples = [item for item in encoder.encode(rows) if isinstance(item, Example)]
    _fit(model, examples, steps)
    save_adapter(run.adapter, model, load_tokenizer(base, template), template, None)
    return run


def _fit(model: Any, examples: Sequence[Example], steps: int) -> None:
    """Some steps over all rows at once; without steps, weights a little off their start."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    if not steps:
        for weight in trained:
            weight.data += 0.05 * torch.randn_like(weight)
        return
    texts = [_text(example) for example in examples]
    width = max(len(ids) for ids, _ in texts)
    ids = torch.tensor([row + [0] * (width - len(row)) for row, _ in texts])
    learned = torch.tensor([flags + [False] * (width - len(flags)) for _, flags in texts])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row, _ in texts])
    labels = ids.masked_fill(~learned, -100)
    optimizer = torch.optim.AdamW(trained, lr=4e-3)
    model.train()
    for _ in range(steps):
        model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


def _text(example: Example) -> tuple[list[int], list[bool]]:
    if example.input_ids:
        return example.input_ids, example.learned
    prompt, chosen = example.prompt_ids, example.chosen_ids
    return prompt + chosen, [False] * len(prompt) + [True] * len(chosen)
