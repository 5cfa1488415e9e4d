"""What a judge model said of base against tuned, as it is kept: ``judgement.json`` in the run's folder. Light.

The judge's key is never part of it, nor of the recipe: see `engine.project.judge_access`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.project.records import read_record, write_record
from engine.project.run_folder import RunFolder
from engine.protocol.text import NOTHING, Text, say

JUDGEMENT_VERSION = 1
Winner = Literal["base", "tuned", "tie", "none"]


@dataclass(frozen=True, slots=True)
class JudgedRow:
    """One row, asked twice: once with the base model's answer first, once with the tuned model's.

    Attributes:
        where: file and line.
        prompt, base, tuned: the question and both answers.
        winner: both times the same one; "tie" where the judge called it one or contradicted itself; "none" where it
            could not be asked or read.
        base_first, tuned_first: who won with that order.
        reason: the judge's words for the first order; a stranger's text.
        problem: why there is no verdict; empty where there is one.
    """

    where: str
    prompt: str
    base: str
    tuned: str
    winner: Winner
    base_first: Winner = "none"
    tuned_first: Winner = "none"
    reason: str = ""
    problem: Text = NOTHING

    @property
    def contradicted(self) -> bool:
        """The order decided: the judge named another winner when it was turned round."""
        return {self.base_first, self.tuned_first} == {"base", "tuned"}


@dataclass(frozen=True, slots=True)
class Judgement:
    """Wins, ties and losses of the tuned model.

    Attributes:
        model, address: who judged; the address without what is secret.
        rows: every row asked, in the order of the evaluation.
        wins, ties, losses: rows on which tuned is better, neither is, base is.
        unjudged: rows without a verdict.
        share, low, high: wins among the rows that were decided, with its exact 95% interval (Clopper and Pearson 1934).
        p_value: of the exact two-sided binomial test against 1/2; None when no row was decided.
        first_share: how often the answer shown first won, of the verdicts that named one: 0.5 without position bias.
        first_p_value: whether that differs from 0.5 by more than chance (exact binomial test).
        contradictions: rows on which the order decided.
        requests: calls made; prompt_tokens, answer_tokens: what the endpoint counted, 0 where it does not say.
        seed: sent with each call, and of the sample of rows.
        seconds, created: how long it took; epoch seconds.
    """

    model: str
    address: str
    rows: tuple[JudgedRow, ...]
    wins: int
    ties: int
    losses: int
    unjudged: int
    share: float | None
    low: float | None
    high: float | None
    p_value: float | None
    first_share: float | None
    first_p_value: float | None
    contradictions: int
    requests: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    seed: int = 0
    seconds: float = 0.0
    created: float = 0.0
    version: int = JUDGEMENT_VERSION

    @property
    def sentence(self) -> Text:
        """The verdict in one sentence."""
        counts = {"wins": self.wins, "losses": self.losses, "ties": self.ties, "model": self.model}
        if self.p_value is None or self.wins == self.losses:
            return say(
                "{model} sees no difference: {wins} wins, {losses} losses, {ties} ties.",
                "{model} 未看出差别：胜 {wins}，负 {losses}，平 {ties}。",
                **counts,
            )
        if self.p_value >= 0.05:
            return say(
                "{model} is undecided: {wins} wins, {losses} losses, {ties} ties, which may be chance.",
                "{model} 无法确定：胜 {wins}，负 {losses}，平 {ties}，可能出于偶然。",
                **counts,
            )
        if self.wins > self.losses:
            return say(
                "{model} finds the tuned model better: {wins} wins, {losses} losses, {ties} ties.",
                "{model} 认为微调模型更好：胜 {wins}，负 {losses}，平 {ties}。",
                **counts,
            )
        return say(
            "{model} finds the base model better: {losses} wins of it, {wins} of the tuned model, {ties} ties.",
            "{model} 认为基础模型更好：基础胜 {losses}，微调胜 {wins}，平 {ties}。",
            **counts,
        )

    @property
    def is_biased(self) -> bool:
        """The judge prefers a place more than chance would."""
        return self.first_p_value is not None and self.first_p_value < 0.05


def write_judgement(run: RunFolder, judgement: Judgement) -> None:
    """Keep it. Raises `UserError` when the disk does not take it."""
    write_record(run.judgement, judgement)


def read_judgement(run: RunFolder) -> Judgement | None:
    """What the judge said, or None when none was asked yet. Raises `UserError` when the file is damaged."""
    return read_record(run.judgement, Judgement, again=say("Ask the judge again.", "请重新请评审模型评判。"))
