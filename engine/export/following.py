"""Run another program and tell what it says as it says it, until it ends or the user stops it."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue

from engine.host import platform
from engine.protocol.channel import Channel, stop_if_asked
from engine.protocol.errors import Stopped

_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_TAIL = 60
_POLITE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended: its exit code, and its last lines."""

    code: int
    tail: tuple[str, ...]

    @property
    def words(self) -> str:
        """The lines as one text."""
        return "\n".join(self.tail)

    @property
    def why(self) -> str:
        """The line that most likely says what was wrong."""
        named = (line for line in reversed(self.tail) if re.search(r"rror|xception|annot|ailed", line))
        return next(named, self.tail[-1] if self.tail else f"exit code {self.code}")


def followed(
    command: Sequence[str | Path],
    folder: Path,
    channel: Channel,
    tell: Callable[[str], None],
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Run ``command`` in ``folder`` to its end; each line of its output, both streams, goes to ``tell``.

    Raises:
        OSError: it cannot be started.
        Stopped: the user asked; the program and all that it started are ended.
    """
    process = platform.start(
        [str(part) for part in command],
        folder=folder,
        environment=dict(os.environ if environment is None else environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        detached=True,
    )
    lines: SimpleQueue[str] = SimpleQueue()
    reader = threading.Thread(target=_read, args=(process, lines), daemon=True)
    reader.start()
    tail: list[str] = []
    try:
        while reader.is_alive() or not lines.empty():
            stop_if_asked(channel)
            try:
                line = lines.get(timeout=0.1)
            except Empty:
                continue
            if line and line not in tail[-1:]:
                tail = [*tail[-_TAIL:], line]
                tell(line)
        return Ended(process.wait(), tuple(tail))
    except (Stopped, KeyboardInterrupt):
        _end(process)
        raise
    finally:
        reader.join(_POLITE_SECONDS)
        if process.stdout is not None:
            process.stdout.close()


def _read(process: subprocess.Popen[bytes], lines: SimpleQueue[str]) -> None:
    """Lines of a terminal program: it rewrites one with carriage returns to show how far it is."""
    assert process.stdout is not None
    rest = b""
    while piece := os.read(process.stdout.fileno(), 4096):
        *whole, rest = re.split(rb"[\r\n]", rest + piece)
        for line in whole:
            lines.put(_plain(line))
    lines.put(_plain(rest))


def _plain(line: bytes) -> str:
    return _CONTROLS.sub("", line.decode("utf-8", "replace")).strip()


def _end(process: subprocess.Popen[bytes]) -> None:
    platform.end_group(process.pid, force=False)
    end = time.monotonic() + _POLITE_SECONDS
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    if process.poll() is None:
        platform.end_group(process.pid, force=True)
        process.wait()
