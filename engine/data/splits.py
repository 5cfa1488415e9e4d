"""Which rows are held out: at random, by whole groups, the latest, as a column says, or alike of each label.

Rows with the same prompt fall on one side wherever the data allow it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine.data.read import Source
from engine.data.scan import fingerprint
from engine.protocol.errors import UserError
from engine.protocol.text import say

if TYPE_CHECKING:
    from engine.data.dataset import DataSet

_FEWEST_TO_SPLIT = 10
_CHUNK = 1 << 18
# Where every prompt has more rows than are wanted, one whole prompt is held out if it leaves this share for training.
_LEAST_TRAINED = 0.75
_MEASURED = frozenset({"test", "validation", "valid", "val", "dev", "eval", "held_out", "heldout", "held-out"})


def held_out_of(rows: DataSet) -> NDArray[np.bool_]:
    """Which rows of a data set are held out, shape (rows,): those of the held-out file, else as the recipe says.

    Raises:
        UserError: the recipe names no column, one that there is not, or one that does not say what it should.
    """
    found = np.zeros(rows.count, bool)
    if rows.data.held_out_file:
        found[rows.measured] = True
        return found
    candidates = rows.candidates
    found[candidates[_WAYS[rows.data.split](rows, candidates)]] = True
    return found


# -------------------------------------------------------------------------------------------------------------- ways
def _random(rows: DataSet, candidates: NDArray[np.int64]) -> NDArray[np.bool_]:
    prompts = rows.prompts[candidates]
    return held_out_rows(prompts, rows.data.held_out, rows.data.seed, rows=lambda: rows.keys[candidates])


def _group(rows: DataSet, candidates: NDArray[np.int64]) -> NDArray[np.bool_]:
    groups = np.fromiter(map(fingerprint, _values(rows, candidates)), np.uint64, len(candidates))
    found = held_out_rows(groups, rows.data.held_out, rows.data.seed, rows=lambda: rows.keys[candidates])
    if np.isin(groups[found], groups[~found]).any():
        raise _groups_too_large(rows, len(np.unique(groups)))
    return found


def _stratified(rows: DataSet, candidates: NDArray[np.int64]) -> NDArray[np.bool_]:
    labels = np.fromiter(map(fingerprint, _values(rows, candidates)), np.uint64, len(candidates))
    found = np.zeros(len(candidates), bool)
    for label in np.unique(labels):
        of_label = np.flatnonzero(labels == label)
        found[of_label] = _random(rows, candidates[of_label])
    return found


def _time(rows: DataSet, candidates: NDArray[np.int64]) -> NDArray[np.bool_]:
    times = np.empty(len(candidates))
    for place, text in enumerate(_values(rows, candidates)):
        try:
            times[place] = _moment(text)
        except ValueError as error:
            raise _no_time(rows, int(candidates[place]), text) from error
    found = np.zeros(len(candidates), bool)
    wanted = wanted_rows(len(candidates), rows.data.held_out)
    if wanted:
        found[np.argsort(times, kind="stable")[-wanted:]] = True
    return found


def _column(rows: DataSet, candidates: NDArray[np.int64]) -> NDArray[np.bool_]:
    said = (text.strip().lower() in _MEASURED for text in _values(rows, candidates))
    found = np.fromiter(said, bool, len(candidates))
    if not found.any():
        raise UserError(
            "data.split",
            say(
                "No row is held out by the column “{name}”.",
                "“{name}”列没有指定任何留出行。",
                name=rows.data.split_column,
            ),
            say("It must hold one of: {all}.", "其值须为：{all}。", all=", ".join(sorted(_MEASURED))),
            where="data.split_column",
        )
    return found


_WAYS: dict[str, Callable[[DataSet, NDArray[np.int64]], NDArray[np.bool_]]] = {
    "random": _random,
    "group": _group,
    "stratified": _stratified,
    "time": _time,
    "column": _column,
}


def _values(rows: DataSet, candidates: NDArray[np.int64]) -> Iterator[str]:
    """What stands in the split column of each row, as text."""
    name = rows.data.split_column
    for source in rows.sources:
        if name not in source.columns:
            raise _no_column(source, name)
    return (_text(record.value.get(name)) for record in rows.records(candidates))


def _no_column(source: Source, name: str) -> UserError:
    none = say("The recipe names no column to split by.", "配方没有指定用于划分的列。")
    absent = say(
        '{file} has no column "{name}" to split by.',
        "{file} 没有用于划分的“{name}”列。",
        file=source.path.name,
        name=name,
    )
    hint = say("Columns: {all}.", "现有列：{all}。", all=", ".join(source.columns[:12]))
    return UserError("data.split", absent if name else none, hint, where="data.split_column")


def _groups_too_large(rows: DataSet, count: int) -> UserError:
    """Where none can be held out whole, parts of it would be on both sides."""
    name = rows.data.split_column
    one = say("All rows have the same “{name}”.", "所有行的“{name}”都相同。", name=name)
    few = say(
        "The {n} groups of “{name}” are too large: none can be held out whole.",
        "“{name}”的 {n} 个分组过大，无法整组留出。",
        n=count,
        name=name,
    )
    hint = say("Choose a column with more groups, or hold rows out at random.", "请选择分组更多的列，或改为随机留出。")
    return UserError("data.split", few if count > 1 else one, hint, where="data.split_column")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def _moment(text: str) -> float:
    """A number, or a date and time in ISO 8601, as seconds. Raises ValueError."""
    try:
        return float(text)
    except ValueError:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _no_time(rows: DataSet, index: int, text: str) -> UserError:
    return UserError(
        "data.split",
        say('"{text}" is no time.', "“{text}”不是时间。", text=text[:40]),
        say(
            "Times are numbers, or dates such as 2026-05-31 or 2026-05-31T12:00.",
            "时间须为数字，或 2026-05-31、2026-05-31T12:00 这样的日期。",
        ),
        where=rows.where(index),
    )


# ------------------------------------------------------------------------------------------------------------ by lot
def wanted_rows(count: int, share: float) -> int:
    """How many of so many rows are held out: of ten or more at least one."""
    wanted = round(count * share)
    return max(1, wanted) if share > 0 and count >= _FEWEST_TO_SPLIT else wanted


def held_out_rows(
    prompts: NDArray[np.uint64], share: float, seed: int, *, rows: Callable[[], NDArray[np.uint64]]
) -> NDArray[np.bool_]:
    """Which rows are held out by lot; rows that ask the same fall on one side.

    Prompts are taken in the order of a hash of seed and text, so that adding rows moves few others. Where every prompt
    has more rows than are wanted, the prompt with the fewest is held out whole if three quarters of the rows are left
    to train on; else single rows are taken.

    Args:
        prompts: fingerprint of what each row asks, shape (rows,).
        rows: gives the fingerprint of each row, shape (rows,); asked for where single rows are taken.

    Returns:
        True for a row that is held out, shape (rows,).
    """
    count = len(prompts)
    found = np.zeros(count, bool)
    wanted = wanted_rows(count, share)
    if wanted == 0:
        return found
    lots = lots_of(prompts, seed)
    # Rows of one prompt have one lot. Mostly the rows with the lowest lots are enough: sorting all takes long.
    among = 2 * wanted
    while True:
        # Lots are spread evenly.
        low = np.flatnonzero(lots <= np.uint64(min(2**64 - 1, 2**64 * among // count)))
        order = low[np.argsort(lots[low], kind="stable")]
        starts = np.flatnonzero(np.r_[True, lots[order][1:] != lots[order][:-1]]) if len(order) else order
        counts = np.diff(starts, append=len(order))
        taken = _take(counts, wanted)
        if int(counts[taken].sum()) == wanted or len(low) == count:
            break
        among *= 4
    if not taken.any():
        # One prompt whole, where enough is left to train on.
        smallest = int(np.argmin(counts))
        if counts[smallest] <= int(count * (1 - _LEAST_TRAINED)):
            taken[smallest] = True
    if taken.any():
        found[order[np.repeat(taken, counts)]] = True
    else:
        found[np.argsort(lots_of(rows(), seed), kind="stable")[:wanted]] = True
    return found


def _take(counts: NDArray[np.int64], wanted: int) -> NDArray[np.bool_]:
    """Which groups are taken, in order, each where it still fits."""
    taken = np.zeros(len(counts), bool)
    left = wanted
    for number, count in enumerate(counts.tolist()):
        if count <= left:
            taken[number] = True
            left -= count
            if not left:
                break
    return taken


def lots_of(keys: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Where each fingerprint stands in an order by lot, which moves no other when one is added.

    Source: the finaliser of SplitMix64 (Steele et al. 2014).
    """
    found = np.empty(len(keys), np.uint64)
    for start in range(0, len(keys), _CHUNK):
        with np.errstate(over="ignore"):
            mixed = keys[start : start + _CHUNK] + np.uint64((0x9E3779B97F4A7C15 * (seed + 1)) % 2**64)
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            found[start : start + _CHUNK] = mixed ^ (mixed >> np.uint64(31))
    return found
