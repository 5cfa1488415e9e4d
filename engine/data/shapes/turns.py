"""Turns out of what files hold: text cells, lists of messages in several dialects, content in parts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from engine.data.declare import BadRow
from engine.data.rows import ASSISTANT, SYSTEM, TOOL, USER, Message
from engine.protocol.text import say

SPEAKERS: dict[str, str] = {
    "user": USER,
    "human": USER,
    "prompter": USER,
    "assistant": ASSISTANT,
    "gpt": ASSISTANT,
    "chatgpt": ASSISTANT,
    "model": ASSISTANT,
    "bot": ASSISTANT,
    "ai": ASSISTANT,
    "function_call": ASSISTANT,
    "system": SYSTEM,
    "developer": SYSTEM,
    "tool": TOOL,
    "tool_response": TOOL,
    "observation": TOOL,
    "function": TOOL,
    "function_response": TOOL,
    "ipython": TOOL,
}
"""Names of speakers in OpenAI's, ShareGPT's and their kin's files → role. A function call is an answer to learn."""

_MEDIA_COLUMNS = ("images", "image", "videos", "video", "audios", "audio")
_TEXT_PARTS = ("text", "input_text", "output_text", "tool_call", "tools", "function_call", "refusal")
_REASONING = ("reasoning", "thinking")
_MEDIA_NAMES = {"image": say("an image", "图像"), "video": say("a video", "视频"), "audio": say("sound", "音频")}
_MEDIA_PARTS = (*_MEDIA_NAMES, "file")


def bad(en: str, zh: str, **values: object) -> BadRow:
    """A `BadRow` for a record whose build is wrong."""
    return BadRow("bad_row", say(en, zh, **values))


def cell(record: Mapping[str, Any], mapping: Mapping[str, str], role: str) -> Any:
    """The value under a role's column; None where role or column is absent."""
    column = mapping.get(role)
    return None if column is None else record.get(column)


def text_cell(record: Mapping[str, Any], mapping: Mapping[str, str], role: str) -> str:
    """The text under a role's column, "" where it is absent; numbers as text. Raises `BadRow` for lists and objects."""
    return as_string(cell(record, mapping, role), mapping.get(role, role))


def as_string(value: Any, name: str) -> str:
    """Text of a cell, numbers and truth values as JSON writes them. Raises `BadRow` for anything else."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise bad(
        '"{name}" holds {kind}, not text.',
        "“{name}”中是{kind_zh}，不是文本。",
        name=name,
        kind=_kind(value),
        kind_zh=_kind(value, chinese=True),
    )


def _kind(value: Any, *, chinese: bool = False) -> str:
    if isinstance(value, list | tuple):
        return "列表" if chinese else "a list"
    if isinstance(value, Mapping):
        return "对象" if chinese else "an object"
    return type(value).__name__


def refuse_media(record: Mapping[str, Any]) -> None:
    """Raise `BadRow` where the record comes with images, sound or video."""
    for column in _MEDIA_COLUMNS:
        if record.get(column):
            raise _multimodal(column)


def _multimodal(kind: str) -> BadRow:
    names = (name for word, name in _MEDIA_NAMES.items() if word in kind)
    what = next(names, say("a file", "文件"))
    return BadRow(
        "multimodal",
        say("It comes with {what}; Lorimer trains on text.", "该行带有{what}；Lorimer 只训练文本。", what=what),
    )


def is_turn(value: Any) -> bool:
    """Whether a value is one turn: an object with role and content, or with from and value."""
    return isinstance(value, Mapping) and (
        ("role" in value and ("content" in value or "tool_calls" in value)) or ("from" in value and "value" in value)
    )


def turns(value: Any, name: str) -> tuple[Message, ...]:
    """The turns of a list of messages, or of its JSON text (as CSV files hold it). Raises `BadRow`."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            raise bad('"{name}" is not a valid JSON list.', "“{name}”不是有效的 JSON 列表。", name=name) from None
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise bad('"{name}" holds no list of messages.', "“{name}”中没有消息列表。", name=name)
    return tuple(turn(item, f"{name}[{i}]") for i, item in enumerate(value))


