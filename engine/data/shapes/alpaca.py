"""Alpaca: instruction, input, output. Source: Taori et al. 2023; ``system`` and ``history`` as in LLaMA-Factory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.data.declare import Conversation, Role, Shape
from engine.data.rows import ASSISTANT, USER, Message
from engine.data.shapes.turns import as_string, bad, cell, conversation, joined, refuse_media, text_cell, with_system
from engine.protocol.text import say


def convert(record: Mapping[str, Any], mapping: Mapping[str, str]) -> Conversation:
    """One record as a conversation, earlier turns of ``history`` first. Raises `BadRow`."""
    refuse_media(record)
    question = joined(text_cell(record, mapping, "instruction"), text_cell(record, mapping, "input"))
    messages = (
        *_history(cell(record, mapping, "history")),
        Message(USER, question),
        Message(ASSISTANT, text_cell(record, mapping, "output")),
    )
    return Conversation(conversation(with_system(messages, text_cell(record, mapping, "system"))))


def _history(value: Any) -> tuple[Message, ...]:
    if not value:
        return ()
    if not isinstance(value, list | tuple):
        raise bad('"history" holds no list of pairs.', "“history”不是成对的列表。")
    turns: list[Message] = []
    for pair in value:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise bad('"history" must hold pairs of question and answer.', "“history”必须是提问与回答的成对列表。")
        turns += [Message(USER, as_string(pair[0], "history")), Message(ASSISTANT, as_string(pair[1], "history"))]
    return tuple(turns)


ALPACA = Shape(
    name="alpaca",
    label=say("Alpaca", "Alpaca"),
    summary=say("instruction, input, output", "instruction、input、output"),
    roles=(
        Role("instruction", say("Instruction", "指令"), True, ("instruction", "指令")),
        Role("input", say("Input", "输入"), False, ("input", "输入")),
        Role("output", say("Answer", "回答"), True, ("output", "输出")),
        Role("system", say("System prompt", "系统提示"), False, ("system", "system_prompt")),
        Role("history", say("Earlier turns", "历史对话"), False, ("history",)),
    ),
    preference=False,
    convert=convert,
    source="Taori et al. 2023",
)
