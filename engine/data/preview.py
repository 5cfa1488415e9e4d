"""What the Data page asks of a session process: rows by the page, one row token by token, lengths, what is set aside.

All answers are plain dicts, ready for JSON; texts for people are ``{"en", "zh"}``.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import math
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding

from engine.data import hub_data
from engine.data.check import OddTexts, length_problems, unasked_problems
from engine.data.dataset import DataSet
from engine.data.decisions import Decision
from engine.data.declare import Role
from engine.data.encode import RowEncoder, learned_tokens, longest, render_row
from engine.data.formats import Record
from engine.data.hub_names import shown_name
from engine.data.lengths import LengthEstimate, percentiles
from engine.data.measured import CUTS, NO_LIMIT, Measured
from engine.data.mixing import factors_of, rows_seen
from engine.data.quality.checks import BY_NAME
from engine.data.quality.inspect import inspect
from engine.data.quality.language import LANGUAGES
from engine.data.quality.report import Report
from engine.data.quality.style import STYLES
from engine.data.quality.tasks import TASKS, task_of
from engine.data.read import SMALL
from engine.data.reasons import reason_hint
from engine.data.registry import SHAPES
from engine.data.repeats import asked_too, parts
from engine.data.rows import ASSISTANT, REASONS, Row, SetAside, message_to_plain, set_aside_to_plain
from engine.data.scan import CODE, CODES, TURN_TOKENS, Progress, estimated_tokens, reasons, row_texts
from engine.data.scored import RowScores
from engine.data.splits import held_out_of
from engine.data.template import ChatTemplate, Rendered, choose_template
from engine.data.templates import TEMPLATES
from engine.data.tokenise import counted
from engine.data.tokenizer import TextTokenizer
from engine.data.turns import NOTES
from engine.protocol.errors import Problem, UserError
from engine.protocol.text import Text, say
from engine.recipe.quality import QualitySettings
from engine.recipe.recipe import DataSettings

_CLIP = 400
_FIRST_WORDS = 60
_CHUNK = 2048
_CLOSELY = 4096
"""Of so many rows it is found how much is learned; of the others only the length."""
_LOOKED_AT = 5000
"""Rows whose texts are searched for what is odd when data are opened."""
_SPARSE = 8
_BATCH = 128
"""Rows that are tokenised together."""
_TELLING = 200
"""Rows that tell what kinds of task there are."""
_POLITE = 16
"""Rows after which something slow lets others go first."""


class DataView:
    """Rows of a recipe's files, as the Data page shows them.

    Small files are looked at whole when they are opened; of large ones only the first rows are known until `scan`.

    Args:
        data: the recipe's data section.
        model_folder: whose tokenizer and template are used; None estimates lengths from the number of characters and
            shows words for tokens.
        preference: as in `engine.data.prepare.prepare`; None takes what the files are.
        rows: what `rows_for` gave.
        known: the view that gave them: what it found out and other settings leave true is kept.

    Attributes:
        pause: called every few rows while something slow is done, to let what somebody waits for go first.

    Raises:
        UserError: as `engine.data.dataset.DataSet` and `engine.data.template.choose_template` do.
    """

    def __init__(
        self,
        data: DataSettings,
        model_folder: Path | None = None,
        *,
        preference: bool | None = None,
        rows: DataSet | None = None,
        known: DataView | None = None,
    ) -> None:
        self.data, self._preference = data, preference
        self.pause: Callable[[], object] = _go_on
        self._lock = threading.Lock()
        self._rows = rows if rows is not None else DataSet(data, preference=preference)
        self._stamp = _stamp(self._rows)
        self._encoder: RowEncoder | None = None
        self._tokens_by: tuple[Any, ...] = ()
        if model_folder is not None:
            tokenizer = TextTokenizer.load(model_folder)
            template = choose_template(model_folder, data.template, tokenizer=tokenizer)
            self._encoder = RowEncoder(template, tokenizer, data, longest(data, tokenizer))
            self._tokens_by = (model_folder, template.sources, _stamps(model_folder.glob("*token*.json")))
        self._found: NDArray[np.int64] | None = None
        self._first_known: list[int] | None = None
        self.scores: RowScores | None = None
        self._report: Report | None = None
        self._kinds: dict[bool, dict[str, int]] = {}
        if self._rows.is_scanned or self._rows.bytes <= SMALL:
            self.scan()
        if known is not None and self.is_scanned:
            self._keep(known)

    def rows_for(self, data: DataSettings, preference: bool | None) -> DataSet | None:
        """The rows as they are known, where other settings ask for the same ones of the same files; else None."""
        same = all(getattr(data, name) == getattr(self.data, name) for name in _ROWS_BY)
        is_alike = preference in (self._rows.preference, self._preference)
        if not (same and self.is_scanned and is_alike):
            return None
        try:
            files = hub_data.found(data.files).files
        except UserError:
            return None
        own = [source.path for source in self._rows.sources][: len(files)]
        if list(files) != own or _stamp(self._rows) != self._stamp:
            return None
        self._rows.take(data)
        return self._rows

    def refuse_doubt(self) -> None:
        """Raise `UserError` where it is not clear what a file's columns mean, and nobody said it."""
        self._rows.refuse_doubt()

    # --------------------------------------------------------------------------------------------------- every row
    @property
    def is_scanned(self) -> bool:
        """Whether every row was looked at."""
        return self._rows.is_scanned

    def scan(self, progress: Progress | None = None) -> None:
        """Look at every row; ``progress`` is called with (bytes done, bytes in all), what it raises ends it."""
        if not self._rows.is_scanned:
            self._rows.scan(progress)
        self._report = self._found = None
        self._begin()

    def _begin(self) -> None:
        """Nothing is known yet of the rows but what the scan found."""
        rows = self._rows
        self._measured = Measured(rows.count, preference=rows.preference)
        self._estimate: LengthEstimate | None = None
        self._examples = rows.examples
        if self._encoder is None:
            for some in parts(self._wanted):
                self._lengths[some] = np.maximum(1, rows.column("tokens")[some].astype(np.int32))
        self._judge()

    def _judge(self) -> None:
        """Find out from what is known which rows can be trained on, and which must still be measured for it."""
        rows = self._rows
        self._why: dict[int, Text] = {}
        self._held_out: NDArray[np.bool_] | None = None
        self._odd: list[Problem] | None = None
        with self._lock:
            self._codes = rows.codes.copy()
            self._left = self._total = 0
            for some in parts(self._wanted):
                self._codes[some] = self._limited(some)
                self._left += int(self._unmeasured(some).sum())
                self._total += len(some)

    @property
    def _wanted(self) -> NDArray[np.int64]:
        """Numbers of the rows that can be used as far as their texts go, rising."""
        return np.flatnonzero(self._rows.codes == 0)

    def _limited(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Why each of some rows is set aside, as far as it is known."""
        found = self._rows.codes[indices]
        if self._encoder is None:
            return found
        return np.where(found == 0, self._measured.codes(indices, self.limit, self.data.over_long), found)

    def follow_limit(self, data: DataSettings) -> None:
        """Take other settings of how long a row may be and what becomes of longer ones.

        Nothing is tokenised again; rows that were only counted and are too long now wait for the next `measure`.
        """
        self.data = self._rows.data = data
        if self._encoder is not None:
            self._encoder = replace(self._encoder, data=data, limit=longest(data, self._encoder.tokenizer))
        if self.is_scanned:
            self._judge_again()

    def _keep(self, known: DataView) -> None:
        """Keep what another view found out about the same rows."""
        before, now = dict(known.data), dict(self.data)
        others = {name for name in now if now[name] != before[name]}
        is_shown_alike = self._examples == known._examples
        if self._tokens_by == known._tokens_by and others <= _NOT_OF_TOKENS and is_shown_alike:
            self._measured, self._estimate = known._measured, known._estimate
        if known._report is not None and others <= _NOT_OF_TEXTS:
            self._report = known._report
            self._set_poor_aside()
        self._judge()

    # ----------------------------------------------------------------------------------------------------- decisions
    def decide(self, index: int, *, column: str = "", value: Any = None, aside: bool | None = None) -> None:
        """Change a cell, set a row aside or take it back. Arguments and errors as `DataSet.decide`."""
        self._require_all()
        self._rows.decide(index, column=column, value=value, aside=aside)
        self._decided_about(index)

    @property
    def decisions(self) -> int:
        """How many decisions about rows there are: so many can be undone."""
        return len(self._rows.decisions.items)

    def undo(self) -> dict[str, Any] | None:
        """Take the last decision back.

        Returns:
            what it was: ``row`` (None for one of a file that is not open), ``column`` ("" for none), ``aside``; None
            where there is none.
        """
        self._require_all()
        items = self._rows.decisions.items
        if not items:
            return None
        last = items[-1]
        index = self._rows.undo()
        if index is not None:
            self._decided_about(index)
        return {"row": index, "column": last.column, "aside": last.aside}

    def _require_all(self) -> None:
        """Raise `UserError` while only the first rows are known."""
        if not self.is_scanned:
            raise UserError(
                "data.not_all_read",
                say("Not all rows are read yet.", "尚未读完所有数据行。"),
                say("Wait until they are, and try again.", "请等待读取完成后重试。"),
            )

    def _decided_about(self, changed: int) -> None:
        """What is known of all rows but one stays; unless that one is shown before the others as an example."""
        if self._rows.examples != self._examples:
            self._begin()
        else:
            self._measured.forget(changed)
            if self._encoder is None:
                self._lengths[changed] = max(1, int(self._rows.column("tokens")[changed]))
        if self._report is not None:
            self._set_poor_aside()
        self._judge()

    # ------------------------------------------------------------------------------------------------------- quality
    def inspect(self, progress: Progress | None = None) -> None:
        """Look at every usable row's quality, and set aside what the recipe wants to be.

        Raises:
            UserError: the recipe names a check that there is not.
        """
        self._take_poor_back()
        # Rows that are too long are looked at, too: another limit then asks for nothing new.
        usable = self._rows.codes == 0
        if self._held_out is None:
            self._held_out = self._split()
        held_out = np.flatnonzero(self._held_out & usable)
        self._report = inspect(self._rows, np.flatnonzero(usable), held_out, progress)
        self._set_poor_aside()

    def judge(self, quality: QualitySettings) -> bool:
        """Take other quality settings. Gives whether what was found answers them; else `inspect` must look again."""
        before, self.data = self.data.quality, self.data.model_copy(update={"quality": quality})
        self._rows.data = self.data
        self._take_poor_back()
        report, self._report = self._report, None
        if report is None or before.model_copy(update={"actions": quality.actions}) != quality:
            return False
        if not report.act(quality.actions):
            return False
        self._report = report
        self._set_poor_aside()
        return True

    def _take_poor_back(self) -> None:
        """Undo what `_set_poor_aside` did."""
        codes = self._rows.codes
        codes[np.isin(codes, [CODE[check] for check in BY_NAME])] = 0
        self._judge_again()

    def _set_poor_aside(self) -> None:
        assert self._report is not None
        self._rows.set_poor_aside(self._report.set_aside())
        self._judge_again()

    def _judge_again(self) -> None:
        """`_judge`, where the rows that are held out stay the same."""
        held_out, odd = self._held_out, self._odd
        self._judge()
        self._held_out, self._odd = held_out, odd

    @property
    def quality(self) -> dict[str, Any] | None:
        """What `inspect` found, as `Report.to_plain`, each check with ``label``, ``hint`` and ``explain``, those that
        are switched off among them (``rows`` None), and ``names`` of languages, tasks and styles; None before.

        Rows behind a figure are shown by `page` with the status ``check:NAME``, ``language:CODE``, ``task:NAME`` or
        ``style:NAME``.
        """
        if self._report is None:
            return None
        found = self._report.to_plain()
        off = [name for name, action in self.data.quality.actions.items() if action == "off"]
        shown = [name for name in BY_NAME if name in found["checks"] or name in off]
        found["checks"] = {name: _check(name, found["checks"].get(name)) for name in shown}
        names = {"languages": LANGUAGES, "tasks": TASKS, "styles": STYLES}
        found["names"] = {kind: {name: _plain(label) for name, label in of.items()} for kind, of in names.items()}
        return found

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
        return self.is_scanned and self._left == 0

    def measure(self, rows: int | None = None, progress: Progress | None = None) -> dict[str, Any]:
        """Measure the next ``rows`` rows, all that are left when None.

        Returns:
            ``done`` and ``total``: usable rows measured, and in all.
        """
        before = -1
        while self._left and self._left != before:
            before = self._left
            left = self._wanted[self._unmeasured(self._wanted)][:rows]
            for _ in self._measured_in_pieces(left):
                if progress is not None:
                    progress(self._total - self._left, self._total)
            self._left = sum(int(self._unmeasured(some).sum()) for some in parts(self._wanted))
            if rows is not None:
                break
        return {"done": self._total - self._left, "total": self._total}

    def _measured_in_pieces(self, left: NDArray[np.int64]) -> Iterator[None]:
        """Measure rows (rising): of the first ones what is learned too, of the others the length, on all cores."""
        for start in range(0, min(_CLOSELY, len(left)), _CHUNK):
            self._measure(left[start : min(start + _CHUNK, _CLOSELY)])
            yield
        if self._encoder is None or len(left) <= _CLOSELY:
            return
        with contextlib.closing(counted(self._rows, left[_CLOSELY:], self._encoder)) as found:
            for indices, lengths in found:
                self.pause()
                self._lengths[indices] = lengths
                if (unknown := self._unmeasured(indices)).any():
                    self._measure(indices[unknown])
                with self._lock:
                    self._codes[indices] = self._limited(indices)
                    self._left = max(0, self._left - int((~unknown).sum()))
                yield

    @property
    def _lengths(self) -> NDArray[np.int32]:
        """Tokens of each row before cutting, 0 where they are not known, shape (rows,)."""
        return self._measured.whole

    def _unmeasured(self, indices: NDArray[np.int64]) -> NDArray[np.bool_]:
        if self._encoder is None:
            return np.zeros(len(indices), bool)
        unknown = self._measured.unknown(indices, self.limit, self.data.over_long)
        return np.asarray(unknown & (self._codes[indices] == 0))

    def _measure(self, indices: NDArray[np.int64]) -> None:
        """Find the lengths of rows (rising), and what of each is learned."""
        pieces = (piece.items() for piece in self._rows.pieces(indices))
        rows = self._politely(item for item in itertools.chain.from_iterable(pieces) if isinstance(item, Row))
        # Few at a time: while the library cuts a batch on all cores, a page's rows wait for it.
        while batch := list(itertools.islice(rows, _BATCH)):
            for item in self._counter.encode(batch):
                self._measured.take(item)
        with self._lock:
            self._codes[indices] = self._limited(indices)
            self._left = max(0, self._left - len(indices))

    @property
    def _counter(self) -> RowEncoder:
        """An encoder without a limit: what it finds stays true with another one."""
        assert self._encoder is not None
        return replace(self._encoder, limit=NO_LIMIT)

    def _politely(self, rows: Iterable[Row]) -> Iterator[Row]:
        for number, row in enumerate(rows):
            if number % _POLITE == 0:
                self.pause()
            yield row

    def guess_lengths(self) -> None:
        """Measure a sample of the rows, and estimate the others from it; nothing where it was done."""
        if self._estimate is not None or self.measured:
            return
        self._estimate = LengthEstimate.of(self._rows, self._wanted, self._sampled)

    def _sampled(self, indices: NDArray[np.int64]) -> NDArray[np.int32]:
        self._measure(indices[self._unmeasured(indices)])
        return np.asarray(self._lengths[indices])

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Tokens of each usable row before cutting, shape (rows,): measured, or estimated where it is not yet; those of
        the first rows before `scan`."""
        if not self.is_scanned:
            return np.array([length for length in self._first_lengths() if length], dtype=np.int32)
        used = self._used
        found = self._lengths[used]
        if self._estimate is None:
            return np.asarray(found[found > 0])
        unknown = np.flatnonzero(found == 0)
        found[unknown] = self._estimate.lengths(self._rows, used[unknown])
        return np.asarray(found)

    def _first_lengths(self) -> list[int]:
        """Tokens of each of the first rows, 0 of one that cannot be used: there before any scan."""
        if self._first_known is None:
            items = self._rows.first_items()
            rows = [item for item in items if isinstance(item, Row)]
            known = {row.index: _estimated(row) for row in rows}
            if self._encoder is not None:
                counter = self._counter
                counted = list(zip(rows, counter.count(rows), strict=True))
                known |= {row.index: length for row, length in counted if length}
                left = counter.encode(row for row, length in counted if not length)
                known |= {item.row.index: item.whole for item in left if not isinstance(item, SetAside)}
            self._first_known = [known.get(item.index, 0) for item in items]
        return self._first_known

    @property
    def learned_share(self) -> float:
        """Share of the measured rows' tokens that the loss counts, 0 to 1."""
        if not self.is_scanned:
            return 1.0
        if self._encoder is None:
            return self._guessed_share()
        share = self._measured.learned_share(self._used, self.limit, self.data.over_long)
        return 1.0 if share is None else share

    def _guessed_share(self) -> float:
        """Without a model: the answers' share of the first rows."""
        first = self._used[:_CHUNK]
        rows = list(self._rows.rows(first))
        answers = sum(estimated_tokens(row.answer) for row in rows)
        return min(1.0, answers / max(1, int(self._lengths[first].sum()))) if rows else 1.0

    @property
    def kinds(self) -> dict[str, int]:
        """Kind of task, a key of `engine.data.quality.tasks.TASKS` → rows: of all once their texts were checked, before
        of some that lie evenly among them, and of the first ones before `scan`."""
        if self._report is not None:
            return self._report.tasks
        if self.is_scanned not in self._kinds:
            self._kinds[self.is_scanned] = dict(Counter(task_of(row.question, row.answer) for row in self._some()))
        return self._kinds[self.is_scanned]

    def _some(self) -> Iterator[Row]:
        if not self.is_scanned:
            return (item for item in self._rows.first_items() if isinstance(item, Row))
        used = self._used
        return self._rows.rows(used[np.unique(np.linspace(0, len(used) - 1, min(len(used), _TELLING), dtype=np.int64))])

    # ------------------------------------------------------------------------------------------------- who is measured
    @property
    def _used(self) -> NDArray[np.int64]:
        return np.flatnonzero(self._codes == 0)

    @property
    def _is_held_out(self) -> NDArray[np.bool_]:
        """Which rows are held out, shape (rows,)."""
        if self._held_out is None:
            self._held_out = self._split()
        return np.asarray(self._held_out & (self._codes == 0))

    def try_split(self, data: DataSettings) -> dict[str, int]:
        """How many rows would train (``train``), be held out (``held_out``), and be held out though their prompt is
        trained on (``in_training``), with other settings of the split; nothing is changed.

        Raises:
            UserError: as `held_out_of`.
        """
        rows = copy.copy(self._rows)
        rows.data = data
        found = held_out_of(rows)
        _TRIED[self._rows] = (_split_of(data), list(self._rows.decisions.items), found)
        used = self._codes == 0
        if not data.held_out_file:
            used[self._rows.measured_from :] = False
        held, trained = found & used, used & ~found
        asked = asked_too(self._rows.prompts, held, trained)
        return {"train": int(trained.sum()), "held_out": int(held.sum()), "in_training": int(asked.sum())}

    def _split(self) -> NDArray[np.bool_]:
        """`held_out_of`, or what `try_split` found with the same settings: a column's values take long to read."""
        tried = _TRIED.get(self._rows)
        if tried is not None and tried[:2] == (_split_of(self.data), self._rows.decisions.items):
            return tried[2]
        return held_out_of(self._rows)

    @property
    def _is_asked(self) -> NDArray[np.bool_]:
        """Held-out rows whose prompt is trained on too, shape (rows,)."""
        held, used = self._is_held_out, self._codes == 0
        return asked_too(self._rows.prompts, held & used, used & ~held)

    @property
    def _cuts(self) -> bool:
        """Whether rows that are too long lose an end."""
        return self.data.over_long in CUTS

    @property
    def _is_cut(self) -> NDArray[np.bool_]:
        """Rows that lose an end, shape (rows,)."""
        if not self._cuts:
            return np.zeros(self._rows.count, bool)
        return np.asarray((self._lengths > self.limit) & (self._codes == 0))

    @property
    def _is_over(self) -> NDArray[np.bool_]:
        """Rows longer than the limit, whatever becomes of them, shape (rows,); estimated where not yet measured."""
        over = np.asarray((self._lengths > self.limit) & (self._rows.codes == 0))
        if self._estimate is not None:
            unknown = np.flatnonzero((self._lengths == 0) & (self._codes == 0))
            over[unknown] = self._estimate.lengths(self._rows, unknown) > self.limit
        return over

    # --------------------------------------------------------------------------------------------------------- facts
    def facts(self) -> dict[str, Any]:
        """What the files are, and how their rows stand.

        Returns:
            ``files`` (per file: ``path``, ``name``, ``named`` (a data set's name in the recipe), ``shown``, ``bytes``,
            ``format``, ``encoding``, ``shape``, ``shape_label``, ``confidence``, ``certainty`` ("sure", "likely",
            "ask"), ``why``, ``columns``, ``mapping``, ``offers`` (role that names no column → all that it may be),
            ``rows``; when all are looked at also ``trained`` (rows of it), ``seen`` (rows of it in a pass) and
            ``share`` (of the pass), ``general``), ``roles`` (of the first file's shape: ``name``, ``label``,
            ``required``, ``holds`` ("column", "key", "word")), ``preference``, ``scanned`` (every row was looked at;
            else the counts are those of the first rows), ``total``, ``trainable``, ``held_out``, ``in_training``
            (held-out rows whose prompt a training row has too), ``cut``, ``over`` (longer than the limit, whatever
            becomes of them), ``set_aside`` (reason → count), ``reasons`` (reason → label), ``problems``, ``template``
            (``name``, ``reason``; None without a model), ``estimate``, ``measured``, ``error`` (of estimated lengths:
            95 of 100 rows are that near, as a share; None where none are estimated), ``limit``.
        """
        roles = self._rows.sources[0].shape.roles
        return {
            "files": self._files_facts(),
            "roles": [_role(role) for role in roles],
            "preference": self._rows.preference,
            "scanned": self.is_scanned,
            **(self._counts() if self.is_scanned else self._first_counts()),
            "reasons": {reason: _plain(label) for reason, label in _REASONS.items()},
            "problems": [_problem(p) for p in self._problems()],
            "template": self._template_facts(),
            "estimate": self.estimate,
            "measured": self.measured,
            "error": self._estimate.error if self.is_scanned and self._estimate and not self.measured else None,
            "limit": self.limit,
        }

    def _counts(self) -> dict[str, Any]:
        over = int(self._is_over.sum())
        return {
            "total": self._rows.count,
            "trainable": int(np.count_nonzero(self._codes == 0)),
            "held_out": int(self._is_held_out.sum()),
            "in_training": int(self._is_asked.sum()),
            "cut": int((self._is_over & (self._codes == 0)).sum()) if self._cuts else 0,
            "over": over,
            "set_aside": reasons(self._codes),
        }

    def _first_counts(self) -> dict[str, Any]:
        items = self._rows.first_items()
        aside = Counter(item.reason for item in items if isinstance(item, SetAside))
        usable = len(items) - aside.total()
        unknown = {"held_out": 0, "in_training": 0, "cut": 0, "over": 0}
        return {"total": len(items), "trainable": usable, **unknown, "set_aside": dict(aside.most_common())}

    def _files_facts(self) -> list[dict[str, Any]]:
        """What each file is, and what of it a pass over the data shows: `engine.data.mixing` says how often."""
        found = [self._file_facts(number) for number in range(len(self._rows.sources))]
        if not self.is_scanned:
            return found
        starts = np.cumsum([0, *(source.count for source in self._rows.sources)])
        own = int(np.searchsorted(starts, self._rows.measured_from))
        is_trained = (self._codes == 0) & ~self._is_held_out
        counts = [int(is_trained[slice(*of)].sum()) for of in itertools.pairwise(starts[: own + 1].tolist())]
        known = {number: count for number, count in enumerate(counts) if count}
        often = factors_of(self.data, [source.path for source in self._rows.sources], known, self._rows.general)
        seen = {number: rows_seen(count, often[number]) for number, count in known.items()}
        total = max(1, sum(seen.values()))
        for number in range(own):
            shown = seen.get(number, 0)
            found[number] |= {"trained": known.get(number, 0), "seen": shown, "share": shown / total}
            found[number]["general"] = number in self._rows.general
        return found

    @property
    def _hub_names(self) -> dict[Path, str]:
        """Files of data sets of the hub, and how the recipe names these."""
        names = [name for name in (*self.data.files, *self.data.general) if hub_data.is_hub_data(name)]
        return {path: name for name in names for path in hub_data.fetched(name)}

    def _file_facts(self, number: int) -> dict[str, Any]:
        source = self._rows.sources[number]
        return {
            "path": str(source.path),
            "name": source.path.name,
            "named": (named := self._hub_names.get(source.path, "")),
            "shown": shown_name(named) if named else source.path.name,
            "bytes": source.bytes,
            "format": source.format,
            "encoding": source.encoding,
            "shape": source.shape.name,
            "shape_label": _plain(source.shape.label),
            "confidence": source.confidence,
            "certainty": source.guess.certainty,
            "why": _plain(source.guess.why),
            "others": list(source.guess.others),
            "columns": list(source.columns),
            "mapping": dict(source.mapping),
            "offers": {role: list(words) for role, words in source.guess.offers.items()},
            "rows": source.count if self.is_scanned else len(source.head),
        }

    def _template_facts(self) -> dict[str, Any] | None:
        if self._encoder is None:
            return None
        template = self._encoder.template
        return {"name": template.name, "reason": _plain(template.reason)}

    def _problems(self) -> list[Problem]:
        whole = [*self._rows.problems, *unasked_problems(self._rows.sources)]
        if not self.is_scanned:
            return whole
        cut = int(self._is_cut.sum())
        lengths = [] if self._encoder is None else length_problems(self._encoder, cut)
        if self._odd is None:
            odd = OddTexts(self._encoder)
            readable = self._wanted
            for row in self._rows.rows(readable[:_LOOKED_AT]):
                odd.look(row)
            self._odd = odd.problems()
        return [*whole, *lengths, *self._odd]

    @staticmethod
    def shapes() -> list[dict[str, Any]]:
        """The shapes that a person can choose: ``name``, ``label``, ``summary``, ``roles``."""
        return [
            {
                "name": shape.name,
                "label": _plain(shape.label),
                "summary": _plain(shape.summary),
                "roles": [_role(role) for role in shape.roles],
            }
            for shape in SHAPES.values()
        ]

    # ---------------------------------------------------------------------------------------------------------- rows
    @property
    def total(self) -> int:
        """Rows in all files, set-aside ones counted; of the first rows alone before `scan`."""
        return self._rows.count if self.is_scanned else len(self._rows.first_items())

    def page(self, start: int, count: int, *, status: str = "", found: bool = False) -> dict[str, Any]:
        """Some rows in the files' order.

        Args:
            start, count: which of them.
            status: only rows of this status (``ready``, ``cut``, ``over``, ``held_out``, ``in_training``,
                ``set_aside``), set aside for this reason, or behind a figure of `quality`; all when empty.
            found: only rows that the last `find` found.

        Returns:
            ``total`` (rows of that status), ``start``, ``rows``: ``index``, ``where``, ``question``, ``answer``,
            ``rejected`` (each clipped to 400 characters; a tool call is written out), ``liked`` (KTO's mark),
            ``tokens`` (None where they were not counted), ``status``, ``reason``, ``reason_text``, ``hint``.
        """
        if not self.is_scanned:
            return self._first_page(start, count, status, found)
        wanted = self._such(status)
        if found and self._found is not None:
            wanted = np.intersect1d(wanted, self._found)
        shown = wanted[start : start + count]
        order = np.argsort(shown, kind="stable")  # scores put rows in another order than the files
        place, shown = np.argsort(order, kind="stable"), shown[order]
        unmeasured = shown[self._unmeasured(shown)]
        if len(unmeasured):
            self._measure(unmeasured)
        lines = list(self._lines(shown))
        return {"total": len(wanted), "start": start, "rows": [lines[at] for at in place.tolist()]}

    def _first_page(self, start: int, count: int, status: str, found: bool) -> dict[str, Any]:
        """`page` before `scan`."""
        items, lengths = self._rows.first_items(), self._first_lengths()
        lines = [_first(item, lengths[item.index]) for item in items]
        for line in lines:
            if self._cuts and lengths[line["index"]] > self.limit:
                line["status"] = "cut"
        if found and self._found is not None:
            lines = [lines[index] for index in self._found.tolist()]
        if status:
            lines = [line for line in lines if status in (line["status"], line["reason"])]
        return {"total": len(lines), "start": start, "rows": lines[start : start + count]}

    def _such(self, status: str) -> NDArray[np.int64]:
        """Numbers of the rows of a status, or set aside for a reason, rising."""
        used = self._codes == 0
        kind, _, name = status.partition(":")
        if name:
            return self._behind(kind, name)
        if not status:
            return np.arange(len(used))
        known: dict[str, Callable[[], NDArray[np.bool_]]] = {
            "ready": lambda: used & ~self._is_held_out & ~self._is_cut,
            "held_out": lambda: self._is_held_out,
            "set_aside": lambda: ~used,
            "cut": lambda: self._is_cut,
            "over": lambda: self._is_over,
            "in_training": lambda: self._is_asked,
        }
        if status in known:
            return np.flatnonzero(known[status]())
        return np.flatnonzero(self._codes == CODE.get(status, len(CODES)))

    def _behind(self, kind: str, name: str) -> NDArray[np.int64]:
        """Rows behind a figure of the quality report, or of the model's scores."""
        if kind == "score":
            return self.scores.rows(name) if self.scores is not None else np.zeros(0, dtype=np.int64)
        if self._report is None:
            return np.zeros(0, dtype=np.int64)
        rows = {
            "check": self._report.rows,
            "language": self._report.rows_in,
            "task": self._report.rows_of,
            "style": self._report.rows_with,
        }
        return np.asarray(rows[kind](name))

    def find(self, words: str, progress: Progress | None = None) -> dict[str, Any]:
        """Look for words in every row's texts, whatever their case; `page` shows what was found.

        Returns:
            ``found`` (rows), ``covered`` (rows looked at), ``all`` (these were all: before `scan` they are the first
            ones).
        """
        found: list[int] = []
        is_scanned, wanted = self.is_scanned, words.casefold()
        items = self._rows.items() if is_scanned else iter(self._rows.first_items())
        total = self.total
        for number, item in enumerate(items):
            if isinstance(item, Row) and any(wanted in text.casefold() for text in row_texts(item)):
                found.append(item.index)
            if number % _POLITE == 0:
                self.pause()
            if progress is not None and number % _CHUNK == 0:
                progress(number, total)
        self._found = np.array(found, dtype=np.int64)
        return {"found": len(found), "covered": total, "all": is_scanned}

    def _lines(self, indices: NDArray[np.int64]) -> Iterator[dict[str, Any]]:
        """What the table shows of rows, rising: read in one go where they lie near one another."""
        first, stop = (int(indices[0]), int(indices[-1]) + 1) if len(indices) else (0, 0)
        if len(indices) * _SPARSE < stop - first:
            return (self._line(index, self._rows.item(index)) for index in indices.tolist())
        wanted = set(indices.tolist())
        items = zip(range(first, stop), self._rows.items(first, stop), strict=False)
        return (self._line(index, item) for index, item in items if index in wanted)

    def _line(self, index: int, item: Row | SetAside) -> dict[str, Any]:
        code = CODES[self._codes[index]]
        row = item if isinstance(item, Row) else self._rows.seen(index) if code in _STILL_ROWS else None
        why = self._why.get(index) or (item.text if isinstance(item, SetAside) else None)
        if code and why is None and isinstance(item, Row):
            self._measure_again(item)
            why = self._why.get(index)
        return {
            "index": index,
            "where": item.where,
            **_said(row),
            "tokens": int(self._lengths[index]) if self._lengths[index] else None,
            "status": self._status(index),
            "reason": code,
            "reason_text": _plain(why) if why is not None else None,
            "hint": _plain(reason_hint(code)) if code else None,
        }

    def _measure_again(self, row: Row) -> None:
        """Find once more why the encoder set a row aside."""
        assert self._encoder is not None
        for item in self._encoder.encode([row]):
            if isinstance(item, SetAside):
                self._why[row.index] = item.text

    def _status(self, index: int) -> str:
        if self._codes[index]:
            return "set_aside"
        if self._held_out is None:
            self._held_out = self._split()
        if self._held_out[index]:
            return "held_out"
        return "cut" if self._cuts and self._lengths[index] > self.limit else "ready"

    def row(self, index: int) -> dict[str, Any]:
        """One row as the model will see it.

        Returns:
            what `page` tells of it, unclipped; ``messages`` (``role``, ``content``), ``chosen``, ``rejected``;
            ``pieces`` in order, whose ``text`` joined is the rendered text, each with ``learned``, ``special``, ``cut``
            (beyond the longest length) and ``ids``; ``rejected_pieces`` likewise (None without a preference);
            ``length`` (uncut), ``learned_tokens``, ``limit``, ``cut``, ``estimate``; ``notes`` (what the template
            dropped or altered). A row that cannot be read has no pieces.

        Raises:
            IndexError: there is no such row.
        """
        if not self.is_scanned:
            item: Row | SetAside | None = self._rows.first_items()[index]
            found = _first(item, self._first_lengths()[index]) if item is not None else {}
        else:
            place = np.array([index])
            self._rows.place(index)
            if self._unmeasured(place)[0]:
                self._measure(place)
            found = self._line(index, self._rows.item(index))
            item = self._rows.seen(index)
        if not isinstance(item, Row):
            none: dict[str, Any] = {"messages": [], "chosen": None, "rejected": None}
            return found | none | self._cells(index) | self._shown(None, ())
        return (
            found
            | {"question": _asked(item), "answer": _answered(item)}
            | {"messages": [message_to_plain(m) for m in item.messages]}
            | {"chosen": item.chosen, "rejected": item.rejected}
            | self._cells(index)
            | self._shown(item, self._rendered(item))
        )

    def _cells(self, index: int) -> dict[str, Any]:
        """The row's columns as the file holds them, with what a person changed: ``cells`` (``column``, ``value``,
        ``is_text``, ``changed``), whether the row was ``decided`` by hand, and whether it is set aside for a reason
        that a person can overrule (``can_take_back``)."""
        if not self.is_scanned:
            heads = [record for source in self._rows.sources for record in source.head]
            return {"cells": _told_cells(heads[index], set()), "decided": False, "can_take_back": False}
        decided = self._rows.decided(index)
        cells = _told_cells(self._rows.record(index), {item.column for item in decided if item.column})
        can_take_back = CODES[self._codes[index]] in _TAKEN_BACK
        return {"cells": cells, "decided": bool(decided), "can_take_back": can_take_back}

    def _shown(self, row: Row | None, texts: Sequence[Rendered]) -> dict[str, Any]:
        """A row's texts piece by piece: one, two of a preference, none of a row that cannot be rendered."""
        sides = [self._pieces(text) for text in texts] or [[]]
        notes = dict.fromkeys(code for text in texts for code in text.notes) if self._encoder is not None else ()
        if self.estimate:
            length, learned = (_estimated(row), estimated_tokens(row.answer)) if row is not None else (0, 0)
        else:
            length = max(sum(len(p["ids"]) for p in side) for side in sides)
            learned = sum(len(p["ids"]) for side in sides for p in side if p["learned"] and not p["cut"])
        return {
            "pieces": sides[0],
            "rejected_pieces": sides[1] if len(sides) > 1 else None,
            "length": length,
            "learned_tokens": learned,
            "limit": self.limit,
            "cut": length > self.limit,
            "estimate": self.estimate,
            "notes": [_plain(NOTES[code]) for code in notes],
        }

    def _rendered(self, row: Row) -> tuple[Rendered, ...]:
        """The row's texts, none where the template refuses it."""
        try:
            return render_row(_WORDS if self._encoder is None else self._encoder.template, row)
        except UserError:
            return ()

    def _pieces(self, rendered: Rendered) -> list[dict[str, Any]]:
        whole = self.data.learn_from == "everything"
        if self._encoder is None:
            return _word_pieces(rendered, self.limit, everything=whole)
        tokenizer = self._encoder.tokenizer
        encoding = tokenizer.encode_batch([rendered.text])[0]
        learned = [True] * len(encoding.ids) if whole else learned_tokens(rendered, encoding)
        return token_pieces(rendered.text, encoding, learned, tokenizer.special_ids, self.limit)

    # ------------------------------------------------------------------------------------------------------- lengths
    def histogram(self, bins: int = 24) -> dict[str, Any]:
        """How long the rows measured so far are; `measure` measures them all.

        Returns:
            ``edges`` (bins + 1 lengths in tokens), ``counts`` (rows from one edge to the next, the last one included),
            ``median``, ``p95``, ``longest``, ``limit``, ``rows`` (measured), ``measured`` (all are), ``estimate``.
        """
        lengths = self.lengths
        width = max(1, math.ceil(int(lengths.max(initial=1)) / bins))
        counts = np.bincount(np.minimum(bins - 1, (lengths - 1) // width), minlength=bins)
        return {
            "edges": [i * width for i in range(bins + 1)],
            "counts": counts.tolist(),
            **percentiles(lengths),
            "limit": self.limit,
            "rows": len(lengths),
            "measured": self.measured,
            "estimate": self.estimate,
        }

    def set_aside(self, start: int = 0, count: int = 1000) -> dict[str, Any]:
        """Rows set aside: ``total``, ``counts`` (by reason), ``rows`` (``index``, ``where``, ``reason``, ``text``)."""
        indices = self._such("set_aside")
        return {
            "total": len(indices),
            "counts": self._counts()["set_aside"],
            "rows": [set_aside_to_plain(item) for item in self._aside(indices[start : start + count])],
        }

    def _aside(self, indices: NDArray[np.int64]) -> Iterator[SetAside]:
        for index in indices.tolist():
            item = self._rows.item(index)
            if isinstance(item, Row):
                self._measure_again(item)
                code = CODES[self._codes[index]]
                item = SetAside(index, item.where, code, self._why.get(index, _REASONS[code]))
            yield item


_ROWS_BY = ("files", "general", "shape", "mapping", "encoding", "per_file", "decisions", "held_out_file")
"""Settings that decide which rows there are; the others only say what is done with them."""


_TRIED: WeakKeyDictionary[DataSet, tuple[tuple[Any, ...], list[Decision], NDArray[np.bool_]]] = WeakKeyDictionary()
"""The split that was tried last of rows that are open: by which settings, after which decisions, what it held out."""


def _split_of(data: DataSettings) -> tuple[Any, ...]:
    return (data.split, data.split_column, data.held_out, data.seed, data.held_out_file)


_AFTER_ROWS = frozenset(
    {
        *(*_ROWS_BY, "max_length", "over_long", "template", "order", "mixing", "temperature"),
        *("general_share", "choice", "choice_share", "scored_by"),
    }
)
_NOT_OF_TOKENS = _AFTER_ROWS | {"held_out", "split", "split_column", "seed", "quality"}
"""Settings that change no row's tokens; what the template is, is compared by itself."""
_NOT_OF_TEXTS = _AFTER_ROWS | {"learn_from"}
"""Settings with which the quality of the rows stays what it was."""


def _stamp(rows: DataSet) -> list[tuple[int, int]]:
    """Sizes and times of the files: others where a file was changed."""
    return _stamps(source.path for source in rows.sources)


def _stamps(paths: Iterable[Path]) -> list[tuple[int, int]]:
    try:
        found = [path.stat() for path in sorted(paths)]
    except OSError:
        return []
    return [(facts.st_size, facts.st_mtime_ns) for facts in found]


def _go_on() -> None:
    """Nobody waits."""


def _first(item: Row | SetAside, tokens: int) -> dict[str, Any]:
    """A row of the first ones, before all are looked at."""
    row, aside = (item, None) if isinstance(item, Row) else (None, item)
    return {
        "index": item.index,
        "where": item.where,
        **_said(row),
        "tokens": tokens or None,
        "status": "set_aside" if aside else "ready",
        "reason": aside.reason if aside else "",
        "reason_text": _plain(aside.text) if aside else None,
        "hint": _plain(reason_hint(aside.reason)) if aside else None,
    }


def _told_cells(record: Record, changed: set[str]) -> list[dict[str, Any]]:
    return [
        {
            "column": name,
            "value": value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1, default=str),
            "is_text": isinstance(value, str),
            "changed": name in changed,
        }
        for name, value in record.value.items()
    ]


def _said(row: Row | None) -> dict[str, Any]:
    """What the table's columns say of a row."""
    if row is None:
        return {"question": "", "answer": "", "rejected": None, "liked": None}
    rejected = None if row.rejected is None else row.rejected[:_CLIP]
    return {
        "question": _asked(row)[:_CLIP],
        "answer": _answered(row)[:_CLIP],
        "rejected": rejected,
        "liked": row.liked,
    }


def _asked(row: Row) -> str:
    """What stands in the table's column of questions; of plain text its first words."""
    return row.question if row.text is None else row.text.strip().split("\n", 1)[0][:_FIRST_WORDS]


def _answered(row: Row) -> str:
    """The last answer, with the tools that it calls."""
    last = next((m for m in reversed(row.messages) if m.role == ASSISTANT), None)
    if last is None or not last.calls or row.chosen is not None:
        return row.answer
    return " ".join([last.content, *(f"→ {call.name}({_listed(call.arguments)})" for call in last.calls)]).strip()


def _listed(arguments: str) -> str:
    """Arguments of a call as ``name=value``; as they stand where they are no object."""
    try:
        found = json.loads(arguments)
    except ValueError:
        return arguments
    if not isinstance(found, dict):
        return arguments
    return ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in found.items())


def _role(role: Role) -> dict[str, Any]:
    return {"name": role.name, "label": _plain(role.label), "required": role.required, "holds": role.holds}


def _check(name: str, found: dict[str, Any] | None) -> dict[str, Any]:
    """A check of the report, one that is switched off too."""
    check = BY_NAME[name]
    about = {"label": _plain(check.label), "hint": _plain(check.hint), "explain": _plain(check.explain)}
    return (found or {"action": "off", "rows": None}) | about


_REASONS = {**REASONS, **{name: check.label for name, check in BY_NAME.items()}}
_STILL_ROWS = frozenset({"duplicate", "in_held_out", "by_hand", "disliked", *BY_NAME})
"""Reasons of rows that can be read all the same."""
_TAKEN_BACK = _STILL_ROWS - {"disliked"}


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
    """Estimated tokens of a row, with those of each turn's marks."""
    return TURN_TOKENS * (len(row.messages) + (row.chosen is not None)) + sum(map(estimated_tokens, row_texts(row)))


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
