"""The chat session: loads a run's models and what is put beside them, and answers until the window closes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.chat.pair import KINDS, Pair, conversation
from engine.chat.sampling import Sampling
from engine.data.rows import USER, Message
from engine.model.tuned import SIDES
from engine.project.project import open_run
from engine.protocol.errors import Failure, Stopped, UserError
from engine.protocol.events import Event, Progress, Request, Stage, Token
from engine.protocol.text import say

TELL_SECONDS = 0.1
"""Between two lines about how far the weights are read."""
MOST_COLUMNS = 6


@dataclass(frozen=True, slots=True)
class Wanted:
    """A column beside base and tuned model.

    Attributes:
        name: what it is called in `Token` events and answers.
        kind: "adapter" (PEFT's folder) or "gguf" (a file).
        path: where it lies.
        written: when, in nanoseconds since the epoch; another column when that changes. 0 where nothing is there.
    """

    name: str
    kind: str
    path: Path
    written: int = 0


class ChatService:
    """Answers ``load`` and ``ask``; `docs/protocol.md` lists their arguments and values.

    What is to be beside base and tuned model is said each time: a session that had to be started anew loads it again.
    """

    slow: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        self._pair: Pair | None = None
        self._run: Path | None = None
        self._written = 0
        self._beside: dict[str, Wanted] = {}
        self._failures: dict[str, tuple[Wanted, Failure]] = {}

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

    # ----------------------------------------------------------------------------------------------------------- load
    def _load(self, arguments: Mapping[str, Any], emit: Callable[[Event], None]) -> dict[str, Any]:
        self._failures = {}  # what could not be loaded is tried again
        pair = self._pair_of(arguments, emit)
        recipe = pair.tuned.recipe
        columns = [pair.facts(name) for name in pair.columns]
        columns += [{"name": name, "failure": failure} for name, (_, failure) in self._failures.items()]
        return {
            "run": str(self._run),
            "written": self._written,
            "model": recipe.model.source,
            "method": recipe.method.name,
            "system": recipe.data.system,
            "template": pair.tuned.template.name,
            "context": pair.tuned.context,
            "device": pair.tuned.device.type,
            "isolated": pair.tuned.untouched.repeatable,
            "columns": columns,
        }

    def _pair_of(self, arguments: Mapping[str, Any], emit: Callable[[Event], None]) -> Pair:
        """The pair of the run that is asked for, or the one that is loaded, with the columns that are wanted beside.
        Loading one lets go of the other; a run that has learned more since is loaded anew."""
        wanted = str(arguments.get("run") or self._run or "")
        if not wanted:
            raise _wrong("run", "")
        run = open_run(Path(wanted))
        written = run.adapter_written
        if self._pair is None or (run.path, written) != (self._run, self._written):
            self._let_go()
            emit(Stage(name="load", text=say("Loading the model…", "正在加载模型……")))
            pair = Pair.load(run, told=self._telling(emit))
            self._stop_if_cancelled()  # what was read to its end meanwhile is let go of at once
            self._pair, self._run, self._written = pair, run.path, written
        if "columns" in arguments:
            self._put_beside(self._pair, _columns(arguments["columns"]), emit)
        return self._pair

    def _let_go(self) -> None:
        self._pair, self._run = None, None
        self._beside, self._failures = {}, {}

    def _telling(self, emit: Callable[[Event], None]) -> Callable[[int, int], None]:
        last = 0.0

        def told(done: int, total: int) -> None:
            nonlocal last
            self._stop_if_cancelled()
            if time.monotonic() - last >= TELL_SECONDS:
                last = time.monotonic()
                emit(Progress(done=done, total=total))

        return told

    def _stop_if_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise Stopped

    def _put_beside(self, pair: Pair, wanted: Sequence[Wanted], emit: Callable[[Event], None]) -> None:
        """Take away what is not wanted any more and add what is missing; what cannot be added is told with its name."""
        for name in [name for name, there in self._beside.items() if there not in wanted]:
            del self._beside[name]
            pair.remove(name)
        self._failures = {name: told for name, told in self._failures.items() if told[0] in wanted}
        for item in wanted:
            if self._beside.get(item.name) != item and item.name not in self._failures:
                self._stop_if_cancelled()
                text = say("Loading {name}…", "正在加载 {name}……", name=item.path.name)
                emit(Stage(name="column", text=text))
                self._add(pair, item)

    def _add(self, pair: Pair, item: Wanted) -> None:
        try:
            pair.add(item.name, item.kind, item.path)
        except UserError as error:
            if error.problem.code == "adapter.changes_base":
                self._let_go()
                raise
            self._failures[item.name] = (item, Failure.of(error))
            return
        self._beside[item.name] = item

    # ------------------------------------------------------------------------------------------------------------ ask
    def _ask(self, request: Request, emit: Callable[[Event], None]) -> dict[str, Any]:
        arguments = request.arguments
        sides = _sides(arguments.get("sides") or SIDES)
        messages = _messages(arguments, sides)
        sampling = Sampling.from_plain(arguments.get("sampling") or {})
        system = arguments.get("system")
        pair = self._pair_of(arguments, emit)
        absent = {side: self._absent(side) for side in sides if side not in pair.columns}
        there = [side for side in sides if side not in absent]
        if not there:
            raise _wrong("sides", ", ".join(sides))
        replies = pair.ask(
            {side: messages[side] for side in there},
            sampling,
            sides=there,
            system=None if system is None else str(system),
            drop=bool(arguments.get("drop")),
            tell=lambda side, piece: emit(Token(request=request.request, side=side, text=piece)),
            cancelled=self._cancelled.is_set,
        )
        said = {side: reply.plain() for side, reply in replies.items()}
        return said | {side: {"text": "", "end": "failed", "failure": failure} for side, failure in absent.items()}

    def _absent(self, side: str) -> Failure:
        """Why a side cannot be asked."""
        known = self._failures.get(side)
        return known[1] if known is not None else Failure.of(_wrong("sides", side))


def _messages(arguments: Mapping[str, Any], sides: Sequence[str]) -> dict[str, tuple[Message, ...]]:
    """Each side's conversation. Raises `UserError` when there is nothing to answer."""
    own = arguments.get("conversations")
    if isinstance(own, Mapping):
        return {side: conversation(own.get(side) or ()) for side in sides}
    plain = arguments.get("messages") or [{"role": USER, "content": arguments.get("prompt", "")}]
    return dict.fromkeys(sides, conversation(plain))


def _sides(names: Any) -> tuple[str, ...]:
    asked = SIDES if names == "both" else (names,) if isinstance(names, str) else tuple(map(str, names))
    if not asked or len(set(asked)) != len(asked):
        raise _wrong("sides", names)
    return asked


def _columns(plain: Any) -> list[Wanted]:
    """The columns of a request. Raises `UserError` when they are none."""
    found: list[Wanted] = []
    for item in plain if isinstance(plain, list) else ():
        name, kind, path = (str(item.get(key, "")) for key in ("name", "kind", "path"))
        if not name or name in SIDES or kind not in KINDS or not path or name in {other.name for other in found}:
            raise _wrong("columns", name or kind)
        found.append(Wanted(name, kind, Path(path), _written(kind, Path(path))))
    if not isinstance(plain, list) or len(found) > MOST_COLUMNS:
        raise _wrong("columns", len(found))
    return found


def _written(kind: str, path: Path) -> int:
    try:
        return (path if kind == "gguf" else path / "adapter_config.json").stat().st_mtime_ns
    except OSError:
        return 0


def _wrong(name: str, value: object) -> UserError:
    return UserError(
        "chat.request",
        say('The chat does not know {name} "{value}".', "对话无法识别 {name} “{value}”。", name=name, value=value),
        where=name,
    )
