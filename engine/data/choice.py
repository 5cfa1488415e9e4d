"""Which training rows are learned, and in which order, by what a model made of them.

Figures only: `engine.train.scoring` asks the model. What it says is kept by what it saw of a row, so that it is asked
once for each.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from engine.data.encode import Example
from engine.data.prepare import Prepared
from engine.data.rows import SetAside
from engine.host.platform import cache_folder
from engine.project.atomic import write_bytes
from engine.protocol.errors import UserError
from engine.protocol.text import Text, say
from engine.recipe.recipe import DataSettings

KEPT = np.dtype([("key", "<u8"), ("loss", "<f4"), ("uncertainty", "<f4")])
"""What is kept of a text: the fingerprint of its tokens and of which are learned, and the model's two figures."""
MOST_FILES = 64
"""So many models' figures are kept; those that were used longest ago go first."""
VERSION = 1
"""Raised when figures come to be computed in another way."""
_LOOK_EVERY = 512


# --------------------------------------------------------------------------------------------------------- the rows
def scored_text(example: Example) -> tuple[Sequence[int], Sequence[bool]]:
    """(token ids, which are learned) of what is scored: the conversation; of a preference the chosen answer."""
    if not example.chosen_ids:
        return example.input_ids, example.learned
    prompt, answer = example.prompt_ids, example.chosen_ids
    return [*prompt, *answer], [False] * len(prompt) + [True] * len(answer)


@dataclass(frozen=True, slots=True)
class Texts:
    """What the training rows come to as texts for a model: arrays, in the rows' order.

    Attributes:
        key: fingerprint of the tokens and of which are learned: whatever of row, template, longest length or system
            prompt changes what the model sees changes it, and nothing else does.
        row: number of the row; a row in several pieces, or seen several times, has several texts.
        length: tokens.
        counted: tokens whose loss counts (of the first nothing is known).
    """

    key: NDArray[np.uint64]
    row: NDArray[np.int64]
    length: NDArray[np.int64]
    counted: NDArray[np.int64]

    @classmethod
    def of(cls, examples: Sequence[Example], look: Callable[[], None] = lambda: None) -> Texts:
        """Those of the examples. ``look`` is called now and then; what it raises ends the work."""
        key = np.empty(len(examples), np.uint64)
        row, length, counted = (np.empty(len(examples), np.int64) for _ in range(3))
        for place, example in enumerate(examples):
            text = scored_text(example)
            ids, flags = np.asarray(text[0], "<u4"), np.asarray(text[1], bool)
            key[place] = xxhash.xxh3_64_intdigest(ids.tobytes() + np.packbits(flags).tobytes())
            row[place], length[place], counted[place] = example.index, len(ids), flags[1:].sum()
            if place % _LOOK_EVERY == 0:
                look()
        return cls(key, row, length, counted)


@dataclass(frozen=True, slots=True)
class Scores:
    """What a model made of the training rows: one figure a row, over all its pieces.

    Attributes:
        rows: numbers of the rows, ascending.
        first: the first training text of each row.
        of_text: for each training text the place of its row in these arrays.
        loss: mean negative log-likelihood of the learned tokens, nats; NaN where nothing is learned.
        uncertainty: mean entropy of the model's distributions of those tokens, nats.
        tokens: learned tokens.
    """

    rows: NDArray[np.int64]
    first: NDArray[np.int64]
    of_text: NDArray[np.int64]
    loss: NDArray[np.float64]
    uncertainty: NDArray[np.float64]
    tokens: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Texts, kept: NDArray[Any]) -> Scores:
        """Those of the texts. Raises `UserError` where ``kept`` lacks one: the data have changed meanwhile."""
        place, is_known = places(texts.key, kept)
        if not is_known.all():
            raise UserError(
                "score.changed",
                say("The data changed while they were being scored.", "评分期间数据发生了变化。"),
                say("Try again.", "请重试。"),
            )
        rows, first, of_text = np.unique(texts.row, return_index=True, return_inverse=True)
        tokens = np.bincount(of_text, texts.counted, len(rows))

        def mean(name: str) -> NDArray[np.float64]:
            whole = np.where(texts.counted > 0, kept[name][place].astype(np.float64) * texts.counted, 0.0)
            with np.errstate(invalid="ignore"):
                return np.asarray(np.bincount(of_text, whole, len(rows)) / tokens)

        return cls(rows, first, of_text, mean("loss"), mean("uncertainty"), tokens.astype(np.int64))

    def ranked(self, choice: str) -> NDArray[np.int64]:
        """Places of the rows, the most uncertain, hardest or easiest first; of equals the one that stands first in
        the files, and last those of which nothing is known."""
        figures = {"uncertain": -self.uncertainty, "hardest": -self.loss, "easiest": self.loss}[choice]
        return np.argsort(figures, kind="stable")

    def chosen(self, data: DataSettings, general_from: int | None = None) -> NDArray[np.bool_]:
        """Of each row whether the recipe trains on it.

        Args:
            general_from: number of the first row of general data. They are chosen among themselves: a base model finds
                them easy and certain, and they would lose the share that the recipe gives them.
        """
        found = np.ones(len(self.rows), bool)
        if data.choice != "all":
            ranked = self.ranked(data.choice)
            is_general = self.rows[ranked] >= (np.inf if general_from is None else general_from)
            for group in (ranked[~is_general], ranked[is_general]):
                found[group[data.chosen(len(group)) :]] = False
        return found


