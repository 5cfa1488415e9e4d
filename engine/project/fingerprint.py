"""Whether a recipe, its data and its model are still what they were when something was measured of them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Settings that change neither the memory nor the time of a step: what was measured holds without them.
WITHOUT_COST = {
    "version": (),
    "method": ("alpha",),
    "train": (
        *("learning_rate", "scheduler", "warmup_ratio", "weight_decay", "max_grad_norm"),
        *("keep_checkpoints", "save_minutes", "pause_minutes", "patience", "seed", "shorten", "unstable"),
    ),
    "evaluate": ("rows", "max_new_tokens"),
}


SMALL_BYTES = 16 * 2**20


def fingerprint(recipe: dict[str, Any], model_folder: Path) -> str:
    """What changes when the recipe's cost may be another: a setting that counts, a data file, the model's files.

    Files are told apart by name, size and time; none is read, so that a window may ask often.

    Args:
        recipe: as the tables of its file.
        model_folder: where the model's files are.
    """
    named = [_costly(recipe), list(_data(recipe.get("data", {}))), list(_model(model_folder))]
    return hashlib.blake2b(
        json.dumps(named, sort_keys=True).encode("utf-8", "surrogatepass"), digest_size=12
    ).hexdigest()


def model_files(folder: Path) -> dict[str, dict[str, Any]]:
    """What a model's folder holds, as it is kept beside a run: name → ``bytes``, and ``sha256`` of files below 16 MiB
    (weights are told apart by their sizes: reading many gigabytes would take longer than some runs)."""
    found: dict[str, dict[str, Any]] = {}
    for pattern in ("*.safetensors", "*.json", "*.jinja"):
        for path in sorted(folder.glob(pattern)):
            facts: dict[str, Any] = {"bytes": path.stat().st_size}
            if facts["bytes"] < SMALL_BYTES:
                with path.open("rb") as file:
                    facts["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
            found[path.name] = facts
    return found


def _costly(recipe: dict[str, Any]) -> dict[str, Any]:
    return {
        part: {name: value for name, value in section.items() if name not in WITHOUT_COST.get(part, ())}
        for part, section in recipe.items()
        if isinstance(section, dict)
    }


def _data(data: dict[str, Any]) -> Iterator[list[Any]]:
    """The data files, those in folders too, what was decided about single rows, and a template file."""
    single = [data.get(name) for name in ("held_out_file", "decisions", "template")]
    for name in (*data.get("files", ()), *data.get("general", ()), *single):
        if not name or not os.path.exists(name):
            continue
        if os.path.isdir(name):
            for folder, _, files in os.walk(name):
                yield from (_stamp(Path(folder, file)) for file in sorted(files))
        else:
            yield _stamp(Path(name))


def _model(folder: Path) -> Iterator[list[Any]]:
    for pattern in ("*.safetensors", "*.json"):
        yield from (_stamp(path) for path in sorted(folder.glob(pattern)))


def _stamp(path: Path) -> list[Any]:
    try:
        status = path.stat()
    except OSError:
        return [path.name]
    return [path.name, status.st_size, status.st_mtime_ns]
