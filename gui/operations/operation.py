"""One user action under way: progress, error and success in one place, so that pages do not repeat them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, QTimer, Signal

from engine.protocol.errors import Failure, UserError
from engine.protocol.text import say
from gui.context import AppContext

if TYPE_CHECKING:
    from engine.protocol.events import Event
    from gui.bridge.session import Ask, SessionClient

CHANGES = frozenset({"decide", "undo"})
"""Requests that change something in the project."""
WATCHING = Failure("cancelled", say("Another window controls this project.", "此项目由另一个窗口控制。"))
"""How an operation ends that may not begin; why was told already."""


class Operation(QObject):
    """Something the user asked for that takes a moment.

    Without `on_failure` what goes wrong becomes a notice; what the user cancelled is told to nobody.

    Signals:
        ended: it succeeded, failed or was cancelled.
    """

    ended = Signal()

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self._context = context
        self._succeed: Callable[[Any], object] | None = None
        self._fail: Callable[[Failure], object] = context.notices.failure
        self._tell: Callable[[Event], object] | None = None
        self._client: SessionClient | None = None
        self._ask: Ask | None = None

    def on_success(self, receiver: Callable[[Any], object]) -> Operation:
        """Call ``receiver`` with the result."""
        self._succeed = receiver
        return self

    def on_failure(self, receiver: Callable[[Failure], object]) -> Operation:
        """Call ``receiver`` with what went wrong, instead of a notice."""
        self._fail = receiver
        return self

    def on_progress(self, receiver: Callable[[Event], object]) -> Operation:
        """Call ``receiver`` with each Stage, Progress and Token."""
        self._tell = receiver
        return self

    def in_background(self, work: Callable[[], Any], *, changes: bool = False) -> Operation:
        """Do ``work`` (no widgets in it) in the background thread.

        Args:
            changes: something in the project, which a window that only watches may not.
        """
        if changes and not self._context.may_change():
            return self._refused()
        self._context.bridge.background.call(work, self._done, self._failed)
        return self

    def in_session(self, client: SessionClient, name: str, **arguments: Any) -> Operation:
        """Ask a session process."""
        if name in CHANGES and not self._context.may_change():
            return self._refused()
        self._client = client
        self._ask = client.ask(name, arguments, self._done, self._failed, self._told)
        return self

    def _refused(self) -> Operation:
        QTimer.singleShot(0, self, lambda: self._failed(WATCHING))
        return self

    def cancel(self) -> None:
        """Ask that it ends early; only what runs in a session can."""
        if self._client is not None and self._ask is not None:
            self._client.cancel(self._ask)

    def drop(self) -> None:
        """Nobody wants the result any more."""
        if self._client is not None:
            self._client.drop(self._ask)
        self._succeed = None
        self._fail = lambda failure: None
        self._tell = None

    def _told(self, event: Event) -> None:
        if self._tell is not None:
            self._tell(event)

    def _done(self, value: Any) -> None:
        if self._succeed is not None:
            self._succeed(value)
        self._end()

    def _failed(self, failure: Failure) -> None:
        self._fail(failure)
        self._end()

    def _end(self) -> None:
        self.ended.emit()
        self.deleteLater()


def attempt(context: AppContext, work: Callable[[], Any]) -> Any:
    """Do something quick at once; what goes wrong becomes a notice, and None is returned."""
    try:
        return work()
    except UserError as error:
        context.notices.failure(Failure.of(error))
        return None


def change(context: AppContext, work: Callable[[], Any]) -> Any:
    """`attempt` something that changes the project: starts, tells or ends a job, renames, removes.

    Where another window controls the project it is not done, and that is told.
    """
    return attempt(context, work) if context.may_change() else None
