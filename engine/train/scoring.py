"""What a model makes of the training rows: how hard each is for it, and how uncertain it is there.

`score` is the job by itself, `chosen` the part of a training run whose recipe asks for it.
"""

from __future__ import annotations

import gc
import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.data import choice
from engine.data.choice import KEPT, Scores, Texts, pick, scored_text
from engine.data.encode import Example
from engine.data.prepare import Prepared, prepare
from engine.data.rows import Row
from engine.data.token_store import Examples
from engine.evaluate.score import Scored, Scorer, TextLoss, in_batches
from engine.evaluate.watch import Watch
from engine.methods.registry import METHODS
from engine.model.inspect import inspect
from engine.model.load import decide_precision, device, load_for, ran_out_of_memory
from engine.model.locate import locate
from engine.model.tuned import expanded, load_tuned
from engine.objectives.registry import OBJECTIVES
from engine.project.atomic import writing
from engine.project.project import open_run
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Channel
from engine.protocol.errors import UserError
from engine.protocol.events import Note
from engine.protocol.text import say
from engine.recipe.recipe import Recipe

SHOWN = 10
"""Rows of each kind that the result names."""
LETTERS = 200
"""Of a row's text so much is shown."""
KEEP_SECONDS = 30.0
"""How much work is lost at most when the process is killed."""

log = logging.getLogger(__name__)


# ----------------------------------------------------------------------------------------------------------- the job
def score(recipe: Recipe, channel: Channel, *, out: Path | None = None) -> dict[str, Any]:
    """Score the training rows of a recipe by its base model, or by the run that ``data.scored_by`` names.

    Args:
        out: a file for all rows, JSON Lines: ``where``, ``index``, ``loss``, ``uncertainty``, ``tokens`` and ``chosen``
            (whether the recipe trains on it).

    Returns:
        ``rows``; ``new``, those that were not known from before; ``chosen``, those that the recipe trains on; ``loss``
        and ``uncertainty``, each ``{"mean", "p5", "median", "p95"}`` in nats a token; ``easiest``, ``hardest`` and
        ``uncertain``, each at most ten rows ``{"where", "text", "loss", "uncertainty", "tokens"}``; ``model``;
        ``scored_by``; ``out``; ``scores``, the file that `engine.data.choice.read_kept` reads.

    Raises:
        UserError: data or model cannot be used, or memory or disk ran out.
        Stopped: the user asked; what was scored by then is kept.
    """
    watch = Watch(channel)
    watch.stage("data", say("Reading the data", "读取数据"), 0, "rows")
    folder = inspect(locate(recipe.model.source, revision=recipe.model.revision)).path
    preference = OBJECTIVES[recipe.objective.name].preference
    prepared = prepare(recipe.data, preference=preference, model_folder=folder, progress=watch.counting)
    try:
        found = _scored(recipe, prepared.train, folder, watch, ())
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if (failure := ran_out_of_memory(error)) is None:
            raise
        raise failure from error
    is_chosen = found.scores.chosen(recipe.data, prepared.general_from)
    if out is not None:
        _write(out, prepared.train, found.scores, is_chosen)
    return {
        "rows": len(found.scores.rows),
        "new": found.new,
        "chosen": int(is_chosen.sum()),
        **_figures(found.scores),
        **{name: _shown(prepared.train, found.scores, name) for name in ("easiest", "hardest", "uncertain")},
        "model": str(folder),
        "scored_by": recipe.data.scored_by,
        "out": str(out) if out is not None else None,
        "scores": str(found.file),
    }


