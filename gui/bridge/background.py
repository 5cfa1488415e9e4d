"""One thread for short calls that may touch the disk or wait a moment, so that the window never does."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QObject, Signal

from engine.protocol.errors import EXIT_MACHINE, Failure, UserError
from engine.protocol.text import say
from gui.bridge.loop import Loop

log = logging.getLogger("lorimer.window")


class Background(Loop):
    """Does calls one after the other and hands their results back on the window's thread.

    Calls must not touch widgets.
    """

    _ended = Signal(object, object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__("background", None, parent)
        self._ended.connect(self._hand_back)

    def call(
        self,
        work: Callable[[], Any],
        done: Callable[[Any], None],
        failed: Callable[[Failure], None],
    ) -> None:
        """Do ``work`` in the thread; ``done`` or ``failed`` is then called on the window's thread."""
        self.post(lambda: self._work(work, done, failed))

    def _work(self, work: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[Failure], None]) -> None:
        try:
            result = work()
        except UserError as error:
            self._ended.emit(failed, Failure.of(error))
        except Exception as error:
            log.exception("background call failed")
            self._ended.emit(failed, unexpected(error))
        else:
            self._ended.emit(done, result)

    def _hand_back(self, receiver: Callable[[Any], None], value: Any) -> None:
        receiver(value)


def unexpected(error: BaseException) -> Failure:
    """The failure that tells of an error nobody foresaw."""
    told = str(error) or type(error).__name__
    return Failure(
        code="window.unexpected",
        message=say("Something unexpected happened: {error}.", "发生了意外错误：{error}。", error=told),
        hint=say("Try again. The details help whoever mends it.", "请重试。复制详情有助于修复。"),
        details="".join(traceback.format_exception(error)),
        exit_code=EXIT_MACHINE,
    )
