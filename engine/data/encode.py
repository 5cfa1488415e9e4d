"""Rows as token ids, with what of them is learned: rendered by the template, cut into tokens, cut to length."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tokenizers import Encoding

from engine.data.rows import ASSISTANT, Message, Row, SetAside
from engine.data.template import ChatTemplate, Rendered
from engine.data.tokenizer import TextTokenizer
from engine.protocol.errors import UserError
from engine.protocol.text import say
from engine.recipe.recipe import DataSettings

# Rows tokenised together: enough to keep all cores busy, few enough to show progress and to keep memory low.
_BATCH = 1024
_CONTEXT = 64
"""Tokens of the piece before with which a piece of a long row begins, at most."""


def longest(data: DataSettings, tokenizer: TextTokenizer) -> int:
    """Longest length in tokens: the recipe's, never more than the model has positions."""
    return min(data.max_length, tokenizer.context_length or data.max_length)


@dataclass(frozen=True, slots=True)
class Example:
    """A row as the model will see it.

    Attributes:
        source: the row, with the recipe's system prompt where it has none of its own; or what reads it.
        input_ids: token ids of the whole conversation; empty for a preference.
        learned: per token, whether the loss counts it; as long as ``input_ids``.
        cut: it was longer than the longest length and lost its end.
        whole: tokens that it had before.
        notes: what the template dropped or altered, keys of `engine.data.turns.NOTES`.
        prompt_ids, chosen_ids, rejected_ids: for a preference; the answers end with their end-of-turn token.
    """

    source: Row | RowAt
    input_ids: list[int]
    learned: list[bool]
    cut: bool = False
    whole: int = 0
    notes: tuple[str, ...] = ()
    prompt_ids: list[int] = field(default_factory=list)
    chosen_ids: list[int] = field(default_factory=list)
    rejected_ids: list[int] = field(default_factory=list)

    @property
    def row(self) -> Row:
        """The row; read from its file where it is not in memory. Raises `UserError` where that fails."""
        return self.source if isinstance(self.source, Row) else self.source.read()

    @property
    def index(self) -> int:
        """Number of the row."""
        return self.source.index

    @property
    def length(self) -> int:
        """Tokens of its longest sequence."""
        if self.prompt_ids:
            return len(self.prompt_ids) + max(len(self.chosen_ids), len(self.rejected_ids))
        return len(self.input_ids)

    @property
    def learned_tokens(self) -> int:
        """Tokens that the loss counts."""
        return sum(self.learned) if self.learned else len(self.chosen_ids) + len(self.rejected_ids)


class RowAt(Protocol):
    """A row on the disk, by number."""

    @property
    def index(self) -> int: ...
    def read(self) -> Row: ...


