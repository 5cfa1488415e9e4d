"""Following a job by its events, from the first line or from where one left off; the end is always told."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

from engine.host import platform
from engine.host.diagnose import KILLED_CODE, MEMORY_KILLED, diagnose
from engine.host.launch import (
    append_event,
    exit_code,
    is_alive,
    memory_kills,
    read_tail,
    stop_file,
    sweep,
)
from engine.host.restart import KillCount, restart
from engine.project.atomic import open_plain, read_json
from engine.project.run_folder import JobFolder
from engine.protocol.codec import decode_event, encode_event
from engine.protocol.errors import Failure, UserError
from engine.protocol.events import (
    STOPPED,
    TERMINAL,
    Event,
    Finished,
    JobStarted,
    Launched,
    RunPlanned,
    StepDone,
    damaged_lines,
)
from engine.protocol.state import MOST_STEPS, JobState, append, apply_all, stride_of

CHUNK_BYTES = 4 * 1024**2
"""What is read at once: a record of any length is followed in little memory."""
FULL_BYTES = 1024**2
"""With less than this free, a disk is full: a line of events, a log and a temporary file do not fit together."""


class Follower:
    """Reads what a job tells, as often as one likes.

    Args:
        restarts: start a training again that the system ends for lack of memory while it is followed.

    Of very many steps only those are decoded that the state keeps (`engine.protocol.state.stride_of`), and the last one
    before anything else happens: a record of a million events is read in a second.

    Attributes:
        offset: bytes of ``events.jsonl`` read so far.
        has_more: the last `poll` did not reach the end of what is there.
    """

    def __init__(self, folder: JobFolder, *, restarts: bool = False) -> None:
        self._folder = folder
        self.offset = 0
        self.has_more = False
        self._highest = 0
        self._in_long_line = False
        self._open = True  # until an end was told
        self._is_there = False
        self._kills = KillCount(folder) if restarts else None
        self._trains = False
        self._step = 0
        self._was_alive = False

    def poll(self) -> list[Event]:
        """Events that came since the last call, those of a long record piece by piece (`has_more`). When the process is
        gone without a last word, one is added."""
        alive = is_alive(self._folder)  # asked first: what it wrote before it ended is then surely read below
        if self._was_alive and not alive:
            sweep(self._folder)
        self._was_alive = alive
        if alive and self._kills is not None:
            self._kills.look()
        events = self._read()
        for event in events:
            self._note(event)
        if self._open and self._is_there and not alive and not events and not self.has_more:
            if self._started_again():
                return []
            events = self._last_word()
            self._open = False
        elif events and _is_end_by_system(events[-1]) and self._started_again():
            # Another reader of the record found the process gone before this one did.
            events.pop()
        return events

    def _note(self, event: Event) -> None:
        if isinstance(event, (Launched, JobStarted)):
            self._open, self._trains = True, False
        elif isinstance(event, RunPlanned):
            self._trains = True
        elif isinstance(event, StepDone):
            self._step = event.step
        elif isinstance(event, Finished):
            self._open = False

    def _started_again(self) -> bool:
        """Whether the process was training, the system ended it for lack of memory, and it is started again."""
        if self._kills is None or not self._trains or not self._kills.has_risen:
            return False
        if exit_code(self._folder) not in (KILLED_CODE, None):
            return False
        try:
            again = restart(self._folder, step=self._step)
        except (UserError, OSError):
            return False  # what ended the process is then told as the end
        if again:
            self._kills.forget()
            self._open, self._trains = True, False
        return again

    def _read(self) -> list[Event]:
        try:
            with open_plain(self._folder.events) as file:
                file.seek(self.offset)
                content = file.read(CHUNK_BYTES)
            self._is_there = True
        except OSError:
            self.has_more = False
            return []
        complete = content.rfind(b"\n") + 1
        self.has_more = len(content) == CHUNK_BYTES
        if self.offset == 0 and self.has_more:
            self._highest = _last_step(self._folder.events)  # what will not be kept need not be decoded first
        if not complete and self.has_more:  # no event is as long as that
            told: list[Event] = [] if self._in_long_line else [damaged_lines(1)]
            self._in_long_line = True
            self.offset += len(content)
            return told
        self.offset += complete
        lines = content[:complete].splitlines()
        if lines and self._in_long_line:
            self._in_long_line = False
            del lines[0]  # the end of what was passed over
        return self._decoded(lines)

    def _decoded(self, lines: list[bytes]) -> list[Event]:
        """The events of some lines, without the steps and gauges that the state would not keep."""
        events: list[Event] = []
        step: bytes | None = None
        stride, step_of = stride_of(self._highest), _STEP.match
        last_gauge = next((number for number in reversed(range(len(lines))) if lines[number].startswith(_GAUGE)), -1)
        for number, line in enumerate(lines):
            found = step_of(line)
            if found is not None:
                at = int(found[1])
                if at > self._highest:
                    self._highest = at
                    if at > stride * MOST_STEPS:
                        stride = stride_of(at)
                if at % stride:
                    step = line
                else:
                    events.append(_event_of(line))
                    step = None
            elif line.startswith(_GAUGE):
                if number == last_gauge:
                    events.append(_event_of(line))
            elif line.strip():
                if step is not None:
                    events.append(_event_of(step))
                    step = None
                append(events, _event_of(line))
        if step is not None:
            events.append(_event_of(step))
        return events

    def _last_word(self) -> list[Event]:
        """The terminal event that the process could not write, written to its file so that it is told once; before it
        the line that the process left half-written, as every later reader finds it."""
        rung = _rung(self._folder)
        failure = None if rung else _why(self._folder)
        told = encode_event(Finished(status=STOPPED if rung else "failed", failure=failure, rung=rung, derived=True))
        # What is told and what is written are one event, with one time.
        event: Finished = decode_event(told)  # type: ignore[assignment]
        try:
            append_event(self._folder, event)
        except OSError:
            return [event]  # a read-only project can still be looked at; the window knows the end without the file
        return self._read() or [event]


def _is_end_by_system(event: Event) -> bool:
    return isinstance(event, Finished) and event.derived and getattr(event.failure, "code", "") == MEMORY_KILLED


def _why(folder: JobFolder) -> Failure:
    """Why the process ended without a last word; on a full disk neither it nor its log could say so."""
    code, log = exit_code(folder), log_tail(folder.log)
    try:
        full = shutil.disk_usage(folder.path).free < FULL_BYTES
    except OSError:
        full = False
    kills = memory_kills(folder)
    by_system = kills is not None and kills[1] > kills[0]
    log = f"{log}\n{os.strerror(errno.ENOSPC)}" if full else log
    return diagnose(code, log, by_system=by_system, restarted=code is None and _was_restarted(folder))


def _was_restarted(folder: JobFolder) -> bool:
    """Whether the machine was started anew since the job was last heard of."""
    try:
        heard = folder.events.stat().st_mtime
    except OSError:
        return False
    return platform.started() > heard


def replay(folder: JobFolder) -> JobState:
    """The job's state from all that was told so far; a process that died unheard is noticed."""
    follower, state = Follower(folder), JobState()
    state = apply_all(state, follower.poll())
    while follower.has_more:
        state = apply_all(state, follower.poll())
    # Only a poll that finds nothing new notices a process that died unheard.
    state = apply_all(state, follower.poll())
    return state


