"""From files to what is trained on: read, set aside, render, tokenise, split. Read from top to bottom.

Held-out rows are never trained on: exact duplicates are set aside, and rows with the same prompt fall on one side
wherever the data allow it; `asked_in_training` finds those whose prompt is trained on all the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tokenizers import Encoding

from engine.data.read import Source, open_source
from engine.data.rows import ASSISTANT, HINTS, SYSTEM, Message, Row, SetAside
from engine.data.template import ChatTemplate, Rendered, choose_template
from engine.data.tokenizer import TextTokenizer
from engine.protocol.errors import Problem, UserError
from engine.protocol.text import say
from engine.recipe.recipe import DataSettings

# Rows tokenised together: enough to keep all cores busy, few enough to show progress and to keep memory low.
_BATCH = 1024
_FEWEST_TO_SPLIT = 10
# Where every prompt has more rows than are wanted, one whole prompt is held out if it leaves this share for training.
_LEAST_TRAINED = 0.75


@dataclass(frozen=True, slots=True)
class Example:
    """A row as the model will see it.

    Attributes:
        row: the row, with the recipe's system prompt where it has none of its own.
        input_ids: token ids of the whole conversation; empty for a preference.
        learned: per token, whether the loss counts it; as long as ``input_ids``.
        cut: it was longer than the longest length and lost its end.
        whole: tokens that it had before.
        prompt_ids, chosen_ids, rejected_ids: for a preference; the answers end with their end-of-turn token.
    """

    row: Row
    input_ids: list[int]
    learned: list[bool]
    cut: bool = False
    whole: int = 0
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
class Gathered:
    """Rows of all files.

    Attributes:
        rows: usable rows, duplicates set aside.
        held_out: rows of the held-out file; empty without one.
        set_aside: rows that are not used, with the reason.
        items: every row in order, also those that are set aside for being in the data twice.
        sources: the files, the held-out file last.
        preference: rows hold preferences.
    """

    rows: tuple[Row, ...]
    held_out: tuple[Row, ...]
    set_aside: tuple[SetAside, ...]
    items: tuple[Row | SetAside, ...]
    sources: tuple[Source, ...]
    preference: bool

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with files as a whole."""
        return tuple(problem for source in self.sources for problem in source.problems)

    @property
    def count(self) -> int:
        """Rows in all files."""
        return sum(source.count for source in self.sources)


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

    train: tuple[Example, ...]
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
    gathered = gather(data, preference=preference)
    tokenizer = TextTokenizer.load(model_folder)
    template = choose_template(model_folder, data.template, tokenizer=tokenizer)
    limit = longest(data, tokenizer)
    encoder = RowEncoder(template, tokenizer, data, limit)
    done = list(encoder.encode((*gathered.rows, *gathered.held_out), progress))
    usable = [item for item in done if isinstance(item, Example)]
    set_aside = sorted(
        (*gathered.set_aside, *(item for item in done if isinstance(item, SetAside))), key=lambda item: item.index
    )
    if gathered.held_out:
        measured = {row.index for row in gathered.held_out}
        train = [e for e in usable if e.row.index not in measured]
        held_out = [e for e in usable if e.row.index in measured]
    else:
        train, held_out = split(usable, data.held_out, data.seed)
    if not train:
        raise nothing_to_train(data.files, set_aside, gathered.count)
    return Prepared(tuple(train), tuple(held_out), tuple(set_aside), template, tokenizer, gathered.sources, limit)


def longest(data: DataSettings, tokenizer: TextTokenizer) -> int:
    """Longest length in tokens: the recipe's, never more than the model has positions."""
    return min(data.max_length, tokenizer.context_length or data.max_length)


# ------------------------------------------------------------------------------------------------------------ gather
def gather(data: DataSettings, *, preference: bool | None = None) -> Gathered:
    """All rows of the recipe's files; duplicates, and training rows that the held-out file holds too, set aside.

    Args:
        data: the recipe's data section.
        preference: as in `prepare`; None takes what the files are.

    Raises:
        UserError: there is no file, one cannot be read, or the shapes do not go together.
    """
    if not data.files:
        raise UserError(
            "data.no_file",
            say("The recipe names no data file.", "配方没有指定数据文件。"),
            say("Set data.files.", "请设置 data.files。"),
            where="data.files",
        )
    sources = [_open(name, data) for name in data.files]
    measured = [_open(data.held_out_file, data)] if data.held_out_file else []
    if preference is None:
        preference = all(source.shape.preference for source in sources + measured)
    for source in sources + measured:
        if preference and not source.shape.preference:
            raise _not_preference(source)
    offset = sum(source.count for source in sources)
    items = list(_rows((*sources, *measured), data, preference))
    set_aside: list[SetAside] = []
    held_out = _keep(items[offset:], set_aside)
    rows = _keep(items[:offset], set_aside)
    if held_out:
        rows = list(_without_measured(rows, held_out, set_aside))
    set_aside.sort(key=lambda item: item.index)
    return Gathered(tuple(rows), tuple(held_out), tuple(set_aside), tuple(items), (*sources, *measured), preference)