def chosen(prepared: Prepared, recipe: Recipe, folder: Path, run: RunFolder, channel: Channel) -> Prepared:
    """The rows that the recipe wants trained on, in its order; all of them where it asks no model.

    What the model said is kept beside the run: resumed, it trains on the same rows in the same order.

    Raises:
        UserError: the model that is to say it cannot be used.
        Stopped: the user asked; what was scored by then is kept.
    """
    if not recipe.data.asks_model:
        return prepared
    found = _scored(recipe, prepared.train, folder, Watch(channel), (run.scores,))
    choice.write_kept(run.scores, found.kept)
    channel.emit(Note(code="data.chosen", text=choice.told(found.scores, recipe.data, prepared.general_from)))
    return pick(prepared, found.scores, recipe.data)


# ------------------------------------------------------------------------------------------------------- the figures
@dataclass(frozen=True, slots=True)
class _Found:
    """Scores of rows, as they are kept (``kept``, of these rows alone), where, and how many texts are new."""

    scores: Scores
    kept: NDArray[Any]
    file: Path
    new: int


def _scored(recipe: Recipe, rows: Examples, folder: Path, watch: Watch, before: Sequence[Path]) -> _Found:
    """Scores of the rows: from the files ``before`` first, then from the cache, and the rest from the model."""
    texts = Texts.of(rows, watch.look)
    file = choice.kept_file(*_named(recipe, folder))
    kept = np.empty(0, KEPT)
    for known in (*before, file):
        kept = choice.joined(kept, choice.read_kept(known))
    first = np.unique(texts.key, return_index=True)[1]
    new = first[~choice.places(texts.key[first], kept)[1]]
    if len(new):
        found = _Asked(file)
        try:
            _ask(recipe, rows.taken(new), Texts(*(array[new] for array in _arrays(texts))), folder, watch, found)
        finally:
            found.write()
        kept = choice.joined(kept, found.kept)
        choice.tidy(file.parent)
    mine = kept[np.isin(kept["key"], texts.key)]
    return _Found(Scores.of(texts, mine), mine, file, len(new))


def _arrays(texts: Texts) -> tuple[NDArray[Any], ...]:
    return texts.key, texts.row, texts.length, texts.counted