def last_status(folder: JobFolder) -> str:
    """ "starting", "working", "waiting" or a terminal status; cheap, for lists: reads the end of the file only."""
    try:
        lines = read_tail(folder.events).splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        event = _event_of(line)
        if isinstance(event, Finished):
            return event.status if event.status in TERMINAL else "failed"
        if event.type in ("waiting", "launched"):
            return (
                replay(folder).status
                if not is_alive(folder)
                else {"waiting": "waiting", "launched": "starting"}[event.type]
            )
        if event.type in ("step", "continued", "stage", "job_started", "progress"):
            return "working" if is_alive(folder) else replay(folder).status
    return replay(folder).status


def log_tail(path: Path, *, size: int = 6000) -> str:
    """The last ``size`` bytes of a log as text, empty when there is none."""
    try:
        return read_tail(path, size).decode("utf-8", "replace")
    except OSError:
        return ""


_STEP = re.compile(rb'\{"type": "step", (?:"time": [\d.]+, )?"step": (\d{1,12}),')
_GAUGE = b'{"type": "gauge"'
"""How a line begins, as `encode_event` writes it; lines written otherwise are decoded, each of them."""


def _last_step(path: Path) -> int:
    """The step that a record ends with, 0 where its end tells of none."""
    try:
        lines = read_tail(path).splitlines()
    except OSError:
        return 0
    steps = (_event_of(line) for line in reversed(lines) if _STEP.match(line))
    return next((event.step for event in steps if isinstance(event, StepDone)), 0)


def _event_of(line: bytes) -> Event:
    try:
        return decode_event(line)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return damaged_lines(1)


def _rung(folder: JobFolder) -> str:
    if not stop_file(folder).exists():
        return ""
    try:
        rung = read_json(stop_file(folder)).get("rung", "")
    except (UserError, AttributeError):
        return ""
    return rung if rung in ("asked", "terminated", "killed") else ""
