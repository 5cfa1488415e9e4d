"""Alpaca: instruction, input, output. Source: Taori et al. 2023; ``system`` and ``history`` as in LLaMA-Factory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.data.declare import Conversation, Role, Shape
from engine.data.rows import ASSISTANT, USER, Message
from engine.data.shapes.messages import TOOLS_ROLE
from engine.data.shapes.turns import (
    as_turns,
    bad,
    cell,
    conversation,
    joined,
    pairs_in_turn,
    parsed,
    plain_exchange,
    refuse_media,
    side,
    text_cell,
    tools_cell,
    turns,
    with_system,
)
from engine.protocol.text import say

_TEXTS = ("instruction", "input", "output")
_PLAIN = frozenset(_TEXTS)


def convert(record: Mapping[str, Any], mapping: Mapping[str, str]) -> Conversation:
    """One record as a conversation, earlier turns of ``history`` first. Raises `BadRow`."""
    refuse_media(record)
    if _PLAIN.issuperset(mapping):
        cells = (record.get(mapping.get(role, "")) for role in _TEXTS)
        found = plain_exchange(*cells)
        if found is not None:
            return found
    question = joined(text_cell(record, mapping, "instruction"), text_cell(record, mapping, "input"))
    messages = (Message(USER, question), *side(record, mapping, "output", ASSISTANT))
    if "history" in mapping:
        messages = (*_history(cell(record, mapping, "history")), *messages)
    all_turns = with_system(messages, text_cell(record, mapping, "system"))
    return Conversation(conversation(all_turns), tools=tools_cell(record, mapping))


def _history(value: Any) -> tuple[Message, ...]:
    value = parsed(value)
    if not value:
        return ()
    if not isinstance(value, list | tuple):
        raise bad('"history" holds no list of pairs.', "“history”不是成对的列表。")
    if as_turns(value) is not None:
        return turns(value, "history")
    found = pairs_in_turn(value, "history")
    if found is None:
        raise bad('"history" must hold pairs of question and answer.', "“history”必须是提问与回答的成对列表。")
    return found


ALPACA = Shape(
    name="alpaca",
    label=say("Alpaca", "Alpaca"),
    summary=say("instruction, input, output", "instruction、input、output"),
    roles=(
        Role("instruction", say("Instruction", "指令"), True, ("instruction", "指令")),
        Role("input", say("Input", "输入"), False, ("input", "输入")),
        Role("output", say("Answer", "回答"), True, ("output", "输出")),
        Role("system", say("System prompt", "系统提示"), False, ("system", "system_prompt", "系统提示", "系统")),
        Role("history", say("Earlier turns", "历史对话"), False, ("history", "历史对话", "历史")),
        TOOLS_ROLE,
    ),
    kind="conversation",
    convert=convert,
    source="Taori et al. 2023",
)