def turn(item: Any, name: str) -> Message:
    """One turn. Raises `BadRow` when it has no known speaker or no text."""
    if not is_turn(item):
        raise bad(
            '"{name}" has no role and content (nor from and value).',
            "“{name}”没有 role 和 content（也没有 from 和 value）。",
            name=name,
        )
    speaker = item["role"] if "role" in item else item["from"]
    role = SPEAKERS.get(str(speaker).strip().lower())
    if role is None:
        raise bad(
            '"{name}" has an unknown speaker, "{speaker}".',
            "“{name}”的说话者“{speaker}”未知。",
            name=name,
            speaker=speaker,
        )
    content = content_text(item["content"] if "content" in item else item.get("value"), name)
    content = _with_reasoning(item, content) + _tool_calls(item, name, after=content)
    weight = item.get("weight", item.get("loss_weight"))
    # Files weigh users' turns 0 too; what matters here is an answer that is context only.
    learned = not (role == ASSISTANT and isinstance(weight, int | float) and weight <= 0)
    return Message(role, content, learned)


def content_text(content: Any, name: str) -> str:
    """Text of a turn whose content is a string, absent, or a list of parts. Raises `BadRow` for media and others."""
    if not isinstance(content, list | tuple):
        return as_string(content, name)
    return "".join(_part(part, name) for part in content)


def _part(part: Any, name: str) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise bad('"{name}" has a part that is not text.', "“{name}”中有不是文本的部分。", name=name)
    kind = str(part.get("type", "text"))
    if any(media in kind for media in _MEDIA_PARTS):
        raise _multimodal(kind)
    value = next((part[key] for key in ("text", "value", "content", kind) if part.get(key) is not None), "")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if kind in _REASONING:
        return _thought(text)
    if kind in _TEXT_PARTS:
        return text
    raise bad(
        '"{name}" has a part of unknown type "{kind}".', "“{name}”中有未知类型“{kind}”的部分。", name=name, kind=kind
    )


def _with_reasoning(item: Mapping[str, Any], content: str) -> str:
    """Reasoning in a field of its own is put before the answer, as models that reason write it."""
    thought = next((item[key] for key in ("reasoning_content", *_REASONING) if isinstance(item.get(key), str)), "")
    return _thought(thought) + content if thought else content


def _thought(text: str) -> str:
    return f"<think>\n{text.strip()}\n</think>\n\n"


def _tool_calls(item: Mapping[str, Any], name: str, *, after: str) -> str:
    """OpenAI's ``tool_calls`` as text, one JSON object a line: the call is what the model must learn to write."""
    calls = item.get("tool_calls")
    if not calls:
        return ""
    if not isinstance(calls, list | tuple) or not all(isinstance(call, Mapping) for call in calls):
        raise bad('"{name}" has tool_calls that are no list.', "“{name}”的 tool_calls 不是列表。", name=name)
    functions = [call.get("function", call) for call in calls]
    lines = [
        json.dumps({"name": f.get("name"), "arguments": _arguments(f.get("arguments"))}, ensure_ascii=False)
        for f in functions
    ]
    return ("\n" if after else "") + "\n".join(lines)


def _arguments(value: Any) -> Any:
    """Arguments as an object; OpenAI's files hold them as JSON text."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def with_system(messages: tuple[Message, ...], system: str, tools: Any = None) -> tuple[Message, ...]:
    """The turns with a system prompt before them, and the tools the model may call told as text in it."""
    told = _tools_text(tools)
    if messages and messages[0].role == SYSTEM:
        system, messages = messages[0].content or system, messages[1:]
    whole = "\n\n".join(part for part in (system, told) if part.strip())
    return (Message(SYSTEM, whole), *messages) if whole else messages


def _tools_text(tools: Any) -> str:
    if not tools or tools == "[]":
        return ""
    text = tools if isinstance(tools, str) else json.dumps(tools, ensure_ascii=False)
    return f"You may call these tools:\n{text}"


def conversation(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The turns up to the last answer. Raises `BadRow` when there is no answer, or an empty one, or no question."""
    last = max((i for i, m in enumerate(messages) if m.role == ASSISTANT), default=-1)
    if last < 0:
        raise BadRow("no_answer", say("No turn is an answer.", "没有任何一轮是回答。"))
    kept = messages[: last + 1]
    for message in kept:
        if message.role == ASSISTANT and not message.content.strip():
            raise BadRow("empty_answer", say("The answer is empty.", "回答为空。"))
    if not any(m.content.strip() for m in kept[:last] if m.role != SYSTEM):
        raise BadRow("empty_question", say("The question is empty.", "提问为空。"))
    return kept


def joined(*parts: str) -> str:
    """Instruction and input as one question, a line each (as LLaMA-Factory joins them)."""
    return "\n".join(part for part in parts if part.strip())
