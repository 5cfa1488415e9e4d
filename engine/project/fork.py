"""Going on from any checkpoint: a new run that begins where another one stood, so that nothing of the other is lost."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from engine.project.atomic import disk_error, open_plain, writing
from engine.project.kept import MANIFEST, Kept, files_of, in_a_row, is_whole, kept
from engine.project.project import claim_run
from engine.project.rebuilt import facts_of
from engine.project.remarks import Remarks, clean_title, read_remarks, write_remarks
from engine.project.run_folder import RunFolder
from engine.protocol.codec import decode_event, encode_event
from engine.protocol.errors import Stopped, UserError
from engine.protocol.events import PAUSED, CheckpointSaved, Finished, HeldOut, Note, StepDone
from engine.protocol.text import Text, say

CHUNK = 2**20
COPIED = ("held_out.jsonl", "set_aside.jsonl", "decisions.jsonl", "examples.jsonl", "scores.npy", "environment.json")
"""What a run wrote down of its rows when it began, which a resumed run does the same with; and what it ran on."""
Progress = Callable[[int, int], None]
_SAVED = b'{"type": "checkpoint"'


def fork(run: RunFolder, step: int, *, title: str = "", progress: Progress | None = None) -> RunFolder:
    """A new run beside ``run`` that stands where that one stood after ``step``: its recipe as run, its rows, its
    checkpoint, and what happened up to there. The job "resume" goes on with it.

    Args:
        progress: told (bytes, bytes of all) while files are copied; it may raise `Stopped`.

    Raises:
        UserError: there is no whole checkpoint of that step, or the disk does not take the copy. Nothing is left then.
        Stopped: ``progress`` raised it; nothing is left.
    """
    checkpoint = _checkpoint(run, step)
    facts, _ = facts_of(run)
    remarks = read_remarks(run)
    own = clean_title(title) or f"{remarks.title or facts.get('title') or run.id} {step}+"
    made = claim_run(run.path.parent, own)
    try:
        _fill(made, run, checkpoint, progress or (lambda done, total: None))
        write_remarks(made, Remarks(tags=remarks.tags))
        # The facts come last: what is cut off before has no recipe, or is a run that can be gone on with.
        made.write_facts(
            {
                **facts,
                "id": made.id,
                "title": own,
                "created": time.time(),
                "continued_from": {"run": run.id, "step": step},
            }
        )
    except OSError as error:
        shutil.rmtree(made.path, ignore_errors=True)
        raise disk_error(error, made.path) from error
    except (UserError, Stopped):
        shutil.rmtree(made.path, ignore_errors=True)
        raise
    return made


def _checkpoint(run: RunFolder, step: int) -> Kept:
    found = kept(run)
    checkpoint = next((item for item in found if item.step == step), None)
    steps = [item.step for item in found if item.step != step]
    if checkpoint is None or not is_whole(checkpoint.path):
        what = say("is damaged", "已损坏") if checkpoint else say("does not exist", "不存在")
        raise UserError(
            "run.no_checkpoint",
            say("The checkpoint of step {step} {what}.", "第 {step} 步的检查点{what}。", step=step, what=what),
            _choice(steps),
            where=str(run.path),
        )
    return checkpoint


def _choice(steps: list[int]) -> Text:
    if not steps:
        return say("Start a new run with its recipe.", "请用其配方开始新的训练。")
    return say("Choose one of these steps: {steps}.", "请选择以下步数之一：{steps}。", steps=in_a_row(steps))


def _fill(made: RunFolder, run: RunFolder, checkpoint: Kept, progress: Progress) -> None:
    _copy_checkpoints(made, run, checkpoint, progress)
    for name in COPIED:
        source = run.path / name
        if source.is_file() and not source.is_symlink():
            shutil.copyfile(source, made.path / name)
    _copy_recipes(made, run)
    _copy_events(made, run, checkpoint.step)


def _copy_checkpoints(made: RunFolder, run: RunFolder, checkpoint: Kept, progress: Progress) -> None:
    """The checkpoint, and the best one before it, whose weights become the adapter when nothing better comes."""
    wanted = {checkpoint.step, checkpoint.best_step}
    chosen = [item for item in kept(run) if item.step in wanted]
    chosen = [item for item in chosen if item.step == checkpoint.step or is_whole(item.path)]
    done, total = 0, sum(item.bytes for item in chosen)
    for item in chosen:
        place = made.checkpoints / item.path.name
        hidden = place.with_name(f".{place.name}.part")
        for name in (*files_of(item.path), MANIFEST):
            for count in _copy(item.path / name, hidden / name):
                done += count
                progress(min(done, total), total)
        if not is_whole(hidden):
            raise _not_copied(place)
        os.replace(hidden, place)


def _copy(source: Path, target: Path) -> Iterator[int]:
    """Copy a file, flushed; gives the bytes of each piece."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with open_plain(source) as read, target.open("wb") as write:
        while piece := read.read(CHUNK):
            write.write(piece)
            yield len(piece)
        write.flush()
        os.fsync(write.fileno())


