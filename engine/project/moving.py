"""A project at another place: moving its folder, and finding it again where somebody moved it by hand.

Recipes, drafts and lists hold absolute paths. Those that led into the project at its old place lead to its new one
afterwards; all others stay as they are, and `absent` tells which of them lead nowhere on this machine.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import tomli_w

from engine.host.launch import is_alive
from engine.project import queue, recent
from engine.project.atomic import disk_error, read_json, read_plain, write_json, write_text
from engine.project.run_folder import JobFolder
from engine.protocol.errors import EXIT_MACHINE, UserError
from engine.protocol.text import Text, say

CHUNK = 4 * 2**20
LARGEST_BYTES = 16 * 2**20
"""Of a file whose paths are looked at: a larger one is none that Lorimer wrote."""
JSON_FILES = ("runs/*/run.json", "runs/*/exports.json", "runs/*/job.json", "runs/*/jobs/*/job.json", "jobs/*/job.json")
TOML_FILES = ("*.toml", "runs/*/recipe.toml", "runs/*/recipe.run.toml")
Progress = Callable[[int, int], None]


# ---------------------------------------------------------------------------------------------------------- moving
def move_project(path: Path, target: Path, *, progress: Progress | None = None) -> bool:
    """Move a project's folder; to another disk by a copy that is compared before the old folder goes.

    Args:
        target: the new folder; absent or empty.
        progress: told (bytes, bytes of all) during a copy; it may raise `Stopped`.

    Returns:
        Whether nothing of it is left at the old place.

    Raises:
        UserError: something works on the project, the target will not do, or the disk refuses. The project then lies
            where it was.
        Stopped: ``progress`` raised it; the project lies where it was.
    """
    path, target = path.expanduser().resolve(), target.expanduser().resolve()
    _check(path, target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            target.rmdir()
        try:
            os.rename(path, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _move_across(path, target, progress or (lambda done, total: None))
    except OSError as error:
        raise disk_error(error, target) from error
    for lease in target.glob("control.*.json"):  # of windows on the old place
        lease.unlink(missing_ok=True)
    settle(target, path)
    # Only here: what a project says of its old place may be a stranger's word, and must move no run that waits.
    queue.rehome(path, target)
    recent.replace(path, target)
    return not path.exists()


def _check(path: Path, target: Path) -> None:
    if target == path:
        raise _refused(say("The project is there already.", "项目已在该位置。"), target)
    if target.is_relative_to(path):
        raise _refused(say("A project cannot be moved into itself.", "不能把项目移到它自己里面。"), target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise _refused(say("{path} is not empty.", "{path} 不是空文件夹。", path=target), target)
    if busy := busy_in(path):
        raise UserError(
            "project.busy",
            say("Something still works in {path}.", "仍有任务在 {path} 中进行。", path=busy.path),
            say("Stop it first, or wait until it has ended.", "请先停止，或等待其结束。"),
            where=str(busy.path),
        )


def _refused(message: Text, target: Path) -> UserError:
    hint = say("Choose an empty or a new folder.", "请选择空文件夹或新建文件夹。")
    return UserError("project.target", message, hint, where=str(target))


def busy_in(project: Path) -> JobFolder | None:
    """A job of the project that some process works on; None when there is none."""
    patterns = (
        "runs/*/process.json",
        "runs/*/jobs/*/process.json",
        "jobs/*/process.json",
        "jobs/*/trials/*/process.json",
    )
    files = (file for pattern in patterns for file in project.glob(pattern))
    return next((job for file in files if is_alive(job := JobFolder(file.parent))), None)


def _move_across(path: Path, target: Path, progress: Progress) -> None:
    """Copy to a hidden folder beside the target, compare, rename; only then the old folder goes."""
    # By a short name of its own, the same at each try: the target's may be as long as names can be.
    made_up = hashlib.sha256(target.name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    hidden = target.with_name(f".lorimer-{made_up}.part")
    shutil.rmtree(hidden, ignore_errors=True)
    try:
        _copy_all(path, hidden, progress)
        os.rename(hidden, target)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    shutil.rmtree(path, ignore_errors=True)


def _copy_all(path: Path, hidden: Path, progress: Progress) -> None:
    entries = list(_walk(path))
    done, total = 0, sum(entry.stat().st_size for entry in entries if entry.is_file() and not entry.is_symlink())
    if total > shutil.disk_usage(hidden.parent).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    hidden.mkdir()
    for entry in entries:
        copy = hidden / entry.relative_to(path)
        if entry.is_symlink():
            copy.symlink_to(os.readlink(entry))
        elif entry.is_dir():
            copy.mkdir()
        elif entry.is_file():
            for count in _copy(entry, copy):
                done += count
                progress(done, total)


def _walk(folder: Path) -> Iterator[Path]:
    """Everything in a folder, each folder before what is in it; links are not followed."""
    for entry in sorted(folder.iterdir()):
        yield entry
        if entry.is_dir() and not entry.is_symlink():
            yield from _walk(entry)


def _copy(source: Path, target: Path) -> Iterator[int]:
    """Copy a file with its times, flushed, and read it back; gives the bytes of each piece."""
    written = hashlib.sha256()
    with source.open("rb") as read, target.open("wb") as write:
        while piece := read.read(CHUNK):
            write.write(piece)
            written.update(piece)
            yield len(piece)
        write.flush()
        os.fsync(write.fileno())
    shutil.copystat(source, target)
    with target.open("rb") as file:
        if hashlib.file_digest(file, "sha256").digest() != written.digest():
            raise UserError(
                "disk.error",
                say("{path} was not copied as it is.", "{path} 的副本与原件不一致。", path=target),
                say("Check the disk, and try again.", "请检查磁盘后重试。"),
                where=str(target),
                exit_code=EXIT_MACHINE,
            )


# ------------------------------------------------------------------------------------------------------ a new place
def settle(project: Path, old: Path | None = None) -> bool:
    """Make the paths into the project lead to where it lies now, and remember that place.

    Args:
        old: where it lay; else the place that it remembers.

    Returns:
        Whether it had lain elsewhere.

    Raises:
        UserError: the disk does not take it.
    """
    facts = read_json(project / "project.json")
    if not isinstance(facts, dict):
        return False
    known = str(old) if old is not None else facts.get("path")
    if known == str(project):
        return False
    if isinstance(known, str) and known and busy_in(project) is None:
        _rewrite(project, known)
    write_json(project / "project.json", {**facts, "path": str(project)})
    return isinstance(known, str)


def _rewrite(project: Path, old: str) -> None:
    for pattern in JSON_FILES:
        for file in project.glob(pattern):
            _rewrite_file(
                file, json.loads, lambda plain: json.dumps(plain, ensure_ascii=False, indent=2) + "\n", project, old
            )
    for pattern in TOML_FILES:
        for file in project.glob(pattern):
            _rewrite_file(file, tomllib.loads, tomli_w.dumps, project, old)


def _rewrite_file(
    file: Path, loads: Callable[[str], Any], dumps: Callable[[Any], str], project: Path, old: str
) -> None:
    """Write a file anew where a path in it leads into the old place; one that cannot be read stays as it is."""
    try:
        # A link may lead out of the project: nothing is written there.
        if not file.resolve().is_relative_to(project.resolve()) or file.stat().st_size > LARGEST_BYTES:
            return
        plain = loads(read_plain(file).decode("utf-8-sig"))
        moved = _moved(plain, old, project)
    except (OSError, ValueError, RecursionError):
        return
    if moved != plain:
        write_text(file, dumps(moved))


def _moved(value: Any, old: str, project: Path) -> Any:
    if isinstance(value, dict):
        return {_moved(key, old, project): _moved(item, old, project) for key, item in value.items()}
    if isinstance(value, list):
        return [_moved(item, old, project) for item in value]
    if not isinstance(value, str) or not value.startswith(old):
        return value
    # A project that comes from Windows has paths of that kind.
    kind = PureWindowsPath if "\\" in old else PurePosixPath
    rest = value[len(old) :]
    if rest and rest[0] not in "/\\":
        return value
    return str(project.joinpath(*kind(rest.lstrip("/\\")).parts))


# ------------------------------------------------------------------------------------------------------------ absent
@dataclass(frozen=True, slots=True)
class Absent:
    """Something that a project names and that is not on this machine.

    Attributes:
        what: "data" or "model".
        path: absolute.
        where: the plan, or the run that names it.
    """

    what: str
    path: str
    where: str


def absent(project: Path) -> list[Absent]:
    """Data files of the plan, and base models of its runs, that do not exist here. Nothing is opened but Lorimer's own
    files."""
    found = {}
    for name in _strings(_read(project / "draft.toml", tomllib.loads).get("data"), "files"):
        if _is_path(name) and not os.path.exists(name):
            found[name] = Absent("data", name, "draft.toml")
    for file in sorted(project.glob("runs/*/run.json")):
        folder = _read(file, json.loads).get("model_folder")
        if isinstance(folder, str) and folder and not os.path.isdir(folder):
            found.setdefault(folder, Absent("model", folder, file.parent.name))
    return list(found.values())


def _is_path(name: str) -> bool:
    return PurePosixPath(name).is_absolute() or PureWindowsPath(name).is_absolute()


def _strings(table: Any, name: str) -> list[str]:
    values = table.get(name) if isinstance(table, dict) else None
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []


def _read(file: Path, loads: Callable[[str], Any]) -> dict[str, Any]:
    try:
        plain = loads(read_plain(file).decode("utf-8-sig")) if file.stat().st_size <= LARGEST_BYTES else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return plain if isinstance(plain, dict) else {}
