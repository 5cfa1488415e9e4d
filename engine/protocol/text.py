"""Text shown to people, in every language Lorimer speaks.

A sentence is written once, where it arises, in both languages: a missing translation is then a missing argument, which
the type checker reports, and not a gap that a user finds. The window and the command line choose the language when they
show it; engine and files carry both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Text:
    """A sentence in English and Simplified Chinese. ``str()`` gives English."""

    en: str
    zh: str

    def __str__(self) -> str:
        return self.en

    def __bool__(self) -> bool:
        return bool(self.en or self.zh)

    def in_language(self, language: str) -> str:
        """The sentence in ``language`` ("zh" or "zh_CN" for Chinese; anything else is English)."""
        return self.zh if language.startswith("zh") else self.en


NOTHING = Text("", "")


def say(en: str, zh: str, /, **values: object) -> Text:
    """A `Text` whose ``{placeholders}`` are filled from ``values``; a `Text` value is filled in each language.

    Raises:
        KeyError: a placeholder of either language has no value.
    """
    if not values:
        return Text(en, zh)
    return Text(
        en.format(**{key: value.en if isinstance(value, Text) else value for key, value in values.items()}),
        zh.format(**{key: value.zh if isinstance(value, Text) else value for key, value in values.items()}),
    )


def as_text(value: Any) -> Text:
    """A `Text` from what the codec or a library gives: a `Text`, an ``{"en", "zh"}`` mapping, or a plain string."""
    if isinstance(value, Text):
        return value
    if isinstance(value, dict):
        english = str(value.get("en", ""))
        return Text(english, str(value.get("zh", english)))
    return Text(str(value), str(value))
