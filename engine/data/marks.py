"""Which characters of a rendered text came from which turn: the turns are rendered once more with marks in them.

A mark is one character of Unicode's private planes. It stands inside the white space at a text's ends where a template
strips that, so that the template does the same with it as without. Whether it did is seen: without its marks the text
must be the same to the letter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.data.rows import ASSISTANT, Message, ToolCall

_PLANES = (0x100000, 0xF0000)
_ANY = {plane: re.compile(f"[{chr(plane)}-{chr(plane + 0xFFFD)}]") for plane in _PLANES}
_MOST = 0xFFFE // 2
# Some templates split an answer at these, and drop or move what stands before.
_THINK = re.compile(r"(</?think>)")
_EDGES = re.compile(r"\A(\s*)(.*?)(\s*)\Z", re.DOTALL)

CONTENT, REASONING, CALL = "content", "reasoning", "call"


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a turn's text, between two marks.

    Attributes:
        turn: index of the turn.
        kind: `CONTENT`, `REASONING` or `CALL`.
        text: what stands between its marks before the template gets it.
        lead, trail: white space around it, outside the marks.
    """

    turn: int
    kind: str
    text: str
    lead: str = ""
    trail: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a part stands in the rendered text: from ``start`` to ``end`` in characters."""

    part: Part
    start: int
    end: int


class Marker:
    """Marks for one conversation.

    Args:
        turns: what is handed to the template.
        text: what the template makes of them without marks.
        outer: marks stand outside the white space at a text's ends.
        every: all turns are marked; else answers alone.
        arguments_as_text: a call's arguments are handed over as text.
    """

    def __init__(
        self,
        turns: Sequence[Message],
        text: str,
        *,
        outer: bool,
        every: bool = True,
        arguments_as_text: bool = False,
    ) -> None:
        self._plane = next((plane for plane in _PLANES if not _ANY[plane].search(text)), None)
        self._text = text
        self._outer = outer
        self._arguments_as_text = arguments_as_text
        self.parts: list[Part] = []
        self.turns = [self._turn(i, m) if every or m.role == ASSISTANT else m for i, m in enumerate(turns)]

    @property
    def usable(self) -> bool:
        """Whether there are marks enough that the text does not hold itself."""
        return self._plane is not None and len(self.parts) <= _MOST

    @property
    def has_edges(self) -> bool:
        """Whether marks inside the white space stand elsewhere than those outside."""
        return any(part.text != part.text.strip() or part.lead or part.trail for part in self.parts)

    def read(self, marked: str) -> list[Place | None] | None:
        """Each part's place, None where the template dropped it; None when the marks changed what the template does."""
        assert self._plane is not None
        starts: dict[int, int] = {}
        ends: dict[int, int] = {}
        pieces: list[str] = []
        cursor = 0
        for count, found in enumerate(_ANY[self._plane].finditer(marked)):
            pieces.append(marked[cursor : found.start()])
            cursor = found.end()
            number, is_end = divmod(ord(found.group()) - self._plane, 2)
            (ends if is_end else starts).setdefault(number, found.start() - count)
        pieces.append(marked[cursor:])
        if "".join(pieces) != self._text:
            return None
        return [
            Place(part, starts[i], ends[i]) if i in starts and i in ends and starts[i] <= ends[i] else None
            for i, part in enumerate(self.parts)
        ]

    # ----------------------------------------------------------------------------------------------------- writing
    def _turn(self, i: int, turn: Message) -> Message:
        content = self._content(i, turn.content)
        reasoning = self._marked(i, REASONING, turn.reasoning)
        calls = tuple(self._call(i, call) for call in turn.calls)
        return replace(turn, content=content, reasoning=reasoning, calls=calls)

    def _content(self, i: int, content: str) -> str:
        if "</think>" not in content:
            return self._marked(i, CONTENT, content)
        pieces = _THINK.split(content)
        last = max(n for n, piece in enumerate(pieces) if piece == "</think>")
        return "".join(
            piece if n % 2 else self._marked(i, REASONING if n < last else CONTENT, piece)
            for n, piece in enumerate(pieces)
        )

    def _call(self, i: int, call: ToolCall) -> ToolCall:
        name = self._marked(i, CALL, call.name)
        if self._arguments_as_text:
            return ToolCall(name, self._marked(i, CALL, call.arguments))
        try:
            arguments = json.loads(call.arguments)
        except ValueError:
            return ToolCall(name, self._marked(i, CALL, call.arguments))
        return ToolCall(name, json.dumps(self._leaves(i, arguments), ensure_ascii=False))

    def _leaves(self, i: int, value: Any) -> Any:
        if isinstance(value, str):
            return self._marked(i, CALL, value)
        if isinstance(value, list):
            return [self._leaves(i, item) for item in value]
        if isinstance(value, dict):
            return {key: self._leaves(i, item) for key, item in value.items()}
        return value

    def _marked(self, i: int, kind: str, text: str) -> str:
        # A mark would make an empty text true, and white space alone a text.
        if not text.strip() or self._plane is None or len(self.parts) >= _MOST:
            return text
        number = self._plane + 2 * len(self.parts)
        opened, closed = chr(number), chr(number + 1)
        if self._outer:
            self.parts.append(Part(i, kind, text))
            return f"{opened}{text}{closed}"
        edges = _EDGES.match(text)
        assert edges is not None
        lead, core, trail = edges.groups()
        self.parts.append(Part(i, kind, core, lead, trail))
        return f"{lead}{opened}{core}{closed}{trail}"
