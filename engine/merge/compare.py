"""Counting how far two models say the same; differences at a near tie are counted apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from engine.export.parity import HINTS, KINDS, NEAR_TIE, NEAR_TIE_BF16, Difference, Parity, limits_of
from engine.merge.asked import early_end, no_end
from engine.merge.reference import Choice
from engine.protocol.text import NOTHING, Text, say


@dataclass(slots=True)
class Agreement:
    """Counts over all prompts.

    Attributes:
        tie: two best tokens that lie closer than this (logits) are a near tie.
        rows: prompts compared along an answer.
        tokens, same, near: places compared teacher-forced, of them equal, of them different at a near tie.
        prompts, equal, near_prompts: greedy answers compared, of them equal, of them first different at a near tie.
        different: indices of prompts whose greedy answers differ for real.
        late, early: ids of tokens that ended answers on one side only: in the reference, in the other.
        said, loss, loss_found: places with a known log-probability of the true token, and the sums of -log p.
    """

    tie: float = NEAR_TIE
    rows: int = 0
    tokens: int = 0
    same: int = 0
    near: int = 0
    prompts: int = 0
    equal: int = 0
    near_prompts: int = 0
    different: list[int] = field(default_factory=list)
    late: list[int] = field(default_factory=list)
    early: list[int] = field(default_factory=list)
    said: int = 0
    loss: float = 0.0
    loss_found: float = 0.0

    def add_forced(self, reference: Sequence[Choice], other: Sequence[Choice]) -> None:
        """Count one prompt's places along the reference answer."""
        self.rows += 1
        for ours, theirs in zip(reference, other, strict=True):
            self.tokens += 1
            if ours.token == theirs.token:
                self.same += 1
            elif min(ours.margin, theirs.margin) <= self.tie:
                self.near += 1
            if not (math.isnan(ours.given) or math.isnan(theirs.given)):
                self.said += 1
                self.loss -= ours.given
                self.loss_found -= theirs.given

    def add_greedy(
        self, reference: Sequence[Choice], other: Sequence[Choice], *, ended: tuple[bool, bool] | None = None
    ) -> None:
        """Count one prompt's own answers, equal in every token and in length.

        Args:
            ended: whether each ended by itself; where the same tokens end on one side only, the stop differs and not
                the weights. None where that is not known.
        """
        self.prompts += 1
        pairs = list(zip(reference, other, strict=False))
        first = next((pair for pair in pairs if pair[0].token != pair[1].token), None)
        if first is None and ended is not None and pairs:
            self._count_end(reference, other, ended)
            self.equal += 1
        elif first is None and len(reference) == len(other):
            self.equal += 1
        elif first is not None and min(first[0].margin, first[1].margin) <= self.tie:
            self.near_prompts += 1
        else:
            self.different.append(self.prompts - 1)

    def _count_end(self, reference: Sequence[Choice], other: Sequence[Choice], ended: tuple[bool, bool]) -> None:
        """Both say the same as far as the shorter goes; one that was cut short there did not end."""
        ours, theirs = ended
        if ours and (len(other) > len(reference) or (len(other) == len(reference) and not theirs)):
            self.late.append(reference[-1].token)
        elif theirs and (len(other) < len(reference) or (len(other) == len(reference) and not ours)):
            self.early.append(other[-1].token)

    @property
    def share(self) -> float:
        """Equal places among those that are no near tie, 0 to 1."""
        counted = self.tokens - self.near
        return self.same / counted if counted else 1.0

    @property
    def greedy_share(self) -> float:
        """Equal greedy answers among those that no near tie parted, 0 to 1."""
        counted = self.prompts - self.near_prompts
        return self.equal / counted if counted else 1.0

    @property
    def perplexities(self) -> tuple[float, float] | None:
        """Of the true tokens: the reference's and the other's; None where no probability is known."""
        if not self.said:
            return None
        return math.exp(min(700.0, self.loss / self.said)), math.exp(min(700.0, self.loss_found / self.said))


def counting(precision: str) -> Agreement:
    """Counts against a reference in "fp32" or "bf16", whose own rounding makes more near ties."""
    return Agreement(NEAR_TIE if precision == "fp32" else NEAR_TIE_BF16)


