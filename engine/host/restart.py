"""Starting a training run again that the system ended for lack of memory: a bounded number of times, with less at once.

What a person ended (Stop, or a kill by hand) is never started again: only the system's own count of such ends proves
that it was the system. Where it keeps none, the run waits for a person, too.
"""

from __future__ import annotations

import os
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from engine.host.launch import append_event, is_alive, memory_kills, start_job, stop_file
from engine.project.atomic import read_json
from engine.project.run_folder import JobFolder
from engine.protocol.errors import UserError
from engine.protocol.events import Note
from engine.protocol.text import say

MOST_RESTARTS = 3
"""How often one run is started again before a person must look at it."""
KINDS = ("train", "resume")
LOOK_SECONDS, KEPT_LOOKS = 1.0, 30
"""A process with much memory takes seconds to go: what counted as little as 30 s before it was gone is compared."""
CLAIM_SECONDS = 60.0


class KillCount:
    """The system's count over the last half minute, so that another process's end long ago proves nothing."""

    def __init__(self, folder: JobFolder) -> None:
        self._folder = folder
        self._looked = 0.0
        self._counts: deque[int] = deque(maxlen=KEPT_LOOKS)

    def look(self) -> None:
        """Look, at most once a second, while the process is alive."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        found = memory_kills(self._folder)
        if found is not None:
            self._counts.append(found[1])

    @property
    def has_risen(self) -> bool:
        """Whether the system ended a process for lack of memory in that time."""
        found = memory_kills(self._folder)
        return bool(self._counts) and found is not None and found[1] > self._counts[0]

    def forget(self) -> None:
        """Another process begins."""
        self._counts.clear()
        self._looked = 0.0


def restart(folder: JobFolder, *, step: int) -> bool:
    """Start the run's training again, told to compute less at once; whether that was done, by this host or another.

    Args:
        step: the last one that was told.

    Raises:
        UserError: it cannot be started.
    """
    job = _job(folder)
    arguments = job.get("arguments", {})
    number = int(arguments.get("restarts", 0)) + 1
    if job.get("kind") not in KINDS or number > MOST_RESTARTS or stop_file(folder).exists():
        return False
    if not _claimed(folder):
        return True
    try:
        if is_alive(folder):  # another host was quicker
            return True
        append_event(folder, _told(number, step))
        start_job(folder, "resume", {**arguments, "restarts": number})
    finally:
        _claim(folder).unlink(missing_ok=True)
    return True


def _job(folder: JobFolder) -> dict[str, Any]:
    try:
        job = read_json(folder.job)
    except UserError:
        return {}
    return job if isinstance(job, dict) else {}


def _claim(folder: JobFolder) -> Path:
    return folder.path / "restart.claim"


def _claimed(folder: JobFolder) -> bool:
    """Whether this host may start it: of several that follow the run, the first one. A claim that nobody gave back,
    because its host ended, is void after a minute."""
    claim = _claim(folder)
    with suppress(OSError):
        # Either way: a clock that was set back must not keep a dead claim for hours.
        if abs(time.time() - claim.stat().st_mtime) > CLAIM_SECONDS:
            claim.unlink(missing_ok=True)
    try:
        os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except OSError:
        return False
    return True


def _told(number: int, step: int) -> Note:
    text = say(
        "The system ended the process after step {step} because memory ran out. It is started again from the last "
        "checkpoint with less at once ({number} of {most}).",
        "内存不足，系统在第 {step} 步之后终止了进程。将从最后的检查点以更小的批次重新启动"
        "（第 {number} 次，最多 {most} 次）。",
        step=step,
        number=number,
        most=MOST_RESTARTS,
    )
    return Note(code="process.restarted", level="recovery", text=text, step=step)
