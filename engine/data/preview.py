"""What the Data page asks of a session process: rows by the page, one row token by token, lengths, what is set aside.

All answers are plain dicts, ready for JSON; texts for people are ``{"en", "zh"}``.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Encoding

from engine.data.check import length_problems, percentiles, row_problems, text_problems
from engine.data.prepare import (
    Example,
    RowEncoder,
    asked_in_training,
    gather,
    learned_tokens,
    longest,
    render_row,
    split,
)
from engine.data.registry import SHAPES
from engine.data.rows import HINTS, REASONS, Row, SetAside, set_aside_to_plain
from engine.data.template import ChatTemplate, Rendered, choose_template
from engine.data.templates import TEMPLATES
from engine.data.tokenizer import TextTokenizer
from engine.protocol.errors import Problem, UserError
from engine.protocol.text import Text, say
from engine.recipe.recipe import DataSettings

_CLIP = 400
_CHUNK = 1024


@dataclass(frozen=True, slots=True)
class _Measure:
    """A row's length in tokens before cutting, its learned tokens, and whether it is cut."""

    length: int
    learned: int
    cut: bool


class DataView:
    """Rows of a recipe's files, as the Data page shows them.

    Args:
        data: the recipe's data section.
        model_folder: whose tokenizer and template are used; None estimates lengths from the number of characters and
            shows words for tokens.
        preference: as in `engine.data.prepare.prepare`; None takes what the files are.

    Raises:
        UserError: as `engine.data.prepare.gather` and `engine.data.template.choose_template` do.
    """

    def __init__(self, data: DataSettings, model_folder: Path | None = None, *, preference: bool | None = None) -> None:
        self.data = data
        self._gathered = gather(data, preference=preference)
        self._set_aside = {item.index: item for item in self._gathered.set_aside}
        self._own_held_out = {row.index for row in self._gathered.held_out}
        self._usable = {row.index: row for row in (*self._gathered.rows, *self._gathered.held_out)}
        self._measures: dict[int, _Measure] = {}
        self._refused = 0
        self._held_out: set[int] | None = None
        self._asked_twice: set[int] | None = None
        self._encoder: RowEncoder | None = None
        if model_folder is not None:
            tokenizer = TextTokenizer.load(model_folder)
            template = choose_template(model_folder, data.template, tokenizer=tokenizer)
            self._encoder = RowEncoder(template, tokenizer, data, longest(data, tokenizer))

    # ----------------------------------------------------------------------------------------------------- measuring
    @property
    def estimate(self) -> bool:
        """Lengths are estimated from characters: there is no model."""
        return self._encoder is None

    @property
    def limit(self) -> int:
        """Longest length in tokens."""
        return self.data.max_length if self._encoder is None else self._encoder.limit

    @property
    def measured(self) -> bool:
        """Whether every usable row's length is known."""
        return len(self._measures) + self._refused >= len(self._usable)

    def measure(self, rows: int | None = None, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
        """Measure the next ``rows`` rows, all that are left when None.

        Returns:
            ``done`` and ``total``: usable rows measured, and in all.
        """
        left = [row for index, row in self._usable.items() if self._unmeasured(index)][:rows]
        for start in range(0, len(left), _CHUNK):
            self._measure(left[start : start + _CHUNK])
            if progress is not None:
                progress(len(self._measures) + self._refused, len(self._usable))
        return {"done": len(self._measures) + self._refused, "total": len(self._usable)}

    def _measure(self, rows: Sequence[Row]) -> None:
        if self._encoder is None:
            for row in rows:
                length = _estimated(row)
                learned = _estimated_tokens(row.answer)
                self._measures[row.index] = _Measure(length, learned, length > self.limit)
            return
        for item in self._encoder.encode(rows):
            if isinstance(item, SetAside):
                self._set_aside[item.index] = item
                self._refused += 1
            else:
                self._measures[item.row.index] = _Measure(item.whole, item.learned_tokens, item.cut)

    def _held_out_rows(self) -> set[int]:
        """Indices of held-out rows; known once all rows are measured."""
        if self._own_held_out or not self.measured:
            return self._own_held_out
        if self._held_out is None:
            usable = [Example(row, [], []) for index, row in self._usable.items() if index in self._measures]
            self._held_out = {e.row.index for e in split(usable, self.data.held_out, self.data.seed)[1]}
        return self._held_out

    def _in_training(self) -> set[int]:
        """Indices of held-out rows whose prompt is trained on too; known once all rows are measured."""
        if not self.measured:
            return set()
        if self._asked_twice is None:
            held_out = self._held_out_rows()
            used = [row for index, row in self._usable.items() if index in self._measures]
            train = (row for row in used if row.index not in held_out)
            self._asked_twice = asked_in_training(train, (row for row in used if row.index in held_out))
        return self._asked_twice

    # --------------------------------------------------------------------------------------------------------- facts
    def facts(self) -> dict[str, Any]:
        """What the files are, and how their rows stand.

        Returns:
            ``files`` (per file: ``path``, ``name``, ``bytes``, ``sha256``, ``format``, ``encoding``, ``shape``,
            ``shape_label``, ``confidence``, ``columns``, ``mapping``, ``rows``), ``roles`` (of the first file's shape:
            ``name``, ``label``, ``required``), ``preference``, ``total``, ``trainable``, ``held_out``,
            ``in_training`` (held-out rows whose prompt a training row has too), ``cut``, ``set_aside`` (reason →
            count), ``reasons`` (reason → label), ``problems``, ``template`` (``name``, ``reason``; None without a
            model), ``estimate``, ``measured``, ``limit``.
        """
        roles = self._gathered.sources[0].shape.roles
        return {
            "files": [self._file_facts(i) for i in range(len(self._gathered.sources))],
            "roles": [{"name": r.name, "label": _plain(r.label), "required": r.required} for r in roles],
            "preference": self._gathered.preference,
            "total": self.total,
            "trainable": len(self._usable) - self._refused,
            "held_out": len(self._held_out_rows()),
            "in_training": len(self._in_training()),
            "cut": sum(measure.cut for measure in self._measures.values()),
            "set_aside": dict(Counter(item.reason for item in self._set_aside.values()).most_common()),
            "reasons": {reason: _plain(label) for reason, label in REASONS.items()},
            "problems": [_problem(p) for p in self._problems()],
            "template": self._template_facts(),
            "estimate": self.estimate,
            "measured": self.measured,
            "limit": self.limit,
        }

    def _file_facts(self, number: int) -> dict[str, Any]:
        source = self._gathered.sources[number]
        return {
            "path": str(source.path),
            "name": source.path.name,
            "bytes": source.bytes,
            "sha256": source.sha256,
            "format": source.format,
            "encoding": source.encoding,
            "shape": source.shape.name,
            "shape_label": _plain(source.shape.label),
            "confidence": source.confidence,
            "columns": list(source.columns),
            "mapping": dict(source.mapping),
            "rows": source.count,
        }

    def _template_facts(self) -> dict[str, Any] | None:
        if self._encoder is None:
            return None
        template = self._encoder.template
        return {"name": template.name, "reason": _plain(template.reason)}

    def _problems(self) -> list[Problem]:
        cut = sum(measure.cut for measure in self._measures.values())
        lengths = [] if self._encoder is None else length_problems(self._encoder, cut)
        return [*self._gathered.problems, *lengths, *self._odd_texts]

    @cached_property
    def _odd_texts(self) -> list[Problem]:
        rows = self._gathered.rows
        return row_problems(rows) + ([] if self._encoder is None else text_problems(self._encoder, rows))

    @staticmethod
    def shapes() -> list[dict[str, Any]]:
        """The shapes that a person can choose: ``name``, ``label``, ``summary``, ``roles``."""
        return [
            {
                "name": shape.name,
                "label": _plain(shape.label),
                "summary": _plain(shape.summary),
                "roles": [{"name": r.name, "label": _plain(r.label), "required": r.required} for r in shape.roles],
            }
            for shape in SHAPES.values()
        ]

    # ---------------------------------------------------------------------------------------------------------- rows
    @property
    def total(self) -> int:
        """Rows in all files, set-aside ones counted."""
        return len(self._gathered.items)

    def page(self, start: int, count: int, *, status: str = "") -> dict[str, Any]:
        """Some rows in the files' order.

        Args:
            start, count: which of them.
            status: only rows of this status (``ready``, ``cut``, ``held_out``, ``in_training``, ``set_aside``) or set
                aside for this reason; all when empty.

        Returns:
            ``total`` (rows of that status), ``start``, ``rows``: ``index``, ``where``, ``question``, ``answer``
            (clipped to 400 characters), ``tokens`` (None for a row set aside), ``status``, ``reason``, ``reason_text``,
            ``hint``.
        """
        every = range(self.total)
        held_out = self._held_out_rows()
        wanted = every if not status else [i for i in every if status in self._status(i, held_out)]
        shown = list(wanted[start : start + count])
        self._measure([self._usable[i] for i in shown if self._unmeasured(i)])
        held_out = self._held_out_rows()
        return {"total": len(wanted), "start": start, "rows": [self._line(i, held_out) for i in shown]}

    def _unmeasured(self, index: int) -> bool:
        return index in self._usable and index not in self._measures and index not in self._set_aside

    def _status(self, index: int, held_out: set[int]) -> tuple[str, ...]:
        """A row's status, and for a row set aside its reason."""
        if index in self._set_aside:
            return "set_aside", self._set_aside[index].reason
        measure = self._measures.get(index)
        if index in held_out:
            also = {"cut": measure is not None and measure.cut, "in_training": index in self._in_training()}
            return ("held_out", *(name for name, is_so in also.items() if is_so))
        return ("cut",) if measure is not None and measure.cut else ("ready",)

    def _line(self, index: int, held_out: set[int]) -> dict[str, Any]:
        item = self._gathered.items[index]
        measure, aside = self._measures.get(index), self._set_aside.get(index)
        return {
            "index": index,
            "where": item.where,
            "question": item.question[:_CLIP] if isinstance(item, Row) else "",
            "answer": item.answer[:_CLIP] if isinstance(item, Row) else "",
            "tokens": None if measure is None else measure.length,
            "status": self._status(index, held_out)[0],
            "reason": aside.reason if aside else "",
            "reason_text": _plain(aside.text) if aside else None,
            "hint": _plain(HINTS[aside.reason]) if aside else None,
        }

    def row(self, index: int) -> dict[str, Any]:
        """One row as the model will see it.

        Returns:
            what `page` tells of it, unclipped; ``messages`` (``role``, ``content``), ``chosen``, ``rejected``;
            ``pieces`` in order, whose ``text`` joined is the rendered text, each with ``learned``, ``special``, ``cut``
            (beyond the longest length) and ``ids``; ``rejected_pieces`` likewise (None without a preference);
            ``length`` (uncut), ``learned_tokens``, ``limit``, ``cut``, ``estimate``. A row that cannot be read has no
            pieces.

        Raises:
            IndexError: there is no such row.
        """
        item = self._gathered.items[index]
        if self._unmeasured(index):
            self._measure([self._usable[index]])
        found = self._line(index, self._held_out_rows())
        if isinstance(item, SetAside):
            return found | {"messages": [], "chosen": None, "rejected": None} | self._shown(None, [], None)
        return (
            found
            | {"question": item.question, "answer": item.answer}
            | {"messages": [{"role": m.role, "content": m.content} for m in item.messages]}
            | {"chosen": item.chosen, "rejected": item.rejected}
            | self._shown(item, *self._rendered(item))
        )

    def _shown(
        self, row: Row | None, pieces: list[dict[str, Any]], rejected: list[dict[str, Any]] | None
    ) -> dict[str, Any]:
        sides = [side for side in (pieces, rejected) if side is not None]
        if self.estimate:
            length, learned = (_estimated(row), _estimated_tokens(row.answer)) if row is not None else (0, 0)
        else:
            length = max(sum(len(p["ids"]) for p in side) for side in sides)
            learned = sum(len(p["ids"]) for side in sides for p in side if p["learned"] and not p["cut"])
        return {
            "pieces": pieces,
            "rejected_pieces": rejected,
            "length": length,
            "learned_tokens": learned,
            "limit": self.limit,
            "cut": length > self.limit,
            "estimate": self.estimate,
        }

    def _rendered(self, row: Row) -> tuple[list[dict[str, Any]], list[dict[str, Any]] | None]:
        template = _WORDS if self._encoder is None else self._encoder.template
        try:
            texts = render_row(template, row)
        except UserError:
            return [], None
        pieces = [self._pieces(text) for text in texts]
        return pieces[0], (pieces[1] if len(pieces) > 1 else None)

    def _pieces(self, rendered: Rendered) -> list[dict[str, Any]]:
        whole = self.data.learn_from == "everything"
        if self._encoder is None:
            return _word_pieces(rendered, self.limit, everything=whole)
        tokenizer = self._encoder.tokenizer
        encoding = tokenizer.encode_batch([rendered.text])[0]
        learned = [True] * len(encoding.ids) if whole else learned_tokens(rendered, encoding)
        return token_pieces(rendered.text, encoding, learned, tokenizer.special_ids, self.limit)

    # ------------------------------------------------------------------------------------------------------- lengths
    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each row measured so far, before cutting."""
        return tuple(measure.length for measure in self._measures.values())

    @property
    def learned_share(self) -> float:
        """Share of the measured rows' tokens that the loss counts, 0 to 1."""
        measures = self._measures.values()
        kept = sum(min(measure.length, self.limit) for measure in measures)
        return min(1.0, sum(measure.learned for measure in measures) / kept) if kept else 1.0

    def histogram(self, bins: int = 24) -> dict[str, Any]:
        """How long the rows measured so far are; `measure` measures them all.

        Returns:
            ``edges`` (bins + 1 lengths in tokens), ``counts`` (rows from one edge to the next, the last one included),
            ``median``, ``p95``, ``longest``, ``limit``, ``rows`` (measured), ``measured`` (all are), ``estimate``.
        """
        lengths = [measure.length for measure in self._measures.values()]
        width = max(1, math.ceil(max(lengths, default=1) / bins))
        counts = Counter(min(bins - 1, (length - 1) // width) for length in lengths if length > 0)
        return {
            "edges": [i * width for i in range(bins + 1)],
            "counts": [counts[i] for i in range(bins)],
            **percentiles(lengths),
            "limit": self.limit,
            "rows": len(lengths),
            "measured": self.measured,
            "estimate": self.estimate,
        }

    def set_aside(self, start: int = 0, count: int = 1000) -> dict[str, Any]:
        """Rows set aside: ``total``, ``counts`` (by reason), ``rows`` (``index``, ``where``, ``reason``, ``text``)."""
        items = [self._set_aside[index] for index in sorted(self._set_aside)]
        return {
            "total": len(items),
            "counts": dict(Counter(item.reason for item in items).most_common()),
            "rows": [set_aside_to_plain(item) for item in items[start : start + count]],
        }


# ------------------------------------------------------------------------------------------------------------ pieces
def token_pieces(
    text: str, encoding: Encoding, learned: Sequence[bool], special_ids: frozenset[int], limit: int
) -> list[dict[str, Any]]:
    """A text cut where its tokens are, for display; the pieces' texts joined are the text.

    Tokens that share a character (its bytes) are one piece; characters that a normaliser drops are pieces without ids.
    """
    pieces: list[dict[str, Any]] = []
    cursor = 0
    for i, (number, (start, end)) in enumerate(zip(encoding.ids, encoding.offsets, strict=True)):
        if start > cursor:
            pieces.append(_piece(text[cursor:start], learned=False, special=False, cut=i >= limit, ids=[]))
            cursor = start
        if pieces and end <= cursor and pieces[-1]["ids"]:
            pieces[-1]["ids"].append(number)
            pieces[-1]["learned"] = pieces[-1]["learned"] or learned[i]
            continue
        special = number in special_ids
        pieces.append(_piece(text[cursor:end], learned=learned[i], special=special, cut=i >= limit, ids=[number]))
        cursor = max(cursor, end)
    if cursor < len(text):
        pieces.append(_piece(text[cursor:], learned=False, special=False, cut=len(encoding.ids) >= limit, ids=[]))
    return pieces


def _piece(text: str, *, learned: bool, special: bool, cut: bool, ids: list[int]) -> dict[str, Any]:
    return {"text": text, "learned": learned, "special": special, "cut": cut, "ids": ids}


# Without a model there are no tokens to show; turns are shown as ChatML writes them, and words stand for tokens.
_WORDS = ChatTemplate(
    "chatml",
    TEMPLATES["chatml"].source,
    say("There is no model yet.", "尚未选择模型。"),
    specials=frozenset(TEMPLATES["chatml"].tokens),
)
_WORD = re.compile(r"<\|im_(?:start|end)\|>|[\u3040-\u9fff\uac00-\ud7a3]|\s*[^\s\u3040-\u9fff\uac00-\ud7a3<]+|\s+|<")


def _word_pieces(rendered: Rendered, limit: int, *, everything: bool) -> list[dict[str, Any]]:
    """A text cut into words and East Asian characters, learned where a span says so."""
    pieces: list[dict[str, Any]] = []
    length = 0
    edges = sorted({0, len(rendered.text), *(edge for span in rendered.spans for edge in span)})
    for start, end in itertools.pairwise(edges):
        learned = everything or (start, end) in rendered.spans
        for found in _WORD.finditer(rendered.text[start:end]):
            word = found.group()
            special = word in _WORDS.specials
            pieces.append(_piece(word, learned=learned, special=special, cut=length >= 4 * limit, ids=[]))
            length += 4 if _DENSE.match(word) else len(word)
    return pieces


def _estimated(row: Row) -> int:
    """Estimated tokens of a row, four for each turn's marks."""
    answers = max(_estimated_tokens(row.chosen or ""), _estimated_tokens(row.rejected or ""))
    return sum(_estimated_tokens(m.content) + 4 for m in row.messages) + answers


def _estimated_tokens(text: str) -> int:
    """A token for each four characters of Latin text (OpenAI's rule of thumb), and for each East Asian character."""
    dense = len(_DENSE.findall(text))
    return math.ceil((len(text) - dense) / 4) + dense


_DENSE = re.compile(r"[\u3040-\u9fff\uac00-\ud7a3]")


def _plain(text: Text) -> dict[str, str]:
    return {"en": text.en, "zh": text.zh}


def _problem(problem: Problem) -> dict[str, Any]:
    return {
        "code": problem.code,
        "message": _plain(problem.message),
        "hint": _plain(problem.hint),
        "where": problem.where,
    }
