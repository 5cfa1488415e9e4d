"""How an export agrees with what was trained: what was measured, against which limits, and what differs. Light.

Every export is held against base and adapter in 32-bit floats, through the runtime that people will use it with:

- **next token**: along the reference answers of held-out rows, the share of places where both prefer the same token
- **greedy**: the share of prompts where the first `GREEDY_TOKENS` tokens that both write by themselves are equal
- **perplexity**: of the held-out answers, and how far the export's lies from it, relatively
- **tokenizer**: awkward texts, added tokens and the rows themselves are cut into the same tokens
- **template**: conversations are written in the same way
- **stop**: an answer ends where it ended in training
- **weights**: of merged weights, each tensor is base and adapter (`engine.merge.same_weights`)

A *near tie* is a place where the best two next tokens lie within `NEAR_TIE` of each other (in logits) for either side:
rounding decides there, so a difference counts neither for nor against. It is counted apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from engine.protocol.errors import Failure, Problem
from engine.protocol.events import Note
from engine.protocol.text import NOTHING, Text, as_text, say

NEAR_TIE = 0.05
NEAR_TIE_BF16 = 0.25
"""The same where memory holds base and adapter only in bf16, whose own rounding moves logits so far."""
GREEDY_TOKENS = 32

Kind = Literal["weights", "template", "stop", "tokenizer", "file"]
KINDS: tuple[Kind, ...] = ("file", "tokenizer", "template", "stop", "weights")


@dataclass(frozen=True, slots=True)
class Limits:
    """What an export must keep.

    Attributes:
        next_token: least share (0 to 1) of equal next tokens; one place may always differ.
        greedy: least share of prompts whose first greedy tokens are equal; one prompt may always differ. 0: told only.
        perplexity: greatest relative difference of the perplexity (0.01 is 1%).
    """

    next_token: float
    greedy: float
    perplexity: float


# F16, Q8_0 and Q4_K_M are promises; the others are the worst of five small models and a margin, measured by
# tests/bench/bench_gguf_parity.py. The table is in docs/user-guide.md, too.
LIMITS: dict[str, Limits] = {
    "adapter": Limits(0.999, 0.95, 0.002),
    "merged": Limits(0.99, 0.90, 0.01),
    "F32": Limits(0.999, 0.95, 0.002),
    "F16": Limits(0.995, 0.95, 0.005),
    "BF16": Limits(0.99, 0.90, 0.01),
    "Q8_0": Limits(0.98, 0.80, 0.01),
    "Q6_K": Limits(0.97, 0.0, 0.02),
    "Q5_K_M": Limits(0.90, 0.0, 0.04),
    "Q4_K_M": Limits(0.85, 0.0, 0.06),
    "Q4_0": Limits(0.75, 0.0, 0.15),
    "IQ4_XS": Limits(0.78, 0.0, 0.10),
    "Q3_K_M": Limits(0.75, 0.0, 0.15),
    "Q2_K": Limits(0.60, 0.0, 0.40),
}


def limits_of(name: str, reference: str = "fp32") -> Limits:
    """The limits of a GGUF type ("Q4_K_M", in any case), of "merged" or of "adapter"; of an unknown type the widest.

    Args:
        reference: precision of base and adapter; what bf16 itself does not keep cannot be asked of an export.
    """
    found = LIMITS.get(name) or LIMITS.get(name.upper()) or LIMITS["Q2_K"]
    if reference != "bf16":
        return found
    least = LIMITS["BF16"]
    return Limits(
        min(found.next_token, least.next_token),
        min(found.greedy, least.greedy),
        max(found.perplexity, least.perplexity),
    )


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it was trained.

    Attributes:
        kind: "weights", "template", "stop", "tokenizer", or "file" where the runtime does not load it.
        text: what differs, a sentence.
        hint: what to do about it.
    """

    kind: Kind
    text: Text
    hint: Text = NOTHING


