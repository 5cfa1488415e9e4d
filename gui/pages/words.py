"""Words for codes that the engine's answers carry: shapes, columns, reasons."""

from __future__ import annotations

from collections.abc import Mapping

from engine.data.registry import SHAPES
from engine.data.rows import REASONS
from engine.protocol.text import Text, as_text, say
from gui.i18n.language import tr
from gui.i18n.numbers import count

FORMATS = {"json": "JSON", "jsonl": "JSON Lines", "csv": "CSV", "parquet": "Parquet"}
ENCODINGS = {"utf-8": "UTF-8", "utf-8-sig": "UTF-8 with BOM", "gb18030": "GB 18030", "ascii": "ASCII"}


def format_label(name: str) -> str:
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


def aside_words(set_aside: Mapping[str, int]) -> Text:
    """How many rows are set aside, in words."""
    total = sum(set_aside.values())
    if not total:
        return say("no row set aside", "没有搁置的行")
    if len(set_aside) == 1:
        why = reason_label(next(iter(set_aside)))
        return say("{n} set aside ({why}), nothing deleted", "搁置 {n} 行（{why}），未删除", n=count(total), why=why)
    return say("{n} rows set aside, nothing deleted", "搁置 {n} 行，未删除", n=count(total))


def reason_label(code: str) -> Text:
    """Why a row is set aside, in two or three words."""
    return REASONS.get(code, as_text(code.replace("_", " ")))
