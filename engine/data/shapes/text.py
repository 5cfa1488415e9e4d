"""Plain text: all of it is learned, as in pretraining. Source: Radford et al. 2018."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.data.declare import BadRow, Conversation, Role, Shape
from engine.data.shapes.turns import blank, refuse_media, text_cell
from engine.protocol.text import say


def convert(record: Mapping[str, Any], mapping: Mapping[str, str]) -> Conversation:
    """One record as plain text. Raises `BadRow`."""
    refuse_media(record)
    text = text_cell(record, mapping, "text")
    if blank(text):
        raise BadRow("empty_text", say("The text is empty.", "文本为空。"))
    return Conversation((), text=text)


TEXTS = ("text", "content", "document", "article", "文本", "内容", "正文")
"""Usual names of a column of text."""

TEXT = Shape(
    name="text",
    label=say("Plain text", "纯文本"),
    summary=say("text, all of it learned", "text，全部用于学习"),
    roles=(Role("text", say("Text", "文本"), True, TEXTS),),
    kind="text",
    convert=convert,
    source="Radford et al. 2018",
)
