"""Prompt and completion under any of their usual names, with a context where there is one (Dolly)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.data.declare import Conversation, Role, Shape
from engine.data.rows import ASSISTANT, USER, Message
from engine.data.shapes.turns import (
    cell,
    conversation,
    is_turn,
    joined,
    refuse_media,
    text_cell,
    turns,
    with_system,
)
from engine.protocol.text import say


def convert(record: Mapping[str, Any], mapping: Mapping[str, str]) -> Conversation:
    """One record as a conversation; prompt and completion may be text or lists of turns. Raises `BadRow`."""
    refuse_media(record)
    context = text_cell(record, mapping, "context")
    asked = _side(record, mapping, "prompt", USER, context)
    answered = _side(record, mapping, "completion", ASSISTANT, "")
    return Conversation(conversation(with_system((*asked, *answered), text_cell(record, mapping, "system"))))


def _side(
    record: Mapping[str, Any], mapping: Mapping[str, str], role: str, speaker: str, context: str
) -> tuple[Message, ...]:
    value = cell(record, mapping, role)
    if isinstance(value, list | tuple) and value and is_turn(value[0]):
        return turns(value, mapping[role])
    return (Message(speaker, joined(text_cell(record, mapping, role), context)),)


PROMPT_COMPLETION = Shape(
    name="prompt_completion",
    label=say("Question and answer", "提问与回答"),
    summary=say("prompt and completion, question and answer…", "prompt 与 completion、question 与 answer 等"),
    roles=(
        Role(
            "prompt",
            say("Question", "提问"),
            True,
            ("prompt", "question", "query", "instruction", "input", "user", "source", "问题", "提问", "指令", "输入"),
        ),
        Role("context", say("Context", "上下文"), False, ("context", "上下文")),
        Role(
            "completion",
            say("Answer", "回答"),
            True,
            ("completion", "answer", "response", "output", "reply", "assistant", "target", "回答", "答案", "输出"),
        ),
        Role("system", say("System prompt", "系统提示"), False, ("system", "system_prompt")),
    ),
    preference=False,
    convert=convert,
    source="TRL dataset formats; Dolly (Conover et al. 2023)",
)
