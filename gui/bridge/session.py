"""Asks a session process and hands its answers back on the window's thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QObject, Signal

from engine.host.session import SessionProcess
from engine.protocol.errors import Failure, UserError
from engine.protocol.events import Answer, Event, Progress, Stage, Token
from gui.bridge.loop import Loop

POLL_SECONDS = 0.02


@dataclass(eq=False, slots=True)
class Ask:
    """One request on its way.

    Attributes:
        done: called with the answer's value.
        failed: called with what went wrong; a cancelled request fails with the code "cancelled".
        told: called with each Token, Progress and Stage that comes before the answer.
        dropped: nobody wants the answer any more.
    """

    name: str
    arguments: dict[str, Any]
    done: Callable[[dict[str, Any]], None]
    failed: Callable[[Failure], None]
    told: Callable[[Event], None] | None = None
    number: int = 0
    dropped: bool = False


class SessionClient(Loop):
    """One session process with one thread that speaks to it. The process starts with the first request or `warm_up`.

    Requests are answered one after the other, but for slow ones: progress that names no request is the oldest's.
    """

    _answered = Signal(object, object)

    def __init__(self, kind: str, parent: QObject | None = None, *, name: str = "") -> None:
        super().__init__(f"{name or kind} session", None, parent)
        self._process = SessionProcess(kind)
        self._open: dict[int, Ask] = {}
        self._answered.connect(self._hand_back)

    # ------------------------------------------------------------------------------------------ the window's thread
    def warm_up(self) -> None:
        """Start the process, so that the first answer comes soon. A failure shows with the first request."""
        self.post(self._start)

    def ask(
        self,
        name: str,
        arguments: dict[str, Any],
        done: Callable[[dict[str, Any]], None],
        failed: Callable[[Failure], None],
        told: Callable[[Event], None] | None = None,
    ) -> Ask:
        """Send a request; the callbacks come later, on the window's thread."""
        ask = Ask(name, arguments, done, failed, told)
        self.post(lambda: self._send(ask))
        return ask

    def cancel(self, ask: Ask) -> None:
        """Have the request end early; `failed` is then called with the code "cancelled"."""
        self.post(lambda: self._cancel(ask))

    def drop(self, ask: Ask | None) -> None:
        """Forget the request: it may end as it likes, and no callback is called."""
        if ask is not None:
            ask.dropped = True

    def _hand_back(self, ask: Ask, event: Event) -> None:
        if ask.dropped:
            return
        if not isinstance(event, Answer):
            if ask.told is not None:
                ask.told(event)
        elif event.failure is not None:
            ask.failed(event.failure)
        else:
            ask.done(event.value)

    # --------------------------------------------------------------------------------------------------- the thread
    def _start(self) -> None:
        try:
            self._process.start()
        except UserError:
            return  # the next request meets the same trouble and tells it to someone who can show it

    def _send(self, ask: Ask) -> None:
        if ask.dropped:
            return
        try:
            ask.number = self._process.ask(ask.name, **ask.arguments)
        except UserError as error:
            self._answered.emit(ask, Answer(request=0, failure=Failure.of(error)))
            return
        self._open[ask.number] = ask
        self.interval = POLL_SECONDS

    def _cancel(self, ask: Ask) -> None:
        if ask.number in self._open:
            self._process.cancel(ask.number)

    def round(self) -> None:
        """Hand on what the process said."""
        for event in self._process.poll():
            self._hand_on(event)
        self.interval = POLL_SECONDS if self._open else None

    def _hand_on(self, event: Event) -> None:
        if isinstance(event, Answer):
            ask = self._open.pop(event.request, None)
        elif isinstance(event, Token) or (isinstance(event, Progress) and event.request):
            ask = self._open.get(event.request)
        elif isinstance(event, (Progress, Stage)):
            ask = next(iter(self._open.values()), None)
        else:
            ask = None
        if ask is not None:
            self._answered.emit(ask, event)

    def closing(self) -> None:
        """End the process with the thread."""
        self._process.close()
