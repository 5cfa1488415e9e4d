"""A session process: asked over a pipe, answers with events, dies with the one who asks."""

from __future__ import annotations

import contextlib
import queue
import subprocess
import threading
from pathlib import Path
from typing import IO, Any

from engine.host.diagnose import diagnose
from engine.host.follow import log_tail
from engine.host.launch import start_session_process
from engine.host.platform import config_folder
from engine.project.atomic import disk_error
from engine.protocol.codec import decode_event, encode_request
from engine.protocol.errors import Failure
from engine.protocol.events import Answer, Event, Request
from engine.protocol.text import say

CANCEL = "cancel"


class SessionProcess:
    """Rows for the Data page ("data"), or the two models to talk to ("chat").

    One thread reads what the process writes into a queue; `poll` empties it. A process that dies answers every open
    request with a failure, and is started anew by the next `ask`.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._open: set[int] = set()
        self._last = 0

    @property
    def log(self) -> Path:
        """What its libraries print."""
        return config_folder() / "logs" / f"session-{self.kind}.log"

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process, if it does not run. Raises `UserError` when it cannot be started."""
        if self.alive:
            return
        self._reap()
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("wb") as log:
                self._process = start_session_process(self.kind, log)
        except OSError as error:
            raise disk_error(error, self.log) from error
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), name=f"session-{self.kind}")
        self._reader.start()

    def ask(self, name: str, **arguments: Any) -> int:
        """Send a request, starting the process if needed; gives the number that its `Answer` will carry.

        Raises:
            UserError: the process cannot be started.
        """
        self.start()
        self._last += 1
        self._open.add(self._last)
        self._send(Request(request=self._last, name=name, arguments=arguments))
        return self._last

    def cancel(self, request: int) -> None:
        """Ask that ``request`` ends early; its answer still comes."""
        if self.alive:
            self._send(Request(request=request, name=CANCEL))

    def poll(self) -> list[Event]:
        """What came since the last call; returns at once."""
        ended = self._process is not None and not self.alive and not (self._reader and self._reader.is_alive())
        events: list[Event] = []
        while not self._events.empty():
            event = self._events.get()
            if isinstance(event, Answer):
                self._open.discard(event.request)
            events.append(event)
        if ended and self._open:
            events += [Answer(request=number, failure=self._why()) for number in sorted(self._open)]
            self._open.clear()
        return events

    def close(self, *, seconds: float = 5.0) -> None:
        """End the process: its input is closed, and it is killed when it does not end by itself in ``seconds``."""
        process = self._process
        if process is None:
            return
        if process.stdin is not None and not process.stdin.closed:
            # It may have died with unread input; there is nothing left to tell it.
            with contextlib.suppress(OSError):
                process.stdin.close()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
        self._reap()

    def _send(self, request: Request) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write((encode_request(request) + "\n").encode())
            self._process.stdin.flush()
        except OSError:
            return  # it died this instant: `poll` answers for it

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            try:
                self._events.put(decode_event(line))
            except (ValueError, TypeError, KeyError):
                continue  # one bad line must not end the session
        stream.close()

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait()
            if self._process.stdin is not None:
                with contextlib.suppress(OSError):  # unread input of a dead process
                    self._process.stdin.close()
        if self._reader is not None:
            self._reader.join()
        self._process = self._reader = None

    def _why(self) -> Failure:
        code = self._process.poll() if self._process is not None else None
        if code == 0:
            return Failure("session.closed", say("The helper process was closed.", "辅助进程已关闭。"))
        return diagnose(code, log_tail(self.log))
