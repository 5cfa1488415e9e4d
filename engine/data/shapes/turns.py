"""Turns out of what files hold: text cells, lists of messages in several dialects, content in parts, tool calls."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from engine.data.declare import BadRow, Conversation
from engine.data.rows import ASSISTANT, SYSTEM, TOOL, USER, Message, ToolCall
from engine.protocol.text import say

SPEAKERS: dict[str, str] = {
    "user": USER,
    "human": USER,
    "prompter": USER,
    "customer": USER,
    "用户": USER,
    "人类": USER,
    "assistant": ASSISTANT,
    "gpt": ASSISTANT,
    "chatgpt": ASSISTANT,
    "model": ASSISTANT,
    "bot": ASSISTANT,
    "ai": ASSISTANT,
    "agent": ASSISTANT,
    "助手": ASSISTANT,
    "机器人": ASSISTANT,
    "function_call": ASSISTANT,
    "tool_call": ASSISTANT,
    "tool_calls": ASSISTANT,
    "system": SYSTEM,
    "developer": SYSTEM,
    "系统": SYSTEM,
    "tool": TOOL,
    "tool_response": TOOL,
    "observation": TOOL,
    "function": TOOL,
    "function_response": TOOL,
    "ipython": TOOL,
    "工具": TOOL,
}
"""Names of speakers in OpenAI's, ShareGPT's and their kin's files → role. A function call is an answer to learn."""

_CALLERS = ("function_call", "tool_call", "tool_calls")
_SAYING = {speaker: role for speaker, role in SPEAKERS.items() if role != TOOL and speaker not in _CALLERS}
SPEAKER_KEYS = ("role", "from", "speaker")
TEXT_KEYS = ("content", "value", "text")
"""Usual keys of a turn's speaker and text, the most usual first."""
_KEYS_OF_SPEAKERS = frozenset(SPEAKER_KEYS)
_SAYING_KEYS = frozenset((*TEXT_KEYS, "tool_calls", "function_call"))
_MEDIA_COLUMNS = frozenset(("images", "image", "videos", "video", "audios", "audio", "pixel_values"))
_TEXT_PARTS = ("text", "input_text", "output_text", "refusal")
_CALL_PARTS = ("tool_call", "tool_calls", "function_call")
_REASONING = ("reasoning", "thinking")
_REASONING_KEYS = ("reasoning_content", *_REASONING)
_MEDIA_NAMES = {"image": say("an image", "图像"), "video": say("a video", "视频"), "audio": say("sound", "音频")}
_MEDIA_PARTS = (*_MEDIA_NAMES, "file")


def bad(en: str, zh: str, **values: object) -> BadRow:
    """A `BadRow` for a record whose build is wrong."""
    return BadRow("bad_row", say(en, zh, **values))


# ------------------------------------------------------------------------------------------------------------- cells
def cell(record: Mapping[str, Any], mapping: Mapping[str, str], role: str) -> Any:
    """The value under a role's column; None where role or column is absent. "data.prompt" is a field in an object."""
    column = mapping.get(role)
    if column is None:
        return None
    if column in record:
        return record[column]
    return inner(record, column) if "." in column else None


