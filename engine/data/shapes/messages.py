"""Lists of turns: OpenAI's ``messages`` (role, content) and ShareGPT's ``conversations`` (from, value).

Turns in other words are read as messages, too, as a mapping says; so are lists of texts and of pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.data.declare import Conversation, Role, Shape
from engine.data.dialect import DIALECT_ROLES, translated
from engine.data.shapes.turns import (
    bad,
    cell,
    conversation,
    pairs_in_turn,
    parsed,
    refuse_media,
    text_cell,
    texts_in_turn,
    tools_cell,
    turns,
    with_system,
)
from engine.protocol.text import say


def convert_messages(record: Mapping[str, Any], mapping: Mapping[str, str]) -> Conversation:
    """One record of ``{role, content}`` turns, of exchanges, of texts in turn or of pairs, as a conversation.

    Raises `BadRow`.
    """
    return _convert(record, mapping, sharegpt=False)


def convert_sharegpt(record: Mapping[str, Any], mapping: Mapping[str, str]) -> Conversation:
    """One record of ``{from, value}`` turns as a conversation. Raises `BadRow`."""
    return _convert(record, mapping, sharegpt=True)


def _convert(record: Mapping[str, Any], mapping: Mapping[str, str], *, sharegpt: bool) -> Conversation:
    refuse_media(record)
    name, value = mapping["messages"], translated(parsed(cell(record, mapping, "messages")), mapping)
    found = None
    if isinstance(value, list | tuple) and value:
        first = value[0]
        is_sharegpt = isinstance(first, Mapping) and first.get("from") is not None and first.get("role") is None
        if is_sharegpt != sharegpt:
            key = "from" if sharegpt else "role"
            raise bad('The turns of "{name}" have no "{key}".', "“{name}”的各轮没有“{key}”。", name=name, key=key)
        if not isinstance(first, Mapping):
            found = texts_in_turn(value) or pairs_in_turn(value, name)
    found = with_system(found or turns(value, name), text_cell(record, mapping, "system"))
    return Conversation(conversation(found), tools=tools_cell(record, mapping, value))


TURNS = (
    "messages",
    "conversations",
    "conversation",
    "chat",
    "dialogue",
    "dialog",
    "turns",
    "对话",
    "消息",
)
"""Usual names of a column of turns."""
SYSTEM_ROLE = Role(
    "system", say("System prompt", "系统提示"), False, ("system", "system_prompt", "系统提示", "系统提示词", "系统")
)
TOOLS_ROLE = Role("tools", say("Tools", "工具"), False, ("tools", "functions", "工具"))

MESSAGES = Shape(
    name="messages",
    label=say("Messages", "消息列表"),
    summary=say("a list of role and content", "role 与 content 的列表"),
    roles=(Role("messages", say("Messages", "消息"), True, TURNS), SYSTEM_ROLE, TOOLS_ROLE, *DIALECT_ROLES),
    kind="conversation",
    convert=convert_messages,
    source="OpenAI chat format",
)
SHAREGPT = Shape(
    name="sharegpt",
    label=say("ShareGPT", "ShareGPT"),
    summary=say("a list of from and value", "from 与 value 的列表"),
    roles=(
        Role(
            "messages",
            say("Conversation", "对话"),
            True,
            ("conversations", "conversation", "messages", *TURNS[3:]),
        ),
        SYSTEM_ROLE,
        TOOLS_ROLE,
    ),
    kind="conversation",
    convert=convert_sharegpt,
    source="ShareGPT, FastChat",
)
