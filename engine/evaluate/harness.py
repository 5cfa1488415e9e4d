"""Tasks of lm-evaluation-harness on base and tuned model, where it is installed: its own evaluator, over our weights.

Nothing is fetched: tasks come from a folder of the user's, or are the harness's own with data that the hub's cache
holds. A folder of tasks is a stranger's: ``!function`` (Python code beside the task) and loaders that unpickle are
refused, and its Jinja patterns run in a sandbox.
"""

from __future__ import annotations

import importlib
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jinja2 import BaseLoader, StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from engine.evaluate.watch import Watch
from engine.model.load import load_tokenizer
from engine.model.tuned import SIDES, Side, TunedModel, load_tuned
from engine.project.harness_record import HarnessFigure, HarnessResult, is_installed, write_harness
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Channel
from engine.protocol.codec import to_plain
from engine.protocol.errors import EXIT_MACHINE, UserError
from engine.protocol.text import say

RESAMPLES = 4000
LARGEST_TASK = 2**20
"""Bytes of a task's file that is read."""
_UNSAFE_LOADERS = ("pandas", "webdataset", "spark")
"""Loaders of datasets that unpickle what they read, or run it."""
_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")


def harness(
    run: RunFolder, channel: Channel, *, tasks: Sequence[str], folder: Path | None = None, limit: int = 0
) -> dict[str, Any]:
    """Run tasks on base and tuned model, and keep the figures in ``harness.json``.

    Args:
        tasks: names, as the harness knows them or as the folder's files give them.
        folder: YAML tasks with data of their own; None for the harness's own tasks.
        limit: questions per task at most; 0 for all.

    Raises:
        UserError: it is not installed, a task is not there, is not safe, or its data are not on this machine.
        Stopped: the user asked, while a model was loaded or between the two models.
    """
    began = time.monotonic()
    if not is_installed():
        raise not_installed()
    if folder is not None:
        check_folder(folder)
    run.trained_on()
    watch = Watch(channel)
    watch.stage("load", say("Loading the model", "加载模型"), 0, "")
    tuned = load_tuned(run)
    seed = tuned.recipe.data.seed
    tokenizer = load_tokenizer(run.adapter)
    watch.stage("harness", say("Running the tasks", "运行评测任务"), len(SIDES), "models")
    results: dict[Side, Any] = {}
    for number, side in enumerate(SIDES):
        with tuned.as_side(side), _offline():
            results[side] = _evaluated(tuned, tokenizer, tasks, folder, limit, seed)
        watch.at(number + 1)
    figures = figures_of(results["base"], results["tuned"], seed)
    if not figures:
        raise UserError(
            "harness.no_figures",
            say("These tasks gave no figures.", "这些任务没有给出任何数值。"),
            say("Is a metric named in their files?", "任务文件中是否写明了指标？"),
            where=", ".join(tasks),
        )
    found = HarnessResult(
        figures=figures,
        tasks=tuple(tasks),
        harness=version("lm_eval"),
        limit=limit,
        seed=seed,
        seconds=round(time.monotonic() - began, 3),
        created=round(time.time(), 3),
    )
    write_harness(run, found)
    plain: dict[str, Any] = to_plain(found)
    return plain


def not_installed() -> UserError:
    """How to get it."""
    return UserError(
        "harness.not_installed",
        say("lm-evaluation-harness is not installed.", "未安装 lm-evaluation-harness。"),
        say(
            'Install it beside Lorimer: python -m pip install "lm-eval>=0.4.13"',
            '请安装到 Lorimer 的环境中：python -m pip install "lm-eval>=0.4.13"',
        ),
        exit_code=EXIT_MACHINE,
    )


