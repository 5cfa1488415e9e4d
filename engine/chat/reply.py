"""An answer while it grows, whatever gives it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.protocol.errors import Failure

ENDED, LIMIT, CONTEXT, CANCELLED, FAILED = "ended", "limit", "context", "cancelled", "failed"


@dataclass
class Reply:
    """An answer while it grows.

    Attributes:
        text: all pieces so far.
        tokens: generated so far, the one that ended it included.
        prompt_tokens: of the conversation that was answered.
        dropped: oldest turns that were left out because the context has no room for them.
        seconds: time that this side worked, waiting for other sides not counted.
        first_token_seconds: of that, until the first token was known.
        end: why it ended: "ended" (by itself), "limit" (max_new_tokens), "context" (no room left), "cancelled" or
            "failed".
        failure: why it says no more, where it failed.
    """

    text: str = ""
    tokens: int = 0
    prompt_tokens: int = 0
    dropped: int = 0
    seconds: float = 0.0
    first_token_seconds: float | None = None
    end: str = ""
    failure: Failure | None = None

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens after the first, by the time they took; None for fewer than two."""
        if self.tokens < 2 or self.first_token_seconds is None or self.seconds <= self.first_token_seconds:
            return None
        return (self.tokens - 1) / (self.seconds - self.first_token_seconds)

    def plain(self) -> dict[str, Any]:
        """The reply as an answer of the chat session holds it."""
        rate, first = self.tokens_per_second, self.first_token_seconds
        plain: dict[str, Any] = {
            "text": self.text.strip(),
            "tokens": self.tokens,
            "prompt_tokens": self.prompt_tokens,
            "dropped": self.dropped,
            "tokens_per_second": None if rate is None else round(rate, 2),
            "first_token_seconds": None if first is None else round(first, 4),
            "end": self.end,
        }
        return plain if self.failure is None else {**plain, "failure": self.failure}
