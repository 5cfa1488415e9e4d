"""Classification: a text and its label, which the model learns to answer with. Labels stay as the file writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.data.declare import BadRow, Conversation, Role, Shape
from engine.data.rows import ASSISTANT, USER, Message
from engine.data.shapes.messages import SYSTEM_ROLE
from engine.data.shapes.turns import blank, conversation, joined, refuse_media, text_cell, with_system
from engine.protocol.text import say


def convert(record: Mapping[str, Any], mapping: Mapping[str, str]) -> Conversation:
    """One record as a conversation of two turns. Raises `BadRow`."""
    refuse_media(record)
    label = text_cell(record, mapping, "label")
    if blank(label):
        raise BadRow("empty_answer", say("The label is empty.", "标签为空。"))
    text = joined(text_cell(record, mapping, "text"), text_cell(record, mapping, "second"))
    messages = (Message(USER, text), Message(ASSISTANT, label))
    return Conversation(conversation(with_system(messages, text_cell(record, mapping, "system"))))


CLASSIFICATION = Shape(
    name="classification",
    label=say("Text and label (classification)", "文本与标签（分类）"),
    summary=say("text, label", "text、label"),
    roles=(
        Role(
            "text",
            say("Text", "文本"),
            True,
            (
                *("text", "sentence", "content", "document", "review", "tweet", "comment", "message", "sms"),
                *("premise", "sentence1", "text1", "utterance", "文本", "内容", "句子", "评论"),
            ),
        ),
        Role(
            "second",
            say("Second text", "第二段文本"),
            False,
            ("hypothesis", "sentence2", "text2", "text_pair"),
        ),
        Role(
            "label",
            say("Label", "标签"),
            True,
            (
                *("label", "labels", "class", "sentiment", "intent", "emotion"),
                *("标签", "类别", "情感", "意图"),
            ),
        ),
        SYSTEM_ROLE,
    ),
    kind="conversation",
    convert=convert,
    source="Hugging Face text-classification data sets",
)
