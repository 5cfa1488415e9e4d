"""Results of lm-evaluation-harness tasks on base and tuned model: ``harness.json`` in the run's folder. Light."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from engine.project.records import read_record, write_record
from engine.project.run_folder import RunFolder
from engine.protocol.text import say

HARNESS_VERSION = 1


@dataclass(frozen=True, slots=True)
class HarnessFigure:
    """One metric of one task.

    Attributes:
        task, metric: as lm-evaluation-harness calls them ("acc_norm").
        items: questions asked.
        base, tuned: the metric of each model; base_error, tuned_error: standard errors, None where it gives none.
        higher_is_better: None where it does not say.
        rate: (base − tuned) / base where higher is better and base is above 0; None elsewhere.
        low, high: the rate's 95% interval (paired bootstrap over the questions); None where single results are absent.
    """

    task: str
    metric: str
    items: int
    base: float
    tuned: float
    base_error: float | None
    tuned_error: float | None
    higher_is_better: bool | None
    rate: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class HarnessResult:
    """All figures; ``harness`` is the version of lm-evaluation-harness, ``limit`` the questions per task (0: all)."""

    figures: tuple[HarnessFigure, ...]
    tasks: tuple[str, ...]
    harness: str
    limit: int
    seed: int
    seconds: float = 0.0
    created: float = 0.0
    version: int = HARNESS_VERSION


def is_installed() -> bool:
    """Whether lm-evaluation-harness is there."""
    return importlib.util.find_spec("lm_eval") is not None


def write_harness(run: RunFolder, result: HarnessResult) -> None:
    """Keep it. Raises `UserError` when the disk does not take it."""
    write_record(run.harness, result)


def read_harness(run: RunFolder) -> HarnessResult | None:
    """The last results, or None when there are none yet. Raises `UserError` when the file is damaged."""
    return read_record(run.harness, HarnessResult, again=say("Run the tasks again.", "请重新运行这些任务。"))