# ------------------------------------------------------------------------------------------------------ what is kept
def kept_file(*named: Any) -> Path:
    """Where the figures of a model are kept, in Lorimer's cache.

    Args:
        named: what tells this model from others, its adapter and its number format included; JSON knows it.
    """
    key = hashlib.blake2b(json.dumps([VERSION, *named]).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
    folder = cache_folder() / "scores"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # a home that cannot be written
        folder = Path(tempfile.gettempdir()) / "lorimer-scores"
        folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{key}.npy"


def read_kept(path: Path) -> NDArray[Any]:
    """What is kept in a file, by key; nothing where there is none, or it is damaged: it can be found again."""
    try:
        found = np.load(path, allow_pickle=False)
        os.utime(path)
    except (OSError, ValueError, EOFError):
        return np.empty(0, KEPT)
    return found if found.dtype == KEPT and found.ndim == 1 else np.empty(0, KEPT)


def write_kept(path: Path, kept: NDArray[Any]) -> None:
    """Replace what is kept in a file. Raises `UserError` when the disk does not take it."""
    content = io.BytesIO()
    np.save(content, kept, allow_pickle=False)
    write_bytes(path, content.getvalue())


def joined(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    """Both, by key; what ``one`` has stays."""
    both = np.concatenate((one, other))
    return both[np.unique(both["key"], return_index=True)[1]]


def places(keys: NDArray[np.uint64], kept: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(place in ``kept``, whether it is there) of each key."""
    if not len(kept):
        return np.zeros(len(keys), np.int64), np.zeros(len(keys), bool)
    found = np.minimum(np.searchsorted(kept["key"], keys), len(kept) - 1)
    return found, np.asarray(kept["key"][found] == keys)


def tidy(folder: Path) -> None:
    """Remove the files that were used longest ago where there are too many."""
    files = sorted(folder.glob("*.npy"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in files[MOST_FILES:]:
        with contextlib.suppress(OSError):  # another process was first
            file.unlink()


# -------------------------------------------------------------------------------------------------------- the choice
def pick(prepared: Prepared, scores: Scores, data: DataSettings) -> Prepared:
    """The rows that are left to train on, in their order; those that are not chosen are set aside with the reason.

    Choosing the rows that a model is least certain of is uncertainty sampling (Settles 2009, Active Learning Literature
    Survey, section 3.1); easy rows first is curriculum learning (Bengio et al. 2009). Held-out rows stay as they are.
    """
    is_chosen = scores.chosen(data, prepared.general_from)
    left = int(np.count_nonzero(~is_chosen))
    set_aside = prepared.set_aside.joined(left, lambda: _left_out(prepared.train, scores, is_chosen, data))
    order = np.flatnonzero(is_chosen[scores.of_text])
    if data.order == "easiest":
        order = order[np.argsort(scores.loss[scores.of_text[order]], kind="stable")]
    return replace(prepared, train=prepared.train.taken(order), set_aside=set_aside)


def _left_out(
    train: Sequence[Example], scores: Scores, is_chosen: NDArray[np.bool_], data: DataSettings
) -> Iterator[SetAside]:
    """The rows that are not chosen, with why."""
    figures, name = scores.loss, say("loss", "损失")
    if data.choice == "uncertain":
        figures, name = scores.uncertainty, say("entropy", "熵")
    for place in np.flatnonzero(~is_chosen).tolist():
        row = train[int(scores.first[place])].row
        text = say(
            "Not among the {share:.0%} of rows {which} ({name} {value:.2f}).",
            "不在{which}的 {share:.0%} 之内（{name} {value:.2f}）。",
            share=data.choice_share,
            which=WHICH[data.choice],
            name=name,
            value=figures[place],
        )
        yield SetAside(row.index, row.where, NOT_CHOSEN, text)


WHICH = {
    "uncertain": say("that the model is least certain of", "模型最不确定"),
    "hardest": say("that are hardest for the model", "对模型最难"),
    "easiest": say("that are easiest for the model", "对模型最容易"),
}
NOT_CHOSEN = "not_chosen"


def told(scores: Scores, data: DataSettings, general_from: int | None = None) -> Text:
    """What was chosen, and in which order, in a sentence; ``general_from`` as for `Scores.chosen`."""
    which = WHICH.get(data.choice)
    if which is None:
        return say("The rows are trained on from the easiest to the hardest.", "按由易到难的顺序训练。")
    text = say(
        "Training on the {n} of {all} rows {which}.",
        "用{which}的 {n} 行训练（共 {all} 行）。",
        n=int(scores.chosen(data, general_from).sum()),
        all=len(scores.rows),
        which=which,
    )
    if data.order != "easiest":
        return text
    return say("{text} The easiest come first.", "{text}由易到难。", text=text)