@dataclass(slots=True)
class RowEncoder:
    """Rows to `Example`s.

    Attributes:
        template, tokenizer, data: what to do it with.
        limit: longest length in tokens.
    """

    template: ChatTemplate
    tokenizer: TextTokenizer
    data: DataSettings
    limit: int

    def encode(
        self, rows: Iterable[Row], progress: Callable[[int], None] | None = None
    ) -> Iterator[Example | SetAside]:
        """Each row in order, tokenised or set aside; a row that is split gives several examples.

        Args:
            rows: any number of them.
            progress: called with the number of rows done.
        """
        done, left = 0, iter(rows)
        while batch := list(itertools.islice(left, _BATCH)):
            yield from self._batch(batch)
            done += len(batch)
            if progress is not None:
                progress(done)

    def count(self, rows: Sequence[Row]) -> list[int]:
        """Tokens of each row before cutting, quickly; 0 for one of which only `encode` can tell what becomes of it."""
        return self.tokenizer.count_batch([self._plain_text(row) for row in rows])

    def _plain_text(self, row: Row) -> str:
        """The row's text where it is one conversation of which something is learned, else nothing."""
        if row.chosen is not None:
            return ""
        rendered = self._rendered(row)
        if isinstance(rendered, SetAside) or not (rendered[0].spans or self.data.learn_from == "everything"):
            return ""
        return rendered[0].text

    def _batch(self, rows: Sequence[Row]) -> Iterator[Example | SetAside]:
        rendered: list[tuple[Rendered, ...] | SetAside] = [self._rendered(row) for row in rows]
        texts = [r.text for item in rendered if not isinstance(item, SetAside) for r in item]
        encodings = iter(self.tokenizer.encode_batch(texts))
        for row, item in zip(rows, rendered, strict=True):
            if isinstance(item, SetAside):
                yield item
            elif row.chosen is None:
                yield from self._conversation(row, item[0], next(encodings))
            else:
                yield self._preference(row, item, (next(encodings), next(encodings)))

    def _rendered(self, row: Row) -> tuple[Rendered, ...] | SetAside:
        try:
            return render_row(self.template, row)
        except UserError as error:
            return SetAside(row.index, row.where, "template_refused", error.problem.message)

    def _conversation(self, row: Row, rendered: Rendered, encoding: Encoding) -> Iterator[Example | SetAside]:
        ids = encoding.ids
        everything = self.data.learn_from == "everything"
        learned = [True] * len(ids) if everything else learned_tokens(rendered, encoding)
        whole, over_long = len(ids), self.data.over_long
        if whole <= self.limit:
            yield (
                Example(row, ids, learned, False, whole, rendered.notes) if any(learned) else self._nothing_learned(row)
            )
        elif over_long == "drop":
            yield self._too_long(row, whole)
        elif over_long == "split":
            yield from self._windows(row, ids, learned, rendered.notes)
        else:
            # Without its beginning a row keeps its first token: models are lost where bos is missing.
            kept = slice(0, self.limit) if over_long == "cut" else slice(whole - self.limit, whole)
            ids, learned = ids[kept], learned[kept]
            if over_long == "cut_start":
                ids[0], learned[0] = encoding.ids[0], False
            yield (
                Example(row, ids, learned, True, whole, rendered.notes) if any(learned) else self._cut_away(row, whole)
            )

    def _windows(
        self, row: Row, ids: list[int], learned: list[bool], notes: tuple[str, ...]
    ) -> Iterator[Example | SetAside]:
        """A long row in pieces of the longest length; each begins with the last tokens of the one before, as context.

        Every learned token is learned in exactly one piece.
        """
        context = min(_CONTEXT, self.limit // 8)
        whole = len(ids)
        pieces = start = 0
        while start < whole:
            begin = max(0, start - context)
            end = min(whole, begin + self.limit)
            new = learned[start:end]
            if any(new):
                pieces += 1
                yield Example(row, ids[begin:end], [False] * (start - begin) + new, False, whole, notes)
            start = end
        if not pieces:
            yield self._nothing_learned(row)

    def _preference(
        self, row: Row, rendered: tuple[Rendered, ...], encodings: tuple[Encoding, Encoding]
    ) -> Example | SetAside:
        (prompt, chosen), (other, rejected) = (
            _halves(r, encoding) for r, encoding in zip(rendered, encodings, strict=True)
        )
        # A token that joins the prompt's end with an answer's start would make two prompts of one: what they share
        # counts.
        shared = next((i for i, (a, b) in enumerate(zip(prompt, other, strict=False)) if a != b), None)
        if shared is None:
            shared = min(len(prompt), len(other))
        chosen, rejected, prompt = prompt[shared:] + chosen, other[shared:] + rejected, prompt[:shared]
        length = len(prompt) + max(len(chosen), len(rejected))
        if length > self.limit:
            if self.data.over_long == "drop":
                return self._too_long(row, length)
            room = self.limit - len(prompt)
            if room <= 0 or chosen[:room] == rejected[:room]:
                return self._cut_away(row, length)
            chosen, rejected = chosen[:room], rejected[:room]
        notes = tuple(dict.fromkeys((*rendered[0].notes, *rendered[1].notes)))
        return Example(row, [], [], length > self.limit, length, notes, prompt, chosen, rejected)

    def _too_long(self, row: Row, length: int) -> SetAside:
        text = say(
            "It has {n} tokens; {limit} is the longest.", "有 {n} 个词元；最多 {limit}。", n=length, limit=self.limit
        )
        return SetAside(row.index, row.where, "too_long", text)

    def _nothing_learned(self, row: Row) -> SetAside:
        text = say("Nothing of it would be learned.", "其中没有任何需要学习的内容。")
        return SetAside(row.index, row.where, "nothing_learned", text)

    def _cut_away(self, row: Row, length: int) -> SetAside:
        text = say(
            "No answer lies within the first {limit} of its {n} tokens.",
            "其 {n} 个词元的前 {limit} 个中没有回答。",
            n=length,
            limit=self.limit,
        )
        return SetAside(row.index, row.where, "answer_cut_away", text)


def render_row(template: ChatTemplate, row: Row) -> tuple[Rendered, ...]:
    """The row's texts: one conversation, or prompt with chosen and prompt with rejected answer.

    Raises:
        UserError: the template refuses it.
    """
    if row.text is not None:
        return (template.render_text(row.text),)
    if row.chosen is None:
        return (template.render(row.messages, tools=row.tools),)
    answers = (row.chosen, row.rejected or "")
    return tuple(template.render((*row.messages, Message(ASSISTANT, answer)), tools=row.tools) for answer in answers)


def learned_tokens(rendered: Rendered, encoding: Encoding) -> list[bool]:
    """Per token whether it lies in a learned span: the tokens from the one that holds a span's first character to the
    one that holds its last, as transformers' ``return_assistant_tokens_mask`` counts them."""
    learned = [False] * len(encoding.ids)
    for start, end in rendered.spans:
        first, stop = _token_range(encoding, start, end, len(rendered.text))
        learned[first:stop] = [True] * (stop - first)
    return learned


def _token_range(encoding: Encoding, start: int, end: int, length: int) -> tuple[int, int]:
    """(first, one past the last) token of the characters from ``start`` to ``end``."""
    if end <= start:
        return 0, 0
    first, last = encoding.char_to_token(start), encoding.char_to_token(end - 1)
    after = encoding.char_to_token(end) if end < length else len(encoding.ids)
    if first is not None and last is not None and after is not None:
        return first, max(after, last + 1)
    # A normaliser dropped one of these characters (spaces at an end): look for the tokens that overlap.
    inside = [i for i, (a, b) in enumerate(encoding.offsets) if a < end and b > start]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)


def _halves(rendered: Rendered, encoding: Encoding) -> tuple[list[int], list[int]]:
    """(tokens before the last answer, tokens of it up to the end of its turn)."""
    if not rendered.spans:
        return encoding.ids, []
    start, end = rendered.spans[-1]
    first, stop = _token_range(encoding, start, end, len(rendered.text))
    return encoding.ids[:first], encoding.ids[first:stop]
