"""Held-out rows as what is measured: texts to score, and prompts to answer, tokenised as in training."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass

from engine.data.encode import Example, RowEncoder, longest
from engine.data.rows import Row, row_from_plain
from engine.evaluate.score import Scored
from engine.model.tuned import TunedModel
from engine.project.atomic import disk_error
from engine.project.run_folder import RunFolder
from engine.protocol.errors import UserError
from engine.protocol.text import say


@dataclass(frozen=True, slots=True)
class Question:
    """A held-out row, tokenised.

    Attributes:
        texts: what is scored: the conversation, or prompt with chosen and prompt with rejected answer.
        prompt: token ids to answer; empty when the template refuses the prompt alone.
        reference_tokens: length of the right answer.
    """

    row: Row
    texts: tuple[Scored, ...]
    prompt: list[int]
    reference_tokens: int


def read_rows(run: RunFolder) -> list[Row]:
    """All held-out rows of a run. Raises `UserError` when there is none, or the file is damaged."""
    nothing = UserError(
        "evaluate.no_rows",
        say("This run held out no rows to measure with.", "这次训练没有留出用于评估的行。"),
        say(
            "Train with a held-out share above 0 (data.held_out), or name a held-out file (data.held_out_file).",
            "请在训练时设置大于 0 的留出比例（data.held_out），或指定留出文件（data.held_out_file）。",
        ),
        where=str(run.held_out),
    )
    if not run.held_out.is_file():
        raise nothing
    try:
        lines = run.held_out.read_text(encoding="utf-8").split("\n")
        rows = [row_from_plain(json.loads(line)) for line in lines if line]
    except OSError as error:
        raise disk_error(error, run.held_out) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            "file.damaged",
            say("{name} is damaged and cannot be read.", "{name} 已损坏，无法读取。", name=run.held_out.name),
            say("Restore it from a copy, or train again.", "请从备份恢复，或重新训练。"),
            where=str(run.held_out),
            details=repr(error),
        ) from error
    if not rows:
        raise nothing
    return rows


def sample(rows: list[Row], most: int, seed: int) -> list[Row]:
    """At most so many rows, in the file's order; the same ones for the same seed."""
    if len(rows) <= most:
        return rows
    return [rows[i] for i in sorted(random.Random(seed).sample(range(len(rows)), most))]


def prepare_questions(tuned: TunedModel, rows: Sequence[Row]) -> list[Question]:
    """The rows as training saw them. Raises `UserError` when none can be used any more."""
    data = tuned.recipe.data
    encoder = RowEncoder(tuned.template, tuned.tokenizer, data, longest(data, tuned.tokenizer))
    # Of a row that training saw in pieces only the first is asked: the others have no question of their own.
    found = (item for item in encoder.encode(rows) if isinstance(item, Example))
    examples = list({item.row.index: item for item in reversed(list(found))}.values())[::-1]
    if not examples:
        raise UserError(
            "evaluate.no_usable_row",
            say("No held-out row can be used with this model.", "没有留出行可用于该模型。"),
            say("Was the base model replaced? Train again.", "基础模型是否被替换？请重新训练。"),
        )
    return [_question(tuned, example) for example in examples]


def _question(tuned: TunedModel, example: Example) -> Question:
    row = example.row
    if row.chosen is None:
        texts: tuple[Scored, ...] = (Scored(example.input_ids, example.learned),)
    else:
        texts = tuple(
            Scored(example.prompt_ids + answer, [False] * len(example.prompt_ids) + [True] * len(answer))
            for answer in (example.chosen_ids, example.rejected_ids)
        )
    if row.text is not None:
        # Plain text asks nothing: it is scored alone.
        return Question(row, texts, [], 0)
    try:
        prompt, _ = tuned.tokenizer.encode(
            tuned.template.render(row.prompt, tools=row.tools, generation_prompt=True).text
        )
    except UserError:
        # The conversation renders, its beginning alone does not: it is scored, not asked, and counted in the notes.
        prompt = []
    return Question(row, texts, prompt, tuned.tokenizer.count(row.answer))
