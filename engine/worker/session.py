"""A session: requests come as lines on standard input, events go out, and the end of the input ends it."""

from __future__ import annotations

import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from engine.protocol.codec import decode_request
from engine.protocol.errors import Failure, Stopped, UserError
from engine.protocol.events import Answer, Event, Request
from engine.protocol.text import say
from engine.worker.channel import WorkerChannel
from engine.worker.job import explain

CANCEL = "cancel"
GRACE_SECONDS = 3.0


class Service(Protocol):
    """What answers the requests of one kind of session.

    Attributes:
        slow: names of requests that are answered beside the others, each in a thread of its own.
    """

    slow: frozenset[str]

    def handle(self, request: Request, emit: Callable[[Event], None]) -> dict[str, Any]:
        """The value of the request's answer. Raises `UserError`, or `Stopped` when it was cancelled."""

    def cancel(self, request: int) -> None:
        """Make a request end early, 0 every one; called from another thread."""


def serve(kind: str, descriptor: int) -> int:
    """Answer until the input ends; gives the exit code."""
    channel = WorkerChannel(descriptor)
    requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
    service = _service(kind)
    threading.Thread(target=_listen, args=(requests, service), daemon=True).start()
    while (request := requests.get()) is not None:
        if request.name in service.slow:
            threading.Thread(target=_tell, args=(service, request, channel.emit), daemon=True).start()
        else:
            _tell(service, request, channel.emit)
    return 0


def _tell(service: Service, request: Request, emit: Callable[[Event], None]) -> None:
    emit(_answer(service, request, emit))


def _service(kind: str) -> Service:
    if kind == "chat":
        from engine.chat.serve import ChatService

        return ChatService()
    from engine.worker.data_service import DataService

    return DataService()


def _listen(requests: queue.SimpleQueue[Request | None], service: Service) -> None:
    """Cancel at once, queue the rest. When the input ends the window is gone: end soon, whatever is being done."""
    for line in sys.stdin.buffer:
        try:
            request = decode_request(line)
        except ValueError:
            continue
        if request.name == CANCEL:
            service.cancel(request.request)
        else:
            requests.put(request)
    service.cancel(0)
    requests.put(None)
    end = threading.Timer(GRACE_SECONDS, os._exit, (0,))
    end.daemon = True
    end.start()


def _answer(service: Service, request: Request, emit: Callable[[Event], None]) -> Answer:
    try:
        return Answer(request=request.request, value=service.handle(request, emit))
    except Stopped:
        message = say("Cancelled.", "已取消。")
        return Answer(request=request.request, failure=Failure("cancelled", message, exit_code=0))
    except UserError as error:
        return Answer(request=request.request, failure=Failure.of(error))
    except Exception as error:  # noqa: BLE001  a failing request must not end the session; its traceback is logged
        traceback.print_exc()
        return Answer(request=request.request, failure=explain(error, Path(os.devnull)))
