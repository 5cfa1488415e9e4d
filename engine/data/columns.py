"""What the columns of a sample hold: kind of value, how often, how varied, and who seems to speak in them."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from engine.data import names
from engine.data.declare import BadRow
from engine.data.rows import ASSISTANT, SYSTEM, USER, Message
from engine.data.shapes.kto import mark
from engine.data.shapes.turns import (
    SPEAKERS,
    as_turns,
    inner,
    is_exchange,
    is_pair,
    pairs_in_turn,
    parsed,
    texts_in_turn,
)

_NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?(e[-+]?\d+)?%?", re.IGNORECASE)
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_LONGEST_LABEL = 40
_MOST_LABELS = 20
_FEWEST_LABELS = 8
_DEEPEST = 2

# How questions and orders begin, and how answers do. They need not be complete: columns are compared with one another.
_ASKS = re.compile(
    r"""\W{0,3}(?:(?:please|can|could|would|will|should|do|does|did|is|are|was|were|have|has|may|what|whats|who|whom
    |whose|which|when|where|why|how|if|given|write|describe|explain|give|generate|create|list|name|identify|find|tell
    |provide|suggest|summari[sz]e|translate|rewrite|classify|compare|calculate|compute|determine|design|edit|convert
    |construct|compose|come\ up|make|add|answer|rearrange|replace|sort|solve|think|use|analy[sz]e|arrange|categori[sz]e
    |choose|select|pick|complete|correct|craft|decide|define|develop|discuss|draw|draft|estimate|evaluate|extract|fill
    |form|formulate|help|imagine|output|outline|paraphrase|predict|prepare|pretend|propose|rank|read|recommend|remove
    |respond|reword|show|simplify|state|take|turn|transform|brainstorm|build|change|combine|count|delete|detect|match
    |modify|organi[sz]e|plan|produce|reduce|rephrase|research|restate|reverse|spot|structure|transcribe|vary|verify
    |insert|invent|in\ this\ task|you\ are|i\ want|i\ need|i'd\ like|hi|hey)\b
    |请|写|描述|解释|给|生成|创建|列出|说明|找|告诉|提供|建议|总结|翻译|改写|重写|分类|比较|计算|确定|设计|编辑|转换|构造
    |回答|判断|分析|根据|将|把|用|如何|怎|什么|为什么|谁|哪|你|我想|我要|能|可以|是否|识别|制作|编写|概述|介绍|对|从|在以下
    |创作|评估|选择|讨论|简述|帮|预测|翻转|想出|删除|想象)""",
    re.IGNORECASE | re.VERBOSE,
)
_ANSWERS = re.compile(
    r"""\W{0,3}(?:(?:the|it|this|that|these|there|yes|no|sure|certainly|absolutely|of\ course|here|i'm|i\ am|as\ an?
    |hello|sorry|thank|according|based|one|some|they|he|she|first|my|we|our|a|an|to)\b
    |1[.、)]|当然|好的|是的|不|以下|作为|您好|这|它|我是|根据您|对不起)""",
    re.IGNORECASE | re.VERBOSE,
)


def asking(text: str) -> int:
    """1 where a text reads like a question or an order, −1 where it reads like an answer, 0 where it tells neither."""
    text = text.strip()
    ends = text[-1:] in ("?", "？")
    if _ANSWERS.match(text):
        return 0 if ends else -1
    return 1 if ends or _ASKS.match(text) else 0


def is_blank(value: Any) -> bool:
    """Whether a cell holds nothing: absent, white space, an empty list or object, not a number."""
    if isinstance(value, str):
        return not value or value.isspace() or value in ("[]", "{}")
    return value is None or value != value or (isinstance(value, list | tuple | Mapping) and not value)


def _kind(value: Any) -> str:
    """text, number, bool, turns, strings (a list of texts), tools, pairs, object or list."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        if value[:1] not in ("[", "{") or (known := parsed(value)) is value:
            return "number" if len(value) < 30 and _NUMBER.fullmatch(value.strip()) else "text"
        inside = _kind(known)
        # An answer may well be JSON: only what is told for sure is taken for data.
        return inside if inside in ("turns", "tools", "pairs", "strings") else "text"
    if as_turns(value) is not None:
        return "turns"
    if isinstance(value, Mapping):
        return "object"
    return _list_kind(value) if isinstance(value, list | tuple) else "other"


def _list_kind(value: Sequence[Any]) -> str:
    if all(isinstance(item, str) for item in value):
        return "strings"
    if all(map(is_pair, value)):
        return "pairs"
    first = value[0]
    if isinstance(first, Mapping) and (
        isinstance(first.get("name"), str) or isinstance(first.get("function"), Mapping)
    ):
        return "tools"
    return "list"


@dataclass(frozen=True)
class Column:
    """A column of a sample.

    Attributes:
        name: as the file has it; dotted where it lies in nested objects.
        values: one per sampled row; None where the cell holds nothing.
    """

    name: str
    values: tuple[Any, ...]

    @cached_property
    def meaning(self) -> str | None:
        """What its name says; see `engine.data.names.meaning`."""
        return names.meaning(self.name)

    @cached_property
    def present(self) -> tuple[Any, ...]:
        """Its values that hold something."""
        return tuple(value for value in self.values if value is not None)

    @cached_property
    def filled(self) -> float:
        """Share of rows that hold something."""
        return len(self.present) / max(1, len(self.values))

    @cached_property
    def kinds(self) -> Counter[str]:
        """How many values are of which kind."""
        return Counter(_kind(value) for value in self.present)

    @cached_property
    def kind(self) -> str:
        """The kind of most values; "" where it holds nothing."""
        return max(self.kinds, key=self.kinds.__getitem__) if self.kinds else ""

    def share(self, *kinds: str) -> float:
        """Share of its values that are of these kinds; 1 where it holds nothing."""
        return sum(self.kinds[kind] for kind in kinds) / len(self.present) if self.present else 1.0

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Its values as text, numbers too; lists and objects are left out."""
        return tuple(str(value) for value in self.present if isinstance(value, str | int | float))

    @cached_property
    def distinct(self) -> int:
        """How many different texts it holds."""
        return len(set(self.texts))

    @cached_property
    def mean_length(self) -> float:
        """Characters of a text, on average; Chinese, Japanese and Korean ones count for three."""
        total = sum(len(text) + 2 * len(_CJK.findall(text[:2000])) for text in self.texts)
        return total / max(1, len(self.texts))

    @cached_property
    def is_few(self) -> bool:
        """Whether it holds the same few short values again and again, as labels do."""
        count = len(self.texts)
        if count < _FEWEST_LABELS or count < len(self.present) or max(map(len, self.texts)) > _LONGEST_LABEL:
            return False
        return self.distinct <= max(2, min(_MOST_LABELS, count // 4))

    @cached_property
    def is_mark(self) -> bool:
        """Whether every value says yes or no, good or bad, 1 or 0."""
        return bool(self.present) and all(mark(value) is not None for value in self.present)

    @cached_property
    def varies(self) -> bool:
        """Whether it says both good and bad."""
        return self.is_mark and len({mark(value) for value in self.present}) == 2

    @cached_property
    def is_code(self) -> bool:
        """Whether its values are ids, paths, dates or the like: single words, nearly all different."""
        single = sum(not any(c.isspace() for c in text.strip()) and not _CJK.search(text) for text in self.texts)
        digits = sum(any(c.isdigit() or c in "/:@_" for c in text) for text in self.texts)
        count = max(1, len(self.texts))
        return single / count > 0.95 and digits / count > 0.5

    @cached_property
    def is_rich(self) -> bool:
        """Whether it holds texts that someone may want learned: sentences that differ from row to row."""
        if self.kind != "text" or self.share("text") < 0.5 or self.is_few or self.is_code:
            return False
        return self.mean_length >= 12 or self.distinct > 0.5 * len(self.texts)

    @cached_property
    def is_prose(self) -> bool:
        """Whether its values are of several words, be they ever the same."""
        words = sum(len(text.split()) for text in self.texts)
        return self.mean_length > 40 or (self.mean_length >= 12 and words >= 3 * len(self.texts))

    @cached_property
    def flavour(self) -> str:
        """Which dialect its turns are in, "from" (ShareGPT) or "role"; "" where it holds no lists of turns."""
        firsts = [listed[0] for listed in self.turn_lists]
        if not firsts:
            return ""
        sharegpt = sum(isinstance(f, Mapping) and f.get("from") is not None and f.get("role") is None for f in firsts)
        return "from" if sharegpt > len(firsts) / 2 else "role"

    @cached_property
    def turn_lists(self) -> tuple[Sequence[Any], ...]:
        """Its lists of turns."""
        return tuple(listed for value in self.present if (listed := as_turns(value)) is not None)

    @cached_property
    def is_single(self) -> bool:
        """Whether its cells hold one turn each, and not a list."""
        return bool(self.turn_lists) and all(isinstance(parsed(value), Mapping) for value in self.present)

    @cached_property
    def ends_open(self) -> float:
        """Share of its lists of turns that do not end with an answer."""
        ends = [speaker(listed[-1]) != ASSISTANT for listed in self.turn_lists]
        return sum(ends) / max(1, len(ends))

    @cached_property
    def begins_open(self) -> float:
        """Share of its lists of turns that begin with an answer: one side of an exchange, not the whole of it."""
        starts = [speaker(listed[0]) == ASSISTANT and not is_exchange(listed[0]) for listed in self.turn_lists]
        return sum(starts) / max(1, len(starts))

    @cached_property
    def spoken_lists(self) -> tuple[Sequence[Message], ...]:
        """Its lists of texts or of pairs, as turns of which the user says the first and each second one."""
        if self.kind not in ("strings", "pairs"):
            return ()
        return tuple(listed for value in self.present if (listed := _spoken(parsed(value), self.name)))

    @cached_property
    def is_spoken(self) -> bool:
        """Whether its lists of texts or of pairs may be conversations: of two turns and more, in nearly every cell."""
        several = sum(len(listed) > 1 for listed in self.spoken_lists)
        return bool(several) and several >= 0.8 * len(self.present)

    @cached_property
    def says_sentences(self) -> bool:
        """Whether the texts of `spoken_lists` are long enough for sentences, as tags are not."""
        texts = [message.content for listed in self.spoken_lists for message in listed]
        return Column(self.name, tuple(texts[:1000])).is_prose if texts else False

    @cached_property
    def alternates(self) -> float:
        """Share of its lists of turns in which someone asks first and speakers take turns."""
        return sum(map(_alternates, self.turn_lists)) / max(1, len(self.turn_lists))


def _spoken(value: Any, name: str) -> tuple[Message, ...]:
    try:
        return texts_in_turn(value) or pairs_in_turn(value, name) or ()
    except BadRow:
        return ()


def speaker(item: Any) -> str:
    """The role of a turn as a file holds it; "" where it is not known."""
    if not isinstance(item, Mapping):
        return ""
    if is_exchange(item):
        return ASSISTANT
    who = item.get("role") or item.get("from") or item.get("speaker")
    return SPEAKERS.get(str(who).strip().lower(), "")


def _alternates(listed: Sequence[Any]) -> bool:
    if is_exchange(listed[0]):
        return True
    who = [role for item in listed if (role := speaker(item)) != SYSTEM]
    # A tool speaks between answers, and an answer may follow its own call: only questions never follow one another.
    return who[:1] == [USER] and "" not in who and all(pair != (USER, USER) for pair in itertools.pairwise(who))


def sampled(records: Sequence[Mapping[str, Any]], count: int) -> list[Mapping[str, Any]]:
    """At most ``count`` records, evenly spread: files are often sorted."""
    if len(records) <= count:
        return list(records)
    return [records[i * len(records) // count] for i in range(count)]


def columns_of(sample: Sequence[Mapping[str, Any]], heads: Sequence[str]) -> list[Column]:
    """The columns of a sample, those in nested objects by their path ("data.prompt")."""
    found: list[Column] = []
    for head in heads:
        found += _expanded(head, sample, 0)
    return found


def _expanded(name: str, sample: Sequence[Mapping[str, Any]], depth: int) -> list[Column]:
    values = [record[name] if name in record else inner(record, name) for record in sample]
    objects = [value for value in values if isinstance(value, Mapping) and value and as_turns(value) is None]
    present = sum(not is_blank(value) for value in values)
    if objects and depth < _DEEPEST and len(objects) * 2 > present:
        keys = dict.fromkeys(key for value in objects for key in list(value)[:50] if isinstance(key, str))
        return [column for key in list(keys)[:50] for column in _expanded(f"{name}.{key}", sample, depth + 1)]
    return [Column(name, tuple(None if is_blank(value) else value for value in values))]
