"""Shapes: detection, mapping by hand, conversion, and polite refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.data.declare import BadRow
from engine.data.read import open_source
from engine.data.registry import SHAPES
from engine.data.rows import ASSISTANT, HINTS, REASONS, SYSTEM, TOOL, USER, Message, Row, SetAside, ToolCall
from engine.data.shapes import alpaca, prompt_completion
from engine.protocol.errors import UserError

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def one(write: Write) -> Callable[..., Row | SetAside]:
    """The first row of a file that holds this record."""

    def first(record: dict[str, Any], **options: Any) -> Row | SetAside:
        return next(iter(open_source(write("a.json", json.dumps([record])), **options).rows()))

    return first


def roles(row: Row | SetAside) -> list[tuple[str, str]]:
    assert isinstance(row, Row), row
    return [(m.role, m.content) for m in row.messages]


USER_TURN = {"role": "user", "content": "Q"}
ANSWER_TURN = {"role": "assistant", "content": "A"}


@pytest.mark.parametrize(
    ("record", "shape", "mapping"),
    [
        ({"instruction": "Q", "output": "A"}, "alpaca", {"instruction": "instruction", "output": "output"}),
        ({"指令": "Q", "输入": "", "输出": "A"}, "alpaca", {"instruction": "指令", "input": "输入", "output": "输出"}),
        ({"messages": [USER_TURN, ANSWER_TURN]}, "messages", {"messages": "messages"}),
        ({"conversations": [USER_TURN, ANSWER_TURN]}, "messages", {"messages": "conversations"}),
        (
            {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
            "sharegpt",
            {"messages": "conversations"},
        ),
        ({"prompt": "Q", "completion": "A"}, "prompt_completion", {"prompt": "prompt", "completion": "completion"}),
        ({"Question": "Q", "Answer": "A"}, "prompt_completion", {"prompt": "Question", "completion": "Answer"}),
        ({"query": "Q", "response": "A"}, "prompt_completion", {"prompt": "query", "completion": "response"}),
        ({"input": "Q", "output": "A"}, "prompt_completion", {"prompt": "input", "completion": "output"}),
        (
            {"instruction": "Q", "context": "C", "response": "A", "category": "qa"},
            "prompt_completion",
            {"prompt": "instruction", "context": "context", "completion": "response"},
        ),
        (
            {"prompt": [USER_TURN], "completion": [ANSWER_TURN]},
            "prompt_completion",
            {"prompt": "prompt", "completion": "completion"},
        ),
        (
            {"prompt": "Q", "chosen": "A", "rejected": "B"},
            "preference",
            {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"},
        ),
    ],
)
def test_detection(write: Write, record: dict[str, Any], shape: str, mapping: dict[str, str]) -> None:
    source = open_source(write("a.json", json.dumps([record])))
    assert (source.shape.name, source.mapping) == (shape, mapping)
    assert 0.9 <= source.confidence <= 1.0
    row = next(iter(source.rows()))
    assert isinstance(row, Row)
    assert row.answer == "A"


def test_every_shape_is_declared_whole() -> None:
    assert {shape.kind for shape in SHAPES.values()} == {"conversation", "preference", "kto", "text"}
    assert [name for name, shape in SHAPES.items() if shape.preference] == ["preference"]
    assert REASONS.keys() == HINTS.keys()
    for name, shape in SHAPES.items():
        assert shape.name == name
        assert shape.source
        assert len({role.name for role in shape.roles}) == len(shape.roles)
        for text in (shape.label, shape.summary, *(role.label for role in shape.roles)):
            assert text.en
            assert text.zh


def test_alpaca_with_input_system_and_history(one: Callable[..., Row | SetAside]) -> None:
    record = {"instruction": "Add.", "input": "1 2", "output": "3", "system": "S", "history": [["Q0", "A0"]]}
    assert roles(one(record)) == [(SYSTEM, "S"), (USER, "Q0"), (ASSISTANT, "A0"), (USER, "Add.\n1 2"), (ASSISTANT, "3")]


def test_dolly_puts_the_context_to_the_question(one: Callable[..., Row | SetAside]) -> None:
    row = one({"instruction": "When?", "context": "In 2000.", "response": "2000"})
    assert roles(row) == [(USER, "When?\nIn 2000."), (ASSISTANT, "2000")]


def test_content_in_parts_weights_and_reasoning(one: Callable[..., Row | SetAside]) -> None:
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "Q"}, {"type": "text", "value": "?"}]},
        {"role": "assistant", "content": "draft", "weight": 0},
        {"role": "user", "content": "again", "loss_weight": 0.0},
        {"role": "assistant", "content": "A", "reasoning_content": "because"},
    ]
    row = one({"messages": turns})
    assert roles(row)[0] == (USER, "Q?")
    assert isinstance(row, Row)
    assert [m.learned for m in row.messages] == [True, False, True, True]
    assert (row.answer, row.messages[-1].reasoning) == ("A", "because")


CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


def test_tool_calls_keep_their_structure(one: Callable[..., Row | SetAside]) -> None:
    turns = [
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning_content": "A sum."},
        {"role": "tool", "content": "3", "tool_call_id": "c1"},
        {"role": "assistant", "content": "It is 3."},
    ]
    row = one({"messages": turns, "tools": [{"name": "add"}]})
    assert isinstance(row, Row)
    assert row.tools == '[{"name": "add"}]'
    assert row.messages == (
        Message(USER, "Q"),
        Message(ASSISTANT, "", reasoning="A sum.", calls=(ToolCall("add", '{"a": 1}'),)),
        Message(TOOL, "3", name="add"),
        Message(ASSISTANT, "It is 3."),
    )


@pytest.mark.parametrize(
    "calls",
    [
        {"tool_calls": [CALL]},
        {"tool_calls": json.dumps([CALL])},
        {"tool_calls": [{"name": "add", "arguments": {"a": 1}}]},
        {"function_call": {"name": "add", "arguments": '{"a": 1}'}},
        {"content": [{"type": "tool_call", "value": '{"name": "add", "arguments": {"a": 1}}'}]},
    ],
)
def test_an_answer_that_only_calls_is_not_empty(one: Callable[..., Row | SetAside], calls: dict[str, Any]) -> None:
    row = one({"messages": [USER_TURN, {"role": "assistant", "content": "", **calls}]})
    assert isinstance(row, Row), row
    assert row.messages[1].calls == (ToolCall("add", '{"a": 1}'),)
    assert row.messages[1].content == ""


@pytest.mark.parametrize(
    "calls",
    [[{"function": {"name": "add", "arguments": "not JSON"}}], [{"arguments": {}}], [{"name": "f", "arguments": 3}]],
)
def test_calls_that_no_template_could_render(one: Callable[..., Row | SetAside], calls: list[Any]) -> None:
    item = one({"messages": [USER_TURN, {"role": "assistant", "content": "", "tool_calls": calls}]}, shape="messages")
    assert isinstance(item, SetAside)
    assert item.reason == "bad_row"


def test_sharegpt_function_calls_are_answers(one: Callable[..., Row | SetAside]) -> None:
    call = '{"name": "add", "arguments": {"a": 1}}'
    turns = [("human", "Q"), ("function_call", call), ("observation", "3"), ("gpt", "A"), ("human", "thanks")]
    row = one({"conversations": [{"from": who, "value": what} for who, what in turns], "tools": "[]"})
    # What follows the last answer has nothing to teach.
    assert roles(row) == [(USER, "Q"), (ASSISTANT, ""), (TOOL, "3"), (ASSISTANT, "A")]
    assert isinstance(row, Row)
    assert row.messages[1].calls == (ToolCall("add", '{"a": 1}'),)
    assert row.tools == ""


def test_a_call_written_as_text_stays_text(one: Callable[..., Row | SetAside]) -> None:
    text = '<tool_call>\n{"name": "add", "arguments": {}}\n</tool_call>'
    assert roles(one({"messages": [USER_TURN, {"role": "assistant", "content": text}]}))[1] == (ASSISTANT, text)


def test_tools_are_found_wherever_they_are_declared(one: Callable[..., Row | SetAside]) -> None:
    told = '[{"name": "add"}]'
    part = {"role": "system", "content": [{"type": "text", "value": "S"}, {"type": "tools", "value": told}]}
    for record in (
        {"messages": [USER_TURN, ANSWER_TURN], "tools": told},
        {"messages": [USER_TURN, ANSWER_TURN], "tools": [told[1:-1]]},
        {"messages": [part, USER_TURN, ANSWER_TURN]},
        {"messages": [{"role": "system", "content": "S", "tools": [{"name": "add"}]}, USER_TURN, ANSWER_TURN]},
    ):
        row = one(record)
        assert isinstance(row, Row), row
        assert row.tools == told
        assert "add" not in "".join(m.content for m in row.messages)


def test_dialects_of_turns(one: Callable[..., Row | SetAside]) -> None:
    wanted = [(USER, "Q"), (ASSISTANT, "A")]
    for turns in (
        [{"human": "Q", "assistant": "A"}],
        [{"speaker": "Human", "text": "Q"}, {"speaker": "AI", "text": "A"}],
        [{"role": "用户", "content": "Q"}, {"role": "助手", "content": "A"}],
        # Tables give every turn every field.
        [{"role": "user", "content": "Q", "value": None}, {"role": "assistant", "content": "A", "tool_calls": None}],
        "[{'role': 'user', 'content': 'Q'}, {'role': 'assistant', 'content': 'A'}]",
    ):
        assert roles(one({"messages": turns})) == wanted


def test_numbers_that_are_none_are_empty(one: Callable[..., Row | SetAside]) -> None:
    convert = SHAPES["alpaca"].convert
    mapping = {"instruction": "instruction", "input": "input", "output": "output"}
    made = convert({"instruction": "Q", "input": float("nan"), "output": 42}, mapping)
    assert [m.content for m in made.messages] == ["Q", "42"]


# ---------------------------------------------------------------------------------- marks, labels, plain text, pairs
@pytest.mark.parametrize(("label", "liked"), [(True, True), (0, False), (1.0, True), ("true", True), ("bad", False)])
@pytest.mark.parametrize(
    "record",
    [{"messages": [USER_TURN, ANSWER_TURN]}, {"prompt": "Q", "completion": "A"}, {"instruction": "Q", "output": "A"}],
)
def test_marked_answers(one: Callable[..., Row | SetAside], record: dict[str, Any], label: Any, liked: bool) -> None:
    row = one({**record, "label": label})
    assert isinstance(row, Row), row
    assert (roles(row), row.liked) == ([(USER, "Q"), (ASSISTANT, "A")], liked)


def test_a_mark_that_says_nothing_sets_its_row_aside(write: Write) -> None:
    good = {"prompt": "Q", "completion": "A", "label": True}
    source = open_source(write("a.json", json.dumps([good, {**good, "label": None}, good])), shape="kto")
    assert [getattr(item, "reason", "") for item in source.rows()] == ["", "bad_row", ""]


def test_plain_text(one: Callable[..., Row | SetAside]) -> None:
    row = one({"text": "Once upon a time."})
    assert isinstance(row, Row)
    assert (row.messages, row.text, row.answer) == ((), "Once upon a time.", "Once upon a time.")
    with pytest.raises(BadRow) as caught:
        SHAPES["text"].convert({"text": " \n"}, {"text": "text"})
    assert caught.value.reason == "empty_text"


def test_labels_are_answers(write: Write) -> None:
    records = [{"text": f"This is number {i}.", "label": i % 2} for i in range(30)]
    source = open_source(write("a.json", json.dumps(records)))
    assert source.shape.name == "classification"
    assert roles(list(source.rows())[3]) == [(USER, "This is number 3."), (ASSISTANT, "1")]


def test_pairs_of_conversations_must_begin_alike(write: Write) -> None:
    good = {"chosen": [USER_TURN, ANSWER_TURN], "rejected": [USER_TURN, {"role": "assistant", "content": "B"}]}
    other = {**good, "rejected": [{"role": "user", "content": "R"}, {"role": "assistant", "content": "B"}]}
    calls = {**good, "chosen": [USER_TURN, {"role": "assistant", "content": "", "tool_calls": [CALL]}]}
    source = open_source(write("a.json", json.dumps([good, good, other, calls])))
    assert [getattr(item, "reason", "") for item in source.rows()] == ["", "", "bad_row", "compares_calls"]


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "Q", "chosen": "A", "rejected": "B"},
        {"instruction": "Q", "input": "", "chosen": "A", "rejected": "B"},
        {
            "conversations": [{"from": "human", "value": "Q"}],
            "chosen": {"from": "gpt", "value": "A"},
            "rejected": {"from": "gpt", "value": "B"},
        },
        {"prompt": [USER_TURN], "chosen": [ANSWER_TURN], "rejected": [{"role": "assistant", "content": "B"}]},
        {"chosen": [USER_TURN, ANSWER_TURN], "rejected": [USER_TURN, {"role": "assistant", "content": "B"}]},
        {"chosen": "\n\nHuman: Q\n\nAssistant: A", "rejected": "\n\nHuman: Q\n\nAssistant: B"},
    ],
)
def test_preferences_in_all_their_forms(one: Callable[..., Row | SetAside], record: dict[str, Any]) -> None:
    row = one(record)
    assert isinstance(row, Row)
    assert (row.messages, row.chosen, row.rejected) == ((Message(USER, "Q"),), "A", "B")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"instruction": "Q", "output": "  "}, "empty_answer"),
        ({"instruction": "Q", "output": None}, "empty_answer"),
        ({"instruction": "", "input": "", "output": "A"}, "empty_question"),
        ({"messages": [USER_TURN]}, "no_answer"),
        ({"messages": [ANSWER_TURN]}, "empty_question"),
        ({"prompt": "Q", "chosen": "A", "rejected": "A "}, "same_answers"),
        ({"prompt": "Q", "chosen": "", "rejected": "B"}, "empty_answer"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "value": "x"}]}, ANSWER_TURN]}, "multimodal"),
        ({"instruction": "Q", "output": "A", "images": ["x.png"]}, "multimodal"),
    ],
)
def test_rows_that_cannot_be_used(one: Callable[..., Row | SetAside], record: dict[str, Any], reason: str) -> None:
    item = one(record)
    assert isinstance(item, SetAside)
    assert (item.reason, item.where) == (reason, "a.json:1")
    assert item.text.en
    assert item.text.zh


@pytest.mark.parametrize(
    "bad",
    [
        {"messages": [{"role": "wizard", "content": "Q"}, ANSWER_TURN]},
        {"messages": "no list"},
        {"messages": [{"role": "user"}, ANSWER_TURN]},
        {"messages": [{"role": "user", "content": {"a": 1}}, ANSWER_TURN]},
        {"messages": [USER_TURN, {"role": "assistant", "tool_calls": "x"}]},
    ],
)
def test_a_bad_row_among_good_ones(write: Write, bad: dict[str, Any]) -> None:
    good = {"messages": [USER_TURN, ANSWER_TURN]}
    source = open_source(write("a.json", json.dumps([good, bad, good])))
    found = list(source.rows())
    assert [type(item) for item in found] == [Row, SetAside, Row]
    assert isinstance(found[1], SetAside)
    assert found[1].reason == "bad_row"
    assert source.confidence == pytest.approx(2 / 3, abs=0.01)


# ------------------------------------------------------------------------------------------------------- by hand
def test_mapping_by_hand_overrides(write: Write) -> None:
    path = write("a.csv", "spalte,zeile,note\nQ,A,N\n")
    assert open_source(path).guess.certainty == "ask"
    source = open_source(path, mapping={"prompt": "spalte", "completion": "zeile"})
    assert source.guess.certainty == "sure"
    assert source.shape.name == "prompt_completion"
    row = next(iter(source.rows()))
    assert isinstance(row, Row)
    assert (row.question, row.answer) == ("Q", "A")


def test_a_wrong_mapping_or_shape_is_told(write: Write) -> None:
    path = write("a.json", json.dumps([{"instruction": "Q", "output": "A"}]))
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"mapping": {"output": "answr"}}, "data.mapping", "instruction, output"),
        ({"mapping": {"instructon": "instruction"}}, "data.mapping", "Did you mean instruction?"),
        ({"shape": "alpacca"}, "data.shape", 'Did you mean "alpaca"?'),
        ({"shape": "messages"}, "data.shape_unknown", "messages"),
    ]
    for options, code, hint in cases:
        with pytest.raises(UserError) as caught:
            open_source(path, **options)
        assert caught.value.problem.code == code
        assert hint in caught.value.problem.hint.en


@pytest.mark.parametrize("shape", ["alpaca", "prompt_completion"])
@pytest.mark.parametrize(
    "answer", ["A.", "", "  ", None, 7, "[1, 2]", '[{"role": "assistant", "content": "A"}]', ["a", "b"]]
)
@pytest.mark.parametrize("question", ["Q?", "", " ", None, 3, '[{"role": "user", "content": "Q"}]', "[x]"])
@pytest.mark.parametrize("extra", ["more", "", None, 5])
def test_the_short_way_for_plain_texts_gives_what_the_long_one_does(
    shape: str, question: Any, extra: Any, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = {"alpaca": alpaca, "prompt_completion": prompt_completion}[shape]
    roles = module._TEXTS
    record = dict(zip(roles, (question, extra, answer), strict=True))
    mapping = {role: role for role in roles}

    def outcome() -> Any:
        try:
            return SHAPES[shape].convert(record, mapping)
        except BadRow as bad:
            return bad.reason

    short = outcome()
    monkeypatch.setattr(module, "_PLAIN", frozenset())
    assert short == outcome()
