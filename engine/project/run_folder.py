"""Where a run keeps what: names of the files of one run's folder, and its facts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.project.atomic import read_json, write_json
from engine.protocol.errors import UserError
from engine.protocol.text import say


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
    (absolute path of the base weights), ``model_files`` (what that folder held when the run began), ``data`` (``path``
    and ``sha256`` of each file), ``method`` and ``objective`` (names).
    """

    @property
    def id(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def number(self) -> str:
        """The number that its folder's name begins with, such as "0002", by which equal titles are told apart; empty
        where there is none."""
        number, dash, _ = self.path.name.partition("-")
        return number if dash and number.isdecimal() else ""

    def named(self, title: str) -> str:
        """A title behind the run's number."""
        return f"{self.number} {title}".strip()

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
    def environment(self) -> Path:
        """What each process of the run ran on and with: versions, hardware, driver; the newest last."""
        return self.path / "environment.json"

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
    def decisions(self) -> Path:
        """What a person had decided about single rows when the run began; absent where nothing was."""
        return self.path / "decisions.jsonl"

    @property
    def set_aside(self) -> Path:
        """Rows not trained on, one JSON line each: where, reason, text."""
        return self.path / "set_aside.jsonl"

    @property
    def examples(self) -> Path:
        """Turns that stand before each question, one a line; absent where the recipe wants none."""
        return self.path / "examples.jsonl"

    @property
    def scores(self) -> Path:
        """What a model made of the training rows, where it chose or ordered them: a resumed run does the same."""
        return self.path / "scores.npy"

    @property
    def evaluation(self) -> Path:
        """The last evaluation of base against tuned."""
        return self.path / "evaluation.json"

    @property
    def forgetting(self) -> Path:
        """What the last evaluation found to be forgotten."""
        return self.path / "forgetting.json"

    @property
    def effect(self) -> Path:
        """What the adapter does to weights and probabilities."""
        return self.path / "effect.json"

    @property
    def harness(self) -> Path:
        """Results of lm-evaluation-harness tasks."""
        return self.path / "harness.json"

    @property
    def judgement(self) -> Path:
        """What a judge model said of both models' answers; holds rows."""
        return self.path / "judgement.json"

    @property
    def judge_answers(self) -> Path:
        """Single answers of a judge, by what it was asked: a judging that was interrupted goes on from them."""
        return self.path / "judge_answers.jsonl"

    @property
    def votes(self) -> Path:
        """Blind tests: what was asked, whose answers were shown in which order, and which was preferred."""
        return self.path / "votes.jsonl"

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
        facts = read_json(self.facts)
        if not isinstance(facts, dict):
            raise UserError(
                "file.damaged",
                say("{name} is damaged and cannot be read.", "{name} 已损坏，无法读取。", name=self.facts.name),
                say("Restore it from a copy, or remove it.", "请从备份恢复，或将其删除。"),
                where=str(self.facts),
            )
        return facts

    def write_facts(self, facts: dict[str, Any]) -> None:
        """Replace ``run.json``. Raises `UserError` when the disk does not take it."""
        write_json(self.facts, facts)

    @property
    def adapter_written(self) -> int:
        """When the adapter was written, in nanoseconds since the epoch; 0 while there is none."""
        try:
            return (self.adapter / "adapter_config.json").stat().st_mtime_ns
        except OSError:
            return 0

    def trained_on(self) -> Path:
        """The folder of the base model that the adapter belongs to.

        Raises:
            UserError: the run has no adapter yet, or its base model is gone.
        """
        facts = self.read_facts()
        if not self.adapter_written:
            raise UserError(
                "run.no_adapter",
                say("This run has no adapter yet.", "这次训练还没有适配器。"),
                say("Let it finish, or resume it.", "请等待其完成，或继续训练。"),
                where=str(self.path),
            )
        folder = Path(str(facts.get("model_folder", "")))
        if not (folder / "config.json").is_file():
            raise UserError(
                "run.no_base",
                say(
                    "The base model of this run is not in {folder} any more.",
                    "{folder} 中已没有这次训练的基础模型。",
                    folder=folder,
                ),
                say("Put it back, or download it again.", "请放回原处，或重新下载。"),
                where=str(folder),
            )
        return folder
