"""Projects opened lately, newest first, for the project switcher, and those of them in which something still works.

The list is short and a person can take a project off it; the queue must know all the same that a run of it trains. What
leaves the list while something works there is therefore kept in a second list until nothing does.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from engine.host.launch import is_alive
from engine.host.platform import config_folder
from engine.project.atomic import read_json, write_json
from engine.project.run_folder import JobFolder
from engine.protocol.errors import UserError

MOST = 20
RUNS = ("runs/*/process.json", "runs/*/jobs/*/process.json")
"""What a run, or a later job of one, leaves in a project while a process works on it."""


def recent() -> list[Path]:
    """Project folders, newest first; those that are gone are left out. An unreadable list counts as empty."""
    return [path for path in _read(_file()) if (path / "project.json").exists()]


def at_work() -> list[Path]:
    """Projects that are not recent any more and in which something worked when they left the list."""
    return [path for path in _read(_left_file()) if path.is_dir()]


def remember(path: Path) -> None:
    """Put a project first. Raises `UserError` when the disk does not take it."""
    _write([path, *(other for other in recent() if other != path)])


def remember_project_of(job: JobFolder) -> None:
    """Put the project first whose run or job is about to be worked on; what lies in none is left out. A list that
    cannot be written keeps nobody from working."""
    runs = next((path for path in job.path.parents if path.name == "runs"), None)
    if runs is not None and ((project := runs.parent) / "project.json").is_file():
        with suppress(UserError):
            remember(project)


def forget(path: Path) -> None:
    """Take a project off the list; its folder stays. Raises `UserError` when the disk does not take it."""
    _write([other for other in recent() if other != path])


def replace(old: Path, new: Path) -> None:
    """A project's folder is elsewhere now. Raises `UserError` when the disk does not take it."""
    _write(list(dict.fromkeys(new if path == old else path for path in _read(_file()))))


def works_in(project: Path) -> bool:
    """Whether some process works on a run of the project, or on a later job of one."""
    files = (file for pattern in RUNS for file in project.glob(pattern))
    return any(is_alive(JobFolder(file.parent)) for file in files)


def _write(paths: Sequence[Path]) -> None:
    listed = list(paths[:MOST])
    left = [path for path in dict.fromkeys([*_read(_file()), *paths, *_read(_left_file())]) if path not in listed]
    working = [path for path in left if works_in(path)]
    if working != _read(_left_file()):
        write_json(_left_file(), [str(path) for path in working])
    write_json(_file(), [str(path) for path in listed])


def _read(file: Path) -> list[Path]:
    try:
        known = read_json(file)
    except UserError:
        return []
    return [Path(item) for item in known if isinstance(item, str)] if isinstance(known, list) else []


def _file() -> Path:
    return config_folder() / "recent.json"


def _left_file() -> Path:
    return config_folder() / "recent.working.json"