def inner(record: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path into nested objects, None where it leads nowhere."""
    head, _, rest = path.partition(".")
    value = record.get(head)
    while rest and isinstance(value, Mapping):
        if rest in value:
            return value[rest]
        head, _, rest = rest.partition(".")
        value = value.get(head)
    return None if rest else value


def text_cell(record: Mapping[str, Any], mapping: Mapping[str, str], role: str) -> str:
    """The text under a role's column, "" where it is absent; numbers as text. Raises `BadRow` for lists and objects."""
    value = cell(record, mapping, role)
    return value if type(value) is str else as_string(value, mapping.get(role, role))


def as_string(value: Any, name: str) -> str:
    """Text of a cell, numbers and truth values as JSON writes them. Raises `BadRow` for anything else."""
    if isinstance(value, str):
        return value
    if value is None or value != value:  # NaN is how tables of numbers write "nothing here"
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


def blank(text: str) -> bool:
    """Whether a text is empty or white space alone; reads no further than it must."""
    return not text or text.isspace()


def refuse_media(record: Mapping[str, Any]) -> None:
    """Raise `BadRow` where the record comes with images, sound or video."""
    if _MEDIA_COLUMNS.isdisjoint(record):
        return
    for column in record:
        if column in _MEDIA_COLUMNS and record[column] not in (None, "", [], "[]", {}):
            raise _multimodal(column)


def _multimodal(kind: str) -> BadRow:
    names = (name for word, name in _MEDIA_NAMES.items() if word in kind)
    what = next(names, _MEDIA_NAMES["image"] if kind == "pixel_values" else say("a file", "文件"))
    return BadRow(
        "multimodal",
        say("It comes with {what}; Lorimer trains on text.", "该行带有{what}；Lorimer 只训练文本。", what=what),
    )


# ------------------------------------------------------------------------------------------------------------- turns
def is_turn(value: Any) -> bool:
    """Whether a value is one turn: an object with role and content, or with from and value."""
    if type(value) is not dict and not isinstance(value, Mapping):
        return False
    if "role" in value and "content" in value:
        return True
    # A set of names in a row is the fastest question to ask of millions of turns.
    return not _KEYS_OF_SPEAKERS.isdisjoint(value) and not _SAYING_KEYS.isdisjoint(value)


def is_exchange(value: Any) -> bool:
    """Whether a value is question and answer in one object, as ``{"human": …, "assistant": …}``."""
    return (
        isinstance(value, Mapping)
        and len(value) >= 2
        and all(isinstance(said, str) and str(who).lower() in SPEAKERS for who, said in value.items())
    )


def parsed(value: Any) -> Any:
    """A list or object that stands as text in a CSV cell (JSON, or as Python prints it); anything else as it is."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        pass
    if "'" not in value:
        return value
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return value


def as_turns(value: Any) -> Sequence[Any] | None:
    """The list of turns that a cell holds, also as text or a single turn; None where it holds anything else."""
    if isinstance(value, str):
        if not _may_hold_turns(value):
            return None
        value = parsed(value)
    if isinstance(value, Mapping):
        return (value,) if is_turn(value) else None
    if isinstance(value, list | tuple) and value and (is_turn(value[0]) or is_exchange(value[0])):
        return value
    return None


def _may_hold_turns(text: str) -> bool:
    head = text[:400].lstrip()
    return head[:1] in ("[", "{") and any(f'"{key}"' in head or f"'{key}'" in head for key in (*SPEAKER_KEYS, "human"))


def turns(value: Any, name: str) -> tuple[Message, ...]:
    """The turns of a list of messages, or of its text (as CSV files hold it). Raises `BadRow`.

    Args:
        value: what the cell holds.
        name: of the column, for messages.
    """
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        value = parsed(value)
        if isinstance(value, str):
            raise bad('"{name}" is not a valid JSON list.', "“{name}”不是有效的 JSON 列表。", name=name)
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise bad('"{name}" holds no list of messages.', "“{name}”中没有消息列表。", name=name)
    found: list[Message] = []
    called: dict[str, str] = {}
    for position, item in enumerate(value):
        plain = _plain(item)
        if plain is not None:
            found.append(plain)
        elif not is_turn(item) and is_exchange(item):
            found += [Message(SPEAKERS[str(who).lower()], said) for who, said in item.items()]
        else:
            found.append(turn(item, name, position, called))
    return tuple(found)


def texts_in_turn(value: Any) -> tuple[Message, ...] | None:
    """The turns of a list of texts, of which the user says the first and each second one, as UltraChat's ``data``.

    None where the value is no such list of at least two.
    """
    if not isinstance(value, list | tuple) or len(value) < 2 or not all(isinstance(item, str) for item in value):
        return None
    return tuple(Message((USER, ASSISTANT)[place % 2], text) for place, text in enumerate(value))


def pairs_in_turn(value: Any, name: str) -> tuple[Message, ...] | None:
    """The turns of a list of pairs of question and answer; None where the value is no such list.

    Raises:
        BadRow: a pair holds something other than text.
    """
    if not isinstance(value, list | tuple) or not value or not all(map(is_pair, value)):
        return None
    speakers = (USER, ASSISTANT)
    return tuple(
        Message(who, as_string(said, name)) for pair in value for who, said in zip(speakers, pair, strict=True)
    )


def is_pair(item: Any) -> bool:
    """Whether an item of a list is itself a list of two."""
    return isinstance(item, list | tuple) and len(item) == 2


def _plain(item: Any) -> Message | None:
    """A turn of nothing but a speaker and a text, as most are; None for any other."""
    if type(item) is not dict or len(item) != 2:
        return None
    if "role" in item:
        who, said = item["role"], item.get("content")
    else:
        who, said = item.get("from"), item.get("value")
    if type(who) is not str or type(said) is not str:
        return None
    role = _SAYING.get(who)
    return None if role is None else Message(role, said)


def turn(item: Any, name: str, position: int | None = None, called: dict[str, str] | None = None) -> Message:
    """One turn.

    Args:
        item: what the list holds.
        name: of its column, for messages.
        position: in the list, from 0.
        called: id of a call → tool; filled by answers, read by the tools' turns that follow.

    Raises:
        BadRow: it has no known speaker or no text.
    """
    if not is_turn(item):
        raise bad(
            '"{name}" has no role and content (nor from and value).',
            "“{name}”没有 role 和 content（也没有 from 和 value）。",
            name=_place(name, position),
        )
    # Tables give every turn every field: what is not there is None.
    speaker = item.get("role") or item.get("from") or item.get("speaker")
    role = SPEAKERS.get(speaker) or SPEAKERS.get(speaker.strip().lower()) if isinstance(speaker, str) else None
    if role is None:
        raise bad(
            '"{name}" has an unknown speaker, "{speaker}".',
            "“{name}”的说话者“{speaker}”未知。",
            name=_place(name, position),
            speaker=str(speaker)[:80],
        )
    said = item.get("content")
    if said is None:
        said = item["value"] if item.get("value") is not None else item.get("text")
    if role == USER and isinstance(said, str):
        return Message(role, said)
    if role == ASSISTANT:
        return _answer(item, said, speaker in _CALLERS, _place(name, position), called)
    if role == TOOL:
        return _result(item, said, _place(name, position), called or {})
    content, _, _ = _said(said, _place(name, position))
    return Message(role, content)


def _place(name: str, position: int | None) -> str:
    return name if position is None else f"{name}[{position}]"


def _answer(item: Mapping[str, Any], said: Any, caller: bool, name: str, called: dict[str, str] | None) -> Message:
    """A turn of the assistant's, with its thoughts, its calls, and whether it is to be learned."""
    content, reasoning, calls = (said, "", ()) if isinstance(said, str) else _said(said, name)
    if caller and not calls:
        calls = _calls_in_text(content, name)
        content = "" if calls else content
    if len(item) == 2 and said is not None:
        return Message(ASSISTANT, content, True, reasoning, calls)
    thought = next((item[key] for key in _REASONING_KEYS if isinstance(item.get(key), str)), "")
    listed = item.get("tool_calls") or item.get("function_call")
    if listed:
        calls = (*calls, *_calls(listed, name, called))
    weight = item.get("weight", item.get("loss_weight"))
    # Files weigh users' turns 0 too; what matters here is an answer that is context only.
    learned = not (isinstance(weight, int | float) and weight <= 0) and item.get("train") is not False
    return Message(ASSISTANT, content, learned, thought or reasoning, calls)


def _result(item: Mapping[str, Any], said: Any, name: str, called: Mapping[str, str]) -> Message:
    """A tool's turn. A result that is data, not text, is written as JSON."""
    if isinstance(said, Mapping) or (isinstance(said, list | tuple) and not all(_is_part(part) for part in said)):
        content = _json(said, name)
    else:
        content, _, _ = _said(said, name)
    tool = item.get("name") or called.get(str(item.get("tool_call_id")), "")
    return Message(TOOL, content, name=tool if isinstance(tool, str) else "")


def _is_part(part: Any) -> bool:
    return isinstance(part, str) or (isinstance(part, Mapping) and isinstance(part.get("type"), str))


def _said(content: Any, name: str) -> tuple[str, str, tuple[ToolCall, ...]]:
    """(text, reasoning, calls) of a turn's content: text, nothing, or parts. Raises `BadRow` for media and others."""
    if not isinstance(content, list | tuple):
        return as_string(content, name), "", ()
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
            continue
        kind, value = _part(part, name)
        if kind in _CALL_PARTS:
            calls += _calls(value, name, None)
        elif kind in _REASONING:
            thoughts.append(_as_text(value, name).strip())
        elif kind != "tools":
            texts.append(_as_text(value, name))
    return "".join(texts), "\n\n".join(thoughts), tuple(calls)


def _part(part: Any, name: str) -> tuple[str, Any]:
    """(type, value) of a part of a turn."""
    if not isinstance(part, Mapping):
        raise bad('"{name}" has a part that is not text.', "“{name}”中有不是文本的部分。", name=name)
    kind = str(part.get("type", "text"))
    if any(media in kind for media in _MEDIA_PARTS):
        raise _multimodal(kind)
    if kind not in (*_TEXT_PARTS, *_CALL_PARTS, *_REASONING, "tools"):
        raise bad(
            '"{name}" has a part of unknown type "{kind}".',
            "“{name}”中有未知类型“{kind}”的部分。",
            name=name,
            kind=kind,
        )
    return kind, next((part[key] for key in ("text", "value", "content", kind) if part.get(key) is not None), "")


def _as_text(value: Any, name: str) -> str:
    return value if isinstance(value, str) else _json(value, name)


def _json(value: Any, name: str) -> str:
    """A value as JSON, dates and the like as text. Raises `BadRow` where it is nested too deeply."""
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (RecursionError, ValueError, TypeError):
        raise bad('"{name}" is nested too deeply.', "“{name}”嵌套过深。", name=name) from None


# ------------------------------------------------------------------------------------------------------------- tools
def _calls(value: Any, name: str, called: dict[str, str] | None) -> tuple[ToolCall, ...]:
    """Calls in any of their forms: OpenAI's list, its older ``function_call``, JSON text of either. Raises `BadRow`."""
    value = parsed(value)
    listed = [value] if isinstance(value, Mapping) else value
    if not isinstance(listed, list | tuple):
        raise bad('"{name}" has tool_calls that are no list.', "“{name}”的 tool_calls 不是列表。", name=name)
    found: list[ToolCall] = []
    for call in listed:
        function = call.get("function") or call if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise bad('"{name}" has a tool call without a name.', "“{name}”中有缺少名称的工具调用。", name=name)
        made = ToolCall(function["name"], _arguments(function, name))
        found.append(made)
        if called is not None and call.get("id") is not None:
            called[str(call["id"])] = made.name
    return tuple(found)


def _arguments(function: Mapping[str, Any], name: str) -> str:
    """Arguments as JSON text of an object, as OpenAI's files hold them."""
    value = function.get("arguments", function.get("parameters"))
    if value is None or value == "":
        return "{}"
    if isinstance(value, str):
        try:
            known = json.loads(value)
        except (ValueError, RecursionError):
            known = None
        if isinstance(known, dict):
            return value.strip()
    elif isinstance(value, Mapping):
        return _json(value, name)
    raise bad(
        '"{name}" calls a tool with arguments that are no JSON object.',
        "“{name}”中工具调用的参数不是 JSON 对象。",
        name=name,
    )


def _calls_in_text(text: str, name: str) -> tuple[ToolCall, ...]:
    """The calls that a ``function_call`` turn holds as JSON text; none where it is written in another way."""
    value = parsed(text)
    listed = [value] if isinstance(value, Mapping) else value
    if not isinstance(listed, list) or not listed:
        return ()
    if not all(isinstance(call, Mapping) and isinstance(call.get("name"), str) for call in listed):
        return ()
    return _calls(listed, name, None)


def tools_cell(record: Mapping[str, Any], mapping: Mapping[str, str], said: Sequence[Any] | None = None) -> str:
    """The tools that a row offers: its ``tools`` column, else what its turns declare. Raises `BadRow`.

    Args:
        record, mapping: as for a converter.
        said: the row's turns, as the file holds them.

    Returns:
        JSON text of a list; "" for none.
    """
    value = cell(record, mapping, "tools")
    if value is None and said is not None:
        for item in said:
            value = _declared(item)
            if value is not None:
                break
    if value is None or value == "" or value == "[]":
        return ""
    name = mapping.get("tools", "tools")
    if isinstance(value, str):
        return _tools_text(value, name)
    return _tools_list(value, name)


def _declared(item: Any) -> Any:
    """The tools that a turn declares: a field of its own, or a part of type ``tools``."""
    if type(item) is not dict:
        return None
    content = item.get("content")
    if type(content) is not list:
        return item.get("tools") or None
    if item.get("tools"):
        return item["tools"]
    parts = (part for part in content if isinstance(part, Mapping) and part.get("type") == "tools")
    return next((part.get("value", part.get("tools")) for part in parts), None)


@lru_cache(maxsize=256)
def _tools_text(text: str, name: str) -> str:
    """Checked once for the many rows that offer the same tools."""
    if blank(text):
        return ""
    value = parsed(text)
    if isinstance(value, str):
        raise bad('"{name}" holds no JSON list of tools.', "“{name}”中没有 JSON 工具列表。", name=name)
    return _tools_list(value, name)


def _tools_list(value: Any, name: str) -> str:
    listed = [value] if isinstance(value, Mapping) else value
    if not isinstance(listed, list | tuple):
        raise bad('"{name}" holds no list of tools.', "“{name}”中没有工具列表。", name=name)
    each = [parsed(tool) for tool in listed]
    if not all(isinstance(tool, Mapping) for tool in each):
        raise bad('"{name}" has a tool that is no object.', "“{name}”中有不是对象的工具。", name=name)
    return _json(each, name) if each else ""


# ------------------------------------------------------------------------------------------------------ conversations
def side(
    record: Mapping[str, Any], mapping: Mapping[str, str], role: str, speaker: str, extra: str = ""
) -> tuple[Message, ...]:
    """One side of an exchange: turns where the cell holds them, else its text and ``extra`` as one turn.

    Of a list of texts (several right answers) the first is taken. Raises `BadRow` for other lists and objects.
    """
    value = cell(record, mapping, role)
    if not isinstance(value, str) or value[:1] in ("[", "{"):
        listed = as_turns(value)
        if listed is not None:
            return turns(listed, mapping[role])
        if isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value):
            value = value[0]
        value = as_string(value, mapping.get(role, role))
    return (Message(speaker, joined(value, extra)),)


