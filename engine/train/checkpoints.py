"""Checkpoints on disk: complete or absent, checked when read, the oldest removed. Knows nothing of torch.

A checkpoint is a folder ``step-000100`` with PEFT's adapter, optimizer, scheduler, random state, the trainer's state,
``progress.json`` (what the run itself must remember) and ``manifest.json``, which holds the size and SHA-256 of each
other file. It is filled under a hidden name in the same folder, flushed to disk, renamed, and read back: older ones go
only when it has proved to be whole. Whatever ends the process, `mend` puts right what it left.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from engine.host.platform import sync_folder
from engine.project import kept
from engine.project.atomic import disk_error, flush, share, write_json
from engine.project.kept import MANIFEST, PROGRESS
from engine.project.run_folder import RunFolder
from engine.protocol.errors import EXIT_MACHINE, UserError
from engine.protocol.text import say

OLD, REMOVED, PART = ".old", ".removed", ".part"
"""Ends of hidden names: moved away to be replaced, to be removed, not finished."""
SMALL_BYTES = 2**20
_NAME = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One complete checkpoint.

    Attributes:
        step: optimizer steps done.
        path: its folder.
        bytes: of all its files, where it was just written; else 0.
    """

    step: int
    path: Path
    bytes: int = field(default=0, compare=False)

    def progress(self) -> dict[str, Any]:
        """What the run remembered. Raises `ValueError` or `OSError` when it cannot be read."""
        found: dict[str, Any] = json.loads((self.path / PROGRESS).read_text(encoding="utf-8"))
        return found


def checkpoints(run: RunFolder) -> list[Checkpoint]:
    """All checkpoints of a run by step, unchecked."""
    if not run.checkpoints.is_dir():
        return []
    found = ((_NAME.fullmatch(path.name), path) for path in run.checkpoints.iterdir())
    return sorted((Checkpoint(int(name[1]), path) for name, path in found if name), key=lambda item: item.step)


def latest(run: RunFolder) -> Checkpoint | None:
    """The newest checkpoint whose files are all as they were written; None when there is none."""
    return next((item for item in reversed(checkpoints(run)) if is_whole(item)), None)


def damaged(run: RunFolder, good: Checkpoint | None) -> list[Checkpoint]:
    """Checkpoints that `latest`, which is ``good``, passes over: newer than it, and not whole."""
    return [item for item in checkpoints(run) if good is None or item.step > good.step]


def is_whole(checkpoint: Checkpoint) -> bool:
    """Whether every file that the manifest names is there, with its size and hash."""
    return kept.is_whole(checkpoint.path)


def write(run: RunFolder, step: int, progress: dict[str, Any], fill: Callable[[Path], None]) -> Checkpoint:
    """A new checkpoint, filled by ``fill`` and read back; one of the same step is replaced.

    Raises:
        UserError: the disk does not take it, or does not give back what it was given. What was there before is still
            there.
    """
    place = run.checkpoints / f"step-{step:06d}"
    with new_folder(place) as folder:
        fill(folder)
        write_json(folder / PROGRESS, progress)
        files = {str(path.relative_to(folder).as_posix()): _facts(path) for path in _files(folder)}
        write_json(folder / MANIFEST, {"version": 1, "step": step, "files": files})
    checkpoint = Checkpoint(step, place, sum(facts["bytes"] for facts in files.values()))
    if not is_whole(checkpoint):
        raise UserError(
            "disk.untrue",
            say(
                "The disk did not keep what was written to {path}.", "磁盘未能正确保存写入 {path} 的内容。", path=place
            ),
            say(
                "Check the disk or the cable, or choose a folder on another disk; the checkpoint before is kept.",
                "请检查磁盘或连接线，或换用其他磁盘上的文件夹；上一个检查点仍在。",
            ),
            where=str(place),
            exit_code=EXIT_MACHINE,
        )
    return checkpoint


def mend(run: RunFolder) -> None:
    """Put right what a process that was ended left in the middle of a change: what was moved away to be replaced comes
    back where its successor never came, and what was unfinished or to be removed goes. Only the run's process may call
    it; files that a window writes are let be.

    Raises:
        UserError: the disk refuses.
    """
    files = (run.recipe_as_run, run.held_out, run.decisions, run.set_aside, run.examples, run.scores, run.environment)
    own = tuple(f".{path.name}." for path in files)
    for parent in (run.path, run.checkpoints):
        try:
            for hidden in sorted(parent.glob(".*")) if parent.is_dir() else []:
                if hidden.name.endswith(OLD):
                    place = parent / hidden.name[1 : -len(OLD)]
                    shutil.rmtree(hidden, ignore_errors=True) if place.exists() else os.replace(hidden, place)
                elif hidden.name.endswith((REMOVED, PART)) and hidden.is_dir():
                    shutil.rmtree(hidden, ignore_errors=True)
                elif hidden.name.endswith(PART) and hidden.name.startswith(own):
                    hidden.unlink(missing_ok=True)
        except OSError as error:
            raise disk_error(error, parent) from error


def rotate(run: RunFolder, newest: Checkpoint, keep: int, best: int | None) -> None:
    """Remove all but the ``keep`` newest up to ``newest`` and the one of step ``best``.

    Those beyond ``newest`` stem from before a resume from an earlier one, and go too.
    """
    found = checkpoints(run)
    kept = {item.step for item in [item for item in found if item.step <= newest.step][-keep:]} | {best}
    for item in found:
        if item.step not in kept:
            remove(item.path)


def remove(path: Path) -> None:
    """Remove a folder so that a part of it is never taken for the whole. Raises `UserError` when the disk refuses."""
    hidden = path.with_name(f".{path.name}{REMOVED}")
    try:
        shutil.rmtree(hidden, ignore_errors=True)
        os.replace(path, hidden)
        shutil.rmtree(hidden)
    except OSError as error:
        raise disk_error(error, path) from error


@contextmanager
def new_folder(place: Path) -> Iterator[Path]:
    """A folder that appears at ``place``, replacing what is there, only when the block ends well.

    Raises:
        UserError: the disk is full, or refuses.
    """
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        for left in place.parent.glob(f".{place.name}.*{PART}"):  # of a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=PART, dir=place.parent))
    except OSError as error:
        raise disk_error(error, place) from error
    try:
        yield folder
        _publish(folder, place)
    except (OSError, RuntimeError, SafetensorError) as error:
        if failure := _disk_failure(error, place.parent):
            raise disk_error(failure, place) from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _publish(folder: Path, place: Path) -> None:
    share(folder)
    for path in _files(folder):
        share(path)
        flush(path)
    for inner in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        sync_folder(inner)
    old = place.with_name(f".{place.name}{OLD}")
    replaces = place.exists()
    if replaces:
        shutil.rmtree(old, ignore_errors=True)
        os.replace(place, old)
    os.replace(folder, place)
    sync_folder(place.parent)
    if replaces:
        shutil.rmtree(old, ignore_errors=True)


def _disk_failure(error: Exception, folder: Path) -> OSError | None:
    """The `OSError` behind ``error``: torch and safetensors raise types of their own when the disk is full."""
    if isinstance(error, OSError):
        return error
    is_full = "No space left" in str(error) or shutil.disk_usage(folder).free < SMALL_BYTES
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) if is_full else None


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
