"""Events, commands and requests as JSON lines, and back. The only place where they are dictionaries.

A float that JSON has no word for travels as its name ("NaN", "Infinity"), so that every line is strict JSON.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
import types
import typing
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any, TypeVar, cast

from engine.protocol.errors import Failure, Problem
from engine.protocol.events import EVENTS, Command, Event, Request, Unknown
from engine.protocol.text import Text, as_text

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Dataclasses, tuples and paths as what JSON knows; a non-finite float becomes its name ("NaN", "Infinity")."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)


def encode_event(event: Event) -> str:
    """One line, without its end. A ``time`` of 0 is replaced by now."""
    plain = to_plain(event)
    plain["time"] = plain["time"] or round(time.time(), 3)
    return json.dumps({"type": event.type, **plain}, ensure_ascii=False, allow_nan=False)


def decode_event(line: str | bytes) -> Event:
    """The event of a line; `Unknown` for a type that this version does not know.

    Raises:
        ValueError: the line is not a JSON object, or lacks a field without default.
    """
    plain = _object(line)
    name = str(plain.pop("type", ""))
    kind = EVENTS.get(name)
    if kind is None:
        return Unknown(name=name, value=plain, time=float(plain.get("time", 0.0)))
    return build(kind, plain)


def encode_command(command: Command) -> str:
    """One line, without its end."""
    return json.dumps({"name": command.name, "time": command.time or round(time.time(), 3)})


def decode_command(line: str | bytes) -> Command:
    """The command of a line. Raises ValueError when it is not one."""
    return build(Command, _object(line))


def encode_request(request: Request) -> str:
    """One line, without its end."""
    return json.dumps(to_plain(request), ensure_ascii=False, allow_nan=False)


def decode_request(line: str | bytes) -> Request:
    """The request of a line. Raises ValueError when it is not one."""
    return build(Request, _object(line))


def build(kind: type[T], plain: dict[str, Any]) -> T:
    """A dataclass from a plain mapping; unknown fields are ignored.

    Raises:
        ValueError: a field without default is missing.
    """
    readers = _readers(cast(Hashable, kind))
    try:
        return kind(**{name: readers[name](value) for name, value in plain.items() if name in readers})
    except TypeError as error:
        raise ValueError(f"{kind.__name__}: {error}") from error


@cache
def _readers(kind: Hashable) -> dict[str, Callable[[Any], Any]]:
    declared = cast(type[Any], kind)
    hints = typing.get_type_hints(declared)
    return {f.name: _reader(hints[f.name]) for f in dataclasses.fields(declared)}


def _reader(hint: Any) -> Callable[[Any], Any]:
    """How a field of type ``hint`` is read from plain JSON."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    inner = next(option for option in options if option is not type(None))
    read = _reader_of(inner)
    return (lambda value: None if value is None else read(value)) if len(options) > 1 else read


def _reader_of(hint: Any) -> Callable[[Any], Any]:
    if hint is Text:
        return as_text
    if hint is float:
        return float
    if hint in (Failure, Problem):
        return lambda value: build(hint, value)
    if typing.get_origin(hint) is tuple:
        item = _reader(typing.get_args(hint)[0])
        return lambda values: tuple(item(value) for value in values)
    return lambda value: value


def _object(line: str | bytes) -> dict[str, Any]:
    plain = json.loads(line)
    if not isinstance(plain, dict):
        raise ValueError("not a JSON object")
    return plain
