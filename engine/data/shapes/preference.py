"""Preference: a prompt with a chosen and a rejected answer, as text, turns, or whole conversations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.data.declare import BadRow, Conversation, Role, Shape
from engine.data.rows import ASSISTANT, SYSTEM, USER, Message
from engine.data.shapes.turns import bad, cell, is_turn, joined, refuse_media, text_cell, turn, turns, with_system
from engine.protocol.text import say


def convert(record: Mapping[str, Any], mapping: Mapping[str, str]) -> Conversation:
    """One record as prompt, chosen and rejected answer. Raises `BadRow`."""
    refuse_media(record)
    prompt = _prompt(record, mapping)
    before, chosen = _answer(cell(record, mapping, "chosen"), mapping["chosen"])
    _, rejected = _answer(cell(record, mapping, "rejected"), mapping["rejected"])
    # Where the answers are whole conversations, they bring the prompt themselves (TRL: "implicit prompt").
    messages = with_system(prompt or before, text_cell(record, mapping, "system"), cell(record, mapping, "tools"))
    if not any(m.content.strip() for m in messages if m.role != SYSTEM):
        raise BadRow("empty_question", say("The question is empty.", "提问为空。"))
    if not chosen.strip() or not rejected.strip():
        raise BadRow("empty_answer", say("One of the two answers is empty.", "两个回答中有一个为空。"))
    if chosen.strip() == rejected.strip():
        raise BadRow(
            "same_answers",
            say("The chosen and the rejected answer are the same.", "优选回答与劣选回答相同。"),
        )
    return Conversation(messages, chosen, rejected)


def _prompt(record: Mapping[str, Any], mapping: Mapping[str, str]) -> tuple[Message, ...]:
    value = cell(record, mapping, "prompt")
    if isinstance(value, list | tuple):
        return turns(value, mapping["prompt"])
    text = joined(text_cell(record, mapping, "prompt"), text_cell(record, mapping, "input"))
    return (Message(USER, text),) if text else ()


def _answer(value: Any, name: str) -> tuple[tuple[Message, ...], str]:
    """(turns before the answer, the answer) of a chosen or rejected cell."""
    if isinstance(value, str):
        return (), value
    if is_turn(value):
        return (), turn(value, name).content
    if isinstance(value, list | tuple) and value:
        found = turns(value, name)
        if found[-1].role != ASSISTANT:
            raise BadRow("no_answer", say('"{name}" does not end with an answer.', "“{name}”不以回答结尾。", name=name))
        return found[:-1], found[-1].content
    if value is None or value == []:
        return (), ""
    raise bad('"{name}" is neither text nor turns.', "“{name}”既不是文本也不是对话。", name=name)


PREFERENCE = Shape(
    name="preference",
    label=say("Preference", "偏好"),
    summary=say("prompt, chosen, rejected", "prompt、chosen、rejected"),
    roles=(
        Role(
            "prompt",
            say("Question", "提问"),
            False,
            ("prompt", "question", "instruction", "query", "conversations", "messages", "conversation"),
        ),
        Role("input", say("Input", "输入"), False, ("input",)),
        Role(
            "chosen",
            say("Better answer", "较好的回答"),
            True,
            ("chosen", "chosen_messages", "preferred", "response_chosen"),
        ),
        Role(
            "rejected",
            say("Worse answer", "较差的回答"),
            True,
            ("rejected", "rejected_messages", "dispreferred", "response_rejected"),
        ),
        Role("system", say("System prompt", "系统提示"), False, ("system", "system_prompt")),
        Role("tools", say("Tools", "工具"), False, ("tools", "functions")),
    ),
    preference=True,
    convert=convert,
    source="TRL dataset formats; LLaMA-Factory",
)
