"""Rows as the rest of Lorimer knows them: conversations, whatever shape the file had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.protocol.text import Text, as_text, say

USER = "user"
ASSISTANT = "assistant"
SYSTEM = "system"
TOOL = "tool"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool that an answer makes.

    Attributes:
        name: which tool.
        arguments: JSON text of an object.
    """

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: ``system``, ``user``, ``assistant`` or ``tool``.
        content: the turn's text.
        learned: False for an answer that the file marks as context only (``weight`` or ``loss_weight`` 0).
        reasoning: what the model thinks before it answers; "" where the file holds none.
        calls: tools that the answer calls, after its text.
        name: the tool that a ``tool`` turn comes from, where the file says so.
    """

    role: str
    content: str
    learned: bool = True
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()
    name: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether the turn says nothing and calls nothing."""
        return not (self.content.strip() or self.calls)


@dataclass(frozen=True, slots=True)
class Row:
    """One usable row.

    Attributes:
        index: position in its file, from 0, unusable rows counted.
        where: "file:line" (Parquet, which has no lines: the row's number from 1).
        messages: the whole conversation, or the prompt alone where the row holds a preference; empty for plain text.
        chosen, rejected: the better and the worse final answer; None where the row holds no preference.
        liked: whether the answer is one to learn or one to avoid (KTO); None where the row does not say.
        tools: the tools that the model may call, JSON text of a list; "" for none.
        text: plain text, all of it learned; None for a conversation.
    """

    index: int
    where: str
    messages: tuple[Message, ...]
    chosen: str | None = None
    rejected: str | None = None
    liked: bool | None = None
    tools: str = ""
    text: str | None = None

    @property
    def prompt(self) -> tuple[Message, ...]:
        """What stands before the last answer."""
        if self.chosen is not None:
            return self.messages
        last = max((i for i, m in enumerate(self.messages) if m.role == ASSISTANT), default=len(self.messages))
        return self.messages[:last]

    @property
    def answer(self) -> str:
        """The last answer; the chosen one where the row holds a preference; plain text itself; else empty."""
        if self.text is not None:
            return self.text
        if self.chosen is not None:
            return self.chosen
        return next((m.content for m in reversed(self.messages) if m.role == ASSISTANT), "")

    @property
    def question(self) -> str:
        """The last thing the user says before the last answer; empty when there is none."""
        return next((m.content for m in reversed(self.prompt) if m.role == USER), "")


@dataclass(frozen=True, slots=True)
class SetAside:
    """A row that is not trained on, and why.

    Attributes:
        index, where: as in `Row`.
        reason: short code, a key of `REASONS`.
        text: one sentence for people.
    """

    index: int
    where: str
    reason: str
    text: Text


REASONS: dict[str, Text] = {
    "bad_row": say("cannot be read", "无法读取"),
    "cut_off": say("broken off in the middle", "中途断开"),
    "wrong_encoding": say("broken characters", "字符损坏"),
    "no_answer": say("no answer", "没有回答"),
    "empty_answer": say("empty answer", "回答为空"),
    "empty_question": say("empty question", "提问为空"),
    "empty_text": say("empty text", "文本为空"),
    "same_answers": say("chosen and rejected are the same", "优选与劣选回答相同"),
    "compares_calls": say("compares tool calls", "比较的是工具调用"),
    "disliked": say("marked as an answer to avoid", "标记为应避免的回答"),
    "multimodal": say("needs images, sound or video", "需要图像、音频或视频"),
    "by_hand": say("set aside by you", "由你搁置"),
    "example": say("shown as an example", "作为示例"),
    "duplicate": say("duplicate", "重复"),
    "in_held_out": say("also in the held-out file", "留出文件中已有"),
    "not_chosen": say("not chosen by the model", "未被模型选中"),
    "too_long": say("too long", "过长"),
    "answer_cut_away": say("answer lies beyond the longest length", "回答超出最大长度"),
    "nothing_learned": say("nothing to learn", "没有可学内容"),
    "template_refused": say("refused by the chat template", "对话模板不接受"),
}
"""Every reason for which a row is set aside: code → words for a table or a chip."""