class _Asked:
    """What the model said so far, written to its file now and then: what one process finds, others need not."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._found: list[tuple[int, float, float]] = []
        self._written = time.monotonic()

    def add(self, keys: Sequence[int], losses: Sequence[TextLoss]) -> None:
        """Take one batch."""
        for key, loss in zip(keys, losses, strict=True):
            mean, entropy = (np.nan if value is None else value for value in (loss.mean, loss.mean_entropy))
            self._found.append((key, mean, entropy))
        if time.monotonic() - self._written > KEEP_SECONDS:
            self.write()

    @property
    def kept(self) -> NDArray[Any]:
        """All of it, by key."""
        return choice.joined(np.array(self._found, KEPT), np.empty(0, KEPT))

    def write(self) -> None:
        """Join it to what the file holds by now. Where the disk refuses, it is found again another time."""
        self._written = time.monotonic()
        try:
            choice.write_kept(self._file, choice.joined(self.kept, choice.read_kept(self._file)))
        except UserError as error:
            log.warning("scores are not kept: %s", error)


def _ask(recipe: Recipe, rows: Sequence[Example], texts: Texts, folder: Path, watch: Watch, found: _Asked) -> None:
    """Have the model look at the rows, and give its memory back."""
    watch.stage("load", say("Loading the model", "加载模型"), 0, "")
    scorer = _scorer(recipe, folder)
    watch.stage("score", say("Scoring the rows", "为各行评分"), len(rows), "rows")
    done = 0
    for batch, losses in in_batches(
        scorer,
        lambda place: Scored(*scored_text(rows[place])),
        texts.length.tolist(),
        texts.counted.tolist(),
        batch_size=recipe.evaluate.batch_size,
    ):
        found.add(texts.key[batch].tolist(), losses)
        done += len(batch)
        watch.at(done)
    del scorer
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


# --------------------------------------------------------------------------------------------------------- the model
@dataclass(frozen=True, slots=True)
class _Base:
    """A base model without adapter, as a `Scorer`."""

    model: Any
    pad_id: int
    vocabulary: int

    @property
    def device(self) -> torch.device:
        found: torch.device = self.model.device
        return found


def _scorer(recipe: Recipe, folder: Path) -> Scorer:
    """The model that says how hard a row is: the base as the run would load it, or the one that a run made of it."""
    if recipe.data.scored_by:
        return load_tuned(_run_of(recipe, folder))
    model = expanded(load_for(recipe, folder))
    # Padding is masked: which token it is changes nothing.
    return _Base(model, 0, int(model.config.get_text_config().vocab_size))


def _run_of(recipe: Recipe, folder: Path) -> RunFolder:
    """The run that scores. Raises `UserError` when it was not trained on the recipe's base model: it reads others'
    tokens as something else."""
    run = open_run(Path(recipe.data.scored_by))
    trained_on = run.trained_on()
    if trained_on.resolve() != folder.resolve():
        raise UserError(
            "score.other_base",
            say(
                "The run that is to score the rows was trained on another model ({other}).",
                "用来评分的训练基于另一个模型（{other}）。",
                other=trained_on,
            ),
            say("Choose a run of the same base model, or leave it empty.", "请选择同一基础模型的训练，或留空。"),
            where="data.scored_by",
        )
    return run


def _named(recipe: Recipe, folder: Path) -> Iterator[Any]:
    """What tells the model that scores from every other: its files, its number format, its adapter."""
    yield str(folder.resolve())
    for file in sorted((*folder.glob("*.safetensors"), folder / "config.json")):
        yield [file.name, file.stat().st_size, file.stat().st_mtime_ns]
    if recipe.data.scored_by:
        run = _run_of(recipe, folder)
        yield [str(run.path), run.adapter_written]
    else:
        settings = recipe.method.model_dump()
        yield [METHODS[recipe.method.name].quantised, settings.get("quant_type"), settings.get("double_quantisation")]
        yield decide_precision(recipe.train.precision, device())
    yield device()


# -------------------------------------------------------------------------------------------------------- the result
def _figures(scores: Scores) -> dict[str, dict[str, float | None]]:
    return {"loss": _summary(scores.loss), "uncertainty": _summary(scores.uncertainty)}


def _summary(values: NDArray[np.float64]) -> dict[str, float | None]:
    known = values[np.isfinite(values)]
    if not len(known):
        return dict.fromkeys(("mean", "p5", "median", "p95"))
    p5, median, p95 = np.percentile(known, (5, 50, 95)).tolist()
    return {"mean": float(known.mean()), "p5": p5, "median": median, "p95": p95}


def _shown(rows: Sequence[Example], scores: Scores, kind: str) -> list[dict[str, Any]]:
    """The first rows of a ranking."""
    found = []
    for place in scores.ranked(kind)[:SHOWN].tolist():
        row = rows[int(scores.first[place])].row
        found.append({"where": row.where, "text": _text(row), **_of_row(scores, place)})
    return found


def _text(row: Row) -> str:
    whole = row.text if row.text is not None else row.question
    return whole if len(whole) <= LETTERS else whole[: LETTERS - 1] + "…"


def _of_row(scores: Scores, place: int) -> dict[str, Any]:
    figures = {"loss": float(scores.loss[place]), "uncertainty": float(scores.uncertainty[place])}
    known = {name: value if np.isfinite(value) else None for name, value in figures.items()}
    return {**known, "tokens": int(scores.tokens[place])}


def _write(out: Path, rows: Sequence[Example], scores: Scores, is_chosen: NDArray[np.bool_]) -> None:
    """All rows as JSON Lines, in the order of the files. Raises `UserError` when the disk does not take it."""
    with writing(out) as file:
        for place, text in enumerate(scores.first.tolist()):
            row = rows[text].row
            plain = {"where": row.where, "index": row.index, **_of_row(scores, place), "chosen": bool(is_chosen[place])}
            file.write((json.dumps(plain, ensure_ascii=False) + "\n").encode())
