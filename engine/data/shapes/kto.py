"""KTO: an answer with a mark that says whether it is one to learn or one to avoid. Source: Ethayarajh et al. 2024."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.data.declare import Conversation, Role, Shape
from engine.data.rows import ASSISTANT, USER
from engine.data.shapes.messages import SYSTEM_ROLE, TOOLS_ROLE, TURNS
from engine.data.shapes.prompt_completion import ANSWERS, QUESTIONS
from engine.data.shapes.turns import (
    bad,
    cell,
    conversation,
    parsed,
    refuse_media,
    side,
    text_cell,
    tools_cell,
    turns,
    with_system,
)
from engine.protocol.text import say

_GOOD = "true 1 1.0 yes y good like liked desirable positive chosen thumbs_up up correct 是 好 真 对 喜欢 优 赞".split()
_BAD = "false 0 0.0 no n bad dislike disliked undesirable negative rejected thumbs_down down incorrect wrong".split()
MARKS: dict[str, bool] = {
    **dict.fromkeys(_GOOD, True),
    **dict.fromkeys((*_BAD, "-1", "否", "坏", "假", "错", "不喜欢", "差", "踩"), False),
}
"""How files write that an answer is good or bad, in lower case."""


def convert(record: Mapping[str, Any], mapping: Mapping[str, str]) -> Conversation:
    """One record as a conversation whose last answer is marked. Raises `BadRow`."""
    refuse_media(record)
    marked = cell(record, mapping, "label")
    liked = mark(marked)
    if liked is None:
        raise bad(
            '"{name}" says neither good nor bad: {value}.',
            "“{name}”既不是好也不是坏：{value}。",
            name=mapping["label"],
            value=repr(marked)[:60],
        )
    value = parsed(cell(record, mapping, "messages"))
    found = () if value is None else turns(value, mapping["messages"])
    if "prompt" in mapping or "input" in mapping:
        found = (*found, *side(record, mapping, "prompt", USER, text_cell(record, mapping, "input")))
    if "completion" in mapping:
        found = (*found, *side(record, mapping, "completion", ASSISTANT))
    whole = conversation(with_system(found, text_cell(record, mapping, "system")))
    return Conversation(whole, liked=liked, tools=tools_cell(record, mapping, value))


def mark(value: Any) -> bool | None:
    """Whether a cell marks an answer as good or as bad; None where it says neither."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return True if value == 1 else False if value in (0, -1) else None
    return MARKS.get(value.strip().lower()) if isinstance(value, str) else None


KTO = Shape(
    name="kto",
    label=say("Answers marked good or bad (KTO)", "标记好坏的回答（KTO）"),
    summary=say("messages, or prompt and completion, with a label", "messages 或 prompt 与 completion，另有 label"),
    roles=(
        Role("messages", say("Messages", "消息"), False, TURNS),
        Role("prompt", say("Question", "提问"), False, QUESTIONS),
        Role("input", say("Input", "输入"), False, ("input", "context", "输入")),
        Role("completion", say("Answer", "回答"), False, ANSWERS),
        Role(
            "label",
            say("Good or bad", "好或坏"),
            True,
            ("label", "kto_tag", "thumbs_up", "liked", "like", "desirable", "is_desirable", "is_good", "标签", "好坏"),
        ),
        SYSTEM_ROLE,
        TOOLS_ROLE,
    ),
    kind="kto",
    convert=convert,
    source="Ethayarajh et al. 2024; TRL dataset formats",
)
