"""Lists of turns: OpenAI's ``messages`` (role, content) and ShareGPT's ``conversations`` (from, value)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from engine.data.declare import Conversation, Role, Shape
from engine.data.shapes.turns import bad, cell, conversation, refuse_media, text_cell, turns, with_system
from engine.protocol.text import say


def convert_messages(record: Mapping[str, Any], mapping: Mapping[str, str]) -> Conversation:
    """One record of ``{role, content}`` turns as a conversation. Raises `BadRow`."""
    return _convert(record, mapping, "role")


def convert_sharegpt(record: Mapping[str, Any], mapping: Mapping[str, str]) -> Conversation:
    """One record of ``{from, value}`` turns as a conversation. Raises `BadRow`."""
    return _convert(record, mapping, "from")


def _convert(record: Mapping[str, Any], mapping: Mapping[str, str], speaker: str) -> Conversation:
    refuse_media(record)
    name, value = mapping["messages"], _listed(cell(record, mapping, "messages"))
    if isinstance(value, list | tuple) and value and not (isinstance(value[0], Mapping) and speaker in value[0]):
        raise bad('The turns of "{name}" have no "{key}".', "“{name}”的各轮没有“{key}”。", name=name, key=speaker)
    found = with_system(turns(value, name), text_cell(record, mapping, "system"), cell(record, mapping, "tools"))
    return Conversation(conversation(found))


def _listed(value: Any) -> Any:
    """A list that stands as JSON text in a CSV cell, as the list; anything else as it is."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


_COLUMNS = ("messages", "conversations", "conversation", "chat", "dialogue", "dialog", "turns")
_SYSTEM = Role("system", say("System prompt", "系统提示"), False, ("system", "system_prompt"))
_TOOLS = Role("tools", say("Tools", "工具"), False, ("tools", "functions"))

MESSAGES = Shape(
    name="messages",
    label=say("Messages", "消息列表"),
    summary=say("a list of role and content", "role 与 content 的列表"),
    roles=(Role("messages", say("Messages", "消息"), True, _COLUMNS), _SYSTEM, _TOOLS),
    preference=False,
    convert=convert_messages,
    source="OpenAI chat format",
)
SHAREGPT = Shape(
    name="sharegpt",
    label=say("ShareGPT", "ShareGPT"),
    summary=say("a list of from and value", "from 与 value 的列表"),
    roles=(
        Role("messages", say("Conversation", "对话"), True, ("conversations", "conversation", *_COLUMNS)),
        _SYSTEM,
        _TOOLS,
    ),
    preference=False,
    convert=convert_sharegpt,
    source="ShareGPT, FastChat",
)
