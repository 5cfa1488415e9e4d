"""The chat session: loads a run's two models and answers until the window closes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from engine.chat.pair import Pair, conversation
from engine.chat.sampling import Sampling
from engine.data.rows import USER
from engine.model.tuned import SIDES, Side
from engine.project.project import open_run
from engine.protocol.errors import Stopped, UserError
from engine.protocol.events import Event, Request, Stage, Token
from engine.protocol.text import say


class ChatService:
    """Answers ``load`` and ``ask``.

    - ``load`` (``run``: path): gives ``{"run", "model", "method", "system", "template", "context", "device"}``.
    - ``ask`` (``messages`` or ``prompt``; ``sides``: of "base" and "tuned", both if not given; ``sampling``: fields of
      `Sampling`; ``run`` where it was not loaded): `Token` events, then per side ``{"text", "tokens",
      "tokens_per_second", "first_token_seconds", "end"}``. A cancelled answer is what there was until then, with
      ``end`` "cancelled".
    """

    slow: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        self._pair: Pair | None = None
        self._run: Path | None = None
        self._written = 0

    def cancel(self, request: int) -> None:
        """End the present answer after its next token; called from another thread."""
        self._cancelled.set()

    def handle(self, request: Request, emit: Callable[[Event], None]) -> dict[str, Any]:
        """The value of the request's answer.

        Raises:
            UserError: the request is unknown or wrong, or the run cannot be loaded.
            Stopped: it was cancelled while the models were loaded.
        """
        self._cancelled.clear()
        if request.name == "load":
            return self._load(request.arguments, emit)
        if request.name == "ask":
            return self._ask(request, emit)
        raise _wrong("request", request.name)

    def _load(self, arguments: Mapping[str, Any], emit: Callable[[Event], None]) -> dict[str, Any]:
        pair = self._pair_of(arguments, emit)
        recipe = pair.tuned.recipe
        return {
            "run": str(self._run),
            "model": recipe.model.source,
            "method": recipe.method.name,
            "system": recipe.data.system,
            "template": pair.tuned.template.name,
            "context": pair.tuned.context,
            "device": pair.tuned.device.type,
        }

    def _pair_of(self, arguments: Mapping[str, Any], emit: Callable[[Event], None]) -> Pair:
        """The pair of the run that is asked for, or the one that is loaded. Loading one lets go of the other; a run
        that has learned more since is loaded anew."""
        wanted = str(arguments.get("run") or self._run or "")
        if not wanted:
            raise _wrong("run", "")
        run = open_run(Path(wanted))
        written = run.adapter_written
        if self._pair is None or (run.path, written) != (self._run, self._written):
            self._pair, self._run = None, None
            emit(Stage(name="load", text=say("Loading the model…", "正在加载模型……")))
            pair = Pair.load(run)
            if self._cancelled.is_set():
                raise Stopped  # the weights cannot be left half-read; they are let go of at once
            self._pair, self._run, self._written = pair, run.path, written
        return self._pair

    def _ask(self, request: Request, emit: Callable[[Event], None]) -> dict[str, Any]:
        arguments = request.arguments
        plain = arguments.get("messages") or [{"role": USER, "content": arguments.get("prompt", "")}]
        messages = conversation(plain)
        sampling = Sampling.from_plain(arguments.get("sampling") or {})
        sides = _sides(arguments.get("sides") or SIDES)
        replies = self._pair_of(arguments, emit).ask(
            messages,
            sampling,
            sides=sides,
            tell=lambda side, piece: emit(Token(request=request.request, side=side, text=piece)),
            cancelled=self._cancelled.is_set,
        )
        return {side: reply.plain() for side, reply in replies.items()}


def _sides(names: Any) -> tuple[Side, ...]:
    asked = SIDES if names == "both" else (names,) if isinstance(names, str) else names
    found = tuple(side for side in SIDES if side in asked)
    if not found or len(found) != len(tuple(asked)):
        raise _wrong("sides", names)
    return found


def _wrong(name: str, value: object) -> UserError:
    return UserError(
        "chat.request",
        say('The chat does not know {name} "{value}".', "对话无法识别 {name} “{value}”。", name=name, value=value),
        where=name,
    )
