"""Projects opened lately, newest first, for the project switcher."""

from __future__ import annotations

from pathlib import Path

from engine.host.platform import config_folder
from engine.project.atomic import read_json, write_json
from engine.protocol.errors import UserError

MOST = 20


def recent() -> list[Path]:
    """Project folders, newest first; those that are gone are left out. An unreadable list counts as empty."""
    try:
        known = read_json(_file())
    except UserError:
        return []
    paths = [Path(item) for item in known if isinstance(item, str)] if isinstance(known, list) else []
    return [path for path in paths if (path / "project.json").exists()]


def remember(path: Path) -> None:
    """Put a project first. Raises `UserError` when the disk does not take it."""
    _write([path, *(other for other in recent() if other != path)])


def forget(path: Path) -> None:
    """Take a project off the list; its folder stays. Raises `UserError` when the disk does not take it."""
    _write([other for other in recent() if other != path])


def replace(old: Path, new: Path) -> None:
    """A project's folder is elsewhere now. Raises `UserError` when the disk does not take it."""
    try:
        known = read_json(_file())
    except UserError:
        known = []
    paths = [Path(item) for item in known if isinstance(item, str)] if isinstance(known, list) else []
    _write(list(dict.fromkeys(new if path == old else path for path in paths)))


def _write(paths: list[Path]) -> None:
    write_json(_file(), [str(path) for path in paths[:MOST]])


def _file() -> Path:
    return config_folder() / "recent.json"
