"""Base against tuned on the rows that were held out. Read from top to bottom: `evaluate`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from engine.data.quality.tasks import task_of
from engine.evaluate import figures
from engine.evaluate.answers import GreedyAnswer, answers
from engine.evaluate.comparing import groups_of, labels_in, measures_of
from engine.evaluate.effect import ROWS, effect
from engine.evaluate.figures import SideLosses
from engine.evaluate.forgetting import forgetting
from engine.evaluate.intervals import Lots
from engine.evaluate.metrics import answer_limit
from engine.evaluate.ngrams import tokenizer_for
from engine.evaluate.preference import PairLoss
from engine.evaluate.questions import Question, prepare_questions, read_rows, sample
from engine.evaluate.score import losses
from engine.evaluate.training_data import look
from engine.evaluate.watch import Watch
from engine.model.load import ran_out_of_memory
from engine.model.tuned import SIDES, Side, TunedModel, load_tuned
from engine.project.evaluation import Evaluation, headline_of, write_evaluation
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Channel
from engine.protocol.codec import to_plain
from engine.protocol.text import say
from engine.recipe.recipe import Recipe

METRICS = (
    "loss",
    "perplexity",
    "token_accuracy",
    "exact_match",
    "rouge_l",
    "rouge_1",
    "rouge_2",
    "bleu",
    "chrf",
)
PREFERENCE = ("preference_accuracy", "ranking_accuracy")
DOCUMENTED = ("verdict", "headline", "measures", "groups", "grouped_by", "labels", "overlap", "held_out", "seed")
"""Parts of an evaluation that the command line gives as they are kept."""


def evaluate(run: RunFolder, channel: Channel, *, rows: int | None = None) -> dict[str, Any]:
    """Measure base and tuned model on the run's held-out rows, none of which was trained on.

    Both are one set of weights, quantised and with the number format of training (``recipe.run.toml``): the base model
    is the one that was trained on, with the adapter switched off. Loss, perplexity and token accuracy count the learned
    tokens, given the right text before them; all else is of greedy answers to the last turn, at most `answer_limit`
    tokens long. In a preference run the right answer is the chosen one, and `engine.evaluate.preference` says what is
    measured beside. Each figure has an interval, each difference a paired test: `engine.evaluate.intervals`. The same
    run gives the same figures each time.

    Args:
        rows: at most so many rows; None for the recipe's ``evaluate.rows``. Of more, a sample by the recipe's seed.

    Returns:
        ``{"base": {name: figure}, "tuned": {…}, "rows", "notes", …}`` with the figures of `METRICS` (and `PREFERENCE`)
        and the parts of `DOCUMENTED`. A measure that does not apply is None, and ``notes`` holds the reason by its
        name. Every row's answers are written to ``evaluation.json``.

    Raises:
        UserError: the run has no adapter or no held-out row, its base model is gone, memory or disk ran out.
        Stopped: the user asked. Until the figures of the rows are there, an earlier evaluation stays as it was.
    """
    began = time.monotonic()
    run.trained_on()  # where nothing was trained, that is what to say, and not that no row is there to measure with
    held_out = read_rows(run)
    watch = Watch(channel)
    watch.stage("load", say("Loading the model", "加载模型"), 0, "")
    try:
        tuned = load_tuned(run)
        settings = tuned.recipe.evaluate
        questions = prepare_questions(tuned, sample(held_out, rows or settings.rows, tuned.recipe.data.seed))
        limit = answer_limit(settings.max_new_tokens, max(question.reference_tokens for question in questions))
        watch.stage("loss", say("Measuring the loss", "计算损失"), 2 * len(questions), "rows")
        scored = {side: _score(tuned, side, questions, watch) for side in SIDES}
        watch.stage("answers", say("Asking both models", "向两个模型提问"), 2 * len(questions), "answers")
        asked = {side: _ask(tuned, side, questions, limit, watch) for side in SIDES}
        watch.stage("figures", say("Reckoning the figures", "统计结果"), 0, "")
        evaluation = replace(
            _compared(run, tuned.recipe, questions, scored, asked),
            held_out=len(held_out),
            max_new_tokens=limit,
            seconds=round(time.monotonic() - began, 3),
            created=round(time.time(), 3),
        )
        write_evaluation(run, evaluation)
        for earlier in (run.effect, run.forgetting):  # they may be of another state of the adapter
            earlier.unlink(missing_ok=True)
        beside(run, tuned, evaluation, watch)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if (failure := ran_out_of_memory(error)) is None:
            raise
        raise failure from error
    return document(evaluation)


def beside(run: RunFolder, tuned: TunedModel, evaluation: Evaluation, watch: Watch) -> None:
    """What is measured beside the held-out rows once these are kept; each keeps its own file in the run's folder.

    What the adapter does at all comes first, then, with ``evaluate.probes``, what the tuned model forgot.
    """
    rows = sample(read_rows(run), ROWS, evaluation.seed)
    texts = [question.texts[0] for question in prepare_questions(tuned, rows)]
    effect(run, tuned, texts, watch, changed_answers=evaluation.verdict.changed)
    if tuned.recipe.evaluate.probes:
        forgetting(run, tuned, rows, watch)


def _compared(
    run: RunFolder,
    recipe: Recipe,
    questions: Sequence[Question],
    scored: dict[Side, SideLosses],
    asked: dict[Side, list[GreedyAnswer | None]],
) -> Evaluation:
    """All figures of the rows."""
    rows = [question.row for question in questions]
    known = look(run, recipe.data, rows, preference=rows[0].chosen is not None)
    keys = known.values or [task_of(row.question, row.answer) for row in rows]
    tokenizer = tokenizer_for(row.answer for row in rows)
    lots = Lots(recipe.data.seed, recipe.evaluate.resamples)
    found = figures.measured(questions, scored, asked, tokenizer, keys)
    labels, of_row = labels_in(found, lots)
    measures = measures_of(found, lots, labels)
    base, tuned = figures.scores(measures)
    plain = sum(row.text is not None for row in rows)
    return Evaluation(
        base=base,
        tuned=tuned,
        verdict=figures.verdict(found.rows),
        rows=tuple(replace(row, label=label) for row, label in zip(found.rows, of_row, strict=True)),
        notes={
            **figures.notes(base, tuned, found.rows, plain=plain),
            **({"labels": figures.always_the_same(labels)} if labels is not None else {}),
            **({"overlap": known.note} if known.note is not None else {}),
        },
        measures=measures,
        headline=headline_of(measures, labels=labels is not None, short=found.short),
        groups=groups_of(found, keys, lots, tasks=not known.column, labels=labels is not None),
        grouped_by=known.column,
        labels=labels,
        overlap=known.overlap,
        seed=lots.seed,
        resamples=lots.resamples,
        tokenizer=tokenizer,
    )


def document(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation as the command line gives it: figures without the rows."""
    preference = evaluation.tuned.preference_accuracy is not None
    names = (*METRICS, *PREFERENCE) if preference else METRICS
    sides = {"base": evaluation.base, "tuned": evaluation.tuned}
    return {
        **{side: {name: getattr(scores, name) for name in names} for side, scores in sides.items()},
        "rows": len(evaluation.rows),
        "notes": to_plain(evaluation.notes),
        **{name: to_plain(getattr(evaluation, name)) for name in DOCUMENTED},
    }


def _score(tuned: TunedModel, side: Side, questions: Sequence[Question], watch: Watch) -> SideLosses:
    """One side's losses of every row's texts."""
    texts = [text for question in questions for text in question.texts]
    per_row = len(texts) // len(questions)
    with tuned.as_side(side):
        found = losses(
            tuned, texts, batch_size=tuned.recipe.evaluate.batch_size, watch=lambda done: watch.at(done / per_row)
        )
    watch.next_part(len(questions))
    if per_row == 1:
        return SideLosses(found, [])
    pairs = [PairLoss(a.total, b.total) for a, b in zip(found[::2], found[1::2], strict=True)]
    return SideLosses(found[::2], pairs)


def _ask(
    tuned: TunedModel, side: Side, questions: Sequence[Question], limit: int, watch: Watch
) -> list[GreedyAnswer | None]:
    """One side's answers to every row."""
    with tuned.as_side(side):
        found = answers(
            tuned,
            [question.prompt for question in questions],
            limit=limit,
            batch_size=tuned.recipe.evaluate.batch_size,
            watch=watch.at,
            expected=[question.reference_tokens for question in questions],
        )
    watch.next_part(len(questions))
    return found
