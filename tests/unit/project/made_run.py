"""Runs of a project with a record, checkpoints and an evaluation, written by hand in a moment."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from engine.catalogue import CATALOGUE
from engine.host import launch, platform
from engine.project.atomic import write_json
from engine.project.project import Project
from engine.project.run_folder import JobFolder, RunFolder
from engine.protocol.codec import encode_event
from engine.protocol.events import CheckpointSaved, Event, Finished, HeldOut, JobStarted, Launched, RunPlanned, StepDone
from engine.recipe.file import from_plain

STEPS = 40


def make_run(
    project: Path,
    title: str,
    *,
    status: str = "done",
    steps: int = STEPS,
    saved: tuple[int, ...] = (20, 40),
    best: int = 20,
    began: float = 1000.0,
    **changes: Any,
) -> RunFolder:
    """A run whose held-out loss was lowest at step ``best``; one second a step.

    Args:
        changes: sections of the recipe, such as ``train={"epochs": 2}``.
    """
    plain = {"model": {"source": "Qwen/Qwen2.5-0.5B"}, "data": {"files": ["/data/clinic.jsonl"]}, **changes}
    run = Project.open_or_create(project).new_run(from_plain(plain, CATALOGUE), title=title)
    run.recipe_as_run.write_text(run.recipe.read_text("utf-8"), encoding="utf-8")
    events: list[Event] = [Launched(kind="train", time=began), JobStarted(kind="train", pid=1, time=began)]
    events.append(
        RunPlanned(steps=STEPS, epochs=1, rows=9, held_out=1, trained_parameters=5, all_parameters=50, device="cpu")
    )
    for number in range(1, steps + 1):
        events.append(step(number, began + number))
        if number % 20 == 0:
            loss = 1.5 if number == best else 1.6
            events.append(HeldOut(step=number, loss=loss, best=number == best, time=began + number))
        if number in saved:
            make_checkpoint(run, number, best)
            path = f"checkpoints/step-{number:06d}"
            events.append(CheckpointSaved(step=number, path=path, time=began + number))
    if status:
        events.append(Finished(status=status, time=began + steps + 2))
    write(run, *events)
    return run


def step(number: int, time: float = 1.0) -> StepDone:
    """One optimizer step."""
    return StepDone(
        step=number, steps=STEPS, epoch=number / STEPS, loss=2 - number / 100, learning_rate=1e-4, time=time
    )


def make_checkpoint(run: RunFolder, number: int, best: int = 0) -> Path:
    """A whole checkpoint of some bytes."""
    folder = run.checkpoints / f"step-{number:06d}"
    folder.mkdir(parents=True)
    files = {"adapter_model.safetensors": os.urandom(3000 + number), "progress.json": b'{"best_step": %d}' % best}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    told = {name: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for name, c in files.items()}
    (folder / "manifest.json").write_text(json.dumps({"version": 1, "step": number, "files": told}))
    return folder


def evaluate(run: RunFolder, base: float, tuned: float) -> None:
    """What an evaluation leaves, as far as lists look at it."""
    verdict = {"answers": {"better": 5, "worse": 1}}
    write_json(run.evaluation, {"base": {"exact_match": base}, "tuned": {"exact_match": tuned}, "verdict": verdict})


def write(folder: JobFolder, *events: Event) -> None:
    """Add to the record."""
    with folder.events.open("a", encoding="utf-8") as file:
        file.writelines(encode_event(event) + "\n" for event in events)


def work_on(folder: JobFolder) -> None:
    """This very process works on the folder, as far as anybody can see."""
    pid = os.getpid()
    write_json(launch.process_file(folder), {"pid": pid, "mark": platform.process_mark(pid)})


def leave(folder: JobFolder) -> None:
    """It does no more."""
    launch.process_file(folder).unlink()
