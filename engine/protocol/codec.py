"""Events, commands and requests as JSON lines, and back. The only place where they are dictionaries.

A float that JSON has no word for travels as its name ("NaN", "Infinity"), so that every line is strict JSON.

What is read has the types that are declared, whoever wrote it: everybody behind this room relies on that.
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

MOST_TEXT = 20_000
"""Characters of one text; what is longer is cut."""
LATEST = 250_000_000_000.0
"""Epoch second (in the year 9892) behind which systems know no date."""
MOMENTS = frozenset({"time", "until"})
FIGURES = frozenset({"loss", "learning_rate", "grad_norm", "token_accuracy"})
"""Fields of events that a training may well find to be no number; all others are finite."""


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
        ValueError: the line is not a JSON object, lacks a field without default, or holds what a field cannot be.
    """
    plain = _object(line)
    name = plain.pop("type", "")
    kind = EVENTS.get(name) if isinstance(name, str) else None
    if kind is None:
        return Unknown(name=_word(str(name)), value=plain, time=_moment(plain.get("time", 0.0)))
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
        ValueError: a field without default is missing, or one holds what it cannot be.
    """
    readers = _readers(cast(Hashable, kind))
    try:
        return kind(**{name: readers[name](value) for name, value in plain.items() if name in readers})
    except (TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{kind.__name__}: {error}") from error


@cache
def _readers(kind: Hashable) -> dict[str, Callable[[Any], Any]]:
    declared = cast(type[Any], kind)
    hints = typing.get_type_hints(declared)
    is_event = issubclass(declared, Event)
    return {f.name: _reader(hints[f.name], f.name, is_event=is_event) for f in dataclasses.fields(declared)}


def _reader(hint: Any, name: str, *, is_event: bool = False) -> Callable[[Any], Any]:
    """How a field of this name and of type ``hint`` is read from plain JSON."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    inner = next(option for option in options if option is not type(None))
    is_optional = len(options) > 1
    if inner is float and is_event and name not in FIGURES:
        if name in MOMENTS:
            return _moment
        return _known if is_optional else _finite
    read = _reader_of(inner)
    return (lambda value: None if value is None else read(value)) if is_optional else read


def _reader_of(hint: Any) -> Callable[[Any], Any]:
    if hint is float:
        return _number
    if hint in (Failure, Problem):
        return lambda value: build(hint, value)
    origin = typing.get_origin(hint)
    if origin is tuple:
        item = _reader(typing.get_args(hint)[0], "")
        return lambda values: tuple(item(value) for value in _list(values))
    return _PLAIN.get(origin or hint, lambda value: value)


def _number(value: Any) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number and value not in ("NaN", "Infinity", "-Infinity"):
        raise ValueError("not a number")
    return float(value)


def _finite(value: Any) -> float:
    number = _number(value)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number


def _known(value: Any) -> float | None:
    """A figure; None where it is none."""
    if value is None:
        return None
    number = _number(value)
    return number if math.isfinite(number) else None


def _moment(value: Any) -> float:
    moment = _finite(value)
    if not 0 <= moment <= LATEST:
        raise ValueError("no time of this world")
    return moment


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("not a whole number")
    number = int(value)
    if abs(number) >= 2**63:
        raise ValueError("too large a number")
    return number


def _word(value: Any) -> str:
    """A string that can be written and shown: a half of a pair of surrogates, which JSON can name, cannot."""
    if not isinstance(value, str):
        raise ValueError("not a string")
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _text(value: Any) -> Text:
    text = as_text(value)
    return Text(*(_word(words if len(words) <= MOST_TEXT else words[:MOST_TEXT] + "…") for words in (text.en, text.zh)))


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("neither true nor false")
    return value


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _list(value: Any) -> list[Any] | tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ValueError("not a list")
    return value


_PLAIN: dict[Any, Callable[[Any], Any]] = {Text: _text, str: _word, int: _whole, bool: _flag, dict: _mapping}


def _object(line: str | bytes) -> dict[str, Any]:
    plain = json.loads(line)
    if not isinstance(plain, dict):
        raise ValueError("not a JSON object")
    return plain