# ---------------------------------------------------------------------------------------------------------- safety
def check_folder(folder: Path) -> None:
    """See that a folder of tasks holds tasks and no programs. Raises `UserError` where it does not."""
    files = sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")]) if folder.is_dir() else []
    if not files:
        raise UserError(
            "harness.no_tasks",
            say("{folder} holds no tasks.", "{folder} 中没有任务。", folder=folder),
            say(
                "A task is a YAML file as lm-evaluation-harness describes it.",
                "任务是 lm-evaluation-harness 格式的 YAML 文件。",
            ),
            where=str(folder),
        )
    for path in files:
        _check_task(path, folder.resolve())


def _check_task(path: Path, folder: Path) -> None:
    if not path.resolve().is_relative_to(folder) or path.stat().st_size > LARGEST_TASK:
        raise _unsafe(path, say("it lies elsewhere, or is too large", "它位于别处，或文件过大"))
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise _unsafe(
            path, say("it names code, or is no plain YAML", "其中引用了代码，或不是普通 YAML"), str(error)
        ) from error
    for key, value in _items(plain):
        text = str(value)
        if key == "dataset_path" and text in _UNSAFE_LOADERS:
            raise _unsafe(path, say("its data would be unpickled", "其数据需要反序列化 pickle"))
        if key in ("include", "class", "unsafe_code") and (value is True or text.startswith(("/", "~", ".."))):
            raise _unsafe(path, say("it names code, or files elsewhere", "其中引用了代码或别处的文件"))


def _items(plain: Any) -> list[tuple[str, Any]]:
    """Every key with its value, however deep."""
    found: list[tuple[str, Any]] = []
    left = [plain]
    while left and len(found) < 100_000:
        item = left.pop()
        if isinstance(item, dict):
            found += [(str(key), value) for key, value in item.items()]
            left += item.values()
        elif isinstance(item, list):
            left += item
    return found


def _unsafe(path: Path, reason: Any, details: str = "") -> UserError:
    return UserError(
        "harness.unsafe",
        say("The task {name} is not run: {reason}.", "不运行任务 {name}：{reason}。", name=path.name, reason=reason),
        say("Lorimer runs no code of a task's folder.", "Lorimer 不运行任务文件夹中的代码。"),
        where=str(path),
        details=details,
    )


def _library(name: str) -> Any:
    """A module of lm-evaluation-harness, which need not be installed."""
    return importlib.import_module(f"lm_eval.{name}")


def _in_sandbox() -> None:
    """The harness's patterns, run where they can reach nothing."""
    utils = _library("utils")
    sandbox = SandboxedEnvironment(loader=BaseLoader(), undefined=StrictUndefined, keep_trailing_newline=True)
    sandbox.filters.update(utils.env.filters)
    utils.env = sandbox


# --------------------------------------------------------------------------------------------------------- running
@contextmanager
def _offline() -> Iterator[None]:
    """Nothing asks another machine within the block. The libraries read the variables when they are imported, so what
    they made of them is set, too."""
    import datasets
    import huggingface_hub.constants as hub

    places: list[tuple[Any, str]] = [(hub, "HF_HUB_OFFLINE"), (datasets.config, "HF_HUB_OFFLINE")]
    before = [(place, name, getattr(place, name)) for place, name in places]
    kept = {name: os.environ.get(name) for name in _OFFLINE}
    os.environ.update(dict.fromkeys(_OFFLINE, "1"))
    for place, name in places:
        setattr(place, name, True)
    try:
        yield
    finally:
        for place, name, value in before:
            setattr(place, name, value)
        for name, text in kept.items():
            if text is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = text


