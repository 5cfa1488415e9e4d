"""Preference: a prompt with a chosen and a rejected answer, as text, turns, or whole conversations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from engine.data.declare import BadRow, Conversation, Role, Shape
from engine.data.rows import ASSISTANT, SYSTEM, USER, Message
from engine.data.shapes.messages import SYSTEM_ROLE, TOOLS_ROLE
from engine.data.shapes.turns import (
    as_string,
    as_turns,
    bad,
    blank,
    cell,
    joined,
    refuse_media,
    text_cell,
    tools_cell,
    turns,
    with_system,
)
from engine.protocol.text import say

_SPOKEN = re.compile(r"\n\n(Human|Assistant): ?")


def convert(record: Mapping[str, Any], mapping: Mapping[str, str]) -> Conversation:
    """One record as prompt, chosen and rejected answer. Raises `BadRow`."""
    refuse_media(record)
    prompt, said = _prompt(record, mapping)
    before, chosen = _answer(cell(record, mapping, "chosen"), mapping["chosen"])
    other, rejected = _answer(cell(record, mapping, "rejected"), mapping["rejected"])
    if before != other:
        raise bad(
            "The chosen and the rejected answer stand at the end of different conversations.",
            "优选回答与劣选回答所在的对话不同。",
        )
    # Where the answers are whole conversations, they bring the prompt themselves (TRL: "implicit prompt").
    messages = with_system(before if len(before) > len(prompt) else prompt, text_cell(record, mapping, "system"))
    if all(blank(m.content) and not m.calls for m in messages if m.role != SYSTEM):
        raise BadRow("empty_question", say("The question is empty.", "提问为空。"))
    if blank(chosen) or blank(rejected):
        raise BadRow("empty_answer", say("One of the two answers is empty.", "两个回答中有一个为空。"))
    if chosen.strip() == rejected.strip():
        raise BadRow(
            "same_answers",
            say("The chosen and the rejected answer are the same.", "优选回答与劣选回答相同。"),
        )
    return Conversation(messages, chosen, rejected, tools=tools_cell(record, mapping, said))


def _prompt(record: Mapping[str, Any], mapping: Mapping[str, str]) -> tuple[tuple[Message, ...], Sequence[Any] | None]:
    """The prompt's turns, and the list they came from, if any."""
    value = cell(record, mapping, "prompt")
    if not isinstance(value, str) or value[:1] in ("[", "{"):
        listed = as_turns(value)
        if listed is not None:
            return turns(listed, mapping["prompt"]), listed
        if isinstance(value, list | tuple) and not value:
            return (), None
    text = joined(as_string(value, mapping.get("prompt", "prompt")), text_cell(record, mapping, "input"))
    return ((Message(USER, text),) if text else ()), None


def _answer(value: Any, name: str) -> tuple[tuple[Message, ...], str]:
    """(turns before the answer, the answer) of a chosen or rejected cell."""
    listed = None if isinstance(value, str) and value[:1] not in ("[", "{") else as_turns(value)
    found = turns(listed, name) if listed is not None else _spoken(value) if isinstance(value, str) else ()
    if found:
        last = found[-1]
        if last.role != ASSISTANT:
            raise BadRow("no_answer", say('"{name}" does not end with an answer.', "“{name}”不以回答结尾。", name=name))
        if last.calls:
            raise BadRow(
                "compares_calls",
                say('The answer in "{name}" calls a tool.', "“{name}”中的回答调用了工具。", name=name),
            )
        thought = f"<think>\n{last.reasoning.strip()}\n</think>\n\n" if last.reasoning else ""
        return found[:-1], thought + last.content
    if isinstance(value, str):
        return (), value
    if value is None or value == [] or value != value:
        return (), ""
    raise bad('"{name}" is neither text nor turns.', "“{name}”既不是文本也不是对话。", name=name)


def _spoken(text: str) -> tuple[Message, ...]:
    """The turns of a conversation written as Anthropic's HH-RLHF does; none for any other text."""
    if not text.startswith("\n\nHuman:"):
        return ()
    parts = _SPOKEN.split(text)[1:]
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return tuple(Message(USER if who == "Human" else ASSISTANT, said) for who, said in pairs)


PREFERENCE = Shape(
    name="preference",
    label=say("Preference", "偏好"),
    summary=say("prompt, chosen, rejected", "prompt、chosen、rejected"),
    roles=(
        Role(
            "prompt",
            say("Question", "提问"),
            False,
            (
                *("prompt", "question", "instruction", "query", "conversations", "messages", "conversation"),
                *("input", "问题", "提问", "指令", "对话"),
            ),
        ),
        Role("input", say("Input", "输入"), False, ("input", "context", "输入")),
        Role(
            "chosen",
            say("Better answer", "较好的回答"),
            True,
            ("chosen", "chosen_messages", "chosen_response", "response_chosen", "preferred", "优选", "优选回答"),
        ),
        Role(
            "rejected",
            say("Worse answer", "较差的回答"),
            True,
            (
                *("rejected", "rejected_messages", "rejected_response", "response_rejected", "dispreferred"),
                *("劣选", "劣选回答"),
            ),
        ),
        SYSTEM_ROLE,
        TOOLS_ROLE,
    ),
    kind="preference",
    convert=convert,
    source="TRL dataset formats; LLaMA-Factory",
)
