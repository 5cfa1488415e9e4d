"""A conversation's turns as a chat template gets them, and other ways to say what a template has no place for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from engine.data.rows import ASSISTANT, SYSTEM, TOOL, USER, Message
from engine.protocol.text import Text, say

NOTES: dict[str, Text] = {
    "system_in_question": say(
        "The template has no place for a system prompt: it stands before the first question.",
        "模板没有系统提示的位置：已放在第一个提问之前。",
    ),
    "system_joined": say(
        "The template takes one system prompt: all of them stand at the beginning.",
        "模板只接受一条系统提示：已全部合并到开头。",
    ),
    "turns_joined": say(
        "The template wants questions and answers to alternate: turns of one speaker in a row were joined.",
        "模板要求问答交替：同一方的连续发言已合并。",
    ),
    "results_as_question": say(
        "The template has no place for a tool's result: it stands as the user's turn.",
        "模板没有工具结果的位置：已作为用户发言。",
    ),
    "tools_as_text": say(
        "The template has no place for tools: the system prompt tells of them.",
        "模板没有工具说明的位置：已写入系统提示。",
    ),
    "calls_as_text": say(
        "The template has no place for tool calls: they stand as lines of JSON in the answer.",
        "模板没有工具调用的位置：已作为 JSON 行写入回答。",
    ),
    "call_text_dropped": say("The template leaves out the words beside a tool call.", "模板省略了工具调用旁的文字。"),
    "no_tools": say(
        "The template always tells of tools, and this row has none.", "模板总会写入工具说明，而该行没有工具。"
    ),
    "reasoning_as_text": say(
        "The template has no place for reasoning: it stands as <think>…</think> before the answer.",
        "模板没有推理内容的位置：已写作回答前的 <think>…</think>。",
    ),
    "reasoning_dropped": say("The template leaves out reasoning.", "模板省略了推理内容。"),
    "turn_dropped": say("The template leaves out a turn.", "模板省略了某一轮发言。"),
    "answer_trimmed": say("The template strips white space off an answer's ends.", "模板去除了回答首尾的空白。"),
    "prompt_trimmed": say(
        "The template strips white space off the ends of what stands before an answer.",
        "模板去除了回答之前内容的首尾空白。",
    ),
    "altered": say("The template writes a turn in other characters.", "模板改写了某一轮发言的字符。"),
    "end_missing": say(
        "The template writes no end after an answer in the middle: the model does not learn to stop there.",
        "模板在中间的回答后未写结束符：模型不会学到在此停止。",
    ),
    "end_added": say(
        "The template writes no end after the last answer: the model's own was added.",
        "模板在最后的回答后未写结束符：已添加模型自己的结束符。",
    ),
}
"""What a template drops or alters, by code: one sentence for people."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A conversation in the form in which a template takes it.

    Attributes:
        turns: what is handed over.
        tools: the list of tools that is handed over; None for none.
        notes: codes of `NOTES`.
        plain: turns are text alone, so that their roles say all about how they are written.
        size: characters in it, about.
    """

    turns: tuple[Message, ...]
    tools: list[Any] | None = None
    notes: tuple[str, ...] = ()
    plain: bool = True
    size: int = 0


@dataclass(frozen=True, slots=True)
class Form:
    """How a template wants calls and reasoning.

    Attributes:
        arguments_as_text: a call's arguments are JSON text, not an object.
        calls_alone: content is none beside calls.
        plan: words and reasoning beside calls are handed over as ``tool_plan`` too.
    """

    arguments_as_text: bool = False
    calls_alone: bool = False
    plan: bool = False


PLAIN_FORM = Form()
FORMS = (PLAIN_FORM, Form(False, True), Form(True, True), Form(True, False))
"""Forms of calls in use, the usual first."""


def to_dicts(turns: Iterable[Message], form: Form = PLAIN_FORM) -> list[dict[str, Any]]:
    """The turns as transformers' ``apply_chat_template`` takes them.

    Calls get ids of nine letters and digits (Mistral insists on these), and results the ids of the calls they answer,
    in order: files seldom keep ids, and the same ones make the same text each time.
    """
    found: list[dict[str, Any]] = []
    waiting: list[str] = []
    count = 0
    for turn in turns:
        plain: dict[str, Any] = {"role": turn.role, "content": turn.content}
        if turn.reasoning:
            # Both names that templates of reasoning models read, as transformers fills them in.
            plain |= {"thinking": turn.reasoning, "reasoning_content": turn.reasoning}
        if turn.calls:
            ids = [f"call{count + i:05d}" for i in range(len(turn.calls))]
            count += len(ids)
            waiting = ids[:]
            plain["tool_calls"] = [
                {
                    "type": "function",
                    "id": number,
                    "function": {
                        "name": call.name,
                        "arguments": call.arguments if form.arguments_as_text else _arguments(call.arguments),
                    },
                }
                for number, call in zip(ids, turn.calls, strict=True)
            ]
            if form.plan:
                plain["tool_plan"] = "\n\n".join(text for text in (turn.reasoning, turn.content) if text)
            if form.calls_alone:
                plain["content"] = None
        if turn.role == TOOL:
            plain["tool_call_id"] = waiting.pop(0) if waiting else f"call{count:05d}"
        if turn.name:
            plain["name"] = turn.name
        found.append(plain)
    return found


def _arguments(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


@lru_cache(maxsize=256)
def tool_list(tools: str) -> list[Any]:
    """Tools as transformers takes them: each an object with ``type`` and ``function``. Never change what it returns.

    Args:
        tools: JSON text of a list (of one tool, without the list, too).

    Raises:
        ValueError: it is no JSON.
    """
    found = json.loads(tools)
    return [_wrapped(tool) for tool in (found if isinstance(found, list) else [found])]


def _wrapped(tool: Any) -> Any:
    bare = isinstance(tool, dict) and "name" in tool and "function" not in tool and "parameter_definitions" not in tool
    return {"type": "function", "function": tool} if bare else tool


# ---------------------------------------------------------------------------------------------------- said as text
_TOLD = 'You can call these tools. To call one, answer with a line of JSON: {"name": …, "arguments": {…}}'


def tools_as_text(tools: Sequence[Any]) -> str:
    """Tools for a system prompt: how to call them, then one a line."""
    lines = (tool.get("function", tool) if isinstance(tool, dict) else tool for tool in tools)
    return "\n".join((_TOLD, *(json.dumps(line, ensure_ascii=False) for line in lines)))


def calls_as_text(turn: Message) -> Message:
    """The answer with its calls as lines of JSON after its words."""
    lines = [json.dumps({"name": c.name, "arguments": _arguments(c.arguments)}, ensure_ascii=False) for c in turn.calls]
    return replace(turn, content="\n".join(([turn.content] if turn.content.strip() else []) + lines), calls=())


def reasoning_as_text(turn: Message) -> Message:
    """The answer with its reasoning before it, as models that reason write it."""
    return replace(turn, content=f"<think>\n{turn.reasoning}\n</think>\n\n{turn.content}", reasoning="")


def with_system(turns: Sequence[Message], text: str) -> list[Message]:
    """The turns with more text at the end of the first system prompt, or as one of its own."""
    if turns and turns[0].role == SYSTEM:
        first = turns[0]
        return [replace(first, content=f"{first.content}\n\n{text}" if first.content else text), *turns[1:]]
    return [Message(SYSTEM, text), *turns]


def one_system(turns: Sequence[Message]) -> list[Message]:
    """All system prompts joined at the beginning."""
    system = "\n\n".join(m.content for m in turns if m.role == SYSTEM)
    return [Message(SYSTEM, system), *(m for m in turns if m.role != SYSTEM)]


def system_in_question(turns: Sequence[Message]) -> list[Message]:
    """The system prompts put before the first question."""
    system = "\n\n".join(m.content for m in turns if m.role == SYSTEM)
    rest = [m for m in turns if m.role != SYSTEM]
    first = next((i for i, m in enumerate(rest) if m.role == USER), None)
    if first is None:
        return [Message(USER, system), *rest]
    rest[first] = replace(rest[first], content=f"{system}\n\n{rest[first].content}")
    return rest


def results_as_questions(turns: Sequence[Message]) -> list[Message]:
    """Tools' results as the user's turns."""
    return [Message(USER, m.content) if m.role == TOOL else m for m in turns]


def alternating(turns: Sequence[Message]) -> tuple[list[Message], list[str]]:
    """(without tools' turns, and with turns of one speaker in a row joined; notes)."""
    notes = ["results_as_question"] if any(m.role == TOOL for m in turns) else []
    joined: list[Message] = []
    for message in results_as_questions(turns):
        last = joined[-1] if joined else None
        if last is not None and last.role == message.role and not (last.calls or message.calls):
            content = f"{last.content}\n\n{message.content}"
            joined[-1] = replace(last, content=content, learned=last.learned and message.learned)
        else:
            joined.append(message)
    if len(joined) < len(turns):
        notes.append("turns_joined")
    return joined, notes


def answers(turns: Iterable[Message]) -> list[Message]:
    """The turns of the model."""
    return [turn for turn in turns if turn.role == ASSISTANT]