def judged(
    about: Parity, agreement: Agreement | None, differs: Sequence[Difference], spell: Callable[[int], str]
) -> Parity:
    """The result of a check.

    Args:
        about: what is known besides: type, runtime, reference, and why nothing was asked.
        agreement: the counts, None where base and adapter could not be asked.
        differs: what differs in tokenizer, template and stop.
        spell: the text of a token, for sentences.
    """
    found = list(differs)
    result = replace(about, limits=limits_of(about.type, about.reference))
    if agreement is not None:
        if not any(item.kind == "stop" for item in found):
            found += [no_end(spell(token)) for token in agreement.late[:1]]
            found += [early_end(spell(token)) for token in agreement.early[:1]]
        result = _with(result, agreement)
        found += _weights(result, agreement)
        if not agreement.tokens and not found:
            result = replace(result, reason=say("there was nothing to ask", "没有可用于提问的内容"))
    found.sort(key=lambda item: KINDS.index(item.kind))
    kinds = {item.kind for item in found}
    measured = agreement is not None and agreement.tokens > 0
    return replace(
        result,
        passed=False if found else (True if measured else None),
        differs=tuple(found),
        reason=NOTHING if found or measured else result.reason,
        tokenizer_equal=None if "file" in kinds else "tokenizer" not in kinds,
        template_equal=None if "file" in kinds else "template" not in kinds,
        stops_equal="stop" not in kinds if measured or "stop" in kinds else None,
    )


def _with(result: Parity, agreement: Agreement) -> Parity:
    perplexity, found = agreement.perplexities or (None, None)
    return replace(
        result,
        prompts=agreement.rows,
        tokens=agreement.tokens,
        near_ties=agreement.near,
        agreement=agreement.share if agreement.tokens else None,
        greedy_prompts=agreement.prompts,
        greedy_equal=agreement.greedy_share if agreement.prompts else None,
        greedy_near_ties=agreement.near_prompts,
        perplexity=perplexity,
        perplexity_found=found,
    )


def _weights(result: Parity, agreement: Agreement) -> list[Difference]:
    """What the figures say of the weights: the worst first, one sentence."""
    limits = result.limits
    assert limits is not None
    told: Text | None = None
    change = result.perplexity_change
    if not _enough(agreement.same, agreement.tokens - agreement.near, limits.next_token):
        told = say(
            "{share:.1%} of its next tokens agree with what was trained ({limit:.1%} needed).",
            "与训练结果的下一词元一致率仅 {share:.1%}（要求 {limit:.1%}）。",
            share=agreement.share,
            limit=limits.next_token,
        )
    elif change is not None and not abs(change) <= limits.perplexity:
        told = say(
            "Its perplexity is {found:.3f} where what was trained has {ours:.3f}: {change:+.1%} (at most {limit:.1%}).",
            "其困惑度为 {found:.3f}，训练结果为 {ours:.3f}：相差 {change:+.1%}（最多 {limit:.1%}）。",
            found=result.perplexity_found,
            ours=result.perplexity,
            change=change,
            limit=limits.perplexity,
        )
    elif not _enough(agreement.equal, agreement.prompts - agreement.near_prompts, limits.greedy):
        told = say(
            "{share:.0%} of its own answers begin as those of what was trained ({limit:.0%} needed).",
            "仅 {share:.0%} 的自由回答与训练结果开头一致（要求 {limit:.0%}）。",
            share=agreement.greedy_share,
            limit=limits.greedy,
        )
    return [] if told is None else [Difference("weights", told, _hint(result.type))]


def _enough(equal: int, counted: int, share: float) -> bool:
    """Whether enough are equal; one may always differ, for of a few a single one would count too much."""
    return counted - equal <= max(1, math.floor((1.0 - share) * counted + 1e-9))


def _hint(kind: str) -> Text:
    if limits_of(kind).next_token < limits_of("Q8_0").next_token:
        return say("Choose a larger type, such as Q8_0 or F16.", "请选择更大的类型，例如 Q8_0 或 F16。")
    return HINTS["weights"]
