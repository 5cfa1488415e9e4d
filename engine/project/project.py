"""A project: one folder that holds a draft of the next plan and every run."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.host.follow import last_status
from engine.host.launch import is_alive, read_tail
from engine.project.atomic import disk_error, read_json, write_json
from engine.project.moving import settle
from engine.project.rebuilt import facts_of, is_run, run_folders
from engine.project.remarks import read_remarks
from engine.project.run_folder import JobFolder, RunFolder
from engine.protocol.codec import decode_event
from engine.protocol.errors import UserError
from engine.protocol.events import Waiting
from engine.protocol.state import WAITING
from engine.protocol.text import say
from engine.recipe.file import save
from engine.recipe.recipe import Recipe

PROJECT_VERSION = 1
LAST_RUN = "last_run"
"""Of ``project.json``: the highest number that a run ever had. It outlives the run."""
MOST_NUMBER = 10**9
"""A higher one is none that Lorimer wrote."""
_LATEST = 1e11
"""Epoch seconds beyond which no calendar goes: of a file that Lorimer did not write."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One line of a list of runs.

    Attributes:
        waits_for: why it stands still, as `Waiting.reason`; empty where it does not, or a person paused it.
        is_damaged: its ``run.json`` cannot be read; what is told comes from its other files.
    """

    folder: RunFolder
    title: str
    created: float
    model: str
    method: str
    objective: str
    status: str
    waits_for: str = ""
    is_damaged: bool = False

    @property
    def named(self) -> str:
        """Its title behind its number."""
        return self.folder.named(self.title)


@dataclass(frozen=True, slots=True)
class Project:
    """A project's folder.

    Attributes:
        path: absolute.
    """

    path: Path

    @classmethod
    def open_or_create(cls, path: Path) -> Project:
        """The project at ``path``, made when the folder is absent or empty.

        Raises:
            UserError: the folder holds something else, or cannot be written.
        """
        project = cls(path.expanduser().resolve())
        if project._facts.exists():
            project._read()
            with suppress(UserError):  # a project on a disk that takes nothing can still be looked at
                settle(project.path)
            return project
        try:
            if project.path.exists() and any(project.path.iterdir()):
                raise UserError(
                    "project.not_one",
                    say(
                        "{path} is not empty and not a Lorimer project.",
                        "{path} 不是空文件夹，也不是 Lorimer 项目。",
                        path=path,
                    ),
                    say("Choose an empty or a new folder.", "请选择空文件夹或新建文件夹。"),
                    where=str(path),
                )
            (project.path / "runs").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, project.path) from error
        facts = {"version": PROJECT_VERSION, "name": project.path.name, "created": time.time()}
        write_json(project._facts, {**facts, "path": str(project.path)})
        return project

    @property
    def name(self) -> str:
        """What people call it; its folder's name where that is away for the moment (moved, an unplugged drive)."""
        try:
            return str(self._read().get("name") or self.path.name)
        except UserError:
            return self.path.name

    @property
    def draft(self) -> Path:
        """The recipe under work, so that closing the window loses nothing."""
        return self.path / "draft.toml"

    def runs(self) -> list[RunSummary]:
        """All runs, newest first; a folder that is no run is passed over, a damaged run is told."""
        return [_summary(run) for run in run_folders(self.path / "runs")]

    def new_run(self, recipe: Recipe, *, title: str = "") -> RunFolder:
        """A folder for one more run, with its recipe in it.

        Raises:
            UserError: the disk does not take it.
        """
        runs = self.path / "runs"
        title = title or _title(recipe)
        try:
            runs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, runs) from error
        run = claim_run(runs, title)
        save(recipe, run.recipe)
        run.write_facts(
            {
                "id": run.id,
                "title": title,
                "created": time.time(),
                "model": recipe.model.source,
                "method": recipe.method.name,
                "objective": recipe.objective.name,
            }
        )
        return run

    def new_job(self, run: RunFolder, kind: str) -> JobFolder:
        """A folder for one more job of a run. Raises `UserError` when the disk does not take it."""
        return new_job(run, kind)

    def new_data_job(self, kind: str) -> JobFolder:
        """A folder for one more job on the data, which belongs to no run. Raises `UserError` when the disk refuses."""
        return new_job_in(self.path / "jobs", kind)

    @property
    def _facts(self) -> Path:
        return self.path / "project.json"

    def _read(self) -> dict[str, Any]:
        facts = read_json(self._facts)
        return facts if isinstance(facts, dict) else {}


def new_job(run: RunFolder, kind: str) -> JobFolder:
    """A folder for one more job (evaluate, merge, export) of a run. Raises `UserError` when the disk refuses."""
    return new_job_in(run.jobs, kind)


