"""Habits of an answer that ought to be the same throughout a data set."""

from __future__ import annotations

from functools import cache

from engine.protocol.text import Text, say

STYLES: dict[str, Text] = {
    "familiar": say("answers with 你", "回答用“你”"),
    "polite": say("answers with 您", "回答用“您”"),
    "both_you": say("answers with 你 and 您", "回答混用“你”和“您”"),
    "ends_closed": say("answers that end with punctuation", "回答有句末标点"),
    "ends_open": say("answers that end without punctuation", "回答无句末标点"),
    "simplified": say("simplified Chinese", "简体中文"),
    "traditional": say("traditional Chinese", "繁体中文"),
    "both_scripts": say("simplified and traditional Chinese", "简繁混用"),
}
"""Habit → what people read."""
BIT: dict[str, int] = {name: 1 << place for place, name in enumerate(STYLES)}
CHOICES: tuple[tuple[str, ...], ...] = (
    ("familiar", "polite", "both_you"),
    ("ends_closed", "ends_open"),
    ("simplified", "traditional", "both_scripts"),
)
"""Habits of which one should prevail."""

_CLOSED = frozenset(".!?。！？…：:;；\"'”’」』)）]】》*`~|}>")
_WORDY = 30
# So many characters of the other script make a mixture: a name or a quotation has one or two.
_MIXED = 3
_LOOKED_AT = 2000


def style_of(answer: str) -> int:
    """Bits of `BIT`. Only answers of at least 30 characters are asked for their end: a label needs no full stop."""
    text = answer.rstrip()
    bits = 0
    if len(text) >= _WORDY:
        bits = BIT["ends_closed"] if text[-1] in _CLOSED or not text[-1].isalnum() else BIT["ends_open"]
    return bits if text.isascii() else bits | _chinese(text[:_LOOKED_AT])


def _chinese(text: str) -> int:
    bits = 0
    familiar, polite = "你" in text, "您" in text
    if familiar or polite:
        bits = BIT["both_you" if familiar and polite else "familiar" if familiar else "polite"]
    simplified, traditional = _scripts()
    letters = set(text)
    ours, theirs = len(letters & simplified), len(letters & traditional)
    if ours >= _MIXED and theirs >= _MIXED:
        return bits | BIT["both_scripts"]
    if ours > theirs:
        return bits | BIT["simplified"]
    return bits | BIT["traditional"] if theirs > ours else bits


@cache
def _scripts() -> tuple[frozenset[str], frozenset[str]]:
    """Characters that only simplified or only traditional text has: those in GB 2312 but not in Big5, and those of
    Big5's first level (everyday characters) that are not in GB 2312.
    """
    letters = [chr(point) for point in range(0x4E00, 0xA000)]
    mainland = {letter for letter in letters if _encoded(letter, "gb2312")}
    island = {letter: _encoded(letter, "big5") for letter in letters}
    return (
        frozenset(letter for letter in mainland if not island[letter]),
        frozenset(letter for letter, code in island.items() if code and code[0] <= 0xC6 and letter not in mainland),
    )


def _encoded(letter: str, encoding: str) -> bytes:
    return letter.encode(encoding, "ignore")
