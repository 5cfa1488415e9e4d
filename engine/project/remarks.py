"""What a person says of a run: its title, tags and a note, in ``notes.json`` of the run's folder.

The worker writes ``run.json`` while it works; a person's words are in a file of their own, so that neither loses the
other's. What stands in the file may come from a stranger: it is cut to size and cleaned when it is read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.project.atomic import read_json, write_json
from engine.project.run_folder import RunFolder
from engine.protocol.errors import UserError

MOST_TAGS = 20
LONGEST_TITLE, LONGEST_TAG, LONGEST_NOTE = 200, 40, 8000
"""Letters that are kept of each."""
LARGEST_BYTES = 2**20
"""A larger file is none that Lorimer wrote."""


@dataclass(frozen=True, slots=True)
class Remarks:
    """A person's words about a run.

    Attributes:
        title: another title than the one that the run was given; empty where it keeps that one.
        tags: short words to find it by, in the order in which they were given.
        note: free text of several lines.
    """

    title: str = ""
    tags: tuple[str, ...] = ()
    note: str = ""


def read_remarks(run: RunFolder) -> Remarks:
    """What was said of a run; nothing where the file is absent, damaged, or none of Lorimer's."""
    path = remarks_file(run)
    try:
        if path.stat().st_size > LARGEST_BYTES:
            return Remarks()
        plain = read_json(path)
    except (UserError, OSError):
        return Remarks()
    if not isinstance(plain, dict):
        return Remarks()
    listed = plain.get("tags")
    return Remarks(
        title=clean_title(plain.get("title")),
        tags=clean_tags(listed if isinstance(listed, list) else []),
        note=_text(plain.get("note"), LONGEST_NOTE, lines=True),
    )


def write_remarks(run: RunFolder, remarks: Remarks) -> Remarks:
    """Keep what is said of a run, cleaned as it is given back. Raises `UserError` when the disk does not take it."""
    kept = Remarks(
        clean_title(remarks.title), clean_tags(remarks.tags), _text(remarks.note, LONGEST_NOTE, lines=True).rstrip()
    )
    if kept != read_remarks(run):
        write_json(remarks_file(run), {"title": kept.title, "tags": list(kept.tags), "note": kept.note})
    return kept


def remarks_file(run: RunFolder) -> Path:
    """Where they are kept."""
    return run.path / "notes.json"


def clean_title(value: Any) -> str:
    """A title as one line without control characters."""
    return _text(value, LONGEST_TITLE)


def clean_tags(values: Iterable[Any]) -> tuple[str, ...]:
    """Tags without commas, each once, whatever its capitals."""
    found: dict[str, str] = {}
    for value in values:
        tag = _text(value.replace(",", " ") if isinstance(value, str) else value, LONGEST_TAG).lstrip("#").strip()
        if tag:
            found.setdefault(tag.casefold(), tag)
    return tuple(found.values())[:MOST_TAGS]


def _text(value: Any, longest: int, *, lines: bool = False) -> str:
    if not isinstance(value, str):
        return ""
    kept = "".join(letter if letter.isprintable() or (lines and letter == "\n") else " " for letter in value)
    return kept[:longest] if lines else " ".join(kept.split())[:longest].rstrip()
