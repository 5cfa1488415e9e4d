"""All rows of a recipe's files by number: which can be used, and why the others are set aside.

Rows stay on the disk; a few numbers of each are kept, so that data sets of any size are gone through the same way.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data import hub_data
from engine.data.decisions import Decision, Decisions, edited, record_key, set_aside_by_hand
from engine.data.declare import BadRow
from engine.data.formats import Record
from engine.data.making import Making, Piece, as_example
from engine.data.quality.checks import BY_NAME
from engine.data.read import Source, open_source
from engine.data.repeats import places_of, repeats
from engine.data.rows import Message, Row, SetAside
from engine.data.scan import CODE, CODES, Progress, convert, keys, reasons
from engine.data.splits import held_out_of, lots_of
from engine.protocol.errors import Problem, UserError
from engine.protocol.text import Text, say
from engine.recipe.recipe import DataSettings

_PIECE = 2048
_LOOKED_AT = 64
"""For each example so many rows are looked at, at most."""


class DataSet:
    """Rows of a recipe's files.

    Args:
        data: the recipe's data section.
        preference: rows must hold preferences (DPO); else conversations are made, of a preference's better answer;
            None takes what the files are.

    Attributes:
        data, preference: as given, or found.
        sources: the files, those of general data behind the others, the held-out file last.
        decisions: what a person decided about single rows.
        examples: turns that stand before each question; none unless the recipe wants some.
        codes: why each row is set aside, shape (rows,): an index into `engine.data.scan.CODES`, 0 for a usable row.

    Raises:
        UserError: there is no file, one cannot be read, or the shapes do not go together.
    """

    codes: NDArray[np.uint8]
    examples: tuple[Message, ...]

    def __init__(self, data: DataSettings, *, preference: bool | None = None) -> None:
        if not data.files:
            raise _no_file()
        self.data = data
        found = hub_data.found(data.files)
        general = hub_data.found(data.general).files if data.general else []
        general = [path for path in general if path not in found.files]
        self._problems = found.problems
        self.sources = [self._open(path) for path in (*found.files, *general)]
        self._own, self._trained = len(found.files), len(self.sources)
        if data.held_out_file:
            name = data.held_out_file
            measured = hub_data.fetched(name) if hub_data.is_hub_data(name) else [Path(name)]
            self.sources += [self._open(path) for path in measured]
        if preference is None:
            preference = all(source.shape.preference for source in self.sources)
        self.preference = preference
        for source in self.sources:
            if preference and not source.shape.preference:
                raise _not_preference(source)
            source.as_conversation = not preference
        self.decisions = Decisions.load(data.decisions)
        self._decided = [self.decisions.of(str(source.path)) for source in self.sources]
        self.examples = ()
        self.is_scanned = False

    def _open(self, path: Path) -> Source:
        own = hub_data.settings_of(self.data, path)
        return open_source(
            path,
            encoding=own.encoding if own is not None and own.encoding else self.data.encoding,
            shape=own.shape if own is not None and own.shape else self.data.shape,
            mapping=own.mapping if own is not None and own.mapping else self.data.mapping,
        )

    def refuse_doubt(self) -> None:
        """Raise `UserError` where it is not clear what a file's columns mean, and nobody said it."""
        for source in self.sources:
            if source.guess.certainty == "ask":
                raise _doubtful(source)

    # ---------------------------------------------------------------------------------------------------------- scan
    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(source.bytes for source in self.sources)

    def scan(self, progress: Progress | None = None) -> DataSet:
        """Look at every row: find what cannot be used, duplicates, and what the held-out file holds too.

        Args:
            progress: called with (bytes done, bytes in all); what it raises ends the scan.
        """
        before = 0
        for source in self.sources:
            source.scan(None if progress is None else partial(_tell, progress, before, source.bytes, self.bytes))
            before += source.bytes
        counts = [source.count for source in self.sources]
        self._starts = np.cumsum([0, *counts])
        self._judge()
        self.is_scanned = True
        return self

    def _judge(self) -> None:
        """Find out which rows can be used, from what the scan found and what a person decided."""
        self.codes = np.concatenate([source.facts["code"] for source in self.sources])
        self._edited: dict[int, tuple[int, int]] = {}
        self._apply_decisions()
        self._set_duplicates_aside()
        self._is_candidate = self.codes[: int(self._starts[self._own])] == 0
        self.examples = ()
        if self.data.few_shot:
            self._choose_examples()

    def _choose_examples(self) -> None:
        """Take rows by lot that stand before each question: single questions with their answer, none held out."""
        own = len(self._is_candidate)
        free = np.flatnonzero((self.codes[:own] == 0) & ~held_out_of(self)[:own])
        lots = lots_of(self.keys[free], self.data.seed)
        found: dict[int, Sequence[Message]] = {}
        for index in free[np.argsort(lots)[: _LOOKED_AT * self.data.few_shot]].tolist():
            if len(found) == self.data.few_shot:
                break
            row = self.item(index)
            if isinstance(row, Row) and (shown := as_example(row)):
                found[index] = shown
        self.codes[list(found)] = CODE["example"]
        self.examples = tuple(itertools.chain.from_iterable(found.values()))

    def take(self, data: DataSettings) -> None:
        """Go on with other settings that ask for the same rows of the same files."""
        self.data = data
        if self.is_scanned:
            self._judge()

    def set_poor_aside(self, found: Mapping[str, NDArray[np.int64]]) -> None:
        """Set rows aside for their quality: check → numbers of rows. What a person took back stays."""
        kept = self._kept_by_hand()
        for check, rows in found.items():
            self.codes[np.setdiff1d(rows[self.codes[rows] == 0], kept, True)] = CODE[check]

    # ----------------------------------------------------------------------------------------------------- decisions
    def decide(self, index: int, *, column: str = "", value: Any = None, aside: bool | None = None) -> None:
        """Change a cell of a row, set it aside or take it back, and write that down where the recipe says.

        Args:
            index: the row.
            column, value: the cell, "" for none, and what is to stand there.
            aside: True sets the row aside, False takes it back, None does neither.

        Raises:
            UserError: the recipe names no file for decisions, or the disk does not take it.
        """
        number, row = self.place(index)
        source = self.sources[number]
        was = record_key(source.record(row).value)
        self.decisions.items.append(Decision(str(source.path), row, was, column, value, aside))
        self._decided_anew()

    def undo(self) -> int | None:
        """Take the last decision back; gives its row, None where there is none. Raises as `decide`."""
        if not self.decisions.items:
            return None
        last = self.decisions.items.pop()
        self._decided_anew()
        number = next((i for i, source in enumerate(self.sources) if str(source.path) == last.file), None)
        return None if number is None else int(self._starts[number]) + last.row

    def _decided_anew(self) -> None:
        if not self.data.decisions:
            raise _no_decisions()
        self.decisions.save(Path(self.data.decisions))
        self.decisions.problems.clear()
        self._decided = [self.decisions.of(str(source.path)) for source in self.sources]
        self._judge()

    def decided(self, index: int) -> Sequence[Decision]:
        """What was decided about a row, in order."""
        number, row = self.place(index)
        return self._decided[number].get(row, ())

    @property
    def count(self) -> int:
        """Rows in all files."""
        return int(self._starts[-1])

    @property
    def measured_from(self) -> int:
        """Number of the held-out file's first row; `count` without such a file."""
        return int(self._starts[self._trained])

    @property
    def general(self) -> range:
        """Numbers of the sources that hold general data."""
        return range(self._own, self._trained)

    @property
    def general_from(self) -> int:
        """Number of the first row of general data; `measured_from` without such data."""
        return int(self._starts[self._own])

    @property
    def candidates(self) -> NDArray[np.int64]:
        """Numbers of the data files' rows (general data left out) that were usable before their quality was looked at,
        rising: of these some are held out, whatever becomes of the others."""
        return np.flatnonzero(self._is_candidate)

    @property
    def keys(self) -> NDArray[np.uint64]:
        """Fingerprint of all that each row teaches, shape (rows,)."""
        return self._fingerprints("key", 0)

    @property
    def prompts(self) -> NDArray[np.uint64]:
        """Fingerprint of what each row asks, shape (rows,)."""
        return self._fingerprints("prompt", 1)

    def _fingerprints(self, name: str, place: int) -> NDArray[np.uint64]:
        found = self.column(name)
        if self._edited:
            found = np.array(found)
            found[list(self._edited)] = [made[place] for made in self._edited.values()]
        return found

    def _apply_decisions(self) -> None:
        for number, (source, decided) in enumerate(zip(self.sources, self._decided, strict=True)):
            for row, items in decided.items():
                record = source.record(row) if row < source.count else None
                if record is None or record_key(record.value) != items[0].was:
                    self.decisions.problems.append(_not_applied(source, row))
                else:
                    self._decide(int(self._starts[number]) + row, source, record, items)

    def _decide(self, index: int, source: Source, record: Record, items: Sequence[Decision]) -> None:
        self.codes[index] = CODE["by_hand"] if set_aside_by_hand(items) else 0
        try:
            found = convert(edited(record, items), source.shape, source.mapping)
        except BadRow as bad:
            self.codes[index] = CODE[bad.reason]
            return
        self._edited[index] = keys(found)

    def _set_duplicates_aside(self) -> None:
        """Of rows that teach the same only the first is used; and none that the held-out file asks too."""
        kept = self._kept_by_hand()
        keys = self.keys
        usable = self.codes == 0
        found = [repeats(keys, usable, *of) for of in ((0, self.measured_from), (self.measured_from, self.count))]
        again, twins = (np.concatenate(part) for part in zip(*found, strict=True))
        is_aside = ~np.isin(again, kept)
        again, twins = again[is_aside], twins[is_aside]
        self.codes[again] = CODE["duplicate"]
        if self.measured_from < self.count:
            asked, measured = self._asked_too(kept)
            self.codes[asked] = CODE["in_held_out"]
            again, twins = np.concatenate([again, asked]), np.concatenate([twins, measured])
        order = np.argsort(again)
        self._again, self._twins = again[order], twins[order]

    def _asked_too(self, kept: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Usable training rows that ask what a row of the held-out file asks, and the first such row of each."""
        measured, train = self.measured, self.usable
        prompts = self.prompts
        asked, first = np.unique(prompts[measured], return_index=True)
        place = places_of(prompts[train], asked)
        is_asked = (place >= 0) & ~np.isin(train, kept)
        return train[is_asked], measured[first[place[is_asked]]]

    def _twin(self, index: int) -> int:
        """The row that a duplicate is the same as; -1 where there is none."""
        place = int(np.searchsorted(self._again, index))
        return int(self._twins[place]) if place < len(self._again) and self._again[place] == index else -1

    def _kept_by_hand(self) -> NDArray[np.int64]:
        found = [
            int(start) + row
            for start, decided in zip(self._starts, self._decided, strict=False)
            for row, items in decided.items()
            if set_aside_by_hand(items) is False
        ]
        return np.array(found, dtype=np.int64)

    # ---------------------------------------------------------------------------------------------------------- rows
    def place(self, index: int) -> tuple[int, int]:
        """(number of the source, row in it) of a row. Raises `IndexError` when there is no such row."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        source = int(np.searchsorted(self._starts, index, side="right")) - 1
        return source, index - int(self._starts[source])

    def files_of(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of the source of each of some rows, shape (indices,)."""
        return np.asarray(np.searchsorted(self._starts, indices, side="right") - 1)

    def item(self, index: int) -> Row | SetAside:
        """One row, shaped as the recipe wants it, or why it is set aside."""
        number, row = self.place(index)
        return self._item(index, number, self.sources[number].record(row))

    def record(self, index: int) -> Record:
        """One record as it is read: with cells that a person changed."""
        number, row = self.place(index)
        return edited(self.sources[number].record(row), self._decided[number].get(row, ()))

    def records(self, indices: NDArray[np.int64]) -> Iterator[Record]:
        """Records of some rows (rising), with cells that a person changed."""
        return (record for piece in self.pieces(indices) for _, record in piece.records())

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Row | SetAside]:
        """Rows in order, set-aside ones too, from ``start`` up to ``stop``."""
        stop = self.count if stop is None else min(stop, self.count)
        while start < stop:
            number, row = self.place(start)
            end = min(stop, int(self._starts[number + 1]))
            records = self.sources[number].records(row, row + end - start)
            for index, record in zip(range(start, end), records, strict=True):
                yield self._item(index, number, record)
            start = end

    def rows(self, indices: NDArray[np.int64] | None = None) -> Iterator[Row]:
        """Usable rows in order; those of ``indices`` (rising) where given."""
        for piece in self.pieces(np.flatnonzero(self.codes == 0) if indices is None else indices):
            for item in piece.items():
                assert isinstance(item, Row), item
                yield item

    def pieces(self, indices: NDArray[np.int64], *, most: int = _PIECE) -> Iterator[Piece]:
        """Some rows (rising) in pieces of at most ``most`` rows, each of one file."""
        bounds = np.searchsorted(indices, self._starts)
        for number, (begin, end) in enumerate(itertools.pairwise(bounds.tolist())):
            start, at, decided = int(self._starts[number]), begin, self._decided[number]
            making = self._making(number)
            for extract in self.sources[number].extracts(indices[begin:end] - start, most=most):
                chosen = indices[at : at + len(extract.begins)]
                at += len(chosen)
                own = {i: decided[i - start] for i in chosen.tolist() if i - start in decided} if decided else {}
                yield Piece(chosen, extract, making, own)

    def _making(self, number: int) -> Making:
        source = self.sources[number]
        own = hub_data.settings_of(self.data, source.path)
        prefix = own.prefix if own is not None else ""
        shape, mapping = source.shape.name, source.mapping
        return Making(source.path.name, shape, mapping, prefix, self.data, self.preference, self.examples)

    def _item(self, index: int, number: int, record: Record) -> Row | SetAside:
        source = self.sources[number]
        items = self._decided[number].get(index - int(self._starts[number]), ())
        where = f"{source.path.name}:{record.line}"
        code = CODES[self.codes[index]]
        if code in _TOLD:
            twin = self._twin(index)
            return SetAside(index, where, code, say(*_TOLD[code], where=self.where(twin) if twin >= 0 else ""))
        shaped = source.shaped(index, edited(record, items))
        if isinstance(shaped, SetAside):
            return shaped
        if code in BY_NAME:
            return SetAside(index, where, code, BY_NAME[code].label)
        if code:
            return SetAside(index, where, code, _DISLIKED)
        return self._making(number).wished(shaped)

    def seen(self, index: int) -> Row | None:
        """A row as it would be trained on, also where it is set aside; None where it cannot be read."""
        number, _ = self.place(index)
        shaped = self.sources[number].shaped(index, self.record(index))
        return self._making(number).wished(shaped) if isinstance(shaped, Row) else None

    def first_items(self) -> list[Row | SetAside]:
        """The first rows of each file, there before any scan; numbered as they stand here."""
        found: list[Row | SetAside] = []
        for number, source in enumerate(self.sources):
            for item in source.first_rows():
                if isinstance(item, Row):
                    item = self._making(number).wished(item)
                found.append(replace(item, index=len(found)))
        return found

    def where(self, index: int) -> str:
        """ "file:line" of a row."""
        number, row = self.place(index)
        source = self.sources[number]
        return f"{source.path.name}:{int(source.facts['line'][row])}"

    def column(self, name: str) -> NDArray[Any]:
        """One of `engine.data.scan.COLUMNS` of all rows, shape (rows,)."""
        found = [source.facts[name] for source in self.sources]
        return found[0] if len(found) == 1 else np.concatenate(found)

    # ------------------------------------------------------------------------------------------------------- set aside
    @property
    def usable(self) -> NDArray[np.int64]:
        """Numbers of the usable rows of the training files, rising."""
        return np.flatnonzero(self.codes[: self.measured_from] == 0)

    @property
    def measured(self) -> NDArray[np.int64]:
        """Numbers of the usable rows of the held-out file, rising."""
        return np.flatnonzero(self.codes[self.measured_from :] == 0) + self.measured_from

    def set_aside(self, most: int | None = None) -> Iterator[SetAside]:
        """Rows that are set aside, in order; the first ``most`` of each reason."""
        seen: Counter[int] = Counter()
        for index in np.flatnonzero(self.codes).tolist():
            code = int(self.codes[index])
            seen[code] += 1
            if most is None or seen[code] <= most:
                item = self.item(index)
                if isinstance(item, SetAside):
                    yield item

    def reasons(self) -> dict[str, int]:
        """Reason → rows set aside for it, the most frequent first."""
        return reasons(self.codes)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with files as a whole."""
        of_files = (problem for source in self.sources for problem in source.problems)
        wanted = self.data.few_shot if self.is_scanned else 0
        few = [_few_examples(len(self.examples) // 2, wanted)] if len(self.examples) < 2 * wanted else []
        return (*self._problems, *of_files, *self.decisions.problems, *few)


def _tell(progress: Progress, before: int, own: int, total: int, done: int, of: int) -> None:
    """Progress of one file as that of all."""
    progress(before + int(own * done / max(1, of)), total)


_TOLD = {
    "duplicate": ("It is the same as {where}.", "与 {where} 相同。"),
    "in_held_out": ("{where} of the held-out file asks the same.", "留出文件的 {where} 有相同的提问。"),
    "by_hand": ("You set it aside.", "由你搁置。"),
    "example": ("It stands before each question as an example.", "它作为示例出现在每个提问之前。"),
}
_DISLIKED: Text = say("It is marked as an answer to avoid.", "该回答被标记为不好。")


def _no_file() -> UserError:
    return UserError(
        "data.no_file",
        say("The recipe names no data file.", "配方没有指定数据文件。"),
        say("Set data.files.", "请设置 data.files。"),
        where="data.files",
    )


def _doubtful(source: Source) -> UserError:
    mapping = " ".join(f'--map {role}="{column}"' for role, column in source.mapping.items())
    return UserError(
        "data.ask",
        say(
            "What the columns of {name} mean is not clear: {why}",
            "{name} 各列的含义不明确：{why}",
            name=source.path.name,
            why=source.guess.why,
        ),
        say(
            "Say it on the Data page, or with --shape {shape} {mapping} if that is right.",
            "请在“数据”页指定；若如此正确，也可加上 --shape {shape} {mapping}。",
            shape=source.shape.name,
            mapping=mapping,
        ),
        where="data.mapping",
    )


def _no_decisions() -> UserError:
    return UserError(
        "data.decisions",
        say("The recipe names no file for decisions about rows.", "配方没有指定保存单行决定的文件。"),
        say("Set data.decisions.", "请设置 data.decisions。"),
        where="data.decisions",
    )


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


def _few_examples(count: int, wanted: int) -> Problem:
    return Problem(
        "data.few_shot",
        say(
            "{n} of {wanted} examples stand before each question: no other row is one question with its answer.",
            "每个提问之前只有 {n} 个示例（要求 {wanted} 个）：没有其他由单个提问和回答组成的行。",
            n=count,
            wanted=wanted,
        ),
        say("Ask for fewer, or for none.", "请减少示例数量，或设为 0。"),
        "data.few_shot",
    )


def _not_applied(source: Source, row: int) -> Problem:
    return Problem(
        "data.decisions",
        say(
            "What was decided about row {n} of {name} is not applied: the file holds another row there now.",
            "对 {name} 第 {n} 行的决定未生效：文件该处已是另一行。",
            n=row + 1,
            name=source.path.name,
        ),
        say("Look at the row and decide again.", "请查看该行并重新决定。"),
        source.path.name,
    )
