"""From files to what is trained on: read, set aside, render, tokenise, split, mix. Read from top to bottom.

Held-out rows are never trained on: exact duplicates are set aside, and rows with the same prompt fall on one side
wherever the data allow it. Rows lie on the disk, before and after they are tokenised.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.data.dataset import DataSet
from engine.data.encode import RowEncoder, longest
from engine.data.mixing import factors_of, mixed
from engine.data.quality.checks import sets_aside
from engine.data.quality.inspect import set_poor_aside
from engine.data.read import Source
from engine.data.reasons import reason_hint
from engine.data.rows import Message, SetAside
from engine.data.splits import held_out_of, held_out_rows
from engine.data.template import ChatTemplate, choose_template
from engine.data.token_store import Examples, tokenised
from engine.data.tokenizer import TextTokenizer
from engine.protocol.errors import Problem, UserError
from engine.protocol.text import say
from engine.recipe.recipe import DataSettings


class RowsAside(Iterable[SetAside]):
    """Rows that are set aside, in order; found anew whenever they are gone through, for there may be millions.

    Args:
        parts: how many, and what gives them in order.
    """

    def __init__(self, *parts: tuple[int, Callable[[], Iterable[SetAside]]]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return sum(count for count, _ in self._parts)

    def __iter__(self) -> Iterator[SetAside]:
        return heapq.merge(*(read() for _, read in self._parts), key=lambda item: item.index)

    def joined(self, count: int, read: Callable[[], Iterable[SetAside]]) -> RowsAside:
        """These and ``count`` more, which ``read`` gives in order."""
        return RowsAside(*self._parts, (count, read))


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is trained on, and what is measured with.

    Attributes:
        train, held_out: disjoint; a training row may be there several times.
        set_aside: rows that are in neither, with the reason.
        template, tokenizer: what they were made with.
        sources: the files they came from.
        limit: longest length in tokens that was applied.
        examples: turns that stand before each question.
        general_from: number of the first row of general data, where there are such.
    """

    train: Examples
    held_out: Examples
    set_aside: RowsAside
    template: ChatTemplate
    tokenizer: TextTokenizer
    sources: tuple[Source, ...]
    limit: int
    examples: tuple[Message, ...] = ()
    general_from: int | None = None


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
    store = tokenised(rows, RowEncoder(template, tokenizer, data, limit), progress)
    aside = int(np.count_nonzero(rows.codes))
    set_aside = RowsAside((aside, rows.set_aside), (store.set_aside_count, store.set_aside))

    of = store.rows
    is_own = of < rows.measured_from
    is_held_out = held_out_of(rows)[of]
    if not (is_held_out.any() or data.held_out_file):  # those that were wanted cannot be used
        is_held_out = held_out_rows(rows.prompts[of], data.held_out, data.seed, rows=lambda: rows.keys[of])
    train, held_out = store.all().taken(is_own & ~is_held_out), store.all().taken(is_held_out)
    if not len(train):
        raise nothing_to_train(data.files, set_aside, rows.count)
    train = _mixed(rows, train)
    if data.order == "shortest":
        train = train.taken(np.argsort(train.lengths, kind="stable"))
    return Prepared(
        train,
        held_out,
        set_aside,
        template,
        tokenizer,
        tuple(rows.sources),
        limit,
        rows.examples,
        rows.general_from if data.general else None,
    )


def _mixed(rows: DataSet, train: Examples) -> Examples:
    """Training rows as often as the recipe wants those of their file."""
    files = rows.files_of(train.rows)
    counts = dict(enumerate(np.bincount(files, minlength=len(rows.sources)).tolist()))
    often = factors_of(rows.data, [source.path for source in rows.sources], counts, rows.general)
    return train.taken(mixed(files, often, rows.data.seed))


def gather(data: DataSettings, *, preference: bool | None = None) -> DataSet:
    """All rows of the recipe's files, looked at. Arguments and errors as `DataSet`."""
    return DataSet(data, preference=preference).scan()


def nothing_to_train(files: Sequence[str], set_aside: Iterable[SetAside], count: int) -> UserError:
    """The error for data of which no row can be trained on, with the reason of each."""
    name = Path(files[0]).name if files else ""
    problems = tuple(
        Problem(f"data.{item.reason}", item.text, reason_hint(item.reason), item.where)
        for item in itertools.islice(set_aside, 1000)
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
