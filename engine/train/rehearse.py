"""The rehearsal of a recipe before its run: tried in a process of its own, judged, and what to change where it fails.

This is the job. Each trial is another process (`engine.train.trial`), which may run out of memory or be ended by the
system without the job: a failed trial is an answer, not a crash. Nothing heavy is imported here.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.host import platform
from engine.host.control import StopLadder
from engine.host.follow import Follower
from engine.host.launch import running_pid, start_job
from engine.machine import calibration
from engine.machine.detect import detect
from engine.machine.dims import ModelDims
from engine.machine.forecast import TIGHT, DataFacts, Forecast, Lengths, Room, forecast, measured, room
from engine.machine.step_down import StepDown, step_down
from engine.machine.versions import torch_build
from engine.objectives.registry import OBJECTIVES
from engine.project.atomic import read_json
from engine.project.run_folder import JobFolder
from engine.protocol.channel import Channel
from engine.protocol.codec import build, to_plain
from engine.protocol.errors import Failure, Stopped, UserError
from engine.protocol.events import (
    CLOSE,
    FAILED,
    HOLDS,
    KILLED,
    OUT_OF_MEMORY,
    STOP,
    STOPPED,
    Finished,
    Gauge,
    Note,
    Progress,
    Rehearsed,
    Result,
    Stage,
)
from engine.protocol.text import NOTHING, say
from engine.recipe.file import to_plain as recipe_to_plain
from engine.recipe.recipe import Recipe

MEMORY_FAILURES = {
    "memory.gpu": OUT_OF_MEMORY,
    "memory.ram": OUT_OF_MEMORY,
    "memory.killed": KILLED,
    "process.killed": KILLED,
}
"""Code of a trial's failure → the verdict that it is."""
POLL_SECONDS = 0.05
STOP_SECONDS = 5.0
"""How long a trial may take to end when it is asked, and again when it is told."""
MOST_TRIALS = 12


@dataclass
class Trial:
    """How one trial ended.

    Attributes:
        value: what it told; without a failure all that `engine.train.trial.trial` gives.
        failure: why it failed.
    """

    value: dict[str, Any] = field(default_factory=dict)
    failure: Failure | None = None


Try = Callable[[Recipe, JobFolder, Channel], Trial]


def rehearse(recipe: Recipe, folder: JobFolder, channel: Channel, *, settle: bool = False) -> dict[str, Any]:
    """Rehearse a recipe, and with ``settle`` the next ones down until one holds.

    Args:
        folder: the job's; trials go below it.
        settle: go on by oneself; rows are shortened only where the recipe allows it.

    Returns:
        The fields of the last `Rehearsed`, and ``tried``: verdict and change of each, in order.

    Raises:
        UserError: the recipe, data or model are wrong, or the disk is full. Too little memory is a verdict.
        Stopped: the user asked.
    """
    return _rehearse(recipe, folder, channel, settle=settle, attempt=attempt)


def _rehearse(recipe: Recipe, folder: JobFolder, channel: Channel, *, settle: bool, attempt: Try) -> dict[str, Any]:
    tried: list[dict[str, Any]] = []
    change = NOTHING
    while True:
        where = _room(folder.path)
        place = JobFolder(folder.path / "trials" / f"{len(tried) + 1:02d}")
        ended = attempt(recipe, place, channel)
        event, down = judged(recipe, ended, where, channel)
        channel.emit(event)
        tried.append({"verdict": event.verdict, "change": change})
        if event.held or down is None or not settle or len(tried) == MOST_TRIALS or _cuts(recipe, down):
            return {**_plain(event), "tried": to_plain(tried)}
        recipe, change = down.recipe, down.change
        text = say("Memory did not suffice. Next: {change}.", "内存不足。接着尝试：{change}。", change=change)
        channel.emit(Note(code="rehearsal.next", level="recovery", text=text))


def _plain(event: Rehearsed) -> dict[str, Any]:
    plain: dict[str, Any] = to_plain(event)
    del plain["time"]
    return plain


def _cuts(recipe: Recipe, down: StepDown) -> bool:
    """Whether the step down loses parts of rows, which nobody but the user may decide."""
    return down.recipe.data.max_length < recipe.data.max_length and not recipe.train.shorten


def _room(path: Path) -> Room:
    """What is free before anything is loaded."""
    torch = torch_build()
    return room(detect(path), torch_cuda=torch is not None and torch.cuda is not None)


# ------------------------------------------------------------------------------------------------------------ one trial
def attempt(recipe: Recipe, folder: JobFolder, channel: Channel) -> Trial:
    """Run one trial as a process and follow it to its end.

    Raises:
        UserError: it cannot be started, or failed for another reason than memory.
        Stopped: the user asked.
    """
    try:
        start_job(
            folder, "trial", {"recipe": recipe_to_plain(recipe), "folder": str(folder.path), "parent": os.getpid()}
        )
        ended, status = _follow(folder, channel)
    finally:
        _end(folder)
    if status == STOPPED:
        raise Stopped
    if ended.failure is not None and ended.failure.code not in MEMORY_FAILURES:
        raise _raised(ended.failure)
    return ended


