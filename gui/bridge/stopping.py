"""Tells jobs what to do and ends those that do not listen, in a thread: a drive that stalls holds no window up."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PySide6.QtCore import QObject, Signal

from engine.host.control import send
from engine.project.run_folder import JobFolder
from engine.protocol.errors import Failure, UserError
from engine.protocol.text import NOTHING, Text
from gui.bridge.background import unexpected
from gui.bridge.loop import Loop

log = logging.getLogger("lorimer.window")

POLL_SECONDS = 0.1
GIVE_UP_SECONDS = 60.0
"""How long a ladder may be refused each look before it is given up; a disk that refuses once does not end the climb."""
HURRY_SECONDS = 1e6
"""What the ladder's clock is put forward by; no patience is as long."""

Clock = Callable[[], float]


class Ladder(Protocol):
    """What climbs: `engine.host.control.StopLadder`."""

    def poll(self) -> bool:
        """True when the process is gone."""


@dataclass(eq=False, slots=True)
class _Climb:
    """A ladder under way.

    Attributes:
        rung, freed: as the ladder told them last.
        told: the rung that the window knows of.
        ahead: seconds that the ladder's clock is put forward.
        fails_since: when the looks that were refused began, on the monotonic clock; None after one that was not.
        is_told: the window knows that something was refused.
    """

    make: Callable[[Clock], Ladder]
    rung: str = ""
    told: str = ""
    freed: Text = NOTHING
    ahead: float = 0.0
    is_gone: bool = False
    fails_since: float | None = None
    is_told: bool = False
    _ladder: Ladder | None = None

    def poll(self) -> None:
        """Look once; the ladder is made at the first look."""
        self._ladder = self._ladder or self.make(self._now)
        try:
            self.is_gone = self._ladder.poll()
        finally:  # it may have climbed before something was refused
            self.rung, self.freed = getattr(self._ladder, "rung", ""), getattr(self._ladder, "freed", NOTHING)

    def _now(self) -> float:
        return time.monotonic() + self.ahead


class JobCommands(Loop):
    """One thread for all commands and all stop ladders.

    Signals:
        climbed(Path, str): the ladder of the job in that folder stands on this rung now.
        gone(Path, Text): that job's process is gone; what memory it gave back, empty where that is not known.
        failed(Path, Failure): something was refused while that job is ended; told once, the climb goes on.
        given_up(Path): nothing but refusals for long; the climb is over.
    """

    climbed = Signal(object, str)
    gone = Signal(object, object)
    failed = Signal(object, object)
    given_up = Signal(object)
    _refused = Signal(object, object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__("job commands", None, parent)
        self._climbs: dict[Path, _Climb] = {}
        self._refused.connect(lambda receiver, failure: receiver(failure))

    # ------------------------------------------------------------------------------------------ the window's thread
    def tell(self, folder: JobFolder, command: str, failed: Callable[[Failure], None]) -> None:
        """Send a command; ``failed`` is called on the window's thread where the disk does not take it."""
        self.post(lambda: self._send(folder, command, failed))

    def end(self, folder: JobFolder, make: Callable[[Clock], Ladder]) -> None:
        """Climb the ladder that ``make`` gives for a clock, until the job's process is gone."""
        self.post(lambda: self._begin(folder.path, make))

    def hurry(self, folder: JobFolder) -> None:
        """Do not wait any longer on the present rung."""
        self.post(lambda: self._hurry(folder.path))

    # --------------------------------------------------------------------------------------------------- the thread
    def _send(self, folder: JobFolder, command: str, failed: Callable[[Failure], None]) -> None:
        failure = _failure_of(lambda: send(folder, command))
        if failure is not None:
            self._refused.emit(failed, failure)

    def _begin(self, path: Path, make: Callable[[Clock], Ladder]) -> None:
        climb = self._climbs[path] = _Climb(make)
        self._poll(path, climb)
        self.interval = POLL_SECONDS

    def _hurry(self, path: Path) -> None:
        if path in self._climbs:
            self._climbs[path].ahead += HURRY_SECONDS

    def round(self) -> None:
        """Poll every ladder once."""
        for path, climb in list(self._climbs.items()):
            self._poll(path, climb)
        self.interval = POLL_SECONDS if self._climbs else None

    def _poll(self, path: Path, climb: _Climb) -> None:
        failure = _failure_of(climb.poll)
        if climb.rung != climb.told:
            climb.told = climb.rung
            self.climbed.emit(path, climb.rung)
        if failure is not None:
            self._refuse(path, climb, failure)
            return
        climb.fails_since = None
        if climb.is_gone:
            del self._climbs[path]
            self.gone.emit(path, climb.freed)

    def _refuse(self, path: Path, climb: _Climb, failure: Failure) -> None:
        now = time.monotonic()
        climb.fails_since = climb.fails_since or now
        if not climb.is_told:
            climb.is_told = True
            self.failed.emit(path, failure)
        if now - climb.fails_since >= GIVE_UP_SECONDS:
            del self._climbs[path]
            self.given_up.emit(path)


def _failure_of(work: Callable[[], object]) -> Failure | None:
    """What went wrong in ``work``: nothing that it raises ends the thread, on which other jobs' ends depend."""
    try:
        work()
    except UserError as error:
        return Failure.of(error)
    except Exception as error:
        log.exception("a job was not told")
        return unexpected(error)
    return None