def _not_copied(place: Path) -> UserError:
    return UserError(
        "disk.error",
        say("{path} was not copied as it is.", "{path} 的副本与原件不一致。", path=place),
        say("Check the disk, and try again.", "请检查磁盘后重试。"),
        where=str(place),
    )


def _copy_recipes(made: RunFolder, run: RunFolder) -> None:
    """As asked and as run; what the run wrote down of decisions about rows is now the new run's own."""
    from engine.catalogue import CATALOGUE
    from engine.recipe.file import load, save

    for source, target in ((run.recipe, made.recipe), (run.recipe_as_run, made.recipe_as_run)):
        if not source.is_file():
            continue
        recipe = load(source, CATALOGUE)
        if recipe.data.decisions == str(run.decisions):
            data = recipe.data.model_copy(update={"decisions": str(made.decisions)})
            recipe = recipe.model_copy(update={"data": data})
        save(recipe, target)


def _copy_events(made: RunFolder, run: RunFolder, step: int) -> None:
    """What happened until the checkpoint was written for the last time, and where it comes from."""
    try:
        until = _written(run.events, step)
    except OSError:
        until = -1
    text = say("Goes on from step {step} of {run}.", "从 {run} 的第 {step} 步继续。", step=step, run=run.id)
    last = b""
    with writing(made.events) as file:
        if until != -1:
            for line in _lines(run.events, until):
                if until or not _is_later(line, step):
                    file.write(line)
                    last = line
        # It stood still since then: the time in between is nobody's work.
        for event in (Note(text=text, code="run.continued_from", step=step), Finished(status=PAUSED, time=_time(last))):
            file.write((encode_event(event) + "\n").encode())


def _time(line: bytes) -> float:
    try:
        return decode_event(line).time
    except (ValueError, TypeError, KeyError):
        return 0.0


def _written(events: Path, step: int) -> int:
    """Where the line ends that tells of the checkpoint, the last time; 0 where none does."""
    at = found = 0
    with open_plain(events) as file:
        for line in file:
            at += len(line)
            if line.startswith(_SAVED) and _is_of(line, step):
                found = at
    return found


def _is_of(line: bytes, step: int) -> bool:
    try:
        event = decode_event(line)
    except (ValueError, TypeError, KeyError):
        return False
    return isinstance(event, CheckpointSaved) and event.step == step


def _lines(events: Path, until: int) -> Iterator[bytes]:
    """Lines up to a place; all that are whole where that is 0."""
    at = 0
    with open_plain(events) as file:
        for line in file:
            at += len(line)
            if not line.endswith(b"\n") or (until and at > until):
                return
            yield line


def _is_later(line: bytes, step: int) -> bool:
    """Whether a line tells of what came after the step; also an end, which the new run has not come to."""
    try:
        event = decode_event(line)
    except (ValueError, TypeError, KeyError):
        return True
    return isinstance(event, Finished) or (
        isinstance(event, (StepDone, HeldOut, CheckpointSaved)) and event.step > step
    )
