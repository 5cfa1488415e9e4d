"""From files to what is trained on: read, set aside, render, tokenise, split. Read from top to bottom.

Held-out rows are never trained on: exact duplicates are set aside, and rows with the same prompt fall on one side
wherever the data allow it; `asked_in_training` finds those whose prompt is trained on all the same.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding

from engine.data.dataset import DataSet
from engine.data.mixing import factors, mixed
from engine.data.quality.checks import sets_aside
from engine.data.quality.inspect import set_poor_aside
from engine.data.read import Source
from engine.data.reasons import reason_hint
from engine.data.rows import ASSISTANT, Message, Row, SetAside
from engine.data.scan import keys
from engine.data.splits import held_out_of, held_out_rows
from engine.data.template import ChatTemplate, Rendered, choose_template
from engine.data.tokenizer import TextTokenizer
from engine.protocol.errors import Problem, UserError
from engine.protocol.text import say
from engine.recipe.recipe import DataSettings

# Rows tokenised together: enough to keep all cores busy, few enough to show progress and to keep memory low.
_BATCH = 1024
_COUNTED = 256
_CONTEXT = 64
"""Tokens of the piece before with which a piece of a long row begins, at most."""


@dataclass(frozen=True, slots=True)
class Example:
    """A row as the model will see it.

    Attributes:
        row: the row, with the recipe's system prompt where it has none of its own.
        input_ids: token ids of the whole conversation; empty for a preference.
        learned: per token, whether the loss counts it; as long as ``input_ids``.
        cut: it was longer than the longest length and lost its end.
        whole: tokens that it had before.
        notes: what the template dropped or altered, keys of `engine.data.turns.NOTES`.
        prompt_ids, chosen_ids, rejected_ids: for a preference; the answers end with their end-of-turn token.
    """

    row: Row
    input_ids: list[int]
    learned: list[bool]
    cut: bool = False
    whole: int = 0
    notes: tuple[str, ...] = ()
    prompt_ids: list[int] = field(default_factory=list)
    chosen_ids: list[int] = field(default_factory=list)
    rejected_ids: list[int] = field(default_factory=list)

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


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is trained on, and what is measured with.

    Attributes:
        train, held_out: disjoint.
        set_aside: rows that are in neither, with the reason.
        template, tokenizer: what they were made with.
        sources: the files they came from.
        limit: longest length in tokens that was applied.
    """

    train: Sequence[Example]
    held_out: tuple[Example, ...]
    set_aside: tuple[SetAside, ...]
    template: ChatTemplate
    tokenizer: TextTokenizer
    sources: tuple[Source, ...]
    limit: int


