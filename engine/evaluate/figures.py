"""From rows' losses and answers to the figures of both models, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine.data.check import NO_QUESTIONS
from engine.evaluate.answers import GreedyAnswer
from engine.evaluate.metrics import exact_match, mean, mean_loss, perplexity, rouge_l, share, tally
from engine.evaluate.preference import PairLoss, preference_accuracy, ranking_accuracy
from engine.evaluate.questions import Question
from engine.evaluate.score import TextLoss
from engine.model.tuned import SIDES, Side
from engine.project.evaluation import Comparison, EvaluatedRow, Scores, SideOfRow, Verdict
from engine.protocol.text import Text, say

NAMES: dict[Side, Text] = {"base": say("base model", "基础模型"), "tuned": say("tuned model", "微调模型")}


@dataclass(frozen=True, slots=True)
class SideLosses:
    """One side's losses: of each row's right answer, and of both answers where there are two."""

    texts: list[TextLoss]
    pairs: list[PairLoss]


def rows(
    questions: Sequence[Question], scored: dict[Side, SideLosses], asked: dict[Side, list[GreedyAnswer | None]]
) -> tuple[EvaluatedRow, ...]:
    """Every row with what both models did."""
    base, tuned = (
        [_of_row(*three) for three in zip(questions, scored[side].texts, asked[side], strict=True)] for side in SIDES
    )
    return tuple(
        EvaluatedRow(question.row.where, question.row.question, question.row.answer, before, after)
        for question, before, after in zip(questions, base, tuned, strict=True)
    )


def _of_row(question: Question, loss: TextLoss, answer: GreedyAnswer | None) -> SideOfRow:
    reference = question.row.answer.strip()
    return SideOfRow(
        answer=None if answer is None else answer.text,
        exact=None if answer is None else exact_match(reference, answer.text),
        rouge_l=None if answer is None else rouge_l(reference, answer.text),
        loss=mean_loss([loss.total], [loss.tokens]),
        token_accuracy=share(loss.right, loss.tokens),
        cut=answer is not None and answer.cut,
    )


def scores(
    measured: Sequence[EvaluatedRow], scored: dict[Side, SideLosses], *, plain: int = 0
) -> tuple[Scores, Scores, dict[str, Text]]:
    """(base, tuned, notes): the figures of both models, and why a metric is None.

    Args:
        measured, scored: the rows, and both sides' losses of them.
        plain: how many of them are plain text, which asks nothing.
    """
    base, tuned = (_scores([getattr(row, side) for row in measured], scored[side].texts) for side in SIDES)
    notes = _notes({"base": base, "tuned": tuned}, measured, plain)
    pairs = {side: scored[side].pairs for side in SIDES}
    if pairs["base"]:
        ranking = {side: ranking_accuracy(pairs[side]) for side in SIDES}
        preferred = preference_accuracy(pairs["base"], pairs["tuned"])
        base = replace(base, preference_accuracy=ranking["base"], ranking_accuracy=ranking["base"])
        tuned = replace(tuned, preference_accuracy=preferred, ranking_accuracy=ranking["tuned"])
        notes["preference_accuracy"] = say(
            "Base: the chosen answer is likelier than the rejected one. Tuned: training raised the chosen answer's "
            "log-probability more than the rejected one's.",
            "基础模型：优选回答的概率高于劣选回答。微调模型：训练使优选回答的对数概率比劣选回答提高得更多。",
        )
    return base, tuned, notes


def _scores(sides: Sequence[SideOfRow], texts: Sequence[TextLoss]) -> Scores:
    loss = mean_loss([text.total for text in texts], [text.tokens for text in texts])
    return Scores(
        loss=loss,
        perplexity=perplexity(loss),
        token_accuracy=share(sum(text.right for text in texts), sum(text.tokens for text in texts)),
        exact_match=mean(None if side.exact is None else float(side.exact) for side in sides),
        rouge_l=mean(side.rouge_l for side in sides),
    )


def _notes(sides: dict[Side, Scores], measured: Sequence[EvaluatedRow], plain: int) -> dict[str, Text]:
    """Why a metric is None, and how many rows could not be asked."""
    if plain == len(measured):
        without = dict.fromkeys(("exact_match", "rouge_l"), NO_QUESTIONS)
        return {**{n: text for n, text in _missing(sides).items() if n not in without}, **without}
    notes = _missing(sides)
    unasked = sum(row.tuned.answer is None for row in measured)
    if plain:
        notes["exact_match"] = say(
            "{n} of {all} rows are plain text without questions and are left out.",
            "{all} 行中有 {n} 行是没有提问的纯文本，未计入。",
            n=plain,
            all=len(measured),
        )
    elif unasked and "exact_match" not in notes:
        notes["exact_match"] = say(
            "{n} of {all} rows leave no room for an answer in the model's context and are left out.",
            "{all} 行中有 {n} 行占满了模型的上下文，无法作答，未计入。",
            n=unasked,
            all=len(measured),
        )
    return notes


def _missing(sides: dict[Side, Scores]) -> dict[str, Text]:
    """Why a metric is None."""
    notes: dict[str, Text] = {}
    for name, reason in _REASONS.items():
        missing = [NAMES[side] for side, scores in sides.items() if getattr(scores, name) is None]
        if missing:
            who = missing[0] if len(missing) == 1 else say("both models", "两个模型")
            notes[name] = say("{reason} ({who}).", "{reason}（{who}）。", reason=reason, who=who)
    return notes


_REASONS: dict[str, Text] = {
    "loss": say("The loss is not a finite number", "损失不是有限的数"),
    "perplexity": say(
        "The loss is too large, or no number, so that exp(loss) has no value", "损失过大或无效，exp(损失) 没有值"
    ),
    "token_accuracy": say("No token was to be learned", "没有需要学习的词元"),
    "exact_match": say(
        "No row leaves room for an answer in the model's context", "没有一行能在模型的上下文中留出作答空间"
    ),
    "rouge_l": say("No reference answer has a word to compare", "参考回答中没有可比较的词"),
}


def verdict(measured: Sequence[EvaluatedRow]) -> Verdict:
    """On how many rows the tuned model is better and worse."""
    asked = [row for row in measured if row.base.answer is not None and row.tuned.answer is not None]
    return Verdict(
        answers=_comparison([_answer_gain(row) for row in asked]),
        losses=_comparison([_loss_gain(row) for row in measured]),
        changed=share(sum(row.changed for row in asked), len(asked)),
    )


def _answer_gain(row: EvaluatedRow) -> float | None:
    """Above 0: the tuned answer is better. Exact match decides; where it is equal, ROUGE-L."""
    exact = float(bool(row.tuned.exact)) - float(bool(row.base.exact))
    if exact:
        return exact
    if row.tuned.rouge_l is None or row.base.rouge_l is None:
        return 0.0
    return row.tuned.rouge_l - row.base.rouge_l


def _loss_gain(row: EvaluatedRow) -> float | None:
    """Above 0: the tuned model's loss is lower."""
    return None if row.base.loss is None or row.tuned.loss is None else row.base.loss - row.tuned.loss


def _comparison(differences: Sequence[float | None]) -> Comparison:
    counted = tally(differences)
    return Comparison(counted.better, counted.worse, counted.same, counted.p_value)
