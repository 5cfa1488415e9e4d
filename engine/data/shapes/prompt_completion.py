"""Prompt and completion under any of their usual names, with a context where there is one (Dolly)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.data.declare import Conversation, Role, Shape
from engine.data.rows import ASSISTANT, USER
from engine.data.shapes.messages import SYSTEM_ROLE, TOOLS_ROLE
from engine.data.shapes.turns import (
    conversation,
    plain_exchange,
    refuse_media,
    side,
    text_cell,
    tools_cell,
    with_system,
)
from engine.protocol.text import say

_TEXTS = ("prompt", "context", "completion")
_PLAIN = frozenset(_TEXTS)


def convert(record: Mapping[str, Any], mapping: Mapping[str, str]) -> Conversation:
    """One record as a conversation; prompt and completion may be text or lists of turns. Raises `BadRow`."""
    refuse_media(record)
    if _PLAIN.issuperset(mapping):
        prompt, extra, completion = (record.get(mapping.get(role, "")) for role in _TEXTS)
        if type(prompt) is str and prompt[:1] not in ("[", "{"):  # else it may be turns
            exchange = plain_exchange(prompt, extra, completion)
            if exchange is not None:
                return exchange
    context = text_cell(record, mapping, "context") if "context" in mapping else ""
    asked = side(record, mapping, "prompt", USER, context)
    answered = side(record, mapping, "completion", ASSISTANT)
    found = with_system((*asked, *answered), text_cell(record, mapping, "system"))
    return Conversation(conversation(found), tools=tools_cell(record, mapping))


QUESTIONS = (
    "prompt",
    "question",
    "query",
    "instruction",
    "problem",
    "input",
    "user",
    "问题",
    "提问",
    "指令",
    "题目",
    "提示",
    "输入",
)
"""Usual names of a column of questions."""
ANSWERS = (
    "completion",
    "answer",
    "response",
    "output",
    "reply",
    "solution",
    "assistant",
    "target",
    "回答",
    "答案",
    "回复",
    "输出",
)
"""Usual names of a column of answers."""
CONTEXTS = ("context", "passage", "background", "上下文", "背景")
"""Usual names of a column that a question is about."""

PROMPT_COMPLETION = Shape(
    name="prompt_completion",
    label=say("Question and answer", "提问与回答"),
    summary=say("prompt and completion, question and answer…", "prompt 与 completion、question 与 answer 等"),
    roles=(
        Role("prompt", say("Question", "提问"), True, QUESTIONS),
        Role("context", say("Context", "上下文"), False, CONTEXTS),
        Role("completion", say("Answer", "回答"), True, ANSWERS),
        SYSTEM_ROLE,
        TOOLS_ROLE,
    ),
    kind="conversation",
    convert=convert,
    source="TRL dataset formats; Dolly (Conover et al. 2023)",
)
