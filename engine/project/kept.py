"""The checkpoints that a run keeps, for lists and copies: which there are, how large, which one is the best. Light.

What a checkpoint is, `engine.train.checkpoints` says: a folder ``step-000100`` whose ``manifest.json`` has the size and
SHA-256 of each other file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from engine.project.atomic import open_plain
from engine.project.run_folder import RunFolder
from engine.protocol.text import Text

MANIFEST, PROGRESS = "manifest.json", "progress.json"
LARGEST_MANIFEST, CHUNK = 2**24, 2**20
_NAME = re.compile(r"step-(\d{6,12})")


@dataclass(frozen=True, slots=True)
class Kept:
    """One checkpoint.

    Attributes:
        step: optimizer steps done.
        path: its folder.
        bytes: of its files, by the manifest; 0 where that cannot be read.
        best_step: the step that had the lowest held-out loss by then; 0 before any was measured.
    """

    step: int
    path: Path
    bytes: int
    best_step: int


def kept(run: RunFolder) -> list[Kept]:
    """All checkpoints of a run by step, their files not looked at."""
    try:
        entries = [entry for entry in os.scandir(run.checkpoints) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    found = ((_NAME.fullmatch(entry.name), Path(entry.path)) for entry in entries)
    return sorted((_kept(int(name[1]), path) for name, path in found if name), key=lambda item: item.step)


def _kept(step: int, path: Path) -> Kept:
    sizes = [facts["bytes"] for facts in files_of(path).values()]
    best = _plain(path / PROGRESS).get("best_step")
    return Kept(step, path, sum(sizes), best if isinstance(best, int) else 0)


def files_of(checkpoint: Path) -> dict[str, dict[str, Any]]:
    """Name (relative, with "/") → ``{"bytes", "sha256"}`` of each file that the manifest names; empty where it is
    damaged, or names one outside of the checkpoint's folder."""
    files = _plain(checkpoint / MANIFEST).get("files")
    if not isinstance(files, dict):
        return {}
    good = all(
        _is_inside(name)
        and isinstance(facts, dict)
        and isinstance(facts.get("bytes"), int)
        and isinstance(facts.get("sha256"), str)
        for name, facts in files.items()
    )
    return files if good else {}


def is_whole(checkpoint: Path) -> bool:
    """Whether every file that the manifest names is there, with its size and hash."""
    files = files_of(checkpoint)
    return bool(files) and all(_fits(checkpoint / name, facts) for name, facts in files.items())


def _fits(path: Path, facts: dict[str, Any]) -> bool:
    try:
        with open_plain(path) as file:
            if os.fstat(file.fileno()).st_size != facts["bytes"]:
                return False
            found = hashlib.sha256()
            while piece := file.read(CHUNK):
                found.update(piece)
            return found.hexdigest() == str(facts["sha256"])
    except OSError:
        return False


def spare(run: RunFolder) -> list[Kept]:
    """Checkpoints that a run can do without: all but the newest and the best one."""
    found = kept(run)
    if not found:
        return []
    newest = found[-1]
    return [item for item in found[:-1] if item.step != newest.best_step]


def in_a_row(steps: Iterable[int]) -> Text:
    """Steps as a sentence lists them."""
    listed = [str(step) for step in steps]
    return Text(", ".join(listed), "、".join(listed))


def _is_inside(name: object) -> bool:
    if not isinstance(name, str) or not name or "\\" in name or ":" in name:
        return False
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _plain(path: Path) -> dict[str, Any]:
    try:
        with open_plain(path) as file:
            content = file.read(LARGEST_MANIFEST + 1)
        found = json.loads(content) if len(content) <= LARGEST_MANIFEST else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
