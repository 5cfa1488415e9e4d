"""Taking secrets and names out of texts that are written down or passed on: logs, and the bundle for a report.

What is known to be secret is looked for by its value (the hub's token, environment variables whose names say so), the
rest by what keys, passwords and signed addresses look like.
"""

from __future__ import annotations

import getpass
import io
import logging
import os
import platform
import re
import sys
import urllib.parse
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO, cast

from engine.project import hub_access
from engine.recipe.tokens import KEYS, LOGIN

HIDDEN = "[secret]"
SHORTEST = 6
"""A shorter value is no secret, and would be found in every other word."""
_MOST_FIELDS = 1000

_NAMES = re.compile(r"token|secret|passw|pwd|api_?key|access_?key|private_?key|credential|auth|cookie", re.IGNORECASE)
_NO_SECRETS = re.compile(r"^(TOKENIZERS_|XAUTHORITY$|SSH_AUTH_SOCK$|PWD$|OLDPWD$)")
_COMMON_VALUES = frozenset(("true", "false", "default", "enabled", "disabled", "automatic", "keyring", "basic"))

_KEYS = re.compile("|".join(KEYS))
_BLOCK = re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]{0,20000}?(?:-----END [A-Z ]{0,40}KEY-----|\Z)")
_LOGIN = re.compile(LOGIN)
_HEADER = re.compile(
    r"((?:proxy-)?authorization|x-api-key|(?:set-)?cookie)(\\?[\"']?\s{0,9}[:=]\s{0,9}(?:b?\\?[\"'])?)"
    r"(?:(?:bearer|basic|token|digest)\s{1,9})?[^\s\"'\\,}]{1,4000}",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\b(bearer|basic)(\s{1,9})[A-Za-z0-9._~+/=\-]{8,4000}", re.IGNORECASE)
_SIGNED = re.compile(
    r"([?&](?:X-Amz-[A-Za-z\-]{3,40}|X-Goog-[A-Za-z\-]{3,40}|Signature|Policy|Key-Pair-Id|AWSAccessKeyId|sig|token)=)"
    r"[^&\s\"'<>\\]{1,8000}",
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"(token|secret|password|passwd|passphrase|api[_-]?key|access[_-]?key|secret[_-]?key|private[_-]?key|credentials?)"
    r"(\\?[\"']?\s{0,9}[:=]\s{0,9}\\?[\"']?)([^\s\"'\\,;&}]{6,4000})",
    re.IGNORECASE,
)
# What tokenizers call their marks, and lengths: "eos_token = <eos>", "pad_token: 151643".
_MARK = re.compile(
    r"(?:bos|eos|eot|eom|pad|unk|sep|cls|mask|stop|end|start|image|audio|video|extra|first|next|last)_?$", re.I
)
_PLAIN = re.compile(r"[A-Za-z0-9._~+/=\-]+")
_NUMBER = re.compile(r"[\d.]+")
_HOMES = re.compile(r"((?:/home/|/Users/|[A-Za-z]:(?:\\\\?|/)Users(?:\\\\?|/)))[^/\\\s\"':]{1,80}")


# ----------------------------------------------------------------------------------------------------------- patterns
def scrub(text: str, known: Iterable[str] = ()) -> str:
    """The text with `HIDDEN` in the place of each secret.

    Args:
        known: values that are secret whatever they look like.
    """
    for value in known:
        text = text.replace(value, HIDDEN)
    text = _BLOCK.sub(HIDDEN, text)
    text = _KEYS.sub(HIDDEN, text)
    text = _LOGIN.sub(f"{HIDDEN}@", text)
    text = _HEADER.sub(rf"\1\2{HIDDEN}", text)
    text = _BEARER.sub(rf"\1\2{HIDDEN}", text)
    text = _SIGNED.sub(rf"\1{HIDDEN}", text)
    return _NAMED.sub(_named, text)


def _named(found: re.Match[str]) -> str:
    """``name = value``: only what can be a secret goes."""
    name, between, value = found.groups()
    if name.lower() == "token":
        before = found.string[max(0, found.start() - 8) : found.start()]
        if _MARK.search(before) or not _PLAIN.fullmatch(value) or _NUMBER.fullmatch(value):
            return found.group()
    return f"{name}{between}{HIDDEN}"


# ------------------------------------------------------------------------------------------------------- what is known
def known_secrets(*, keyring: bool = True) -> tuple[str, ...]:
    """Values that are secret on this machine, the longest first: of environment variables whose names say so, and the
    hub's token in the keyring (left alone without ``keyring``: asking for it may open a dialog)."""
    values = {value for name, value in os.environ.items() if _is_secret(name, value)}
    kept = hub_access.kept_token() if keyring else None
    return tuple(sorted(values | ({kept} if kept else set()), key=len, reverse=True))


def _is_secret(name: str, value: str) -> bool:
    if len(value) < SHORTEST or value.lower() in _COMMON_VALUES or _NO_SECRETS.search(name):
        return False
    return _NAMES.search(name) is not None


class Scrubber:
    """Takes secrets out of texts, and who and where the user is: the home folder becomes "~", the user's name "user",
    the machine's name "host".

    Args:
        known: values that are secret; those of `known_secrets` when absent.
    """

    def __init__(self, known: Iterable[str] | None = None) -> None:
        self._known = tuple(known_secrets() if known is None else known)
        self._fields: dict[str, str] = {}
        self._homes = _spellings(Path.home())
        self._names = tuple((re.compile(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", re.I), put) for name, put in _own())

    def __call__(self, text: str) -> str:
        """The text without them."""
        for home in self._homes:
            text = text.replace(home, "~")
        text = scrub(text, self._known)
        text = _HOMES.sub(r"\1user", text)
        for name, put in self._names:
            text = name.sub(put, text)
        return text

    def plain(self, value: Any) -> Any:
        """What JSON knows, each text in it (names of fields too) scrubbed."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, dict):
            return {self._name(str(name)): self._field(str(name), item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.plain(item) for item in value]
        return value

    def _name(self, name: str) -> str:
        """A field's name; of the same ones there are very many."""
        if len(self._fields) > _MOST_FIELDS:
            self._fields.clear()
        if name not in self._fields:
            self._fields[name] = self(name)
        return self._fields[name]

    def _field(self, name: str, value: Any) -> Any:
        """A field that is called a secret is one, whatever it looks like."""
        if isinstance(value, str) and len(value) >= SHORTEST:
            shown = f'"{name}": "{value}"'
            found = _NAMED.search(shown)
            if found and found.start() < len(name) + 1 and _named(found) != found.group():
                return HIDDEN
        return self.plain(value)


def _spellings(home: Path) -> tuple[str, ...]:
    """How the home folder may stand in a text: as it is, in JSON, in an address; the longest first."""
    places = {str(home), str(home.resolve())} - {"/", "\\", ""}
    spelled = {*places, *(place.replace("\\", "\\\\") for place in places), *map(urllib.parse.quote, places)}
    return tuple(sorted((place for place in spelled if len(place) > 3), key=len, reverse=True))


def _own() -> list[tuple[str, str]]:
    """Names of the user and of the machine, where they say anything."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without an entry for this user
        user = ""
    found = [(user, "user"), (platform.node(), "host")]
    return [(name, put) for name, put in found if len(name) > 2 and name.lower() not in ("root", "user", "localhost")]


# --------------------------------------------------------------------------------------------------------------- logs
def guard_output() -> None:
    """From now on nothing that is logged, printed or told in a traceback by Python holds a secret: library messages are
    scrubbed before any handler sees them, and the standard streams as they are written.

    For processes whose output goes to a log. Calling it again changes nothing.
    """
    known = known_secrets(keyring=False)
    make = logging.getLogRecordFactory()
    if not hasattr(make, "scrubs"):
        logging.setLogRecordFactory(_scrubbing(make, known))
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, _Scrubbed):
            setattr(sys, name, _Scrubbed(stream, known))


def _scrubbing(make: Any, known: tuple[str, ...]) -> Any:
    def record(*args: Any, **named: Any) -> logging.LogRecord:
        made: logging.LogRecord = make(*args, **named)
        try:
            told = made.getMessage()
        except (TypeError, ValueError):  # a library's own mistake in its message; logging tells of it
            return made
        kept = scrub(told, known)
        if kept != told:
            made.msg, made.args = kept, None
        if made.exc_info and made.exc_info[0] is not None:
            trace = logging.Formatter().formatException(made.exc_info)
            made.exc_text = scrub(trace, known)
        return made

    record.scrubs = True  # type: ignore[attr-defined]
    return record


class _Scrubbed(io.TextIOBase):
    """A text stream whose lines are scrubbed as they are written."""

    def __init__(self, stream: TextIO, known: tuple[str, ...]) -> None:
        self._stream = stream
        self._secrets = known

    def write(self, text: str, /) -> int:
        self._stream.write(scrub(text, self._secrets))
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self._stream.errors

    @property
    def buffer(self) -> Any:
        """What is written there is not text, and passes as it is."""
        return cast(Any, self._stream).buffer
