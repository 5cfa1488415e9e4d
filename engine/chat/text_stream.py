"""From tokens to text while they come: whole characters only, and nothing of what ends an answer.

Knows nothing of models; it is given a function that decodes tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

# What decoders put where bytes do not (yet) make a character.
_INCOMPLETE = "\ufffd"
# UTF-8 writes a character with at most four bytes and a token holds at least one: after so many tokens in a row that
# complete nothing, the bytes make no character and are shown as they are.
_LONGEST_CHARACTER = 4


class Pieces:
    """Text of tokens that come one by one.

    Each piece is what the newest tokens add to the text of a short window before them, so that spaces which depend on
    the neighbour come out right. `tokenizers.decoders.DecodeStream` does the same, but raises on byte tokens that make
    no character, which models do produce.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._window: list[int] = []
        self._shown = ""
        self._new = 0
        self._incomplete = 0

    def push(self, token: int) -> str:
        """The text that is complete now and was not before; often "" inside a character."""
        self._window.append(token)
        self._new += 1
        text = self._decode(self._window)
        if not text.endswith(_INCOMPLETE):
            return self._emit(text)
        whole = text.rstrip(_INCOMPLETE)
        if len(whole) > len(self._shown) and whole.startswith(self._shown):
            # The token ends one character and begins another.
            piece, self._shown, self._incomplete = whole[len(self._shown) :], whole, 1
            return piece
        self._incomplete += 1
        return "" if self._incomplete < _LONGEST_CHARACTER else self._emit(text)

    def flush(self) -> str:
        """What is left when no token follows."""
        return self._emit(self._decode(self._window)) if self._new else ""

    def _emit(self, text: str) -> str:
        newest = self._window[-self._new :]
        # Byte tokens that turn out wrong change the text before them too; that text is already shown and stays.
        piece = text[len(self._shown) :] if text.startswith(self._shown) else self._decode(newest)
        self._incomplete = 0
        if piece:
            self._window = newest
            self._shown = self._decode(newest)
            self._new = 0
        return piece


class StopText:
    """Text up to the first of some stop texts; holds back what could be the beginning of one.

    Attributes:
        met: a stop text has come; nothing more will be given.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.met = False

    def push(self, piece: str) -> str:
        """The part of the text so far that is certainly not a stop text, and was not given before."""
        if self.met:
            return ""
        text = self._held + piece
        found = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            self.met, self._held = True, ""
            return text[: min(found)]
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What was held back, when no text follows."""
        held, self._held = self._held, ""
        return "" if self.met else held


def before_stop(text: str, stops: Sequence[str]) -> str:
    """The text before the first stop text."""
    return StopText(stops).push(text) if any(stop and stop in text for stop in stops) else text


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that is a beginning of ``stop``."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