def _open(name: str, data: DataSettings) -> Source:
    return open_source(name, encoding=data.encoding, shape=data.shape, mapping=data.mapping)


def _not_preference(source: Source) -> UserError:
    return UserError(
        "data.not_preference",
        say("{name} holds no chosen and rejected answers.", "{name} 中没有优选与劣选回答。", name=source.path.name),
        say(
            "Choose the objective SFT, or a file with the columns prompt, chosen and rejected.",
            "请选择 SFT 目标，或含 prompt、chosen、rejected 列的文件。",
        ),
        where=f"{source.path.name}:1",
    )


def _rows(sources: Iterable[Source], data: DataSettings, preference: bool) -> Iterator[Row | SetAside]:
    """Rows of several files with running numbers, as conversations or preferences, with the recipe's system prompt."""
    index = 0
    for source in sources:
        for item in source.rows():
            if isinstance(item, Row):
                item = _shaped(item, data, preference)
            yield replace(item, index=index)
            index += 1


def _shaped(row: Row, data: DataSettings, preference: bool) -> Row:
    messages = row.messages
    if row.chosen is not None and not preference:
        messages = (*messages, Message(ASSISTANT, row.chosen))
        row = replace(row, chosen=None, rejected=None)
    if data.system and not (messages and messages[0].role == SYSTEM):
        messages = (Message(SYSTEM, data.system), *messages)
    if data.learn_from == "last_answer":
        last = len(messages) - 1
        messages = tuple(
            replace(m, learned=False) if m.role == ASSISTANT and i != last else m for i, m in enumerate(messages)
        )
    return row if messages is row.messages else replace(row, messages=messages)


def _keep(items: Iterable[Row | SetAside], set_aside: list[SetAside]) -> list[Row]:
    """The usable rows, each conversation once; the others are added to ``set_aside``."""
    first: dict[bytes, str] = {}
    rows: list[Row] = []
    for item in items:
        if isinstance(item, SetAside):
            set_aside.append(item)
            continue
        key = _key(item.messages, item.chosen, item.rejected)
        if key in first:
            text = say("It is the same as {where}.", "与 {where} 相同。", where=first[key])
            set_aside.append(SetAside(item.index, item.where, "duplicate", text))
            continue
        first[key] = item.where
        rows.append(item)
    return rows


def _key(messages: Sequence[Message], *answers: str | None) -> bytes:
    # U+0000 and U+0001 stand in no text file, so that no two conversations join to the same string.
    turns = "\0".join([f"{m.role}\1{m.content}" for m in messages])
    whole = "\0".join((turns, *(answer for answer in answers if answer is not None)))
    return hashlib.blake2b(whole.encode("utf-8"), digest_size=16).digest()