def prepare(
    data: DataSettings,
    *,
    preference: bool,
    model_folder: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Rows of the recipe's files as token ids with what is learned, split into training and held-out rows.

    Args:
        data: the recipe's data section.
        preference: rows must hold preferences (DPO); otherwise conversations are made, of a preference's chosen answer.
        model_folder: whose tokenizer and chat template are used.
        progress: called with (rows done, rows in all).

    Raises:
        UserError: a file cannot be read, the tokenizer or template cannot be used, or no row can be trained on.
    """
    rows = DataSet(data, preference=preference)
    rows.refuse_doubt()
    rows.scan()
    if sets_aside(data.quality):
        set_poor_aside(rows)
    tokenizer = TextTokenizer.load(model_folder)
    template = choose_template(model_folder, data.template, tokenizer=tokenizer)
    limit = longest(data, tokenizer)
    encoder = RowEncoder(template, tokenizer, data, limit)
    set_aside = list(rows.set_aside())
    usable = list(_encoded(encoder, rows, rows.usable, set_aside, progress))
    measured = list(_encoded(encoder, rows, rows.measured, set_aside, progress, before=len(rows.usable)))
    train, held_out = usable, measured
    if not data.held_out_file:
        taken = held_out_of(rows)
        train = [example for example in usable if not taken[example.row.index]]
        held_out = [example for example in usable if taken[example.row.index]]
    if not (held_out or data.held_out_file):
        train, held_out = split(usable, data.held_out, data.seed)  # those that were wanted cannot be used
    train = _mixed(rows, train)
    if data.order == "shortest":
        train.sort(key=lambda example: example.length)
    set_aside.sort(key=lambda item: item.index)
    if not train:
        raise nothing_to_train(data.files, set_aside, rows.count)
    return Prepared(tuple(train), tuple(held_out), tuple(set_aside), template, tokenizer, tuple(rows.sources), limit)


def _mixed(rows: DataSet, train: list[Example]) -> list[Example]:
    """Training rows as often as the recipe wants those of their file."""
    data = rows.data
    files = [rows.place(example.row.index)[0] for example in train]
    weights = {n: own.weight for n, s in enumerate(rows.sources) if (own := data.per_file.get(str(s.path)))}
    often = factors(Counter(files), data.mixing, temperature=data.temperature, weights=weights)
    return mixed(train, files, often, data.seed)


def gather(data: DataSettings, *, preference: bool | None = None) -> DataSet:
    """All rows of the recipe's files, looked at. Arguments and errors as `DataSet`."""
    return DataSet(data, preference=preference).scan()


def _encoded(
    encoder: RowEncoder,
    rows: DataSet,
    wanted: NDArray[np.int64],
    set_aside: list[SetAside],
    progress: Callable[[int, int], None] | None,
    *,
    before: int = 0,
) -> Iterator[Example]:
    """Some rows as token ids; those that cannot be trained on are added to ``set_aside``."""
    total = len(rows.usable) + len(rows.measured)
    tell = None if progress is None else lambda done: progress(before + done, total)
    for item in encoder.encode(rows.rows(wanted), tell):
        if isinstance(item, Example):
            yield item
        else:
            set_aside.append(item)


def longest(data: DataSettings, tokenizer: TextTokenizer) -> int:
    """Longest length in tokens: the recipe's, never more than the model has positions."""
    return min(data.max_length, tokenizer.context_length or data.max_length)


# ------------------------------------------------------------------------------------------------------------ encode
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

    def lengths(self, rows: Iterable[Row]) -> Iterator[tuple[Row, int]]:
        """Tokens of each row, in order and quickly; 0 for a row of which only `encode` can tell what becomes of it.

        One batch is cut into tokens by the library's threads while the next is rendered here.
        """
        left = iter(rows)
        with ThreadPoolExecutor(1) as library:
            before: tuple[list[Row], Future[list[int]]] | None = None
            while batch := list(itertools.islice(left, _COUNTED)):
                texts = [self._plain_text(row) for row in batch]
                asked = library.submit(self.tokenizer.count_batch, texts)
                if before is not None:
                    yield from self._told(*before)
                before = (batch, asked)
            if before is not None:
                yield from self._told(*before)

    def _told(self, rows: list[Row], counts: Future[list[int]]) -> Iterator[tuple[Row, int]]:
        for row, count in zip(rows, counts.result(), strict=True):
            yield row, count if count <= self.limit else 0

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


# ------------------------------------------------------------------------------------------------------------- split
def split(examples: Sequence[Example], share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """(training, held-out) rows, in the files' order.

    Rows with the same prompt fall on one side. Prompts are taken in the order of a hash of seed and text, so that
    adding rows to a file moves few others. Of ten rows or more at least one is held out. Where every prompt has more
    rows than are wanted, the prompt with the fewest is held out whole if three quarters of the rows are left to train
    on; else single rows are taken, and `asked_in_training` counts them.

    Args:
        examples: all usable rows.
        share: 0 to 1; the number held out is rounded to the nearest.
        seed: another seed, another choice.
    """
    found = [keys(example.row) for example in examples]
    taken = held_out_rows(
        np.array([key for key, _ in found], np.uint64), np.array([p for _, p in found], np.uint64), share, seed
    )
    train = [example for example, is_taken in zip(examples, taken, strict=True) if not is_taken]
    return train, [example for example, is_taken in zip(examples, taken, strict=True) if is_taken]


def asked_in_training(train: Iterable[Row], held_out: Iterable[Row]) -> set[int]:
    """Indices of held-out rows whose prompt a training row has too, compared as duplicates are.

    What is measured on such rows flatters the model: it was told an answer to the same question.
    """
    trained = {keys(row)[1] for row in train}
    return {row.index for row in held_out if keys(row)[1] in trained}


# ----------------------------------------------------------------------------------------------------------- nothing
def nothing_to_train(files: Sequence[str], set_aside: Sequence[SetAside], count: int) -> UserError:
    """The error for data of which no row can be trained on, with the reason of each."""
    name = Path(files[0]).name if files else ""
    problems = tuple(
        Problem(f"data.{item.reason}", item.text, reason_hint(item.reason), item.where) for item in set_aside[:1000]
    )
    reason = problems[0].message if problems else say("No row was left.", "没有剩下任何行。")
    return UserError(
        "data.nothing_to_train",
        say(
            "None of the {n} rows of {name} can be trained on.", "{name} 的 {n} 行都不能用于训练。", n=count, name=name
        ),
        say("{reason} (line by line in the list of problems)", "{reason}（逐行原因见问题列表）", reason=reason),
        where=problems[0].where if problems else name,
        problems=problems,
    )
