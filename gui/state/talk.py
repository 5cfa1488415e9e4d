"""The conversation with several models: who answers, what was asked, and what each answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, Signal

from engine.protocol.text import Text, say
from gui.state.phase import Status

if TYPE_CHECKING:
    from engine.project.held_out import HeldOutQuestion
    from engine.protocol.errors import Failure

BASE, TUNED, ADAPTER, GGUF = "base", "tuned", "adapter", "gguf"
SIDES = (BASE, TUNED)
MOST_COLUMNS = 4
"""Columns that stay readable side by side."""


@dataclass(slots=True)
class Column:
    """Who answers in one column.

    Attributes:
        name: as the session calls it.
        kind: "base", "tuned", "adapter" or "gguf".
        title: for people.
        path: of its adapter or file; empty for base and tuned model of the run.
        facts: what the session tells of it: ``method``, ``context``.
        failure: why it cannot be loaded.
    """

    name: str
    kind: str
    title: Text
    path: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    failure: Failure | None = None

    def plain(self) -> dict[str, str]:
        """As a request names it."""
        return {"name": self.name, "kind": self.kind, "path": self.path}


@dataclass(slots=True)
class Turn:
    """One question and its answers.

    Attributes:
        question: the user's.
        sides: who is asked.
        texts: what each side has said so far.
        facts: per side: tokens, tokens_per_second, first_token_seconds, end; empty while it speaks.
        failures: per side: why it said no more.
        sampling, system: how it was asked; ``system`` None for that of training.
        row: the held-out row that it was taken from; its earlier turns stand before it, whatever was said so far.
        kept: the side whose answer every side is told as its own; empty while each goes on from its own.
        stopped: the user wants no more of it.
    """

    question: str
    sides: tuple[str, ...] = SIDES
    texts: dict[str, str] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    sampling: Mapping[str, float] = field(default_factory=dict)
    system: str | None = None
    row: HeldOutQuestion | None = None
    kept: str = ""
    stopped: bool = False

    @property
    def is_over(self) -> bool:
        """Whether all have ended, or failed."""
        return self.facts.keys() | self.failures.keys() >= set(self.sides)

    def said(self, side: str) -> str:
        """What a side is told that it answered."""
        return self.texts.get(self.kept or side, "")


class TalkState(QObject):
    """Who answers, the turns so far, and how the next answers are drawn.

    Attributes:
        columns: who answers, base and tuned model first.
        turns: oldest first.
        sampling: seed, temperature, top_p, top_k, min_p, repetition_penalty, max_new_tokens: the same for all.
        system: the system prompt; None for that of training.
        drop: leave the oldest turns out where all have no room.
        status: of loading the models.
        prompts: held-out questions to ask; `held_out` is how many there are in all.
        candidates: what could be a column, None until it was looked for.
        facts: of the models that are loaded.
        asking: requests under way.
        loading: the request that loads the models, while it does.
        loaded: the run whose models are loaded, or on their way.

    Signals:
        changed: a turn began or ended, the conversation was cleared, a column came or went, the status is another.
        grew(side, piece): an answer has grown.
        waits(text): why no answer grows yet.
    """

    changed = Signal()
    grew = Signal(str, str)
    waits = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.columns: list[Column] = [
            Column(BASE, BASE, say("Base", "基础模型")),
            Column(TUNED, TUNED, say("Tuned", "微调模型")),
        ]
        self.turns: list[Turn] = []
        self.sampling: dict[str, float] = {
            "seed": 42,
            "temperature": 0.0,
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "max_new_tokens": 128,
        }
        self.system: str | None = None
        self.drop = False
        self.status = Status()
        self.prompts: list[HeldOutQuestion] = []
        self.held_out = 0
        self.candidates: list[Column] | None = None
        self.facts: dict[str, Any] = {}
        self.asking: list[Any] = []
        self.loading: Any = None
        self.loaded: Path | None = None
        self._added = 0

    # ------------------------------------------------------------------------------------------------------- columns
    @property
    def beside(self) -> list[Column]:
        """The columns beside base and tuned model."""
        return self.columns[len(SIDES) :]

    @property
    def can_add(self) -> bool:
        """Whether one more column stays readable."""
        return len(self.columns) < MOST_COLUMNS

    def column(self, name: str) -> Column | None:
        """The column of a name; None for one that was taken away."""
        return next((column for column in self.columns if column.name == name), None)

    def add(self, kind: str, title: Text, path: str) -> Column:
        """One more column, under a name that no other ever had."""
        self._added += 1
        column = Column(f"{kind}{self._added}", kind, title, path)
        self.columns.append(column)
        self.changed.emit()
        return column

    def remove(self, name: str) -> None:
        """Take a column away; what it said stays in the turns."""
        self.columns = [column for column in self.columns if column.name != name or name in SIDES]
        self.changed.emit()

    # --------------------------------------------------------------------------------------------------------- turns
    @property
    def is_speaking(self) -> bool:
        """Whether an answer is still growing."""
        return bool(self.turns) and not self.turns[-1].is_over

    def begin(self, question: str, *, row: HeldOutQuestion | None = None) -> Turn:
        """A new question to every column that is loaded."""
        sides = tuple(column.name for column in self.columns if column.failure is None)
        turn = Turn(
            question, sides, dict.fromkeys(sides, ""), sampling=dict(self.sampling), system=self.system, row=row
        )
        self.turns.append(turn)
        self.changed.emit()
        return turn

    def grow(self, turn: Turn, side: str, piece: str) -> None:
        """An answer has grown by a piece."""
        turn.texts[side] = turn.texts.get(side, "") + piece
        self.grew.emit(side, piece)

    def end(self, turn: Turn, answers: Mapping[str, dict[str, Any]]) -> None:
        """Sides have ended: what they said in all, and how fast."""
        for side, facts in answers.items():
            turn.texts[side] = str(facts.get("text", turn.texts.get(side, "")))
            turn.facts[side] = facts
        self.changed.emit()

    def fail(self, turn: Turn, failure: Failure, sides: Sequence[str] = ()) -> None:
        """Sides will say no more, all that have not ended where none is named; what was said stays."""
        turn.failures.update({side: failure for side in sides or turn.sides if side not in turn.facts})
        self.changed.emit()

    def keep(self, side: str) -> None:
        """Let every side go on from this side's last answer, or, when it did already, each from its own again."""
        if self.turns and not self.is_speaking:
            turn = self.turns[-1]
            turn.kept = "" if turn.kept == side else side
            self.changed.emit()

    def take_back(self) -> Turn | None:
        """The last question with its answers, taken out of the conversation; None while an answer grows."""
        if not self.turns or self.is_speaking:
            return None
        turn = self.turns.pop()
        self.changed.emit()
        return turn

    def clear(self) -> None:
        """Begin anew."""
        self.turns, self.drop = [], False
        self.changed.emit()

    def history(self, side: str) -> list[dict[str, str]]:
        """The conversation as one side knows it, the open question last."""
        messages: list[dict[str, str]] = []
        for turn in self.turns:
            if turn.row is not None:
                messages = [{"role": item.role, "content": item.content} for item in turn.row.before]
            if turn is self.turns[-1]:
                messages.append({"role": "user", "content": turn.question})
            elif turn.said(side):  # one that never answered is not told of answers that are empty
                messages.append({"role": "user", "content": turn.question})
                messages.append({"role": "assistant", "content": turn.said(side)})
        return messages
