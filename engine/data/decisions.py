"""What a person decided about single rows: cells changed, rows set aside or taken back. Data files stay as they are.

Kept as JSON Lines beside the recipe, one decision a line, so that the last one can be undone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.data.formats import Record
from engine.data.scan import fingerprint
from engine.project.atomic import disk_error, write_text
from engine.protocol.errors import Problem, UserError
from engine.protocol.text import say

Place = tuple[str, int]
"""A file as the recipe names it, and the row's number in it, from 0."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One thing that was decided.

    Attributes:
        file, row: a `Place`.
        was: fingerprint of the record as the file holds it: a decision about another record is not applied.
        column, value: the cell that was changed, and what stands there now; column "" for none.
        aside: True sets the row aside, False takes it back, None neither.
    """

    file: str
    row: int
    was: int
    column: str = ""
    value: Any = None
    aside: bool | None = None


@dataclass(slots=True)
class Decisions:
    """All that was decided, in order; later ones win.

    Attributes:
        items: every decision.
        problems: decisions that could not be applied; filled by who applies them.
    """

    items: list[Decision] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path | str) -> Decisions:
        """The decisions of a file; none where the name is empty or the file is not there.

        Raises:
            UserError: it cannot be read, or a line of it is no decision.
        """
        try:
            text = Path(path).read_text(encoding="utf-8") if path else ""
        except FileNotFoundError:
            return cls()
        except OSError as error:
            raise disk_error(error, Path(path)) from error
        items = []
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    items.append(Decision(**json.loads(line)))
                except (ValueError, TypeError) as error:
                    raise _damaged(Path(path), number) from error
        return cls(items)

    def save(self, path: Path) -> None:
        """Write them all. Raises `UserError` when the disk does not take it."""
        write_text(path, "".join(_line(item) + "\n" for item in self.items))

    def of(self, file: str) -> Mapping[int, list[Decision]]:
        """Row number → its decisions in order, of one file."""
        found: dict[int, list[Decision]] = {}
        for item in self.items:
            if item.file == file:
                found.setdefault(item.row, []).append(item)
        return found


def edited(record: Record, items: Iterable[Decision]) -> Record:
    """The record with its changed cells."""
    changed = {item.column: item.value for item in items if item.column}
    return replace(record, value={**record.value, **changed}) if changed else record


def set_aside_by_hand(items: Iterable[Decision]) -> bool | None:
    """What was decided last: True aside, False taken back, None nothing."""
    return next((item.aside for item in reversed(list(items)) if item.aside is not None), None)


def record_key(record: Mapping[str, Any]) -> int:
    """Fingerprint of a record."""
    return fingerprint(json.dumps(record, ensure_ascii=False, sort_keys=True, default=str))


def _line(item: Decision) -> str:
    plain = {"file": item.file, "row": item.row, "was": item.was}
    if item.column:
        plain |= {"column": item.column, "value": item.value}
    if item.aside is not None:
        plain["aside"] = item.aside
    return json.dumps(plain, ensure_ascii=False)


def _damaged(path: Path, line: int) -> UserError:
    return UserError(
        "data.decisions",
        say("Line {n} of {name} is no decision.", "{name} 的第 {n} 行不是有效的决定。", n=line, name=path.name),
        say("Remove the line, or empty data.decisions in the recipe.", "请删除该行，或清空配方中的 data.decisions。"),
        where=f"{path.name}:{line}",
    )