def plain_exchange(question: Any, extra: Any, answer: Any) -> Conversation | None:
    """One question and its answer where the cells are texts and nothing else, as in most rows of most files; None
    where they must be looked at closely."""
    if type(question) is not str or type(answer) is not str or not (extra is None or type(extra) is str):
        return None
    if answer[:1] in "[{" or answer.isspace():  # "" is in every text
        return None
    asked = joined(question, extra or "")
    return Conversation((Message(USER, asked), Message(ASSISTANT, answer))) if asked else None


def with_system(messages: tuple[Message, ...], system: str) -> tuple[Message, ...]:
    """The turns with a system prompt before them; one that they bring themselves stays."""
    if blank(system) or (messages and messages[0].role == SYSTEM and messages[0].content):
        return messages
    rest = messages[1:] if messages and messages[0].role == SYSTEM else messages
    return (Message(SYSTEM, system), *rest)


def conversation(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The turns up to the last answer. Raises `BadRow` when there is no answer, or an empty one, or no question."""
    last = len(messages) - 1
    while last >= 0 and messages[last].role != ASSISTANT:
        last -= 1
    if last < 0:
        raise BadRow("no_answer", say("No turn is an answer.", "没有任何一轮是回答。"))
    kept = messages if last == len(messages) - 1 else messages[: last + 1]
    asked = False
    for position, message in enumerate(kept):
        empty = blank(message.content) and not message.calls
        if message.role == ASSISTANT and empty:
            raise BadRow("empty_answer", say("The answer is empty.", "回答为空。"))
        asked = asked or (position < last and message.role != SYSTEM and not empty)
    if not asked:
        raise BadRow("empty_question", say("The question is empty.", "提问为空。"))
    return kept


def joined(first: str, second: str) -> str:
    """Instruction and input as one question, a line each (as LLaMA-Factory joins them)."""
    if blank(second):
        return "" if blank(first) else first
    return second if blank(first) else f"{first}\n{second}"