def _without_measured(rows: list[Row], held_out: list[Row], set_aside: list[SetAside]) -> Iterator[Row]:
    """Rows whose prompt the held-out file does not ask."""
    asked = {_key(row.prompt): row.where for row in held_out}
    for row in rows:
        where = asked.get(_key(row.prompt))
        if where is None:
            yield row
        else:
            text = say("{where} of the held-out file asks the same.", "留出文件的 {where} 有相同的提问。", where=where)
            set_aside.append(SetAside(row.index, row.where, "in_held_out", text))


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
        self, rows: Sequence[Row], progress: Callable[[int, int], None] | None = None
    ) -> Iterator[Example | SetAside]:
        """Each row in order, tokenised or set aside."""
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            yield from self._batch(batch)
            if progress is not None:
                progress(start + len(batch), len(rows))

    def _batch(self, rows: Sequence[Row]) -> Iterator[Example | SetAside]:
        rendered: list[tuple[Rendered, ...] | SetAside] = [self._rendered(row) for row in rows]
        texts = [r.text for item in rendered if not isinstance(item, SetAside) for r in item]
        encodings = iter(self.tokenizer.encode_batch(texts))
        for row, item in zip(rows, rendered, strict=True):
            if isinstance(item, SetAside):
                yield item
            elif row.chosen is None:
                yield self._conversation(row, item[0], next(encodings))
            else:
                yield self._preference(row, item, (next(encodings), next(encodings)))

    def _rendered(self, row: Row) -> tuple[Rendered, ...] | SetAside:
        try:
            return render_row(self.template, row)
        except UserError as error:
            return SetAside(row.index, row.where, "template_refused", error.problem.message)

    def _conversation(self, row: Row, rendered: Rendered, encoding: Encoding) -> Example | SetAside:
        ids = encoding.ids
        everything = self.data.learn_from == "everything"
        learned = [True] * len(ids) if everything else learned_tokens(rendered, encoding)
        if len(ids) <= self.limit:
            return Example(row, ids, learned, whole=len(ids)) if any(learned) else self._cut_away(row, len(ids))
        if self.data.over_long == "drop":
            return self._too_long(row, len(ids))
        whole, ids, learned = len(ids), ids[: self.limit], learned[: self.limit]
        return Example(row, ids, learned, True, whole) if any(learned) else self._cut_away(row, whole)

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
        return Example(row, [], [], length > self.limit, length, prompt, chosen, rejected)

    def _too_long(self, row: Row, length: int) -> SetAside:
        text = say(
            "It has {n} tokens; {limit} is the longest.", "有 {n} 个词元；最多 {limit}。", n=length, limit=self.limit
        )
        return SetAside(row.index, row.where, "too_long", text)

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
    if row.chosen is None:
        return (template.render(row.messages),)
    answers = (row.chosen, row.rejected or "")
    return tuple(template.render((*row.messages, Message(ASSISTANT, answer))) for answer in answers)


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
    wanted = round(len(examples) * share)
    if share > 0 and len(examples) >= _FEWEST_TO_SPLIT:
        wanted = max(1, wanted)
    if wanted == 0:
        return list(examples), []
    groups: dict[bytes, list[int]] = {}
    for i, example in enumerate(examples):
        groups.setdefault(_key(example.row.prompt), []).append(i)
    taken = _take(groups, wanted, seed) or _smallest(groups, int(len(examples) * (1 - _LEAST_TRAINED)), seed)
    if not taken:
        single = {_key(e.row.messages, e.row.chosen, e.row.rejected): [i] for i, e in enumerate(examples)}
        taken = _take(single, wanted, seed)
    train = [e for i, e in enumerate(examples) if i not in taken]
    return train, [e for i, e in enumerate(examples) if i in taken]


def asked_in_training(train: Iterable[Row], held_out: Iterable[Row]) -> set[int]:
    """Indices of held-out rows whose prompt a training row has too, compared as duplicates are.

    What is measured on such rows flatters the model: it was told an answer to the same question.
    """
    trained = {_key(row.prompt) for row in train}
    return {row.index for row in held_out if _key(row.prompt) in trained}


def _take(groups: dict[bytes, list[int]], wanted: int, seed: int) -> set[int]:
    taken: set[int] = set()
    for key in sorted(groups, key=lambda k: _lot(k, seed)):
        if len(taken) + len(groups[key]) <= wanted:
            taken.update(groups[key])
    return taken


def _smallest(groups: dict[bytes, list[int]], most: int, seed: int) -> set[int]:
    """The group with the fewest rows, nothing where it has more than ``most``."""
    key = min(groups, key=lambda k: (len(groups[k]), _lot(k, seed)))
    return set(groups[key]) if len(groups[key]) <= most else set()


def _lot(key: bytes, seed: int) -> bytes:
    """Where a group stands in the order in which groups are taken."""
    return hashlib.blake2b(key, digest_size=16, salt=str(seed).encode("ascii")[-16:]).digest()


# ----------------------------------------------------------------------------------------------------------- nothing
def nothing_to_train(files: Sequence[str], set_aside: Sequence[SetAside], count: int) -> UserError:
    """The error for data of which no row can be trained on, with the reason of each."""
    name = Path(files[0]).name if files else ""
    problems = tuple(
        Problem(f"data.{item.reason}", item.text, HINTS[item.reason], item.where) for item in set_aside[:1000]
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
