"""What is measured of base and tuned model: the measures by name, and a figure with its interval.

Light: the window, the report and the command line take names, scales and words from here.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.protocol.text import Text, say

FEWEST_FOR_INTERVAL = 10
"""Rows below which no interval is given: it would promise what so few rows cannot tell."""
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Kind:
    """What a measure is.

    Attributes:
        label: its name for people.
        term: the field's own word for it.
        help: one sentence: what it says.
        full: its highest value, 1.0 for a share and 100.0 for a score; None where it has none (loss, perplexity).
        more_is_better: whether a higher value is the better one.
    """

    label: Text
    term: str
    help: Text
    full: float | None = 1.0
    more_is_better: bool = True


MEASURES: dict[str, Kind] = {
    "exact_match": Kind(
        say("Exact match", "完全匹配"),
        "exact match",
        say(
            "Share of answers that are the right answer, letter by letter (white space aside).",
            "与参考答案逐字相同的回答所占比例（不计空白）。",
        ),
    ),
    "label_accuracy": Kind(
        say("Right label", "标签正确率"),
        "accuracy",
        say(
            "Share of answers that name the right label, case and final punctuation aside.",
            "给出正确标签的回答所占比例（不计大小写和末尾标点）。",
        ),
    ),
    "macro_f1": Kind(
        say("Macro-F1", "宏平均 F1"),
        "macro-F1",
        say(
            "Mean over the labels of the F1 of each, rare ones counting as much.",
            "各标签 F1 的平均，少见标签同等计入。",
        ),
    ),
    "rouge_l": Kind(
        say("ROUGE-L", "ROUGE-L"),
        "ROUGE-L F1",
        say(
            "Longest common sequence of words of answer and right answer (characters in Chinese).",
            "回答与参考答案的最长公共词序列（中文按字）。",
        ),
    ),
    "chrf": Kind(
        say("chrF", "chrF"),
        "chrF2",
        say(
            "Character sequences in common with the right answers, 0 to 100, over all rows together.",
            "与参考答案共有的字符序列，0 至 100，所有行合计。",
        ),
        100.0,
    ),
    "bleu": Kind(
        say("BLEU", "BLEU"),
        "BLEU-4",
        say(
            "Sequences of up to four words in common with the right answers, 0 to 100, over all rows together.",
            "与参考答案共有的一至四词序列，0 至 100，所有行合计。",
        ),
        100.0,
    ),
    "rouge_1": Kind(say("ROUGE-1", "ROUGE-1"), "ROUGE-1 F1", say("Words in common.", "共有的词。")),
    "rouge_2": Kind(say("ROUGE-2", "ROUGE-2"), "ROUGE-2 F1", say("Pairs of words in common.", "共有的二词序列。")),
    "preference_accuracy": Kind(
        say("Prefers the better answer", "偏好更好的回答"),
        "reward accuracy",
        say(
            "Base: the chosen answer is the likelier one. Tuned: training raised it more than the rejected one.",
            "基础模型：优选回答概率更高。微调模型：训练对优选回答的提升大于劣选回答。",
        ),
    ),
    "ranking_accuracy": Kind(
        say("Ranks the better answer first", "更好的回答排在前"),
        "ranking accuracy",
        say("Share of rows whose chosen answer is the likelier one.", "优选回答概率更高的行所占比例。"),
    ),
    "token_accuracy": Kind(
        say("Token accuracy", "词元准确率"),
        "token accuracy",
        say(
            "Share of learned tokens that the model would have chosen, given the right text before them.",
            "在给定正确上文时，模型会选中的学习词元所占比例。",
        ),
    ),
    "perplexity": Kind(
        say("Perplexity", "困惑度"),
        "perplexity",
        say(
            "Between how many tokens the model wavers, on average: e to the power of the loss.",
            "模型平均在多少个词元之间犹豫：e 的损失次方。",
        ),
        None,
        more_is_better=False,
    ),
    "loss": Kind(
        say("Loss", "损失"),
        "cross-entropy",
        say("Nats per learned token, as in training.", "每个学习词元的奈特数，与训练时相同。"),
        None,
        more_is_better=False,
    ),
}
"""Every measure, in the order in which they are shown."""

TESTS: dict[str, Text] = {
    "mcnemar": say("exact McNemar test", "精确 McNemar 检验"),
    "permutation": say("paired permutation test", "配对置换检验"),
}
"""How a p-value was found."""

INTERVALS: dict[str, Text] = {
    "bootstrap": say("bootstrap of the rows", "按行自助抽样"),
    "score": say("score interval of a share", "比例的得分区间"),
}
"""How an interval was found."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, and between what it lies with 95% confidence.

    Attributes:
        value: None where the measure does not apply.
        low, high: None where the rows are too few for an interval, or there is no value.
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    @property
    def half_width(self) -> float | None:
        """Half of the interval's width, what stands behind ±; None without interval."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure of both models.

    Attributes:
        name: a key of `MEASURES`.
        base, tuned: what each model has.
        difference: tuned − base, row by row on the same rows.
        p_value: of a paired test that both are equally good; None where nothing can be compared.
        rows: how many rows it rests on.
        test: a key of `TESTS`, "" without p-value.
        interval: a key of `INTERVALS`, "" without interval.
    """

    name: str
    base: Estimate
    tuned: Estimate
    difference: Estimate
    p_value: float | None = None
    rows: int = 0
    test: str = ""
    interval: str = ""

    @property
    def kind(self) -> Kind:
        """What it is; a plain one where a newer version measured what this one does not know."""
        return MEASURES.get(self.name) or Kind(say("{name}", "{name}", name=self.name), self.name, say("", ""), None)

    @property
    def is_better(self) -> bool | None:
        """Whether the tuned model is the better one; None where they are equal or one has no value."""
        change = self.difference.value
        return None if not change else (change > 0) == self.kind.more_is_better

    @property
    def is_clear(self) -> bool:
        """Whether the test finds the difference to be more than chance (p < 0.05)."""
        return self.p_value is not None and self.p_value < 1 - CONFIDENCE


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of one task, or with one value in the rows' own column, by the measure that suits them.

    Attributes:
        key: a key of `engine.data.quality.tasks.TASKS`, the column's value, or "other".
        name: what people read.
        rows: how many; groups of fewer than five are in "other".
        measure: exact match where answers are short or often exact, chrF for translation, else ROUGE-L.
    """

    key: str
    name: Text
    rows: int
    measure: Measure


@dataclass(frozen=True, slots=True)
class Label:
    """One label among the right answers.

    Attributes:
        name: the label.
        rows: how many rows have it as right answer.
        base, tuned: share of these that each model answers with it (recall).
    """

    name: str
    rows: int
    base: float
    tuned: float


@dataclass(frozen=True, slots=True)
class Labels:
    """Where the right answers are a few short texts, each many times.

    Attributes:
        labels: the most frequent first, L of them.
        accuracy, macro_f1: of both models.
        base, tuned: confusion, L rows (right label) of L + 1 counts (label answered; the last: none of them).
    """

    labels: tuple[Label, ...]
    accuracy: Measure
    macro_f1: Measure
    base: tuple[tuple[int, ...], ...]
    tuned: tuple[tuple[int, ...], ...]

    @property
    def share_of_first(self) -> float:
        """What always answering the most frequent label would get right, 0 to 1; 0 without labels."""
        rows = sum(label.rows for label in self.labels)
        return self.labels[0].rows / rows if rows else 0.0

    @property
    def no_better_than_one(self) -> bool:
        """The tuned model names no more rows right than the most frequent label alone would."""
        accuracy = self.accuracy.tuned.value
        return accuracy is not None and accuracy <= self.share_of_first


@dataclass(frozen=True, slots=True)
class Overlap:
    """Held-out rows that also occur in the training data.

    Attributes:
        rows: measured rows whose question and answer both stand in one training row.
        questions: measured rows whose question stands in a training row, whatever its answer; ``rows`` among them.
        of: how many rows were measured.
    """

    rows: int
    questions: int
    of: int
