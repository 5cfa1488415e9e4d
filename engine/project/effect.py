"""Whether an adapter does anything at all, as it is kept: ``effect.json`` in the run's folder. Light."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.project.records import read_record, write_record
from engine.project.run_folder import RunFolder
from engine.protocol.text import NOTHING, Text, say

EFFECT_VERSION = 1
NOTICEABLE = 1e-4
"""Mean total variation of next-token probabilities below which nobody would notice a difference."""


@dataclass(frozen=True, slots=True)
class Part:
    """A kind of module ("q_proj"), or a layer ("7").

    Attributes:
        name: of the part.
        modules: how many modules it has that the adapter changes.
        delta: ‖ΔW‖, Frobenius norm of the change over them.
        base: ‖W‖ of the same base weights.
    """

    name: str
    modules: int
    delta: float
    base: float

    @property
    def share(self) -> float | None:
        """‖ΔW‖ / ‖W‖; None where the base weights are all 0."""
        return self.delta / self.base if self.base else None


@dataclass(frozen=True, slots=True)
class Effect:
    """What the adapter does to the weights, to the next-token probabilities, and to the answers.

    Attributes:
        whole: all changed modules together; None where the adapter changes no weight (it adds tokens, say).
        kinds, layers: by kind of module, and by layer, in the model's order.
        unmeasured: modules whose change has no closed form here, or peft cannot give.
        rows, positions: held-out rows and token positions at which both models were compared.
        kl: mean Kullback-Leibler divergence of the tuned from the base model's next-token distribution, in nats.
        variation: mean total variation distance of the two, 0 to 1.
        other_token: share of positions at which the likeliest token is another one.
        changed_answers: share of the answers that differ; None when none was asked.
        reasons: why it may do nothing, the likeliest first; empty where it does something.
        created: epoch seconds.
    """

    whole: Part | None
    kinds: tuple[Part, ...]
    layers: tuple[Part, ...]
    unmeasured: tuple[str, ...] = ()
    rows: int = 0
    positions: int = 0
    kl: float | None = None
    variation: float | None = None
    other_token: float | None = None
    changed_answers: float | None = None
    reasons: tuple[Text, ...] = field(default=())
    created: float = 0.0
    version: int = EFFECT_VERSION

    @property
    def nothing(self) -> bool:
        """The adapter changes neither a weight nor a probability."""
        if self.variation is not None:
            return self.variation == 0.0
        return self.whole is not None and self.whole.delta == 0.0

    @property
    def next_to_nothing(self) -> bool:
        """It changes something, but nothing that anybody would notice."""
        return not self.nothing and self.variation is not None and self.variation < NOTICEABLE

    @property
    def tone(self) -> str:
        """ "bad", "warn" or "good"."""
        return "bad" if self.nothing else "warn" if self.next_to_nothing else "good"

    @property
    def sentence(self) -> Text:
        """What the adapter does, in one sentence."""
        if self.nothing or self.next_to_nothing:
            why = _joined(self.reasons)
            if self.nothing:
                return say("The adapter changes nothing{why}.", "适配器没有任何作用{why}。", why=why)
            return say("The adapter changes next to nothing{why}.", "适配器几乎没有作用{why}。", why=why)
        weights, tokens = self.whole, self.other_token
        parts_en, parts_zh = [], []
        if weights is not None and weights.share is not None:
            parts_en.append(f"moves the weights by {weights.share:.2%}")
            parts_zh.append(f"使权重改变 {weights.share:.2%}")
        if tokens is not None:
            parts_en.append(f"changes the likeliest next token at {tokens:.0%} of the positions")
            parts_zh.append(f"在 {tokens:.0%} 的位置上改变了最可能的下一个词元")
        if self.changed_answers is not None:
            parts_en.append(f"changes {self.changed_answers:.0%} of the answers")
            parts_zh.append(f"改变了 {self.changed_answers:.0%} 的回答")
        if not parts_en:
            return NOTHING
        last = f" and {parts_en[-1]}" if len(parts_en) > 1 else ""
        first = ", ".join(parts_en[:-1]) if len(parts_en) > 1 else parts_en[0]
        return Text(f"The adapter {first}{last}.", f"适配器{'，'.join(parts_zh)}。")


def _joined(reasons: tuple[Text, ...]) -> Text:
    if not reasons:
        return NOTHING
    return Text(": " + "; ".join(reason.en for reason in reasons), "：" + "；".join(reason.zh for reason in reasons))


def write_effect(run: RunFolder, effect: Effect) -> None:
    """Keep it. Raises `UserError` when the disk does not take it."""
    write_record(run.effect, effect)


def read_effect(run: RunFolder) -> Effect | None:
    """What the adapter does, or None when that was not measured yet. Raises `UserError` when the file is damaged."""
    return read_record(run.effect, Effect, again=say("Evaluate the run again.", "请重新评估这次训练。"))
