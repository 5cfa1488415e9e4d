"""Events, commands and requests survive the wire; the wire survives what it does not know."""

import dataclasses
import json
import math
import typing

import pytest

from engine.protocol.codec import (
    build,
    decode_command,
    decode_event,
    decode_request,
    encode_command,
    encode_event,
    encode_request,
)
from engine.protocol.errors import Failure, Problem, UserError
from engine.protocol.events import EVENTS, Answer, Command, Event, Finished, Note, Request, StepDone, Unknown
from engine.protocol.text import Text, say

_EXAMPLES: dict[object, object] = {
    str: "x",
    int: 3,
    float: 0.5,
    bool: True,
    Text: say("a", "甲"),
    Failure: Failure("code", say("m", "句"), problems=(Problem("p", say("q", "问"), where="a:1"),)),
}


def _example(kind: type[Event]) -> Event:
    """An event of ``kind`` with every field set."""
    hints = typing.get_type_hints(kind)
    values: dict[str, object] = {}
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        options = () if typing.get_origin(hint) is dict else typing.get_args(hint)
        options = options or (hint,)
        values[field.name] = _EXAMPLES.get(options[0], {"k": [1, "v"]})
    return kind(**values)


@pytest.mark.parametrize("kind", EVENTS.values(), ids=EVENTS.keys())
def test_every_event_survives(kind: type[Event]) -> None:
    event = _example(kind)
    if kind is Unknown:
        pytest.skip("has no name of its own on the wire")
    assert decode_event(encode_event(event)) == event


def test_all_event_types_have_names_of_their_own() -> None:
    assert set(EVENTS) == {kind.type for kind in Event.__subclasses__()}


def test_a_line_is_one_line_of_strict_json() -> None:
    line = encode_event(Note(text=say("two\nlines", "两\n行")))
    assert "\n" not in line
    assert json.loads(line)["type"] == "note"


def test_time_is_stamped() -> None:
    assert decode_event(encode_event(Note(text=say("a", "b")))).time > 1e9


def test_not_a_number_survives_as_strict_json() -> None:
    line = encode_event(StepDone(step=1, steps=2, epoch=0.5, loss=math.nan, learning_rate=1e-4, grad_norm=math.inf))
    assert "NaN" in json.loads(line)["loss"]
    event = decode_event(line)
    assert isinstance(event, StepDone)
    assert math.isnan(event.loss)
    assert event.grad_norm == math.inf


def test_unknown_types_and_fields_are_tolerated() -> None:
    newer = decode_event('{"type": "hologram", "depth": 3, "time": 5}')
    assert newer == Unknown(name="hologram", value={"depth": 3, "time": 5}, time=5.0)
    note = decode_event('{"type": "note", "text": "plain", "smell": "rose"}')
    assert isinstance(note, Note)
    assert note.text == Text("plain", "plain")


@pytest.mark.parametrize("line", ["", "[]", "3", '{"type": "step"}', "{", '{"type": "finished"}'])
def test_a_damaged_line_is_a_value_error(line: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        decode_event(line)


def test_commands_and_requests_survive() -> None:
    command = Command(name="stop", time=2.0)
    assert decode_command(encode_command(command)) == command
    request = Request(request=4, name="rows", arguments={"start": 0, "路径": "数据"})
    assert decode_request(encode_request(request)) == request


def test_a_missing_field_is_named() -> None:
    with pytest.raises(ValueError, match="status"):
        build(Finished, {})


def test_an_error_travels_in_an_answer() -> None:
    error = UserError(
        "c", say("m", "句"), say("h", "提示"), where="f:1", problems=(Problem("p", say("q", "问")),), exit_code=1
    )
    answer = Answer(request=1, failure=Failure.of(error), time=3.0)
    assert decode_event(encode_event(answer)) == answer


STEP = {"type": "step", "step": 1, "steps": 2, "epoch": 0.5, "loss": 1.0, "learning_rate": 0.1}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("step", "5"),
        ("step", True),
        ("step", None),
        ("step", [1]),
        ("step", 10**400),
        ("step", 2**63),
        ("loss", "0.5"),
        ("loss", "nan"),
        ("loss", {}),
        ("loss", None),
        ("loss", 10**400),
        ("epoch", "NaN"),
        ("tokens", "Infinity"),
        ("time", "NaN"),
        ("time", -1.0),
        ("time", 1e300),
    ],
)
def test_a_field_of_another_type_is_an_error(field: str, value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  whatever the words are
        decode_event(json.dumps({**STEP, field: value}))


@pytest.mark.parametrize(
    "line",
    [
        {"type": "result", "value": [1]},
        {"type": "stage", "name": {}, "text": "a"},
        {"type": "note", "text": "a", "code": 5},
        {"type": "checkpoint", "step": 1, "path": None},
        {"type": "checkpoint", "step": 1, "path": "a", "best": "yes"},
        {"type": "finished", "status": ["done"]},
        {"type": "finished", "status": "failed", "failure": "why"},
        {"type": "finished", "status": "failed", "failure": {"code": "a", "message": "b", "problems": {"a": 1}}},
        {"type": "waiting", "until": 1e20},
        {"type": 5, "time": []},
    ],
)
def test_an_event_of_other_types_is_an_error(line: dict[str, object]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        decode_event(json.dumps(line))


def test_what_cannot_be_shown_is_made_so() -> None:
    note = decode_event('{"type": "note", "text": "half \\ud800 of a pair", "level": "\\udfff"}')
    assert isinstance(note, Note)
    note.text.en.encode()
    note.level.encode()
    long = decode_event(json.dumps({"type": "note", "text": "a" * 10**6}))
    assert isinstance(long, Note)
    assert len(long.text.en) < 30_000
    step = decode_event(json.dumps({**STEP, "tokens_per_second": "NaN", "seconds_left": "Infinity"}))
    assert isinstance(step, StepDone)
    assert step.tokens_per_second is step.seconds_left is None
