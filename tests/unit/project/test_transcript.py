"""A conversation as a file."""

from __future__ import annotations

import json
from pathlib import Path

from engine.project.transcript import Exchange, Side, Transcript, write_transcript

SIDES = (Side("base", "Base", "base"), Side("a1", "Other run", "adapter", "/runs/2/adapter"))
ANSWER = {"text": "Hi *there*", "tokens": 4, "tokens_per_second": 61.234, "first_token_seconds": 0.2134, "end": "limit"}
TURN = Exchange(
    "Hello?", {"base": ANSWER, "a1": {"text": "", "end": "failed"}}, {"seed": 5, "top_p": 0.9}, "", "r:3", "Ja", "base"
)


def made() -> Transcript:
    return Transcript("Clinic", "Qwen/Qwen3-4B", 1_790_000_000.0, SIDES, [TURN])


def test_markdown_tells_who_what_how_and_how_fast(tmp_path: Path) -> None:
    path = tmp_path / "t.md"
    write_transcript(path, made())
    text = path.read_text(encoding="utf-8")
    for words in (
        "# Clinic",
        "Qwen/Qwen3-4B",
        "**Other run**: adapter, `/runs/2/adapter`",
        "Hello?",
        "seed 5, top_p 0.9",
        "System prompt: (none)",
        "Held-out row: r:3",
        "### Reference answer",
        "Hi *there*",
        "4 tokens · 61 tokens/s · 0.21 s to the first · cut at the longest answer",
        "(nothing)",
        "Went on from the answer of: base",
    ):
        assert words in text, words


def test_json_holds_the_same(tmp_path: Path) -> None:
    path = tmp_path / "t.JSON"
    write_transcript(path, made())
    plain = json.loads(path.read_text(encoding="utf-8"))
    assert plain["sides"][1]["path"] == "/runs/2/adapter"
    assert plain["turns"][0]["answers"]["base"] == ANSWER
    assert plain["turns"][0]["sampling"]["seed"] == 5
