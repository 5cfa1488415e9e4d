"""Which window controls a project: one does, the others watch.

The lease is a file ``control.N.json`` in the project's folder that names a process; the highest number counts. Who
takes it makes the next number, which only one can, and looks again afterwards. It is void when its process is gone.
Whether a process of another machine is gone cannot be seen: there the file must be renewed, and is void when nobody did
for a while. How long is measured by who waits, so that no clock has to agree with another.
"""

from __future__ import annotations

import json
import os
import platform as machine
import re
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.host.platform import is_running, process_mark

RENEW_SECONDS = 10.0
VOID_SECONDS = 90.0
"""Network drives may show a change of a file's time a minute late."""
MOST_BYTES = 4096
_NAME = re.compile(r"control\.(\d{1,9})\.json")


@dataclass(frozen=True, slots=True)
class Holder:
    """Who controls a project.

    Attributes:
        host: name of its machine.
        pid, mark: its process, as `engine.host.platform.process_mark` knows it.
        token: tells two of one process apart.
    """

    host: str
    pid: int
    mark: str
    token: str


UNREADABLE = Holder("", 0, "", "")
"""Somebody whose file is being written, or is damaged."""


def myself() -> Holder:
    """This process, as a holder of its own."""
    return Holder(machine.node(), os.getpid(), process_mark(os.getpid()) or "", uuid.uuid4().hex)


class Lease:
    """One window's side of it. Call `look` about once a second.

    Args:
        project: the project's folder.
        me: who asks.
        now: seconds that only go forward.
    """

    def __init__(self, project: Path, *, me: Holder | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._project = project
        self.me = me or myself()
        self._now = now
        self._answer: Holder | None = None
        self._renewed = -RENEW_SECONDS
        self._seen: tuple[int, int, float] = (0, 0, 0.0)

    def look(self) -> Holder | None:
        """Who else controls the project. None when this one does: where nobody did, it takes the lease.

        On a disk that cannot be read or written the answer stays what it was; at first it is None.
        """
        try:
            number = self._newest()
            holder = self._holder(number)
            if holder == self.me:
                self._renew(number)
                self._answer = None
            elif holder is not None and not self._is_void(number, holder):
                self._answer = holder
            else:
                self._answer = self._claim(number + 1)
        except OSError:
            pass
        return self._answer

    def take(self) -> Holder | None:
        """Take it over from whoever has it. Gives who was quicker, None when this one controls now."""
        try:
            number = self._newest()
            if self._holder(number) != self.me:
                self._answer = self._claim(number + 1)
        except OSError:
            pass
        return self._answer

    def give_back(self) -> None:
        """Let the next one control it at once."""
        with suppress(OSError):
            number = self._newest()
            if self._holder(number) == self.me:
                self._file(number).unlink(missing_ok=True)

    # ----------------------------------------------------------------------------------------------------- the file
    def _file(self, number: int) -> Path:
        return self._project / f"control.{number}.json"

    def _newest(self) -> int:
        """The highest number there is, 0 for none. Raises `OSError`."""
        found = (_NAME.fullmatch(name) for name in os.listdir(self._project))
        return max((int(match[1]) for match in found if match), default=0)

    def _holder(self, number: int) -> Holder | None:
        """Whom a file names; None when it is not there (any more)."""
        path = self._file(number)
        if not number or not path.is_file():
            return None
        try:
            with path.open("rb") as file:
                known = json.loads(file.read(MOST_BYTES))
            holder = Holder(**{name: known[name] for name in Holder.__slots__})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, RecursionError):
            return UNREADABLE
        kinds = [type(value) for value in asdict(holder).values()]
        return holder if kinds == [str, int, str, str] and 0 < holder.pid < 2**31 else UNREADABLE

    def _is_void(self, number: int, holder: Holder) -> bool:
        if holder.host == self.me.host and holder.mark:
            return not is_running(holder.pid, holder.mark)
        stamp = self._file(number).stat().st_mtime_ns
        if self._seen[:2] != (number, stamp):
            self._seen = (number, stamp, self._now())
        return self._now() - self._seen[2] > VOID_SECONDS

    def _renew(self, number: int) -> None:
        if self._now() - self._renewed >= RENEW_SECONDS:
            self._renewed = self._now()
            with suppress(FileNotFoundError):
                os.utime(self._file(number))

    def _claim(self, number: int) -> Holder | None:
        """Make the file of this number. Gives who was quicker, None when nobody was. Raises `OSError`."""
        try:
            self._make(self._file(number))
        except FileExistsError:
            return self._holder(self._newest()) or UNREADABLE
        newest = self._newest()
        if newest != number:  # made from an old look: meanwhile others went on
            self._file(number).unlink(missing_ok=True)
            return self._holder(newest) or UNREADABLE
        self._renewed = self._now()
        for name in os.listdir(self._project):
            match = _NAME.fullmatch(name)
            if match and int(match[1]) < number:
                (self._project / name).unlink(missing_ok=True)
        return None

    def _make(self, path: Path) -> None:
        """Make the file whole in one step, where the file system has links; it must not be there.

        Raises:
            FileExistsError: another one made it.
            OSError: the disk does not take it.
        """
        content = json.dumps(asdict(self.me)).encode()
        beside = path.with_name(f".control.{self.me.token}.part")
        try:
            beside.write_bytes(content)
            os.link(beside, path)
        except FileExistsError:
            raise
        except OSError:
            with path.open("xb", buffering=0) as file:
                file.write(content)
        finally:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
