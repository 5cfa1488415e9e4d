"""Which language the window speaks, and the words for it. Knows nothing of widgets."""

from __future__ import annotations

import os
from dataclasses import dataclass

from engine.protocol.text import Text

LANGUAGES = {"en": "English", "zh": "简体中文"}


@dataclass(slots=True)
class _Current:
    language: str = "en"


_current = _Current()


def tr(text: Text | str) -> str:
    """The text in the language that the window speaks now; a plain string (a name, a path) stays as it is."""
    return text if isinstance(text, str) else text.in_language(_current.language)


def sentences(*texts: Text | str) -> str:
    """Sentences behind one another; those that are empty are left out. Chinese has no blank behind its full stop."""
    found = ""
    for text in filter(None, map(tr, texts)):
        found += text if not found or found.endswith(tuple("。！？；：")) else f" {text}"
    return found


def language() -> str:
    """ "en" or "zh"."""
    return _current.language


def speak(chosen: str) -> str:
    """Speak ``chosen`` ("en", "zh", or "auto" for the system's language) from now on; returns "en" or "zh"."""
    _current.language = chosen if chosen in LANGUAGES else system_language()
    return _current.language


def system_language() -> str:
    """ "zh" where the system speaks Chinese, else "en"."""
    names = [os.environ.get(name, "") for name in ("LC_ALL", "LC_MESSAGES", "LANG")]
    first = next((name for name in names if name), "")
    if not first:
        import locale  # here and not above: the first frame waits for every import, and most systems set a variable

        first = locale.getlocale()[0] or ""
    return "zh" if first.lower().startswith(("zh", "chinese")) else "en"
