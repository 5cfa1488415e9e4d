"""HTML made so that no text can become markup: whatever is not `Html` already is escaped."""

from __future__ import annotations

import html
import re

# Control characters, and those that turn the order of letters round; tab and line end are none.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffe\uffff\ud800-\udfff]")
_NO_END = frozenset(("meta", "br", "hr", "rect", "line", "circle", "polyline", "path"))


class Html(str):
    """Text that is markup already. Made by `tag`, `joined` and `escaped` alone."""

    __slots__ = ()


NONE = Html("")


def escaped(text: str) -> Html:
    """A text as it stands between tags or in an attribute. Characters that a page obeys are shown as �."""
    return text if isinstance(text, Html) else Html(html.escape(_CONTROLS.sub("\ufffd", text), quote=True))


def joined(*parts: str) -> Html:
    """Parts behind one another, plain ones escaped."""
    return Html("".join(escaped(part) for part in parts))


def tag(element: str, /, *parts: str, **attributes: str | float | None) -> Html:
    """An element. ``cls`` is its class; an underscore in an attribute's name is a hyphen; None leaves one out."""
    given = {"class" if key == "cls" else key.replace("_", "-"): value for key, value in attributes.items()}
    shown = "".join(f' {key}="{escaped(_number(value))}"' for key, value in given.items() if value not in (None, ""))
    if element in _NO_END:
        return Html(f"<{element}{shown}>" if element in ("meta", "br", "hr") else f"<{element}{shown}/>")
    return Html(f"<{element}{shown}>{joined(*parts)}</{element}>")


def _number(value: str | float | None) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
