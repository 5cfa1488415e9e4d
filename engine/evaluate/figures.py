"""From rows' losses and answers to the rows that are kept, both models' figures, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from engine.data.check import NO_QUESTIONS
from engine.evaluate.answers import GreedyAnswer
from engine.evaluate.comparing import Measured, no_interval
from engine.evaluate.metrics import WordsAndCharacters, exact_match, mean_loss, rouge, share, tally
from engine.evaluate.ngrams import Counts, counts
from engine.evaluate.preference import PairLoss
from engine.evaluate.questions import Question
from engine.evaluate.score import TextLoss
from engine.model.tuned import SIDES, Side
from engine.project.evaluation import Comparison, EvaluatedRow, Scores, SideOfRow, Verdict
from engine.project.measures import FEWEST_FOR_INTERVAL, Labels, Measure
from engine.protocol.text import Text, say

NAMES: dict[Side, Text] = {"base": say("base model", "基础模型"), "tuned": say("tuned model", "微调模型")}
OF_ANSWERS = ("exact_match", "rouge_l", "chrf", "bleu", "rouge_1", "rouge_2")
"""Measures that need an answer."""


@dataclass(frozen=True, slots=True)
class SideLosses:
    """One side's losses: of each row's right answer, and of both answers where there are two."""

    texts: list[TextLoss]
    pairs: list[PairLoss]


def measured(
    questions: Sequence[Question],
    scored: dict[Side, SideLosses],
    asked: dict[Side, list[GreedyAnswer | None]],
    tokenizer: str,
    groups: Sequence[str] = (),
) -> Measured:
    """Every row with what both models did.

    Args:
        tokenizer: sacrebleu's, by which BLEU counts words.
        groups: key of each row's group.
    """
    references = [question.row.answer.strip() for question in questions]
    made: dict[Side, list[SideOfRow]] = {}
    found: dict[Side, list[Counts | None]] = {}
    for side in SIDES:
        found[side] = [
            None if answer is None else counts(reference, answer.text, tokenizer)
            for reference, answer in zip(references, asked[side], strict=True)
        ]
        parts = zip(references, scored[side].texts, asked[side], found[side], strict=True)
        made[side] = [_of_row(*part) for part in parts]
    keys = groups or [""] * len(questions)
    rows = [
        EvaluatedRow(question.row.where, question.row.question, question.row.answer, before, after, key)
        for question, before, after, key in zip(questions, made["base"], made["tuned"], keys, strict=True)
    ]
    words = [len(WordsAndCharacters().tokenize(reference)) for reference in references]
    losses = {side: scored[side].texts for side in SIDES}
    return Measured(rows, losses, found, {side: scored[side].pairs for side in SIDES}, words)


def _of_row(reference: str, loss: TextLoss, answer: GreedyAnswer | None, found: Counts | None) -> SideOfRow:
    of_loss = (mean_loss([loss.total], [loss.tokens]), share(loss.right, loss.tokens))
    if answer is None or found is None:
        return SideOfRow(None, None, None, *of_loss)
    likeness = rouge(reference, answer.text)
    return SideOfRow(
        answer.text,
        exact_match(reference, answer.text),
        likeness.longest,
        *of_loss,
        cut=answer.cut,
        rouge_1=likeness.one,
        rouge_2=likeness.two,
        bleu=found.sentence_bleu if found.bleu[1] else None,
        chrf=found.sentence_chrf if found.chrf[1] else None,
    )


def scores(measures: Sequence[Measure]) -> tuple[Scores, Scores]:
    """(base, tuned): the figures alone."""
    names = {field.name for field in fields(Scores)}
    nothing = dict.fromkeys(("loss", "perplexity", "token_accuracy", "exact_match", "rouge_l"))
    base = {measure.name: measure.base.value for measure in measures if measure.name in names}
    tuned = {measure.name: measure.tuned.value for measure in measures if measure.name in names}
    return Scores(**{**nothing, **base}), Scores(**{**nothing, **tuned})


def notes(base: Scores, tuned: Scores, rows: Sequence[EvaluatedRow], *, plain: int = 0) -> dict[str, Text]:
    """Why a measure is None, how many rows could not be asked, and how figures are to be read.

    Args:
        plain: how many rows are plain text, which asks nothing.
    """
    found = _missing({"base": base, "tuned": tuned})
    if tuned.preference_accuracy is not None:
        found["preference_accuracy"] = _PREFERENCE
    if len(rows) < FEWEST_FOR_INTERVAL:
        found["intervals"] = no_interval(len(rows))
    unasked = sum(row.tuned.answer is None for row in rows)
    if plain == len(rows):
        return {**found, **dict.fromkeys(OF_ANSWERS, NO_QUESTIONS)}
    if plain:
        found["exact_match"] = say(
            "{n} of {all} rows are plain text without questions and are left out.",
            "{all} 行中有 {n} 行是没有提问的纯文本，未计入。",
            n=plain,
            all=len(rows),
        )
    elif unasked == len(rows):
        found |= dict.fromkeys(OF_ANSWERS, found["exact_match"])
    elif unasked:
        found["exact_match"] = say(
            "{n} of {all} rows leave no room for an answer in the model's context and are left out.",
            "{all} 行中有 {n} 行占满了模型的上下文，无法作答，未计入。",
            n=unasked,
            all=len(rows),
        )
    silent = unasked < len(rows) and not any(row.tuned.answer for row in rows)
    if silent and not any(row.base.answer for row in rows):
        found["answers"] = say("Both models give empty answers only.", "两个模型给出的全是空回答。")
    elif silent:
        found["answers"] = say("The tuned model gives empty answers only.", "微调模型给出的全是空回答。")
    return found


def always_the_same(labels: Labels) -> Text:
    """What accuracy is to be held against."""
    return say(
        "Always answering “{one}”, the most frequent label, would be right on {share:.1%} of these rows.",
        "若总是回答最常见的标签“{one}”，这些行的正确率为 {share:.1%}。",
        one=labels.labels[0].name,
        share=labels.share_of_first,
    )


def _missing(sides: dict[Side, Scores]) -> dict[str, Text]:
    """Why a measure is None."""
    found: dict[str, Text] = {}
    for name, reason in _REASONS.items():
        missing = [NAMES[side] for side, scores in sides.items() if getattr(scores, name) is None]
        if missing:
            who = missing[0] if len(missing) == 1 else say("both models", "两个模型")
            found[name] = say("{reason} ({who}).", "{reason}（{who}）。", reason=reason, who=who)
    return found


_PREFERENCE = say(
    "Base: the chosen answer is likelier than the rejected one. Tuned: training raised the chosen answer's "
    "log-probability more than the rejected one's.",
    "基础模型：优选回答的概率高于劣选回答。微调模型：训练使优选回答的对数概率比劣选回答提高得更多。",
)


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
    "chrf": say("No reference answer has a letter to compare", "参考回答中没有可比较的字符"),
    "bleu": say("No reference answer has four words, which BLEU needs", "参考回答都不足四个词，无法计算 BLEU"),
}


def verdict(rows: Sequence[EvaluatedRow]) -> Verdict:
    """On how many rows the tuned model is better and worse."""
    asked = [row for row in rows if row.base.answer is not None and row.tuned.answer is not None]
    return Verdict(
        answers=_comparison([row.gain for row in asked]),
        losses=_comparison([_loss_gain(row) for row in rows]),
        changed=share(sum(row.changed for row in asked), len(asked)),
    )


def _loss_gain(row: EvaluatedRow) -> float | None:
    """Above 0: the tuned model's loss is lower."""
    return None if row.base.loss is None or row.tuned.loss is None else row.base.loss - row.tuned.loss


def _comparison(differences: Sequence[float | None]) -> Comparison:
    counted = tally(differences)
    return Comparison(counted.better, counted.worse, counted.same, counted.p_value)
