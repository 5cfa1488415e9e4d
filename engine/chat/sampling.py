"""How the next token is chosen; without torch, so that a request can be checked before a model is loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.protocol.errors import UserError
from engine.protocol.text import Text, say


@dataclass(frozen=True, slots=True)
class Sampling:
    """Settings of one answer; both models get the same.

    Attributes:
        seed: start of the random numbers of each answer, so that base and tuned model draw alike.
        temperature: 0 always takes the likeliest token (greedy); 1 draws as the model says.
        top_p: draws only among the likeliest tokens that together reach this probability (Holtzman et al. 2020).
        top_k: draws only among so many likeliest tokens (Fan et al. 2018); 0 for all.
        min_p: leaves out tokens that are less likely than this share of the likeliest one (Nguyen et al. 2024); 0 for
            none.
        repetition_penalty: above 1 makes tokens that already stand in the text less likely (Keskar et al. 2019).
        max_new_tokens: an answer is cut there.
    """

    seed: int = 42
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_new_tokens: int = 256

    def __post_init__(self) -> None:
        _within("seed", self.seed, 0 <= self.seed < 2**63, say("0 or more", "不小于 0"))
        _within("temperature", self.temperature, 0 <= self.temperature <= 10, say("0 to 10", "0 到 10"))
        _within("top_p", self.top_p, 0 < self.top_p <= 1, say("above 0 and at most 1", "大于 0 且不超过 1"))
        _within("top_k", self.top_k, self.top_k >= 0, say("0 or more", "不小于 0"))
        _within("min_p", self.min_p, 0 <= self.min_p < 1, say("0 to below 1", "不小于 0 且小于 1"))
        penalty = self.repetition_penalty
        _within("repetition_penalty", penalty, 0 < penalty <= 10, say("above 0 and at most 10", "大于 0 且不超过 10"))
        _within("max_new_tokens", self.max_new_tokens, self.max_new_tokens >= 1, say("1 or more", "不小于 1"))

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Sampling:
        """From a request's arguments; what is not given keeps its default.

        Raises:
            UserError: an unknown name, something that is not a number, or a value out of bounds.
        """
        kinds: dict[str, type[int] | type[float]] = {
            f.name: int if isinstance(f.default, int) else float for f in dataclasses.fields(cls)
        }
        values: dict[str, Any] = {}
        for name, value in plain.items():
            if name not in kinds:
                raise _wrong(name, value, say("one of {names}", "{names} 之一", names=", ".join(kinds)))
            try:
                values[name] = kinds[name](value)
            except (TypeError, ValueError) as error:
                raise _wrong(name, value, say("a number", "数字")) from error
        return cls(**values)


def _within(name: str, value: object, right: bool, expected: Text) -> None:
    if not right:
        raise _wrong(name, value, expected)


def _wrong(name: str, value: object, expected: Text) -> UserError:
    return UserError(
        "chat.sampling",
        say(
            "{name} is {value}, but must be {expected}.",
            "{name} 为 {value}，必须是{expected}。",
            name=name,
            value=str(value)[:60],
            expected=expected,
        ),
        where=f"sampling.{name}",
    )