@dataclass(frozen=True, slots=True)
class Parity:
    """The result of one check; what was not measured is None.

    Attributes:
        passed: True: it is what was trained. False: do not use it. None: not checked, `reason` says why.
        type: what the limits are for: a GGUF type, "merged" or "adapter"; empty in old ledgers.
        prompts: how many were asked.
        held_out: they are the run's held-out rows; else general prompts.
        tokens, near_ties: places compared along the answers, and of these the different ones at a near tie.
        agreement: share of equal next tokens, near ties apart.
        greedy_prompts, greedy_equal, greedy_near_ties: prompts answered freely, the share of them with equal first
            tokens, those apart that a near tie parted, and how many these were.
        perplexity, perplexity_found: of base and adapter, and of the export.
        limits: what `agreement`, `greedy_equal` and the perplexities are held against.
        tokenizer_equal, template_equal, stops_equal: the other checks.
        differs: what is not as trained, the cause before its consequences.
        reason: why nothing was checked, and what would be needed.
        seconds: how long the check took.
        runtime: name and version of what ran the export ("llama.cpp 2026.10.11549").
        reference: precision of base and adapter, "fp32" or "bf16".
        time: when it was checked, seconds since the epoch.
    """

    passed: bool | None = None
    type: str = ""
    prompts: int = 0
    held_out: bool = True
    tokens: int = 0
    near_ties: int = 0
    agreement: float | None = None
    greedy_prompts: int = 0
    greedy_equal: float | None = None
    greedy_near_ties: int = 0
    perplexity: float | None = None
    perplexity_found: float | None = None
    limits: Limits | None = None
    tokenizer_equal: bool | None = None
    template_equal: bool | None = None
    stops_equal: bool | None = None
    differs: tuple[Difference, ...] = ()
    reason: Text = NOTHING
    seconds: float = 0.0
    runtime: str = ""
    reference: str = ""
    time: float = 0.0

    @property
    def perplexity_change(self) -> float | None:
        """How far the export's perplexity lies from that of base and adapter, relatively (0.01: 1% higher)."""
        if not self.perplexity or self.perplexity_found is None:
            return None
        return self.perplexity_found / self.perplexity - 1.0

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What differs, each kind once."""
        return tuple(dict.fromkeys(item.kind for item in self.differs))

    def to_plain(self) -> dict[str, Any]:
        """As JSON holds it. Has "limit" too, which older versions read."""
        plain = {item.name: _plain(getattr(self, item.name)) for item in fields(self)}
        plain["limit"] = self.limits.next_token if self.limits else None
        if not self.reason:
            del plain["reason"]
        return plain

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Parity:
        """From a ledger's mapping, of any version; what is missing or of the wrong kind is as if not measured."""
        found: dict[str, Any] = {}
        for item in fields(cls):
            reader = _READERS.get(item.name)
            value = reader(plain[item.name]) if reader and item.name in plain else None
            if value is not None:
                found[item.name] = value
        if "limits" not in found and (least := _number(plain.get("limit"))) is not None:
            found["limits"] = Limits(least, 0.0, math.inf)
        return cls(**found)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, (Text, Difference, Limits)):
        return asdict(value)
    return value


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _truth(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _limits(value: Any) -> Limits | None:
    if not isinstance(value, Mapping):
        return None
    found = [_number(value.get(item.name)) for item in fields(Limits)]
    return None if None in found else Limits(*(number for number in found if number is not None))


def _differs(value: Any) -> tuple[Difference, ...]:
    items = value if isinstance(value, (list, tuple)) else ()
    return tuple(
        Difference(item["kind"], as_text(item.get("text", "")), as_text(item.get("hint", "")))
        for item in items
        if isinstance(item, Mapping) and item.get("kind") in KINDS
    )


_READERS: dict[str, Any] = {
    **dict.fromkeys(("passed", "held_out", "tokenizer_equal", "template_equal", "stops_equal"), _truth),
    **dict.fromkeys(("type", "runtime", "reference"), _word),
    **dict.fromkeys(("prompts", "greedy_prompts", "tokens", "near_ties", "greedy_near_ties"), _count),
    **dict.fromkeys(
        ("agreement", "greedy_equal", "perplexity", "perplexity_found", "seconds", "time"), _number
    ),
    "limits": _limits,
    "differs": _differs,
    "reason": as_text,
}  # fmt: skip

_AGAIN = say("Export again; if it happens again, export as F16 or take the merged weights.",
             "请重新导出；若仍如此，请导出为 F16 或使用合并后的权重。")  # fmt: skip
HINTS: dict[Kind, Text] = {
    "weights": _AGAIN,
    "tokenizer": say(
        "Take the merged weights for transformers or vLLM; this runtime would read texts otherwise than in training.",
        "请改用合并后的权重（transformers 或 vLLM）；此运行环境的分词与训练时不同。",
    ),
    "template": say(
        "Export again from the run; elsewhere, give the runtime the template of the run's adapter folder.",
        "请从该次训练重新导出；在其他工具中，请使用适配器文件夹里的对话模板。",
    ),
    "stop": say(
        "Export again from the run; elsewhere, set the stop token of the training by hand.",
        "请从该次训练重新导出；在其他工具中，请手动设置训练所用的结束词元。",
    ),
    "file": say("Export again.", "请重新导出。"),
}


def difference(kind: Kind, text: Text) -> Difference:
    """A difference with the hint of its kind."""
    return Difference(kind, text, HINTS[kind])


def sentence(parity: Parity) -> Text:
    """What a person must read of a check, in one sentence."""
    if parity.passed is None:
        reason = parity.reason or say("no check was made", "没有进行检查")
        return say("Not checked: {reason}.", "未检查：{reason}。", reason=reason)
    if parity.passed:
        return say("Checked: it is what you trained.", "已检查：与训练结果一致。")
    what = parity.differs[0].text if parity.differs else parity.reason
    if what:
        return say("Do not use it: {what}", "请勿使用：{what}", what=what)
    return say("Do not use it: it differs from what you trained.", "请勿使用：与训练结果不一致。")


def refusal(parity: Parity) -> Failure | None:
    """What a command ends with whose work was done, but came out other than what was trained; None where it did not."""
    if parity.passed is not False:
        return None
    hint = parity.differs[0].hint if parity.differs else HINTS["weights"]
    problems = tuple(Problem(f"differs.{item.kind}", item.text, item.hint, item.kind) for item in parity.differs)
    return Failure("export.differs", sentence(parity), hint, problems=problems)


def figures(parity: Parity) -> list[Text]:
    """Its figures with their limits, a line each; nothing where nothing was measured."""
    limits, found = parity.limits, []
    if parity.agreement is not None:
        line = say("{share:.2%} of next tokens agree", "{share:.2%} 的下一词元一致", share=parity.agreement)
        least = say(" (at least {least:.1%})", "（至少 {least:.1%}）", least=limits.next_token) if limits else NOTHING
        ties = say("; {count} near ties apart", "；另有 {count} 处近乎持平", count=parity.near_ties)
        found.append(say("{line}{least}{ties}.", "{line}{least}{ties}。", line=line, least=least, ties=ties))
    change = parity.perplexity_change
    if change is not None:
        line = say("Perplexity {change:+.2%}", "困惑度 {change:+.2%}", change=change)
        most = say(" (within {most:.1%})", "（上下 {most:.1%} 以内）", most=limits.perplexity) if limits else NOTHING
        found.append(say("{line}{most}.", "{line}{most}。", line=line, most=most))
    if parity.greedy_equal is not None:
        found.append(
            say(
                "{share:.0%} of free answers begin with the same {count} tokens.",
                "{share:.0%} 的自由回答前 {count} 个词元相同。",
                share=parity.greedy_equal,
                count=GREEDY_TOKENS,
            )
        )
    return found


def doubt(parity: Parity, code: str = "export") -> Note | None:
    """What is told of a thing that is not known to be right; None where it is.

    Args:
        code: the note's code begins with it.
    """
    if parity.passed:
        return None
    word = "unchecked" if parity.passed is None else "differs"
    return Note(text=sentence(parity), level="warning", code=f"{code}.{word}")
