"""A run whose ``run.json`` is gone or damaged: what its other files say, so that it is listed and gone on with."""

from __future__ import annotations

import json
import os
import re
import time
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

from engine.project.atomic import open_plain, read_json, read_plain
from engine.project.run_folder import RunFolder
from engine.protocol.errors import UserError

LARGEST_BYTES = 16 * 2**20
"""Of a recipe: a larger one is none that Lorimer wrote."""
LONGEST_LINE = 2**20
"""Bytes of a first line that is still an event."""
BEING_MADE_SECONDS = 5.0
"""A folder without ``run.json`` that was changed since may be one that is being made just now."""


def run_folders(runs: Path) -> list[RunFolder]:
    """Every run among ``runs``, newest first, also those whose ``run.json`` cannot be read."""
    try:
        found = [RunFolder(Path(entry.path)) for entry in os.scandir(runs) if entry.is_dir()]
    except OSError:
        return []
    return sorted(filter(is_run, found), key=lambda run: run.id, reverse=True)


def is_run(run: RunFolder) -> bool:
    """Whether a folder is a run: one without ``run.json`` is, where a recipe or a record lies in it for a while."""
    if run.facts.is_file():
        return True
    if not (run.recipe.is_file() or run.events.is_file()):
        return False
    try:
        return not 0 <= time.time() - run.path.stat().st_mtime < BEING_MADE_SECONDS or run.log.exists()
    except OSError:
        return False


def facts_of(run: RunFolder) -> tuple[dict[str, Any], bool]:
    """``run.json`` with what it lacks made up from the other files, and whether it could not be read."""
    try:
        facts, is_damaged = run.read_facts(), False
    except UserError:
        facts, is_damaged = {}, True
    if is_damaged or not {"title", "model"} & facts.keys():
        return {**rebuilt_facts(run), **facts}, is_damaged
    return facts, False


def rebuilt_facts(run: RunFolder) -> dict[str, Any]:
    """What the recipe, the adapter, and the folder's name and time say of a run. Where its data lay is written down
    again when it is gone on with."""
    name = re.sub(r"^\d+-", "", run.id)
    recipe = _recipe(run.recipe) or _recipe(run.recipe_as_run)
    source = _text(recipe, "model", "source")
    folder = next((place for place in (_base(run), source) if os.path.isabs(place)), "")
    return {
        "id": run.id,
        "title": name.replace("-", " ").strip() or run.id,
        "created": _made(run),
        "model": source,
        "method": _text(recipe, "method", "name"),
        "objective": _text(recipe, "objective", "name"),
        **({"model_folder": folder} if folder else {}),
    }


def repair(run: RunFolder) -> bool:
    """Write ``run.json`` anew where it cannot be read; a damaged one is kept beside it. Gives whether it did.

    Raises:
        UserError: the disk does not take it.
    """
    facts, is_damaged = facts_of(run)
    if is_damaged:
        with suppress(OSError):
            os.replace(run.facts, run.path / "run.damaged.json")
        run.write_facts(facts)
    return is_damaged


def _base(run: RunFolder) -> str:
    """The folder of the base model, as the adapter names it; empty before there is one."""
    try:
        about = read_json(run.adapter / "adapter_config.json")
    except UserError:
        return ""
    folder = about.get("base_model_name_or_path") if isinstance(about, dict) else None
    return folder if isinstance(folder, str) else ""


def _made(run: RunFolder) -> float:
    """When the first thing happened that its record tells of, or its recipe was written; a copy of a project is newer
    than its runs are."""
    moments = [_began(run)]
    for path in (run.recipe, run.path):
        with suppress(OSError):
            moments.append(path.stat().st_mtime)
    return min((moment for moment in moments if moment > 0), default=0.0)


def _began(run: RunFolder) -> float:
    """The time in the first line of the record, 0 where there is none."""
    try:
        with open_plain(run.events) as file:
            moment = json.loads(file.readline(LONGEST_LINE)).get("time")
    except (OSError, ValueError, AttributeError, RecursionError):
        return 0.0
    return float(moment) if isinstance(moment, (int, float)) and 0 < moment < time.time() else 0.0


def _recipe(path: Path) -> dict[str, Any]:
    """Read without its rules, so that an old or strange recipe will do."""
    try:
        if path.stat().st_size > LARGEST_BYTES:
            return {}
        return tomllib.loads(read_plain(path).decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}


def _text(recipe: dict[str, Any], part: str, name: str) -> str:
    section = recipe.get(part)
    value = section.get(name) if isinstance(section, dict) else None
    return value if isinstance(value, str) else ""
