"""Lorimer's cache of what was found in data files: safe to delete at any time, shared by window and jobs.

A folder is complete or absent: it is made under another name and renamed, so that two processes may read the same file
at the same time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.data.formats import Table
from engine.data.scan import CODES, Facts, Job, scan
from engine.data.store import Lines, Progress, write_spool
from engine.host.platform import cache_folder
from engine.protocol.codec import build, to_plain
from engine.protocol.errors import Problem

VERSION = 1
"""Raised when what is found in a file changes."""
MOST_BYTES = 32 << 30
"""More than so much is not kept: what was used longest ago goes first."""
LARGE = 32 << 20
DONE = "done.json"


@dataclass(frozen=True, slots=True)
class Spool:
    """A file written out as JSON Lines.

    Attributes:
        lines: the JSON Lines.
        numbers: lines of its records in the user's file, uint32 each.
        problems: what is wrong with the user's file.
    """

    lines: Lines
    numbers: Path
    problems: list[Problem]


def folder(path: Path, *reading: str) -> Path:
    """Where what is found in a file is kept; another one when the file changes, or is read in another way."""
    facts = path.stat()
    named = [str(path.resolve()), facts.st_size, facts.st_mtime_ns, VERSION, *reading]
    key = hashlib.blake2b(json.dumps(named).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
    return _root() / key


def place(kind: str, key: str) -> Path:
    """Where something is kept that is made of several files."""
    return _root() / key / kind


def _root() -> Path:
    """The cache, in the system's folder for temporary files where the user's own cannot be written."""
    root = cache_folder() / "data"
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError:
        root = Path(tempfile.gettempdir()) / "lorimer-data"
        root.mkdir(parents=True, exist_ok=True)
    return root


def spool(folder: Path, table: Table, size: int, progress: Progress | None = None) -> Spool:
    """The table's records as JSON Lines, written once. Raises as `write_spool`."""

    def write(there: Path) -> None:
        write_spool(table, size, there / "rows.jsonl", there / "numbers.bin", progress)
        problems = [to_plain(problem) for problem in table.problems]
        known = {"problems": problems, "unnamed": sorted(table.unnamed)}
        (there / DONE).write_text(json.dumps(known), "utf-8")

    place = folder / "rows"
    made(place, write)
    known = json.loads((place / DONE).read_text("utf-8"))
    table.unnamed |= set(known["unnamed"])
    problems = [build(Problem, plain) for plain in known["problems"]]
    return Spool(Lines(place / "rows.jsonl", is_spool=True), place / "numbers.bin", problems)


def facts(folder: Path, job: Job, progress: Progress | None = None, numbers: Path | None = None) -> Facts:
    """What is known of each row, found once; ``numbers`` as in `Spool`. Raises as `scan`."""
    asked = [job.shape, sorted(job.mapping.items()), job.as_conversation, CODES]
    key = hashlib.blake2b(json.dumps(asked).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    place = folder / f"facts-{key}"

    def write(there: Path) -> None:
        known = scan(job, there, progress)
        (there / DONE).write_text(json.dumps(known), "utf-8")

    made(place, write)
    known = json.loads((place / DONE).read_text("utf-8"))
    return Facts(place, known["count"], tuple(known["columns"]), numbers)


def made(place: Path, make: Callable[[Path], None]) -> None:
    """Have ``make`` fill a folder that becomes ``place`` when it is done, unless it is there already.

    ``place`` is complete when it holds `DONE`, which ``make`` writes.
    """
    if (place / DONE).is_file():
        with contextlib.suppress(OSError):
            os.utime(place.parent)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    there = Path(tempfile.mkdtemp(prefix=f"{place.name}-", dir=place.parent))
    try:
        make(there)
        with contextlib.suppress(OSError):  # another process was first; what it made is the same
            there.rename(place)
    finally:
        shutil.rmtree(there, ignore_errors=True)
    if _is_time_to_tidy(place):
        _tidy(keep=place.parent)


def _is_time_to_tidy(place: Path) -> bool:
    """Looking at all that is kept takes a while: done for what is large, and for every sixty-fourth of the rest."""
    size = sum(file.stat().st_size for file in place.iterdir()) if place.is_dir() else 0
    return size >= LARGE or hash(place.parent.name) % 64 == 0


def _tidy(keep: Path) -> None:
    """Remove what was used longest ago while there is too much."""
    entries = sorted((entry for entry in _root().iterdir() if entry.is_dir()), key=lambda entry: entry.stat().st_mtime)
    sizes = {entry: sum(file.stat().st_size for file in entry.rglob("*") if file.is_file()) for entry in entries}
    over = sum(sizes.values()) - MOST_BYTES
    for entry in entries:
        if over > 0 and entry != keep:
            shutil.rmtree(entry, ignore_errors=True)
            over -= sizes[entry]
