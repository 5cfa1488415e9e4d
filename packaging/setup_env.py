"""The environment in `.venv`: whether it stands, and what its state is. Standard library only.

The last thing a set-up writes is a stamp. Where it stands and fits there is nothing to do; where it is missing, the
set-up was never finished and is taken up again.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import setup_system
import setup_torch


@dataclass(frozen=True)
class Places:
    """Where things are, from the repository's root (absolute)."""

    root: Path

    @property
    def venv(self) -> Path:
        return self.root / ".venv"

    @property
    def log(self) -> Path:
        return self.venv / "setup.log"

    @property
    def lock(self) -> Path:
        return self.venv / "setup.lock"

    @property
    def stamp(self) -> Path:
        return self.venv / "lorimer-setup.json"

    @property
    def constraints(self) -> Path:
        return self.root / "packaging" / "constraints.txt"

    @property
    def python(self) -> Path:
        return setup_system.venv_python(self.venv)


# -------------------------------------------------------------------------------------------------------- stamp
def _project(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


def fingerprint(places: Places) -> str:
    """Changes when what must be installed changes: the pins, the project's dependencies, PyTorch, the place."""
    project = _project(places.root)
    parts = [
        places.constraints.read_text(encoding="utf-8"),
        json.dumps([project["project"], project["build-system"]], sort_keys=True),
        setup_torch.VERSION,
        str(places.root),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def read_stamp(places: Places) -> dict[str, Any]:
    """What the last finished set-up wrote; empty where there was none or it cannot be read."""
    try:
        stamp = json.loads(places.stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def is_ready(places: Places, *, dev: bool) -> bool:
    """Whether the environment stands as it should, so that the set-up has nothing to do."""
    stamp = read_stamp(places)
    if not stamp or (dev and not stamp.get("dev")):
        return False
    # An upgrade of the system's Python leaves a link that points nowhere or to another version.
    python = places.python
    return (
        python.exists()
        and stamp.get("interpreter") == str(python.resolve())
        and stamp.get("fingerprint") == fingerprint(places)
    )


def write_stamp(places: Places, *, dev: bool) -> None:
    """Say that the set-up is finished."""
    stamp = {"fingerprint": fingerprint(places), "dev": dev, "interpreter": str(places.python.resolve())}
    temporary = places.stamp.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(stamp, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(places.stamp)


# ------------------------------------------------------------------------------------------- state of the folder
_OLDEST_PYTHON = (3, 11)

# What a set-up that was ended at any moment may have left.
_OURS = {"setup.log", "setup.lock", "lorimer-setup.json", "tmp", "share"}
_OURS |= {"bin", "include", "lib", "lib64", "Scripts", "Include", "Lib"}


def is_foreign(venv: Path) -> bool:
    """Whether something stands at `.venv` that is no Python environment, not even one half made."""
    if not venv.exists():
        return False
    if not venv.is_dir():
        return True
    return not (venv / "pyvenv.cfg").exists() and any(entry.name not in _OURS for entry in venv.iterdir())


def must_be_remade(places: Places) -> bool:
    """Whether what stands at `.venv` is of no use: half made, moved here, or of a Python that is too old."""
    if Path(sys.prefix).resolve() == places.venv.resolve():
        return False  # it is running this very program
    settings = _venv_settings(places.venv)
    if not settings or not places.python.exists():
        return True
    version = re.match(r"(\d+)\.(\d+)", settings.get("version") or settings.get("version_info", ""))
    if version and (int(version[1]), int(version[2])) < _OLDEST_PYTHON:
        return True
    # Commands inside hold the absolute path that the environment was made with.
    made_at = settings.get("command", "").partition(" -m venv ")[2].split(" ")[-1]
    return bool(made_at) and Path(made_at).resolve() != places.venv.resolve()


def _venv_settings(venv: Path) -> dict[str, str]:
    """`pyvenv.cfg`, which `python -m venv` writes; empty where there is none."""
    try:
        lines = (venv / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def clear(venv: Path) -> None:
    """Remove all but the log and the lock, which are in use."""
    for entry in venv.iterdir():
        if entry.name in ("setup.log", "setup.lock"):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def site_packages(python: Path, environment: Mapping[str, str]) -> Path | None:
    """Folder of the environment's libraries; None where its Python does not start or has no pip."""
    if not python.exists():
        return None
    command = [str(python), "-m", "pip", "--version"]
    answer = subprocess.run(command, capture_output=True, text=True, env=dict(environment), check=False)
    found = re.match(r"pip \S+ from (.+) \(python", answer.stdout)
    return Path(found[1]).parent if answer.returncode == 0 and found else None


def forget_half_installed(packages: Path) -> list[str]:
    """Make pip install again what it was installing when it was ended; the names of those packages.

    pip writes a package's RECORD last, and believes a package without one to be complete.
    """
    half = [info for info in packages.glob("*.dist-info") if not (info / "RECORD").exists()]
    for info in half:
        shutil.rmtree(info)
    return [info.name.partition("-")[0] for info in half]


def count_installed(packages: Path) -> int:
    """How many packages the environment holds."""
    try:
        return sum(name.endswith(".dist-info") for name in os.listdir(packages))
    except OSError:
        return 0


def folder_size(folder: Path) -> int:
    """Bytes in all files below `folder`; 0 where it is absent. Links are not followed."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            total += os.lstat(os.path.join(place, name)).st_size
    return total


# ------------------------------------------------------------------------------------------------ what to install
def requirements(root: Path, *, dev: bool) -> list[str]:
    """What the project depends on, as pip understands it."""
    project = _project(root)["project"]
    listed: list[str] = [*project["dependencies"], *(project["optional-dependencies"]["dev"] if dev else ())]
    return listed


def pin(constraints: Path, name: str) -> str:
    """The pinned version of `name`, as `name==version`.

    Raises:
        KeyError: it is not pinned.
    """
    for line in constraints.read_text(encoding="utf-8").splitlines():
        if line.partition("==")[0] == name:
            return line.strip()
    raise KeyError(name)


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The user's environment without what would lead pip or Python out of `.venv`."""
    leading_out = ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "__PYVENV_LAUNCHER__")
    kept = {name: value for name, value in environment.items() if name not in leading_out}
    return {**kept, "PYTHONNOUSERSITE": "1", "PIP_USER": "0", "PYTHONUTF8": "1"}