def _follow(folder: JobFolder, channel: Channel) -> tuple[Trial, str]:
    """What the trial told, and how it ended; a stop that the job is told is passed on."""
    follower, ended = Follower(folder), Trial()
    ladder: StopLadder | None = None
    while True:
        for event in follower.poll():
            match event:
                case Result():
                    ended.value.update(event.value)
                case Finished():
                    ended.failure = event.failure if event.status == FAILED else None
                    return ended, event.status
                case Stage() | Progress() | Note() | Gauge():
                    channel.emit(event)
        if ladder is None and any(command.name == STOP for command in channel.commands()):
            ladder = StopLadder(folder, save_seconds=STOP_SECONDS, terminate_seconds=STOP_SECONDS)
        if ladder is not None:
            ladder.poll()
        time.sleep(POLL_SECONDS)


def _end(folder: JobFolder) -> None:
    """Leave no process and no scratch files, however the trial ended; what it told and its log stay."""
    pid = running_pid(folder)
    if pid is not None:
        platform.end_group(pid, force=True)
    for left in folder.path.glob("scratch-*"):
        shutil.rmtree(left, ignore_errors=True)


def _raised(failure: Failure) -> UserError:
    return UserError(
        failure.code,
        failure.message,
        failure.hint,
        where=failure.where,
        problems=failure.problems,
        exit_code=failure.exit_code,
        details=failure.details,
    )


# ---------------------------------------------------------------------------------------------------------- the verdict
def judged(recipe: Recipe, ended: Trial, where: Room, channel: Channel) -> tuple[Rehearsed, StepDown | None]:
    """What the trial comes to, and the next recipe down where memory did not suffice."""
    value = ended.value
    dims, data = _known(recipe, value)
    told = forecast(recipe, dims, data, where) if dims is not None and data is not None else None
    common: dict[str, Any] = {
        "recipe": recipe_to_plain(recipe),
        "about": str(value.get("about", "")),
        "device": where.name,
        "longest": int(value.get("longest", 0)),
        "free_gib": where.free_gib,
        "usable_gib": where.usable_gib,
        "predicted_gib": told.memory.total if told is not None else None,
        "predicted_seconds": told.seconds if told is not None else None,
    }
    if ended.failure is None:
        if dims is not None:
            _keep(recipe, dims, where, value, channel)
        return _held(value, where, told, common), None
    down = step_down(recipe, dims, data, where) if dims is not None and data is not None else None
    verdict = MEMORY_FAILURES[ended.failure.code]
    event = Rehearsed(verdict=verdict, failure=ended.failure, **common)
    if down is not None:
        event = dataclasses.replace(
            event,
            next_recipe=recipe_to_plain(down.recipe),
            next_change=down.change,
            next_gib=down.forecast.memory.total,
            next_seconds=down.forecast.seconds,
        )
    return event, down


def _held(value: dict[str, Any], where: Room, told: Forecast | None, common: dict[str, Any]) -> Rehearsed:
    names = {each.name for each in dataclasses.fields(Rehearsed)} - set(common) - {"time", "verdict"}
    figures = {name: value[name] for name in names & set(value)}
    close = float(value["peak_gib"]) > where.usable_gib * TIGHT
    return Rehearsed(verdict=CLOSE if close else HOLDS, **common, **figures)


def _known(recipe: Recipe, value: dict[str, Any]) -> tuple[ModelDims | None, DataFacts | None]:
    """Widths of the model and facts of the data, as far as the trial came to tell them; no widths for an architecture
    that the memory model does not know."""
    if "model_folder" not in value:
        return None, None
    data = DataFacts(
        rows=int(value["rows"]),
        lengths=build(Lengths, value["lengths"]),
        preference=OBJECTIVES[recipe.objective.name].preference,
        learned=float(value["learned"]),
        files=recipe.data.files,
    )
    try:
        return ModelDims.from_config(read_json(Path(value["model_folder"]) / "config.json")), data
    except UserError:
        return None, data


def _keep(recipe: Recipe, dims: ModelDims, where: Room, value: dict[str, Any], channel: Channel) -> None:
    """Correct this machine's forecasts from now on. A disk that refuses is told; the rehearsal counts all the same."""
    size = int(value["checkpoint_bytes"])
    speed = value["disk_bytes_per_second"]
    line = measured(
        recipe,
        dims,
        where,
        length=int(value["longest"]),
        held_gib=float(value["peak_gib"]),
        seconds=float(value["longest_step_seconds"]),
        learned=float(value["learned_longest"]),
        # A small checkpoint tells how long opening a file takes, not how fast the disk is.
        checkpoint=(size, size / speed) if speed else None,
        torch=str(value["torch"]),
    )
    try:
        calibration.record(where.device, where.name, where.whole_gib, line)
    except UserError as error:
        channel.emit(Note(code="rehearsal.not_kept", level="warning", text=error.problem.message))
