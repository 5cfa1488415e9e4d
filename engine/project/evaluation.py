"""The evaluation of a run as it is kept: figures of base and tuned model, the verdict, and every row's two answers.

The file is ``evaluation.json`` in the run's folder. Light: the window and the command line read it from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from pydantic import TypeAdapter, ValidationError

from engine.project.atomic import read_json, write_json
from engine.project.measures import MEASURES, Estimate, Group, Labels, Measure, Overlap
from engine.project.run_folder import RunFolder
from engine.protocol.errors import UserError
from engine.protocol.text import Text, say

EVALUATION_VERSION = 2
OFTEN_EXACT = 0.2
"""Share of exact answers from which on exact match says something of rows whose right answers are long."""


@dataclass(frozen=True, slots=True)
class Scores:
    """One model's figures. None where the metric does not apply; `Evaluation.notes` says why.

    Attributes:
        loss: nats per learned token.
        perplexity: exp(loss).
        token_accuracy: share of learned tokens that the model would have chosen, given the right text before them.
        exact_match: share of answers that are the reference answer.
        rouge_l: mean ROUGE-L F1 of the answers, 0 to 1.
        preference_accuracy: share of rows whose chosen answer is preferred; preference runs only.
        ranking_accuracy: share of rows whose chosen answer has the higher log-probability; preference runs only.
        rouge_1, rouge_2: mean F1 of words and pairs of words, 0 to 1.
        bleu, chrf: of all rows together, 0 to 100.
    """

    loss: float | None
    perplexity: float | None
    token_accuracy: float | None
    exact_match: float | None
    rouge_l: float | None
    preference_accuracy: float | None = None
    ranking_accuracy: float | None = None
    rouge_1: float | None = None
    rouge_2: float | None = None
    bleu: float | None = None
    chrf: float | None = None


@dataclass(frozen=True, slots=True)
class SideOfRow:
    """What one model did with one row. None where it does not apply (an answer: the row was too long to be asked)."""

    answer: str | None
    exact: bool | None
    rouge_l: float | None
    loss: float | None
    token_accuracy: float | None
    cut: bool = False
    rouge_1: float | None = None
    rouge_2: float | None = None
    bleu: float | None = None
    chrf: float | None = None


@dataclass(frozen=True, slots=True)
class EvaluatedRow:
    """One held-out row.

    Attributes:
        where: file and line.
        prompt: the last user turn.
        reference: the right answer (the chosen one in a preference row).
        base, tuned: what each model did.
        group: the key of its `Group` before small ones are put together; "" in an old file.
        label: the label that the right answer is, where answers are labels; else "".
    """

    where: str
    prompt: str
    reference: str
    base: SideOfRow
    tuned: SideOfRow
    group: str = ""
    label: str = ""

    @property
    def changed(self) -> bool:
        """Base and tuned gave different answers."""
        return self.base.answer != self.tuned.answer

    @property
    def gain(self) -> float:
        """How much better the tuned answer is, −2 to 2: exact match decides, then ROUGE-L (chrF where no word is)."""
        likeness = _likeness(self.tuned) - _likeness(self.base)
        if self.tuned.exact == self.base.exact:
            return likeness
        # Of two answers one of which is exact, the other cannot be the better one (it may have the same words).
        return 1 + max(0.0, likeness) if self.tuned.exact else -1 + min(0.0, likeness)

    @property
    def outcome(self) -> str:
        """``better``, ``worse`` or ``same``: the tuned answer against the base's; by the loss where none was asked."""
        gain = self.gain
        if self.base.answer is None or self.tuned.answer is None:
            gain = 0.0 if self.base.loss is None or self.tuned.loss is None else self.base.loss - self.tuned.loss
        return "same" if abs(gain) < 1e-9 else "better" if gain > 0 else "worse"


def _likeness(side: SideOfRow) -> float:
    """How like the right answer, 0 to 1."""
    return (side.chrf or 0.0) / 100 if side.rouge_l is None else side.rouge_l


