"""Keeping the user's data out of texts that are passed on: logs and records may quote a row.

Every row of the run is looked through, and what a text shares with one is taken out. Where the rows cannot all be
looked through (packed, on the hub, moved, too many), only what cannot quote a row is kept of each text: where in the
program something happened, and the kind of the error.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

LEFT_OUT = "[…]"
GRAM = 12
"""Bytes in a row that two texts must share at a place; each shared stretch of 2 · 12 − 1 bytes (without spaces and
punctuation; eight Chinese characters) is found."""
MOST_BYTES = 128 * 2**20
"""Rows up to this size are looked through: a few seconds."""
LARGEST_JSON = 32 * 2**20
_LINES = (".jsonl", ".ndjson")
_PLAIN = (".csv", ".tsv", ".txt", ".md")
_KEPT_BYTES = frozenset((*b"abcdefghijklmnopqrstuvwxyz0123456789", *range(128, 256)))
_DROPPED = bytes(value for value in range(256) if value not in _KEPT_BYTES)
_SHORTEST_NUMBER = 6
_MOST_NUMBERS = 500_000
_DIGITS = re.compile(r"\d(?:[ \-]?\d){5,29}")
_DATE = re.compile(rb"(?:19|20)\d{6}")
_NUMBER = 10**7
"""Smaller numbers in rows are counts, labels, years."""

_FRAME = re.compile(r"\s{0,8}File \"[^\"\n]{1,300}\", line \d{1,7}(?:, in [\w<>.]{1,100})?")
_ERROR = re.compile(
    r"\s{0,8}((?:[A-Za-z_]\w{0,60}\.){0,8}[A-Z]\w{0,60}(?:Error|Exception|Warning|Interrupt|Exit|Stopped))\b"
)
_LOGGED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[,.]\d{3} [\w.]{1,80} [A-Z]{4,8}(?= )")
_PLAIN_LINES = (
    "Traceback (most recent call last):",
    "During handling of the above exception, another exception occurred:",
)
_WORD = re.compile(r"[\w./:+\-]{1,80}")
# Fields of records and recipes whose values are words of Lorimer's own.
_OWN_WORDS = frozenset(
    "type name kind status verdict device code level path unit rung reason about method objective version scheduler "
    "optimizer precision attention kernels loss short_rows order choice too_long split unstable learn_from quant_type "
    "system_prompt source revision python platform system commit cpu vendor driver cuda capability architecture "
    "lorimer".split()
)


def normal(text: str) -> bytes:
    """What is compared of a text: letters and digits in lower case, in UTF-8."""
    return text.casefold().encode("utf-8", "surrogatepass").translate(None, _DROPPED)


def plain_bytes(path: Path, most: int, *, end: bool = False) -> bytes | None:
    """The first (with ``end``: last) ``most`` bytes of a file; None where there is none, or it is something else: a
    link, a device and a pipe are never opened for reading, wherever the name came from."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return None
        with os.fdopen(os.open(path, flags), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            if end:
                file.seek(max(0, file.seek(0, os.SEEK_END) - most))
            return file.read(most)
    except (OSError, ValueError):
        return None


class Withheld:
    """Takes what stands in rows out of texts.

    Args:
        texts: all that will be asked about.
        kept: files of the run that hold rows, as JSON Lines or JSON; absent ones are no harm.
        data: the data files that were trained on.

    Attributes:
        by_shape: not all rows could be looked through, so only the shape of a text is kept.
    """

    def __init__(self, texts: Iterable[str], kept: Iterable[Path], data: Iterable[Path]) -> None:
        wanted = {hash(gram) for text in texts for gram in _grams(normal(text), 1)}
        self._shared: set[int] = set()
        self._numbers: set[bytes] = set()
        self.by_shape = not self._look(wanted, [path for path in kept if path.exists()], list(data))

    def _look(self, wanted: set[int], kept: list[Path], data: list[Path]) -> bool:
        """Whether all rows could be looked through."""
        left = MOST_BYTES
        for path in (*kept, *_files(data)):
            content = plain_bytes(path, left + 1)
            if content is None or len(content) > left:
                return False
            left -= len(content)
            try:
                texts = _texts(content, path.suffix.lower())
                if texts is None:
                    return False
                for text in texts:
                    self._compare(text, wanted)
            except (ValueError, RecursionError):
                return False
        return True

    def _compare(self, text: str, wanted: set[int]) -> None:
        told = normal(text)
        self._add_numbers(text, told)
        self._shared.update(wanted.intersection(map(hash, _grams(told, GRAM))))

    def _add_numbers(self, text: str, told: bytes) -> None:
        """Telephone, account and other numbers, and short codes that are a text by themselves. A short word is none: it
        would be in every other sentence."""
        if len(self._numbers) > _MOST_NUMBERS:
            return
        for found in _DIGITS.finditer(text):
            number = normal(found.group())[: GRAM - 1]
            if not _DATE.fullmatch(number):
                self._numbers.add(number)
        if _SHORTEST_NUMBER <= len(told) < GRAM and any(byte in b"0123456789" for byte in told):
            self._numbers.add(told)

    def quotes(self, text: str) -> bool:
        """Whether the text shares a stretch with a row."""
        told = normal(text)
        if len(told) < _SHORTEST_NUMBER:
            return False
        if any(hash(gram) in self._shared for gram in _grams(told, 1)):
            return True
        return any(
            told[start : start + size] in self._numbers
            for size in range(_SHORTEST_NUMBER, GRAM if self._numbers else 0)
            for start in range(len(told) - size + 1)
        )

    def line(self, line: str) -> str:
        """A line of a log, or a sentence."""
        if not (self.by_shape or self.quotes(line)):
            return line
        bare = line.strip()
        if bare in _PLAIN_LINES:
            return bare
        frame = _FRAME.fullmatch(line) if self.by_shape else None
        if frame is not None:
            return frame.group()
        found = _ERROR.match(line) or _LOGGED.match(line)
        start = found.group() if found else ""
        return f"{start} {LEFT_OUT}".lstrip() if not self.quotes(start) else LEFT_OUT

    def lines(self, text: str) -> str:
        """A log; what is left out of several lines in a row is told once."""
        kept: list[str] = []
        for line in text.splitlines():
            told = self.line(line)
            if told != LEFT_OUT or kept[-1:] != [LEFT_OUT]:
                kept.append(told)
        return "\n".join(kept) + "\n" if kept else ""

    def plain(self, value: Any, name: str = "") -> Any:
        """What JSON knows, without what quotes a row. Names of fields count as texts where they are no plain word."""
        if isinstance(value, str):
            return self._word(value, name)
        if isinstance(value, dict):
            return {self._key(str(key)): self.plain(item, str(key)) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.plain(item, name) for item in value]
        return value

    def compared(self, value: Any) -> Any:
        """As `plain`, by comparison alone: for what a program wrote that has never seen a row."""
        if isinstance(value, str):
            return LEFT_OUT if self.quotes(value) else value
        if isinstance(value, dict):
            return {self.compared(str(key)): self.compared(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.compared(item) for item in value]
        return value

    def _word(self, value: str, name: str) -> str:
        if "\n" in value:
            return self.lines(value)
        if self.by_shape and not (name in _OWN_WORDS and _WORD.fullmatch(value)):
            return LEFT_OUT if value else ""
        return LEFT_OUT if self.quotes(value) else value

    def _key(self, name: str) -> str:
        if self.by_shape and not _WORD.fullmatch(name):
            return LEFT_OUT
        return LEFT_OUT if self.quotes(name) else name


def _grams(told: bytes, stride: int) -> Iterator[bytes]:
    return (told[start : start + GRAM] for start in range(0, len(told) - GRAM + 1, stride))


def _files(data: list[Path]) -> Iterator[Path]:
    """The data files, those in folders too."""
    for path in data:
        if path.is_dir():
            for folder, _, names in os.walk(path):
                yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))
        else:
            yield path


def _texts(content: bytes, suffix: str) -> Iterator[str] | None:
    """All texts of a file's rows; None for a file that cannot be looked through here."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    if suffix in _LINES:
        return (word for line in text.splitlines() for word in _of_line(line))
    if suffix == ".json":
        return _strings(json.loads(text)) if len(content) <= LARGEST_JSON else None
    return iter(text.splitlines()) if suffix in _PLAIN else None


def _of_line(line: str) -> Iterator[str]:
    """A line of JSON Lines; one that is broken counts as it stands."""
    try:
        yield from _strings(json.loads(line))
    except (ValueError, RecursionError):
        yield line


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, int) and value >= _NUMBER:
        yield str(value)