def _evaluated(
    tuned: TunedModel, tokenizer: Any, tasks: Sequence[str], folder: Path | None, limit: int, seed: int
) -> Any:
    """What the harness found for the side in use."""
    _in_sandbox()
    known = _library("tasks").TaskManager(
        include_path=None if folder is None else str(folder), include_defaults=folder is None
    )
    missing = [name for name in tasks if name not in known.all_tasks]
    if missing:
        raise UserError(
            "harness.no_task",
            say("There is no task “{name}”.", "没有任务“{name}”。", name=missing[0]),
            say("Known here: {some}", "已有：{some}", some=", ".join(sorted(known.all_tasks)[:20])),
            where=str(folder or ""),
        )
    wrapped = _library("models.huggingface").HFLM(
        pretrained=tuned.model,
        backend="causal",
        tokenizer=tokenizer,
        batch_size=tuned.recipe.evaluate.batch_size,
        max_length=tuned.context,
    )
    try:
        return _library("evaluator").simple_evaluate(
            model=wrapped,
            tasks=list(tasks),
            task_manager=known,
            limit=limit or None,
            bootstrap_iters=0,
            random_seed=seed,
            numpy_random_seed=seed,
            torch_random_seed=seed,
            fewshot_random_seed=seed,
        )
    except (OSError, ValueError, KeyError, TemplateError) as error:
        raise UserError(
            "harness.failed",
            say("The tasks cannot be run: {reason}.", "无法运行这些任务：{reason}。", reason=_short(error)),
            say(
                "Are their data on this machine? Nothing is fetched for them.",
                "其数据是否在本机？不会为其下载任何内容。",
            ),
            details=str(error),
        ) from error


def _short(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:160]}" if text else type(error).__name__


# --------------------------------------------------------------------------------------------------------- figures
def figures_of(base: Mapping[str, Any], tuned: Mapping[str, Any], seed: int) -> tuple[HarnessFigure, ...]:
    """Every metric of every task that both sides have."""
    found = []
    for task, values in base["results"].items():
        for key, before in values.items():
            metric, _, filtered = key.partition(",")
            after = tuned["results"].get(task, {}).get(key)
            if not filtered or metric.endswith("_stderr") or not _is_number(before) or not _is_number(after):
                continue
            better = base.get("higher_is_better", {}).get(task, {}).get(metric)
            singles = tuple(_singles(side, task, metric, filtered) for side in (base, tuned))
            rate, low, high = _rate(before, after, singles, seed) if better else (None, None, None)
            errors = [side["results"][task].get(f"{metric}_stderr,{filtered}") for side in (base, tuned)]
            found.append(
                HarnessFigure(
                    task=task,
                    metric=metric if filtered == "none" else f"{metric} ({filtered})",
                    items=len(singles[0]) or int(base.get("n-samples", {}).get(task, {}).get("effective", 0)),
                    base=float(before),
                    tuned=float(after),
                    base_error=float(errors[0]) if _is_number(errors[0]) else None,
                    tuned_error=float(errors[1]) if _is_number(errors[1]) else None,
                    higher_is_better=better,
                    rate=rate,
                    low=low,
                    high=high,
                )
            )
    return tuple(found)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _singles(side: Mapping[str, Any], task: str, metric: str, filtered: str) -> dict[Any, float]:
    """Question → what it counts, where the harness keeps it."""
    samples = side.get("samples", {}).get(task, [])
    return {
        (sample.get("doc_id"), sample.get("filter")): float(sample[metric])
        for sample in samples
        if sample.get("filter") == filtered and _is_number(sample.get(metric))
    }


def _rate(
    before: float, after: float, singles: tuple[dict[Any, float], ...], seed: int
) -> tuple[float | None, float | None, float | None]:
    """(before − after) / before with its 95% interval: paired bootstrap over the questions."""
    if before <= 0:
        return None, None, None
    rate = (before - after) / before
    shared = sorted(singles[0].keys() & singles[1].keys(), key=str)
    if len(shared) < 2:
        return rate, None, None
    values = np.array([[side[key] for key in shared] for side in singles])
    chosen = np.random.default_rng(seed).integers(0, len(shared), (RESAMPLES, len(shared)))
    drawn = values[:, chosen].mean(-1)
    known = drawn[:, drawn[0] > 0]
    if not known.size:
        return rate, None, None
    low, high = np.quantile(1 - known[1] / known[0], (0.025, 0.975))
    return rate, float(low), float(high)
