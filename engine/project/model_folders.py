"""Folders of this machine in which models lie: those that the user opened, and where other tools put theirs."""

from __future__ import annotations

import os
from pathlib import Path

from engine.host.platform import config_folder
from engine.project.atomic import read_json, write_json
from engine.protocol.errors import UserError

MOST = 50
DEPTH = 3
"""A folder that the user opens may hold models this deep: ``models/owner/name``."""
LOOKED_AT = 2000
"""Folders that are looked into at most: somebody may open the root of a disk."""
CONFIG = "config.json"


def remembered() -> list[Path]:
    """Folders that the user opened, newest first; those that are gone are left out. An unreadable list is empty."""
    try:
        known = read_json(_file())
    except UserError:
        return []
    paths = [Path(item) for item in known if isinstance(item, str)] if isinstance(known, list) else []
    return [path for path in paths if path.is_dir()]


def remember(folder: Path) -> None:
    """List this folder's models from now on. Raises `UserError` when the disk does not take it."""
    folder = folder.expanduser().absolute()
    others = [other for other in remembered() if other != folder]
    write_json(_file(), [str(path) for path in [folder, *others][:MOST]])


def forget(folder: Path) -> None:
    """List this folder's models no longer; it stays on the disk. Raises `UserError` as `remember` does."""
    write_json(_file(), [str(path) for path in remembered() if path != folder])


def found() -> list[Path]:
    """The models' folders, each once: of the folders that the user opened, then of other tools."""
    places = [*remembered(), *_of_other_tools()]
    return list(dict.fromkeys(model for place in places for model in inside(place)))


def inside(folder: Path) -> list[Path]:
    """Folders with a ``config.json``: this one, or those at most `DEPTH` below it; `LOOKED_AT` are looked into."""
    models: list[Path] = []
    places = [(folder, 0)]
    for place, depth in places:  # grows while it is gone through: the nearest first
        if (place / CONFIG).is_file():
            models.append(place)
        elif depth < DEPTH and len(places) < LOOKED_AT:
            places += [(item, depth + 1) for item in _folders_of(place)]
    return models


def _folders_of(place: Path) -> list[Path]:
    try:
        return sorted(item for item in place.iterdir() if item.is_dir() and not item.name.startswith("."))
    except OSError:
        return []  # what may not be looked into holds nothing for us


def _of_other_tools() -> list[Path]:
    """ModelScope's cache (its own variable moves it), where many models from China lie."""
    own = os.environ.get("MODELSCOPE_CACHE")
    return [Path(own) if own else Path.home() / ".cache" / "modelscope" / "hub"]


def _file() -> Path:
    return config_folder() / "model_folders.json"
