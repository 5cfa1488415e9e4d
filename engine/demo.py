"""The main job on the starter model: data, QLoRA, evaluation, both models asked, all three things to take away.

It is made of the same jobs that the pages start, and uses QLoRA whatever the advisor would say.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from engine.catalogue import CATALOGUE
from engine.host.launch import ROOT
from engine.host.memory import MemoryWatch
from engine.jobs import AGAIN, failure_of, interruption, resume_with, run_job
from engine.project.project import Project, new_job
from engine.project.run_folder import RunFolder
from engine.protocol.errors import Failure
from engine.protocol.text import Text, say
from engine.recipe.file import changed, load
from engine.recipe.recipe import Recipe
from engine.terminal import Terminal

SAMPLES = ROOT / "resources" / "samples"
QUANTISE = "q8_0"
MEASURES = ("loss", "perplexity", "token_accuracy", "exact_match", "rouge_l")


def demo_recipe(seed: int) -> Recipe:
    """The shipped recipe with ``seed`` for split and run. Raises `UserError` when the installation is damaged."""
    return changed(load(SAMPLES / "demo.toml", CATALOGUE), {"data.seed": seed, "train.seed": seed}, CATALOGUE)


def demo(folder: Path, terminal: Terminal, *, seed: int = 42) -> tuple[dict[str, Any], Failure | None]:
    """Run the main job; gives the command's document, and the failure (or Ctrl+C) that ended it early.

    Raises:
        UserError: the project cannot be made, or a job cannot be started.
    """
    began = time.monotonic()
    document: dict[str, Any] = {}
    with MemoryWatch() as memory:
        run = Project.open_or_create(folder).new_run(demo_recipe(seed), title="demo")
        document["run"] = str(run.path)
        try:
            failure = _steps(run, document, terminal)
        except KeyboardInterrupt:
            # Between two jobs; a job that is followed takes Ctrl+C itself.
            failure = interruption(AGAIN)
    document["seconds"] = round(time.monotonic() - began, 1)
    document["peak_memory_gib"] = round(memory.peak_gib, 3)
    return document, failure


def _steps(run: RunFolder, document: dict[str, Any], terminal: Terminal) -> Failure | None:
    """Train, evaluate, take away; the first failure ends it."""
    exports: dict[str, Any] = {}
    arguments = {"run": str(run.path)}
    failure = failure_of(run_job(run, "train", arguments, terminal), resume_with(run.path))
    if failure is not None:
        return failure
    outcome = run_job(new_job(run, "evaluate"), "evaluate", arguments, terminal)
    document["evaluation"] = {side: outcome.value.get(side) for side in ("base", "tuned")}
    document["exports"] = exports
    failure = failure_of(outcome, AGAIN)
    if failure is not None:
        return failure
    for name, kind, more in (
        ("adapter", "export", {"to": "adapter", "quantize": "", "out": str(run.exports / "adapter")}),
        ("merged", "merge", {"out": str(run.exports / "merged")}),
        (
            "gguf",
            "export",
            {"to": "gguf", "quantize": QUANTISE, "out": str(run.exports / f"starter-orders-{QUANTISE}.gguf")},
        ),
    ):
        outcome = run_job(new_job(run, kind), kind, {**arguments, **more}, terminal)
        failure = failure_of(outcome, AGAIN)
        if failure is not None:
            return failure
        exports[name] = outcome.value.get("file") or outcome.value.get("folder")
        if "parity" in outcome.value:
            document.setdefault("parity", {})[name] = outcome.value["parity"]
    return None


def demo_lines(document: dict[str, Any]) -> list[Text]:
    """The summary for people."""
    lines = [
        say(
            "Done in {seconds:.0f} s, at most {memory:.2f} GiB of memory.",
            "完成，用时 {seconds:.0f} 秒，内存最多 {memory:.2f} GiB。",
            seconds=document["seconds"],
            memory=document["peak_memory_gib"],
        ),
        *evaluation_lines(document["evaluation"]),
    ]
    names = {
        "adapter": say("adapter", "适配器"),
        "merged": say("merged weights", "合并权重"),
        "gguf": say("GGUF", "GGUF"),
    }
    lines += [
        say("{name}: {path}", "{name}：{path}", name=names[key], path=path) for key, path in document["exports"].items()
    ]
    lines.append(
        say(
            'Ask both: lorimer chat {run} --prompt "…"',
            "同时提问：lorimer chat {run} --prompt “……”",
            run=document["run"],
        )
    )
    return lines


def evaluation_lines(value: dict[str, Any]) -> list[Text]:
    """Base against tuned, one line a measure."""
    labels = {
        "loss": say("Loss", "损失"),
        "perplexity": say("Perplexity", "困惑度"),
        "token_accuracy": say("Token accuracy", "词元准确率"),
        "exact_match": say("Exact match", "完全匹配"),
        "rouge_l": say("ROUGE-L", "ROUGE-L"),
    }
    return [
        say(
            "{label}: base {base} → tuned {tuned}",
            "{label}：基础 {base} → 微调 {tuned}",
            label=labels[name],
            base=_figure(name, value["base"].get(name)),
            tuned=_figure(name, value["tuned"].get(name)),
        )
        for name in MEASURES
    ]


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return "—"
    return f"{value:.1%}" if name in ("token_accuracy", "exact_match") else f"{value:.3f}"
