"""The conversation with both models: what was asked, and what each answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, Signal

from engine.project.atomic import write_json, write_text
from engine.protocol.errors import Failure
from gui.state.phase import Status

BASE, TUNED = "base", "tuned"
SIDES = (BASE, TUNED)


@dataclass(slots=True)
class Turn:
    """One question and its two answers.

    Attributes:
        texts: what each side has said so far.
        facts: per side: tokens, tokens_per_second, first_token_seconds, end; empty while it speaks.
        failures: per side: why it said no more.
        stopped: the user wants no more of it.
    """

    question: str
    texts: dict[str, str] = field(default_factory=lambda: dict.fromkeys(SIDES, ""))
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    stopped: bool = False

    @property
    def is_over(self) -> bool:
        """Whether both have ended, or failed."""
        return self.facts.keys() | self.failures.keys() >= set(SIDES)


class TalkState(QObject):
    """The turns so far, and how the next answers are drawn.

    Attributes:
        turns: oldest first.
        sampling: seed, temperature, top_p, repetition_penalty, max_new_tokens: the same for both.
        status: of loading the models.
        prompts: held-out questions to ask.
        facts: of the models that are loaded.
        asking: requests under way.
        loading: the request that loads the models, while it does.
        loaded: the adapter that the models are of, see `gui.operations.talk.adapter_of`.

    Signals:
        changed: a turn began or ended, the conversation was cleared, the status is another.
        grew(side, piece): an answer has grown.
        waits(text): why no answer grows yet.
    """

    changed = Signal()
    grew = Signal(str, str)
    waits = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.turns: list[Turn] = []
        self.sampling: dict[str, float] = {
            "seed": 42,
            "temperature": 0.0,
            "top_p": 1.0,
            "repetition_penalty": 1.0,
            "max_new_tokens": 128,
        }
        self.status = Status()
        self.prompts: list[str] = []
        self.facts: dict[str, Any] = {}
        self.asking: list[Any] = []
        self.loading: Any = None
        self.loaded: tuple[Path, int] | None = None

    @property
    def is_speaking(self) -> bool:
        """Whether an answer is still growing."""
        return bool(self.turns) and not self.turns[-1].is_over

    def begin(self, question: str) -> Turn:
        """A new question."""
        turn = Turn(question)
        self.turns.append(turn)
        self.changed.emit()
        return turn

    def grow(self, turn: Turn, side: str, piece: str) -> None:
        """An answer has grown by a piece."""
        turn.texts[side] += piece
        self.grew.emit(side, piece)

    def end(self, turn: Turn, answers: dict[str, dict[str, Any]]) -> None:
        """Sides have ended: what they said in all, and how fast."""
        for side, facts in answers.items():
            turn.texts[side] = str(facts.get("text", turn.texts[side]))
            turn.facts[side] = facts
        self.changed.emit()

    def fail(self, turn: Turn, failure: Failure, sides: Sequence[str] = SIDES) -> None:
        """Sides will say no more; what they said, and what others said, stays."""
        turn.failures.update({side: failure for side in sides if side not in turn.facts})
        self.changed.emit()

    def clear(self) -> None:
        """Begin anew."""
        self.turns = []
        self.changed.emit()

    def history(self, side: str) -> list[dict[str, str]]:
        """The conversation as one side knows it, the open question last."""
        messages: list[dict[str, str]] = []
        for turn in self.turns:
            if turn is not self.turns[-1] and not turn.texts[side]:
                continue  # it never answered: a model is not told of answers that are empty
            messages.append({"role": "user", "content": turn.question})
            if turn is not self.turns[-1]:
                messages.append({"role": "assistant", "content": turn.texts[side]})
        return messages

    def save(self, path: Path, title: str) -> None:
        """Write the transcript: JSON where the name says so, else Markdown. Raises `UserError`."""
        if path.suffix.lower() == ".json":
            turns = [{"question": t.question, **t.texts, "facts": t.facts} for t in self.turns]
            write_json(path, {"title": title, "sampling": self.sampling, "turns": turns})
            return
        lines = [f"# {title}", "", ", ".join(f"{name} {value:g}" for name, value in self.sampling.items()), ""]
        for turn in self.turns:
            lines += [f"**Question:** {turn.question}", ""]
            lines += [f"**Base:** {turn.texts[BASE]}", "", f"**Tuned:** {turn.texts[TUNED]}", "", "---", ""]
        write_text(path, "\n".join(lines))
