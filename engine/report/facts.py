"""What a report tells, read from the run's folder. A record that is damaged is left out and named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from engine.host.follow import replay
from engine.project.atomic import read_json, read_plain
from engine.project.effect import Effect, read_effect
from engine.project.evaluation import Evaluation, read_evaluation
from engine.project.forgetting import Forgetting, read_forgetting
from engine.project.harness_record import HarnessResult, read_harness
from engine.project.judgement import Judgement, read_judgement
from engine.project.remarks import read_remarks
from engine.project.run_folder import RunFolder
from engine.project.secrets import Scrubber, known_secrets
from engine.project.votes import BlindTest, read_tests
from engine.protocol.errors import UserError
from engine.protocol.state import JobState
from engine.protocol.text import Text, say

LARGEST_RECIPE = 2**18
"""Characters of a recipe that are shown."""
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of a run; None for what was not measured.

    Attributes:
        facts, environment: ``run.json`` and the newest of ``environment.json``, without names of user and machine.
        recipe: text of the recipe as run, without paths of this machine and secrets.
        state: of the training, for its curve.
        damaged: names of records that could not be read.
    """

    title: str
    evaluation: Evaluation
    effect: Effect | None
    forgetting: Forgetting | None
    judgement: Judgement | None
    harness: HarnessResult | None
    tests: tuple[BlindTest, ...]
    state: JobState
    facts: dict[str, Any]
    environment: dict[str, Any]
    recipe: str
    damaged: tuple[str, ...]


def facts_of(run: RunFolder) -> Facts:
    """What the run's folder holds. Raises `UserError` where the run was not evaluated yet."""
    evaluation = read_evaluation(run)
    if evaluation is None:
        raise UserError(
            "report.not_evaluated",
            say("There is nothing to report yet.", "还没有可写入报告的内容。"),
            say("Evaluate the run first.", "请先评估这次训练。"),
            where=str(run.path),
        )
    damaged: list[str] = []

    def whole(name: str, read: Callable[[], Found], otherwise: Found) -> Found:
        try:
            return read()
        except UserError:
            damaged.append(name)
            return otherwise

    clean = Scrubber(known_secrets(keyring=False))
    nothing: dict[str, Any] = {}
    facts = whole("run.json", run.read_facts, nothing)
    newest = whole("environment.json", lambda: _newest(run), nothing)
    return Facts(
        title=read_remarks(run).title or str(facts.get("title") or run.id),
        evaluation=evaluation,
        effect=whole("effect.json", lambda: read_effect(run), None),
        forgetting=whole("forgetting.json", lambda: read_forgetting(run), None),
        judgement=whole("judgement.json", lambda: read_judgement(run), None),
        harness=whole("harness.json", lambda: read_harness(run), None),
        tests=tuple(whole("votes.jsonl", lambda: read_tests(run), [])),
        state=replay(run),
        facts=clean.plain(facts),
        environment=clean.plain(newest),
        recipe=clean(_recipe(run)),
        damaged=tuple(damaged),
    )


def _newest(run: RunFolder) -> dict[str, Any]:
    if not run.environment.is_file():
        return {}
    kept = read_json(run.environment)
    newest = kept[-1] if isinstance(kept, list) and kept else kept
    return newest if isinstance(newest, dict) else {}


def _recipe(run: RunFolder) -> str:
    try:
        return read_plain(run.recipe_as_run).decode("utf-8", "replace")[:LARGEST_RECIPE]
    except OSError:
        return ""


def shown_name(path: Any) -> str:
    """The last part of a path: where a file lies on its writer's machine is nobody's business."""
    return str(path).replace("\\", "/").rstrip("/").rpartition("/")[2]


def plain(value: str) -> Text:
    """A text that is the same in both languages."""
    return Text(value, value)
