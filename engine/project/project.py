"""A project: one folder that holds a draft of the next plan and every run."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.host.follow import last_status
from engine.host.launch import is_alive
from engine.project.atomic import disk_error, read_json, write_json
from engine.project.moving import settle
from engine.project.remarks import read_remarks
from engine.project.run_folder import JobFolder, RunFolder
from engine.protocol.errors import UserError
from engine.protocol.text import say
from engine.recipe.file import save
from engine.recipe.recipe import Recipe

PROJECT_VERSION = 1
_LATEST = 1e11
"""Epoch seconds beyond which no calendar goes: of a file that Lorimer did not write."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One line of a list of runs."""

    folder: RunFolder
    title: str
    created: float
    model: str
    method: str
    objective: str
    status: str


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
        """All runs, newest first; a folder that is no run is passed over."""
        folders = sorted((self.path / "runs").glob("*/run.json"), reverse=True)
        return [summary for folder in folders if (summary := _summary(RunFolder(folder.parent))) is not None]

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
    """The run at ``path``. Raises `UserError` when there is none."""
    run = RunFolder(path.expanduser().resolve())
    if not run.facts.exists():
        raise UserError(
            "run.missing",
            say("{path} is not a run of Lorimer.", "{path} 不是 Lorimer 的训练记录。", path=path),
            say(
                "Give a folder such as lorimer-project/runs/0001-….",
                "请给出形如 lorimer-project/runs/0001-… 的文件夹。",
            ),
            where=str(path),
        )
    run.read_facts()
    return run


def _summary(run: RunFolder) -> RunSummary | None:
    try:
        facts = run.read_facts()
    except UserError:
        return None
    text = {name: str(facts.get(name, "")) for name in ("title", "model", "method", "objective")}
    text["title"] = read_remarks(run).title or text["title"]
    created = facts.get("created")
    created = float(created) if isinstance(created, int | float) and 0 <= created < _LATEST else 0.0
    return RunSummary(folder=run, created=created, status=last_status(run), **text)


def claim_run(runs: Path, title: str) -> RunFolder:
    """A new, empty folder among ``runs``, claimed by its number. Raises `UserError` when the disk refuses."""
    try:
        return RunFolder(_numbered(runs, slug(title), 4))
    except OSError as error:
        raise disk_error(error, runs) from error


def _numbered(parent: Path, name: str, digits: int) -> Path:
    """A new folder ``0001-name``; its creation claims the number, also against another process."""
    taken = [int(match[1]) for entry in parent.iterdir() if (match := re.match(r"(\d+)-", entry.name))]
    number = max(taken, default=0) + 1
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