def new_job_in(jobs: Path, kind: str) -> JobFolder:
    """A folder for one more job among ``jobs``. Raises `UserError` when the disk refuses."""
    try:
        jobs.mkdir(parents=True, exist_ok=True)
        return JobFolder(_numbered(jobs, kind, 3))
    except OSError as error:
        raise disk_error(error, jobs) from error


def is_busy(run: RunFolder) -> bool:
    """Whether a process works on the run, or on a later job of it."""
    jobs = [JobFolder(path) for path in run.jobs.iterdir()] if run.jobs.is_dir() else []
    return any(is_alive(folder) for folder in (run, *jobs))


def open_project(path: Path) -> Project:
    """The project at ``path``, which is there. Raises `UserError` when it is none."""
    project = Project(path.expanduser().resolve())
    if not (project.path / "project.json").is_file():
        raise UserError(
            "project.missing",
            say("{path} is not a project of Lorimer.", "{path} 不是 Lorimer 项目。", path=path),
            say("Give the folder that holds project.json.", "请给出含有 project.json 的文件夹。"),
            where=str(path),
        )
    return Project.open_or_create(project.path)


def open_run(path: Path) -> RunFolder:
    """The run at ``path``, also one whose ``run.json`` is damaged. Raises `UserError` when there is none."""
    run = RunFolder(path.expanduser().resolve())
    if not is_run(run):
        raise UserError(
            "run.missing",
            say("{path} is not a run of Lorimer.", "{path} 不是 Lorimer 的训练记录。", path=path),
            say(
                "Give a folder such as lorimer-project/runs/0001-….",
                "请给出形如 lorimer-project/runs/0001-… 的文件夹。",
            ),
            where=str(path),
        )
    return run


def _summary(run: RunFolder) -> RunSummary:
    facts, is_damaged = facts_of(run)
    text = {name: str(facts.get(name, "")) for name in ("title", "model", "method", "objective")}
    text["title"] = read_remarks(run).title or text["title"]
    created = facts.get("created")
    created = float(created) if isinstance(created, int | float) and 0 <= created < _LATEST else 0.0
    status = last_status(run)
    waits_for = _waits_for(run) if status == WAITING else ""
    return RunSummary(run, created=created, status=status, waits_for=waits_for, is_damaged=is_damaged, **text)


def _waits_for(run: RunFolder) -> str:
    """Why a run stands still, by the end of its record."""
    with suppress(OSError):
        for line in reversed(read_tail(run.events).splitlines()):
            with suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
                if isinstance(event := decode_event(line), Waiting):
                    return event.reason
    return ""


def claim_run(runs: Path, title: str) -> RunFolder:
    """A new, empty folder among ``runs``, claimed by its number: one that no run of the project ever had, for queues
    and other runs name a run by it. Raises `UserError` when the disk refuses."""
    facts = runs.parent / "project.json"
    try:
        run = RunFolder(_numbered(runs, slug(title), 4, after=_last_number(facts)))
    except OSError as error:
        raise disk_error(error, runs) from error
    with suppress(UserError):  # the number is then the highest that is there
        plain = read_json(facts)
        if isinstance(plain, dict):
            write_json(facts, {**plain, LAST_RUN: max(int(run.number), _last_number(facts))})
    return run


def _last_number(facts: Path) -> int:
    """The highest number that a run ever had, as far as the project remembers it."""
    try:
        known = read_json(facts)
    except UserError:
        return 0
    number = known.get(LAST_RUN) if isinstance(known, dict) else None
    return number if isinstance(number, int) and 0 <= number < MOST_NUMBER else 0


def _numbered(parent: Path, name: str, digits: int, *, after: int = 0) -> Path:
    """A new folder ``0001-name``; its creation claims the number, also against another process."""
    taken = [int(match[1]) for entry in parent.iterdir() if (match := re.match(r"(\d+)-", entry.name))]
    number = max([*taken, after]) + 1
    while True:
        path = parent / f"{number:0{digits}d}-{name}"
        try:
            path.mkdir()
            return path
        except FileExistsError:
            number += 1


def _title(recipe: Recipe) -> str:
    source = recipe.model.source.rstrip("/\\")
    model = re.split(r"[/\\]", source)[-1]
    data = Path(recipe.data.files[0]).stem if recipe.data.files else "data"
    return f"{recipe.method.name} {model} {data}"


def slug(title: str) -> str:
    """``title`` as a file name that every system takes: letters of any script, digits, at most 60 characters."""
    return re.sub(r"[^\w.]+", "-", title, flags=re.UNICODE).strip("-._")[:60] or "run"
