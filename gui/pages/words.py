"""Words for codes that the engine's answers carry: shapes, columns, reasons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.data.registry import SHAPES
from engine.data.rows import REASONS
from engine.protocol.text import Text, as_text, say
from gui.i18n.language import tr
from gui.i18n.numbers import count

FORMATS: dict[str, Text | str] = {
    "json": "JSON",
    "jsonl": "JSON Lines",
    "csv": "CSV",
    "tsv": "TSV",
    "parquet": "Parquet",
    "arrow": "Arrow",
    "text": say("plain text", "纯文本"),
    "txt": say("plain text", "纯文本"),
}
ENCODINGS = {"utf-8": "UTF-8", "utf-8-sig": "UTF-8 with BOM", "gb18030": "GB 18030", "ascii": "ASCII"}


def format_label(name: str) -> Text | str:
    """What people call a file format."""
    return FORMATS.get(name, name.upper())


def encoding_label(name: str) -> str:
    """What people call a text encoding."""
    return ENCODINGS.get(name.lower(), name.upper())


def shape_label(name: str) -> Text:
    """What people call a shape."""
    return SHAPES[name].label if name in SHAPES else as_text(name)


def mapping_words(mapping: Mapping[str, str], shape: str) -> str:
    """ "instruction → question · output → answer": column → role, in the shape's words."""
    known = SHAPES.get(shape)
    pairs = []
    for role, column in mapping.items():
        found = known.role(role) if known is not None else None
        words = tr(found.label) if found is not None else role
        pairs.append(f"{column} → {words.lower()}")
    return " · ".join(pairs)


def aside_words(set_aside: Mapping[str, int], reasons: Mapping[str, Any] | None = None) -> Text:
    """How many rows are set aside, in words."""
    total = sum(set_aside.values())
    if not total:
        return say("no row set aside", "没有搁置的行")
    if set(set_aside) == {"by_hand"}:
        return say("{n} rows set aside by you, nothing deleted", "由你搁置 {n} 行，未删除", n=count(total))
    if len(set_aside) == 1:
        why = reason_label(next(iter(set_aside)), reasons)
        return say("{n} set aside ({why}), nothing deleted", "搁置 {n} 行（{why}），未删除", n=count(total), why=why)
    return say("{n} rows set aside, nothing deleted", "搁置 {n} 行，未删除", n=count(total))


def reason_label(code: str, reasons: Mapping[str, Any] | None = None) -> Text:
    """Why a row is set aside, in two or three words; ``reasons`` of the session's facts know those of the checks."""
    if code in REASONS:
        return REASONS[code]
    return as_text((reasons or {}).get(code) or code.replace("_", " "))


def capital(text: Text | str) -> str:
    """The words with a capital at their beginning."""
    words = tr(text)
    return words[:1].upper() + words[1:]


def status_label(status: str, facts: Mapping[str, Any]) -> Text:
    """Which rows a filter shows, in a few words: of a status, of a reason, or behind a figure of the checks."""
    kind, _, name = status.partition(":")
    if not name:
        return STATUSES.get(status) or reason_label(status, facts.get("reasons"))
    if kind == "score" and name in SCORES:
        return SCORES[name]
    quality = dict(facts.get("quality") or {})
    if kind == "check":
        return as_text(dict(quality.get("checks", {})).get(name, {}).get("label", name))
    group = {"language": "languages", "task": "tasks", "style": "styles"}.get(kind, "")
    return as_text(dict(quality.get("names", {})).get(group, {}).get(name, name))


SCORES: dict[str, Text] = {
    "hardest": say("the hardest rows", "最难的行"),
    "uncertain": say("the most uncertain rows", "最不确定的行"),
    "easiest": say("the easiest rows", "最容易的行"),
}
"""Rows in the order of what a model made of them."""

STATUSES: dict[str, Text] = {
    "": say("all rows", "所有行"),
    "ready": say("rows that train", "参与训练的行"),
    "held_out": say("rows held out", "留出的行"),
    "cut": say("rows that are cut", "被截断的行"),
    "over": say("rows over the limit", "超过上限的行"),
    "set_aside": say("rows set aside", "搁置的行"),
    "in_training": say("held-out rows also in training", "训练中也有的留出行"),
}
"""Statuses by which rows can be filtered."""


def rows_expected(status: str, facts: Mapping[str, Any]) -> int:
    """How many rows a filter shows, from the facts; the first page says it exactly."""
    kind, _, name = status.partition(":")
    aside = dict(facts.get("set_aside", {}))
    if kind == "score":
        return int(dict(facts.get("scores") or {}).get(name, 0))
    if name:
        quality = dict(facts.get("quality") or {})
        group = {"language": "languages", "task": "tasks", "style": "styles"}.get(kind)
        if group is not None:
            return int(dict(quality.get(group, {})).get(name, 0))
        return int(dict(quality.get("checks", {})).get(name, {}).get("rows") or 0)
    if status == "set_aside":
        return sum(aside.values())
    if status in STATUSES:
        return int(facts.get({"": "total", "ready": "total"}.get(status, status), 0))
    return int(aside.get(status, 0))