@dataclass(frozen=True, slots=True)
class Comparison:
    """Rows on which tuned is better, worse, the same as base; ``p_value`` of the exact two-sided sign test."""

    better: int
    worse: int
    same: int
    p_value: float | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Was it worth it.

    Attributes:
        answers: by the answers (exact match first, ROUGE-L where that is equal).
        losses: by the rows' loss.
        changed: share of answers that the adapter changed; None when none was asked.
    """

    answers: Comparison
    losses: Comparison
    changed: float | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Base against tuned on held-out rows.

    Attributes:
        base, tuned: figures.
        verdict: rows better and worse.
        rows: every row measured, in the order of the held-out file.
        notes: metric → why it is None, or how it is to be read.
        held_out: rows in the held-out file; `rows` may be a sample of them.
        max_new_tokens: where answers were cut.
        seconds: how long it took.
        created: epoch seconds.
        measures: what applies of `MEASURES`, in its order, with intervals and tests; without both in an old file.
        headline: name of the measure that says most about this run's rows; "" where there is none.
        groups: by task or by column, the largest first; empty where answers were not asked.
        grouped_by: name of the rows' own column; "" for the kind of task.
        labels: where the right answers are labels.
        overlap: measured rows that occur in the training data; None where its files are gone.
        seed: of the sample of rows, of the resampling and of the tests.
        resamples: how often the rows were drawn again.
        tokenizer: sacrebleu's tokenizer that BLEU counts words by.
    """

    base: Scores
    tuned: Scores
    verdict: Verdict
    rows: tuple[EvaluatedRow, ...]
    notes: dict[str, Text] = field(default_factory=dict)
    held_out: int = 0
    max_new_tokens: int = 0
    seconds: float = 0.0
    created: float = 0.0
    version: int = EVALUATION_VERSION
    measures: tuple[Measure, ...] = ()
    headline: str = ""
    groups: tuple[Group, ...] = ()
    grouped_by: str = ""
    labels: Labels | None = None
    overlap: Overlap | None = None
    seed: int = 0
    resamples: int = 0
    tokenizer: str = ""

    @property
    def is_old(self) -> bool:
        """It was made by a version that gave no intervals: measure again to have them."""
        return self.version < EVALUATION_VERSION

    def measure(self, name: str) -> Measure | None:
        """The measure of this name; None where it does not apply."""
        return next((measure for measure in self.measures if measure.name == name), None)

    def best(self, count: int) -> tuple[EvaluatedRow, ...]:
        """Rows that gained most, best first; only rows that gained."""
        gained = [row for row in self.rows if row.gain > 0]
        return tuple(sorted(gained, key=lambda row: -row.gain)[:count])

    def worst(self, count: int) -> tuple[EvaluatedRow, ...]:
        """Rows that the tuned model answers worst, worst first: by ROUGE-L, then by loss; only rows not exact."""
        missed = [row for row in self.rows if not row.tuned.exact]
        return tuple(sorted(missed, key=lambda row: (row.tuned.rouge_l or 0.0, -(row.tuned.loss or 0.0)))[:count])

    def changed(self) -> tuple[EvaluatedRow, ...]:
        """Rows whose answers differ between base and tuned."""
        return tuple(row for row in self.rows if row.changed)


def write_evaluation(run: RunFolder, evaluation: Evaluation) -> None:
    """Keep the evaluation. Raises `UserError` when the disk does not take it."""
    write_json(run.evaluation, _adapter().dump_python(evaluation, mode="json"))


def read_evaluation(run: RunFolder) -> Evaluation | None:
    """The run's last evaluation, or None when there is none yet.

    Raises:
        UserError: the file is damaged.
    """
    if not run.evaluation.is_file():
        return None
    plain = read_json(run.evaluation)
    try:
        return _with_measures(_adapter().validate_python(plain))
    except ValidationError as error:
        raise UserError(
            "file.damaged",
            say("{name} is not an evaluation.", "{name} 不是有效的评估结果。", name=run.evaluation.name),
            say("Evaluate the run again.", "请重新评估这次训练。"),
            where=str(run.evaluation),
            details=str(error),
        ) from error


def _with_measures(found: Evaluation) -> Evaluation:
    """An old file's figures as measures, which have neither interval nor test."""
    if not found.is_old or found.measures:
        return found
    measures = []
    for name in MEASURES:
        base, tuned = getattr(found.base, name, None), getattr(found.tuned, name, None)
        if base is not None or tuned is not None:
            change = None if base is None or tuned is None else tuned - base
            measures.append(Measure(name, Estimate(base), Estimate(tuned), Estimate(change), rows=len(found.rows)))
    return replace(found, measures=tuple(measures), headline=headline_of(measures))


def headline_of(measures: Sequence[Measure], *, labels: bool = False, short: bool = True) -> str:
    """The measure that says most: of labels where there are, of exact answers where they can be expected or occur, else
    what there is.

    Args:
        labels: the right answers are labels.
        short: they are a few words, which can be met exactly.
    """
    there = {measure.name for measure in measures if measure.difference.value is not None}
    exact = short or any(measure.name == "exact_match" and exact_occurs(measure) for measure in measures)
    first = ("label_accuracy",) * labels + ("preference_accuracy",) + ("exact_match",) * exact
    return next((n for n in (*first, "rouge_l", "chrf", "exact_match", "token_accuracy", "loss") if n in there), "")


def exact_occurs(measure: Measure) -> bool:
    """One of the models often gives exactly the right answer, so that it says something to count these."""
    return max(measure.base.value or 0.0, measure.tuned.value or 0.0) >= OFTEN_EXACT


@cache
def _adapter() -> TypeAdapter[Evaluation]:
    return TypeAdapter(Evaluation)
