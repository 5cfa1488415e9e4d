"""What a recipe trains on, written out: rows as messages, with what is set aside and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.data.choice import Scores, Texts, pick, read_kept
from engine.data.encode import Example
from engine.data.prepare import prepare
from engine.data.rows import Row, message_to_plain, set_aside_to_plain
from engine.project.atomic import disk_error, write_json, write_lines
from engine.recipe.recipe import DataSettings


def write_prepared(
    data: DataSettings,
    folder: Path,
    *,
    preference: bool,
    model_folder: Path,
    scores: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write ``train.jsonl``, ``held_out.jsonl``, ``set_aside.jsonl`` and ``report.json`` to a folder.

    Args:
        data, preference, model_folder, progress: as for `engine.data.prepare.prepare`.
        folder: made where it is absent; files of these names are replaced.
        scores: what the job "score" found, for a recipe whose rows a model chooses or orders.

    Returns:
        the report: ``out``, ``train``, ``held_out`` (rows), ``set_aside`` (reason → rows), ``tokens``, ``learned``
        (of the training rows), ``template``, ``limit``, ``files`` (``path``, ``sha256``).

    Raises:
        UserError: as `prepare`; ``scores`` are of other data; the disk does not take it.
    """
    prepared = prepare(data, preference=preference, model_folder=model_folder, progress=progress)
    if scores is not None:
        prepared = pick(prepared, Scores.of(Texts.of(prepared.train), read_kept(scores)), data)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error, folder) from error
    write_lines(folder / "train.jsonl", map(_plain, prepared.train.with_rows()))
    write_lines(folder / "held_out.jsonl", map(_plain, prepared.held_out.with_rows()))
    write_lines(folder / "set_aside.jsonl", map(set_aside_to_plain, prepared.set_aside))
    report = {
        "out": str(folder),
        "train": len(prepared.train),
        "held_out": len(prepared.held_out),
        "set_aside": dict(Counter(item.reason for item in prepared.set_aside).most_common()),
        "tokens": int(prepared.train.lengths.sum()),
        "learned": int(prepared.train.learned.sum()),
        "template": prepared.template.name,
        "limit": prepared.limit,
        "files": [{"path": str(source.path), "sha256": source.sha256} for source in prepared.sources],
    }
    write_json(folder / "report.json", report)
    return report


def _plain(example: Example) -> dict[str, Any]:
    """A row in a shape that is imported again: messages, prompt with two answers, or text."""
    row = example.row
    if row.text is not None:
        found: dict[str, Any] = {"text": row.text}
    elif row.chosen is not None:
        found = {"prompt": _messages(row), "chosen": row.chosen, "rejected": row.rejected}
    else:
        found = {"messages": _messages(row)}
    if row.tools:
        found["tools"] = row.tools
    return {
        **found,
        "where": row.where,
        "tokens": example.length,
        "learned": example.learned_tokens,
        "cut": example.cut,
    }


def _messages(row: Row) -> list[dict[str, Any]]:
    return [_message(message_to_plain(message)) for message in row.messages]


def _message(plain: dict[str, Any]) -> dict[str, Any]:
    """A turn by the names that other programs know."""
    calls = plain.pop("calls", None)
    if calls:
        plain["tool_calls"] = [{"type": "function", "function": call} for call in calls]
    if "reasoning" in plain:
        plain["reasoning_content"] = plain.pop("reasoning")
    if plain.pop("learned", True) is False:
        plain["weight"] = 0
    return plain
