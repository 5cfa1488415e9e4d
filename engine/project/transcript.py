"""A conversation with several models as a file that one can read, or go on working with: Markdown or JSON. Light."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from engine.project.atomic import write_json, write_text

FIGURES = (
    ("tokens", "{:g} tokens"),
    ("prompt_tokens", "{:g} before"),
    ("tokens_per_second", "{:.0f} tokens/s"),
    ("first_token_seconds", "{:.2f} s to the first"),
    ("dropped", "{:g} oldest turns left out"),
)
ENDS = {
    "limit": "cut at the longest answer",
    "context": "the context was full",
    "cancelled": "stopped",
    "failed": "failed",
}


@dataclass(frozen=True, slots=True)
class Side:
    """Who answered.

    Attributes:
        name: as in a turn's answers.
        title: for people.
        kind: "base", "tuned", "adapter" or "gguf".
        path: of its adapter or file; empty for the base.
    """

    name: str
    title: str
    kind: str
    path: str = ""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question and its answers.

    Attributes:
        question: the user's.
        answers: by side, as the chat session tells them: ``text``, ``tokens``, ``tokens_per_second``, ``end``…
        sampling: seed, temperature and the others.
        system: the system prompt; None for that of training.
        where, reference: of a held-out row that it was taken from.
        kept: the side whose answer every side was told as its own.
    """

    question: str
    answers: Mapping[str, Mapping[str, Any]]
    sampling: Mapping[str, Any] = field(default_factory=dict)
    system: str | None = None
    where: str = ""
    reference: str = ""
    kept: str = ""


@dataclass(frozen=True, slots=True)
class Transcript:
    """A whole conversation.

    Attributes:
        title: of the run.
        model: the base model.
        created: seconds since the epoch.
    """

    title: str
    model: str
    created: float
    sides: Sequence[Side]
    turns: Sequence[Exchange]


def write_transcript(path: Path, transcript: Transcript) -> None:
    """Write it: JSON where the name says so, else Markdown. Raises `UserError` when the disk does not take it."""
    if path.suffix.lower() == ".json":
        write_json(path, asdict(transcript))
    else:
        write_text(path, markdown(transcript))


def markdown(transcript: Transcript) -> str:
    """The conversation for people."""
    made = datetime.fromtimestamp(transcript.created).astimezone().strftime("%Y-%m-%d %H:%M")
    lines = [f"# {transcript.title}", "", f"{transcript.model} · {made}", ""]
    for side in transcript.sides:
        lines.append(f"- **{side.title}**: {side.kind}" + (f", `{side.path}`" if side.path else ""))
    for number, turn in enumerate(transcript.turns, 1):
        lines += ["", f"## {number}. Question", "", turn.question, "", *_settings(turn)]
        if turn.reference:
            lines += ["", "### Reference answer", "", turn.reference]
        for side in transcript.sides:
            answer = turn.answers.get(side.name)
            if answer is not None:
                lines += ["", f"### {side.title}", "", str(answer.get("text", "")) or "(nothing)", "", _figures(answer)]
    return "\n".join(lines) + "\n"


def _settings(turn: Exchange) -> list[str]:
    said = ", ".join(f"{name} {value:g}" for name, value in turn.sampling.items())
    lines = [f"_{said}_"] if said else []
    if turn.system is not None:
        lines += ["", f"System prompt: {turn.system or '(none)'}"]
    if turn.where:
        lines += ["", f"Held-out row: {turn.where}"]
    if turn.kept:
        lines += ["", f"Went on from the answer of: {turn.kept}"]
    return lines


def _figures(answer: Mapping[str, Any]) -> str:
    said = [words.format(answer[name]) for name, words in FIGURES if answer.get(name)]
    end = ENDS.get(str(answer.get("end", "")))
    return f"_{' · '.join([*said, end] if end else said)}_"
