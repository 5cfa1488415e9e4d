"""Where a run keeps what: names of the files of one run's folder, and its facts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.project.atomic import read_json, write_json


@dataclass(frozen=True, slots=True)
class JobFolder:
    """The files by which a job and its host speak; a run's folder is one, and so is each of its later jobs."""

    path: Path

    @property
    def job(self) -> Path:
        """What to do: kind and arguments."""
        return self.path / "job.json"

    @property
    def events(self) -> Path:
        """What happened, one JSON line each."""
        return self.path / "events.jsonl"

    @property
    def commands(self) -> Path:
        """What the job was told, one JSON line each."""
        return self.path / "commands.jsonl"

    @property
    def log(self) -> Path:
        """What libraries printed, tracebacks included."""
        return self.path / "log.txt"


@dataclass(frozen=True, slots=True)
class RunFolder(JobFolder):
    """One run: recipe, events, checkpoints, adapter, evaluation, exports.

    ``run.json`` holds: ``id``, ``title``, ``created`` (epoch seconds), ``model`` (as in the recipe), ``model_folder``
    (absolute path of the base weights), ``method`` and ``objective`` (names).
    """

    @property
    def id(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def facts(self) -> Path:
        """``run.json``."""
        return self.path / "run.json"

    @property
    def recipe(self) -> Path:
        """The recipe as asked."""
        return self.path / "recipe.toml"

    @property
    def recipe_as_run(self) -> Path:
        """The recipe with every "auto" decided."""
        return self.path / "recipe.run.toml"

    @property
    def adapter(self) -> Path:
        """The trained adapter: PEFT's files, the tokenizer's, and the chat template that was trained with."""
        return self.path / "adapter"

    @property
    def checkpoints(self) -> Path:
        """Folders ``step-000100`` that are complete, each with a ``manifest.json``."""
        return self.path / "checkpoints"

    @property
    def held_out(self) -> Path:
        """Held-out rows, one JSON line each: where, messages, chosen, rejected."""
        return self.path / "held_out.jsonl"

    @property
    def set_aside(self) -> Path:
        """Rows not trained on, one JSON line each: where, reason, text."""
        return self.path / "set_aside.jsonl"

    @property
    def evaluation(self) -> Path:
        """The last evaluation of base against tuned."""
        return self.path / "evaluation.json"

    @property
    def exports(self) -> Path:
        """What was taken away and not put elsewhere; ``exports.json`` lists all, elsewhere ones too."""
        return self.path / "exports"

    @property
    def jobs(self) -> Path:
        """Folders of later jobs of the run: evaluate, merge, export."""
        return self.path / "jobs"

    def read_facts(self) -> dict[str, Any]:
        """``run.json``. Raises `UserError` when it is missing or damaged."""
        facts: dict[str, Any] = read_json(self.facts)
        return facts

    def write_facts(self, facts: dict[str, Any]) -> None:
        """Replace ``run.json``. Raises `UserError` when the disk does not take it."""
        write_json(self.facts, facts)