HINTS: dict[str, Text] = {
    "bad_row": say("Mend the row, or leave it out.", "请修正该行，或将其删除。"),
    "cut_off": say("Write or download the file again if rows are missing.", "若缺少数据，请重新写入或下载该文件。"),
    "wrong_encoding": say("Save the file again as UTF-8.", "请将文件重新另存为 UTF-8。"),
    "no_answer": say("Add an answer.", "请补上回答。"),
    "empty_answer": say("Write the answer.", "请写上回答。"),
    "empty_question": say("Write the question.", "请写上提问。"),
    "empty_text": say("Write the text, or leave the row out.", "请写上文本，或删除该行。"),
    "same_answers": say("Give two answers that differ.", "请给出两个不同的回答。"),
    "compares_calls": say(
        "Preferences are learned between answers in text; leave rows with tool calls out.",
        "偏好学习只比较文本回答；请去掉带工具调用的行。",
    ),
    "disliked": say(
        "Nothing to do: only answers marked good are learned here.", "无需处理：此处只学习标记为好的回答。"
    ),
    "multimodal": say("Use a data set of text alone.", "请使用纯文本数据集。"),
    "by_hand": say("Take it back where it should train after all.", "若仍想训练，可将其取回。"),
    "duplicate": say("Nothing is lost: the first one is used.", "没有损失：保留了第一条。"),
    "in_held_out": say("Nothing to do: what is measured is not trained on.", "无需处理：用于评估的内容不参与训练。"),
    "example": say(
        "It stands before each question; set few_shot to 0 to train on it.",
        "它出现在每个提问之前；将 few_shot 设为 0 即可用于训练。",
    ),
    "not_chosen": say("Raise the share to train on, or train on all rows.", "请增大参与训练的比例，或使用全部行。"),
    "too_long": say("Raise the longest length, or let long rows be cut.", "请增大最大长度，或允许截断。"),
    "answer_cut_away": say("Raise the longest length, or shorten the question.", "请增大最大长度，或缩短提问。"),
    "nothing_learned": say(
        "Mark an answer to be learned, or choose another template.", "请标出要学习的回答，或选择其他模板。"
    ),
    "template_refused": say("Choose another chat template.", "请选择其他对话模板。"),
}
"""What can be done about each reason."""


def row_to_plain(row: Row) -> dict[str, Any]:
    """The row as JSON knows it, for ``held_out.jsonl``."""
    plain: dict[str, Any] = {
        "index": row.index,
        "where": row.where,
        "messages": [message_to_plain(m) for m in row.messages],
    }
    if row.chosen is not None:
        plain |= {"chosen": row.chosen, "rejected": row.rejected}
    extra = {"liked": row.liked, "tools": row.tools or None, "text": row.text}
    return plain | {name: value for name, value in extra.items() if value is not None}


def message_to_plain(message: Message) -> dict[str, Any]:
    """The turn as JSON knows it; what it has not is left out."""
    plain: dict[str, Any] = {"role": message.role, "content": message.content}
    if not message.learned:
        plain["learned"] = False
    if message.calls:
        plain["calls"] = [{"name": call.name, "arguments": call.arguments} for call in message.calls]
    extra = {"reasoning": message.reasoning, "name": message.name}
    return plain | {name: value for name, value in extra.items() if value}


def row_from_plain(plain: Mapping[str, Any]) -> Row:
    """The row of a line of ``held_out.jsonl``. Raises `KeyError` when a field is missing."""
    return Row(
        plain.get("index", 0),
        plain["where"],
        tuple(message_from_plain(m) for m in plain["messages"]),
        plain.get("chosen"),
        plain.get("rejected"),
        plain.get("liked"),
        plain.get("tools", ""),
        plain.get("text"),
    )


def message_from_plain(plain: Mapping[str, Any]) -> Message:
    """The turn that `message_to_plain` wrote. Raises `KeyError` when a field is missing."""
    calls = tuple(ToolCall(call["name"], call["arguments"]) for call in plain.get("calls", ()))
    return Message(
        plain["role"],
        plain["content"],
        plain.get("learned", True),
        plain.get("reasoning", ""),
        calls,
        plain.get("name", ""),
    )


def set_aside_to_plain(item: SetAside) -> dict[str, Any]:
    """The set-aside row as JSON knows it, for ``set_aside.jsonl``."""
    return {
        "index": item.index,
        "where": item.where,
        "reason": item.reason,
        "text": {"en": item.text.en, "zh": item.text.zh},
    }


def set_aside_from_plain(plain: Mapping[str, Any]) -> SetAside:
    """The set-aside row of a line of ``set_aside.jsonl``. Raises `KeyError` when a field is missing."""
    return SetAside(plain.get("index", 0), plain["where"], plain["reason"], as_text(plain["text"]))
