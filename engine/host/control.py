"""Telling a job what to do, and ending one that does not listen."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from engine.host import platform
from engine.host.freed import LITTLE_GIB, Held, given_back, held_by, left_of
from engine.host.launch import is_alive, read_tail, running_pid, stop_file, sweep
from engine.project.atomic import disk_error, open_plain, write_json
from engine.project.run_folder import JobFolder
from engine.protocol.codec import decode_event, encode_command
from engine.protocol.errors import UserError
from engine.protocol.events import STOP, Command, Continued, Launched, StepDone, Waiting
from engine.protocol.text import NOTHING, Text

ASKED, TERMINATED, KILLED = "asked", "terminated", "killed"
SAVE_SECONDS, MOST_SECONDS = 60.0, 1800.0
STEPS_LOOKED_AT, STEPS_WAITED = 10, 3
FREE_SECONDS = 5.0
"""How long a driver may take to let go what an ended process held."""


def send(folder: JobFolder, name: str) -> None:
    """Tell the job to pause, continue, save or stop. Raises `UserError` when the disk does not take it."""
    try:
        with open_plain(folder.commands, "ab") as file:
            file.write((encode_command(Command(name=name)) + "\n").encode())
    except OSError as error:
        raise disk_error(error, folder.commands) from error


class StopLadder:
    """Ask, then end politely, then end at once: one rung at a time, each with its patience, the rung reached recorded.

    Call `poll` now and then until it says that the job is over. Then nothing is left of it: children that outlived it
    are ended too, and whether its memory was given back was looked at.

    Args:
        save_seconds: how long the job may take to save and end by itself; None: `save_patience`.
        terminate_seconds: how long after the polite end.

    Attributes:
        rung: how far it had to go: "", "asked", "terminated" or "killed".
        freed: when it is over, what memory was given back, or was not; empty where there is nothing to say.
    """

    def __init__(
        self,
        folder: JobFolder,
        *,
        save_seconds: float | None = None,
        terminate_seconds: float = 10.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        asked = save_patience(folder) if save_seconds is None else save_seconds
        self._patience = {"": 0.0, ASKED: asked, TERMINATED: terminate_seconds, KILLED: terminate_seconds}
        self._now = now
        self._since = now()
        self._pid: int | None = None
        self._held: Held | None = None
        self._gone_since: float | None = None
        self.rung = ""
        self.freed: Text = NOTHING

    def poll(self) -> bool:
        """Climb when the patience of the present rung is spent. True when the process is gone, and all it held."""
        pid = running_pid(self._folder)
        if pid is None:
            return not is_alive(self._folder) and self._is_all_gone()
        if self._pid is None:
            self._pid, self._held = pid, held_by(pid)
        if self._now() - self._since >= self._patience[self.rung]:
            self._climb(pid)
        return False

    def _is_all_gone(self) -> bool:
        """End what outlived the process, and look whether memory came back: a driver takes a moment for it."""
        if self._pid is None or self._held is None:
            sweep(self._folder)
            return True
        if self._gone_since is None:
            self._gone_since = self._now()
            if platform.group_members(self._pid):  # the head was there a moment ago: the group is still the job's
                platform.end_group(self._pid, force=True)
        after = left_of(self._held)
        is_free = not after.pids and (after.gpu_gib or 0.0) <= LITTLE_GIB
        if not is_free and self._now() - self._gone_since < FREE_SECONDS:
            return False
        self.freed = given_back(self._held, after)
        if self.rung and not stop_file(self._folder).exists():
            self._record(self.rung)  # the process may have left room
        return True

    def _climb(self, pid: int) -> None:
        self._since = self._now()
        if self.rung == "":
            self._record(ASKED)
            try:
                send(self._folder, STOP)
            except UserError:  # a disk that takes nothing: it cannot be asked, and could save nothing
                self._patience[ASKED] = 0.0
        elif self.rung == ASKED:
            self._record(TERMINATED)
            platform.end_group(pid, force=False)
        else:
            self._record(KILLED)
            platform.end_group(pid, force=True)

    def _record(self, rung: str) -> None:
        self.rung = rung
        with suppress(UserError):  # a full disk keeps no process alive
            write_json(stop_file(self._folder), {"rung": rung})


def save_patience(folder: JobFolder) -> float:
    """Seconds to wait for a job that was asked to save and end: a minute, and longer where its steps take longer, as it
    looks at what it is told after each step."""
    try:
        lines = read_tail(folder.events).splitlines()
    except OSError:
        return SAVE_SECONDS
    took, before = [0.0], 0.0
    for line in lines:
        try:
            event = decode_event(line)
        except (ValueError, TypeError, KeyError):
            continue
        if isinstance(event, StepDone):
            took.append(event.time - before if before else 0.0)
            before = event.time
        elif isinstance(event, (Launched, Waiting, Continued)):
            before = 0.0  # nobody computed between the two
    return min(max(SAVE_SECONDS, STEPS_WAITED * max(took[-STEPS_LOOKED_AT:])), MOST_SECONDS)


def stop(folder: JobFolder, *, save_seconds: float | None = None, terminate_seconds: float = 10.0) -> str:
    """Stop the job and wait until its process is gone. Gives the rung that was needed, "" when it had ended already."""
    ladder = StopLadder(folder, save_seconds=save_seconds, terminate_seconds=terminate_seconds)
    while not ladder.poll():
        time.sleep(0.05)
    return ladder.rung
