"""Bytes to text: which encoding a file has, and what to say when it is no text at all."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import charset_normalizer

from engine.data.files import open_bytes
from engine.protocol.errors import Problem, UserError
from engine.protocol.text import Text, say

_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_MAGIC = (
    (b"PK\x03\x04", say("a ZIP archive or an Excel workbook", "ZIP 压缩包或 Excel 工作簿")),
    (b"\xd0\xcf\x11\xe0", say("an old Office document", "旧版 Office 文档")),
    (b"BZh", say("a bzip2 archive", "bzip2 压缩文件")),
    (b"\xfd7zXZ", say("an xz archive", "xz 压缩文件")),
    (b"7z\xbc\xaf", say("a 7-Zip archive", "7-Zip 压缩包")),
    (b"%PDF", say("a PDF", "PDF 文件")),
    (b"\x89PNG", say("a picture", "图片")),
    (b"\xff\xd8\xff", say("a picture", "图片")),
    (b"SQLite format 3", say("an SQLite database", "SQLite 数据库")),
    (b"GGUF", say("a GGUF model", "GGUF 模型")),
)
# Legacy encodings that datasets really come in. A free choice among a hundred finds exotic ones in short texts, and one
# between the Latin alphabets of West and East is a guess: the Western one is taken, the other can be chosen by hand.
_CANDIDATES = ["gb18030", "big5", "shift_jis", "euc_jp", "cp949", "cp1251", "koi8_r", "cp1252"]
_HEAD = 1 << 16
_WHOLE = 8 << 20
"""Files up to so many bytes (unpacked) are decoded whole; of larger ones samples decide."""
_WINDOWS, _WINDOW = 24, 1 << 15
_PAGE = 4 << 20
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Decoded:
    """A file's text.

    Attributes:
        text: the text; bytes that fit nowhere stand as lone surrogates (Python's ``surrogateescape``).
        encoding: Python's name of the encoding.
        problems: what a person should know of it.
    """

    text: str
    encoding: str
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file's text, read as a stream as often as one likes.

    Attributes:
        path: the file.
        encoding: Python's name of the encoding.
        problems: what a person should know of it.
        whole: its text where it is small, None where it is read from the disk piece by piece.
        skip: bytes of the byte-order mark.
    """

    path: Path
    encoding: str
    problems: tuple[Problem, ...]
    whole: str | None
    skip: int = 0

    def head(self, characters: int = 1 << 16) -> str:
        """How it begins."""
        return next(self.pages(characters), "")

    def lines(self, *, universal: bool) -> Iterator[str]:
        """Line by line, line ends kept; ``universal``: \\r and \\r\\n end lines too, as in CSV."""
        with self._stream("" if universal else "\n") as stream:
            yield from stream

    def pages(self, characters: int = _PAGE) -> Iterator[str]:
        """In pieces of so many characters."""
        with self._stream("") as stream:
            while piece := stream.read(characters):
                yield piece

    def _stream(self, newline: str) -> io.TextIOBase:
        if self.whole is not None:
            return io.StringIO(self.whole, newline=newline)
        codecs.register_error("lorimer_broken", _broken)
        raw = open_bytes(self.path)
        raw.read(self.skip)
        return io.TextIOWrapper(raw, encoding=self.encoding, errors="lorimer_broken", newline=newline)


def _broken(error: UnicodeError) -> tuple[str, int]:
    """Bytes that fit nowhere, as a lone surrogate: the row they are in is set aside."""
    assert isinstance(error, UnicodeDecodeError)
    return "\udcff", error.end


def open_text(path: Path, encoding: str = "auto") -> TextFile:
    """A text file with its encoding; large ones are judged by their beginning and samples from all over.

    Args:
        path: the file, packed or not.
        encoding: a Python codec name, or "auto".

    Raises:
        UserError: as `decode`; it is empty; it cannot be read.
    """
    with open_bytes(path) as file:
        head = file.read(_WHOLE + 1)
        damaged = getattr(file.raw, "is_broken", False)
    if not head.strip(b" \t\r\n\0\xef\xbb\xbf\xff\xfe"):
        raise _damaged(path) if damaged else empty_file(path)
    problems = (_packed_problem(path),) if damaged else ()
    skip = next((len(mark) for mark, _ in _BOMS if head.startswith(mark)), 0)
    if len(head) <= _WHOLE:
        found = decode(head, path, encoding)
        return TextFile(path, found.encoding, found.problems + problems, found.text, skip)
    is_wide = skip > 0 or b"\0" in head[:_HEAD] or any(width in encoding for width in ("16", "32"))
    found = decode(head[:_WHOLE] if is_wide else head[:_WHOLE] + _samples(path), path, encoding)
    return TextFile(path, found.encoding, found.problems + problems, None, skip)


def _samples(path: Path) -> bytes:
    """Whole lines from all over a large file that is not packed."""
    found: list[bytes] = []
    with open_bytes(path) as file:
        if getattr(file.raw, "packing", ""):
            return b""
        size = path.stat().st_size
        for i in range(1, _WINDOWS):
            file.seek(size * i // _WINDOWS)
            lines = file.read(_WINDOW).split(b"\n")[1:-1]
            found += [line for line in lines if not line.isascii()]
    return b"\n".join([b"", *found])


def empty_file(path: Path) -> UserError:
    """The error for a file without a single row."""
    return without_rows(path, say("{name} is empty.", "{name} 是空文件。", name=path.name))


def without_rows(path: Path, message: Text) -> UserError:
    """The error for a file of which nothing is a row."""
    hint = say("Choose a file with rows in it.", "请选择有数据的文件。")
    return UserError("data.empty", message, hint, where=f"{path.name}:1")


def _packed_problem(path: Path) -> Problem:
    return Problem(
        "data.half_written",
        say("{name} is packed and breaks off.", "{name} 是压缩文件，中途断开。", name=path.name),
        say("Write or download the file again if rows are missing.", "若缺少数据，请重新写入或下载该文件。"),
        path.name,
    )


def _damaged(path: Path) -> UserError:
    return UserError(
        "data.damaged",
        say("{name} is a damaged archive.", "{name} 是损坏的压缩文件。", name=path.name),
        say("Write or download it again.", "请重新写入或下载。"),
        where=path.name,
    )


def has_broken_characters(text: str) -> bool:
    """Whether the text holds lone surrogates: bytes that fit no character, or half of an escaped pair."""
    return not text.isascii() and _SURROGATE.search(text) is not None


def decode(raw: bytes, path: Path, encoding: str = "auto") -> Decoded:
    """The text of a file's bytes.

    Args:
        raw: all bytes.
        path: for messages.
        encoding: a Python codec name, or "auto".

    Raises:
        UserError: it is no text, the encoding does not fit (with "file:line"), or no encoding of that name exists.
    """
    if encoding != "auto":
        return _decode_as(raw, path, encoding)
    for mark, name in _BOMS:
        if raw.startswith(mark):
            return Decoded(_strictly(raw[len(mark) :], name, path), name)
    _refuse_magic(raw, path)
    if b"\0" in raw[:_HEAD]:
        return _decode_wide(raw, path)
    _refuse_controls(raw, path)
    try:
        return Decoded(_whole(raw, "utf-8"), "utf-8")
    except UnicodeDecodeError as error:
        return _decode_damaged(raw, path, error) or Decoded(_decode_legacy(raw, path, error), _guess(raw) or "")


def _decode_as(raw: bytes, path: Path, encoding: str) -> Decoded:
    try:
        name = codecs.lookup(encoding).name
    except LookupError:
        raise UserError(
            "data.encoding_unknown",
            say('There is no text encoding named "{name}".', "没有名为“{name}”的文本编码。", name=encoding),
            say(
                'Use "auto", or a name such as utf-8, gb18030 or latin-1.',
                "请用“auto”，或 utf-8、gb18030、latin-1 等名称。",
            ),
            where="data.encoding",
        ) from None
    text = _strictly(raw, "utf-8-sig" if name == "utf-8" else name, path)
    return Decoded(text.removeprefix("\ufeff"), name)


def _strictly(raw: bytes, encoding: str, path: Path) -> str:
    try:
        return _whole(raw, encoding)
    except UnicodeDecodeError as error:
        raise _encoding_error(raw, path, error, encoding) from error


def _whole(raw: bytes, encoding: str) -> str:
    """The text up to its last whole character: a half-written file can end inside one, and its last row tells.

    Raises:
        UnicodeDecodeError: something before the end does not fit.
    """
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        # A character has at most four bytes in each of these encodings.
        if error.start < len(raw) - 3 or error.start == 0:
            raise
        return raw[: error.start].decode(encoding)


def _encoding_error(raw: bytes, path: Path, error: UnicodeDecodeError, encoding: str) -> UserError:
    line = raw.count(b"\n", 0, error.start) + 1
    return UserError(
        "data.encoding",
        say("{name} is not {encoding} text.", "{name} 不是 {encoding} 文本。", name=path.name, encoding=encoding),
        say("Save the file as UTF-8, or choose its encoding by hand.", "请将文件另存为 UTF-8，或手动选择编码。"),
        where=f"{path.name}:{line}",
        details=str(error),
    )


def _refuse_magic(raw: bytes, path: Path) -> None:
    for mark, kind in _MAGIC:
        if raw.startswith(mark):
            raise _binary(path, kind)


def _refuse_controls(raw: bytes, path: Path) -> None:
    """Text has no control bytes but tab, line ends, form feed and escape; a few strays are forgiven."""
    head = raw[:_HEAD]
    controls = len(head) - len(head.translate(None, bytes(b for b in range(32) if b not in b"\t\n\r\f\x1b")))
    if controls > max(2, len(head) // 100):
        raise _binary(path, say("binary data", "二进制数据"))


def _binary(path: Path, kind: Text) -> UserError:
    return UserError(
        "data.binary",
        say("{name} is not text but {kind}.", "{name} 不是文本，而是{kind}。", name=path.name, kind=kind),
        say(
            "Give a JSON, JSON Lines, CSV or Parquet file; unpack archives, save workbooks as CSV.",
            "请提供 JSON、JSON Lines、CSV 或 Parquet 文件；压缩包请先解压，工作簿请另存为 CSV。",
        ),
        where=f"{path.name}:1",
    )


def _decode_wide(raw: bytes, path: Path) -> Decoded:
    """UTF-16 without a mark: mostly ASCII text has its zeros all on one side."""
    head = raw[: _HEAD & ~1]
    even, odd = head[0::2].count(0), head[1::2].count(0)
    name = "utf-16-le" if odd > 8 * (even + 1) else "utf-16-be" if even > 8 * (odd + 1) else ""
    # A few characters decide nothing; text has at least an ASCII bracket, comma or quote in every fifth place.
    if not name or max(even, odd) * 10 < len(head) // 2:
        raise _binary(path, say("binary data", "二进制数据"))
    return Decoded(_strictly(raw, name, path), name)


def _decode_damaged(raw: bytes, path: Path, error: UnicodeDecodeError) -> Decoded | None:
    """UTF-8 text of which some bytes are broken; None when it is no UTF-8 at all."""
    text = raw.decode("utf-8", "surrogateescape")
    broken = len(_SURROGATE.findall(text))
    whole = sum(1 for character in text if character > "\x7f") - broken
    if whole < 4 * broken:
        return None
    line = raw.count(b"\n", 0, error.start) + 1
    problem = Problem(
        "data.broken_characters",
        say(
            "{n} bytes are not UTF-8; their rows are set aside.", "有 {n} 个字节不是 UTF-8；所在的行已搁置。", n=broken
        ),
        say("Save the file again as UTF-8.", "请将文件重新另存为 UTF-8。"),
        f"{path.name}:{line}",
    )
    return Decoded(text, "utf-8", (problem,))


def _decode_legacy(raw: bytes, path: Path, error: UnicodeDecodeError) -> str:
    name = _guess(raw)
    if name is None:
        raise _encoding_error(raw, path, error, "UTF-8") from error
    return _strictly(raw, name, path)


def _guess(raw: bytes) -> str | None:
    """The legacy encoding of non-UTF-8 bytes, None when none fits them all."""
    if _is_gb2312(raw):
        return _fitting(raw, ["gb18030"])
    lines = [line for line in raw[: 1 << 22].split(b"\n") if not line.isascii()]
    sample = b"\n".join(lines)[:_HEAD]
    found = charset_normalizer.from_bytes(sample, cp_isolation=_CANDIDATES)
    ranked = [match.encoding for match in found]
    # Latin-1 has a character for every byte, C1 controls included; where those occur it is Windows' cp1252.
    return _fitting(raw, [*ranked, "cp1252", "latin_1"])


def _fitting(raw: bytes, names: list[str]) -> str | None:
    for name in names:
        try:
            _whole(raw, name)
        except UnicodeDecodeError:
            continue
        return "latin-1" if name in ("cp1252", "latin_1") and not re.search(rb"[\x80-\x9f]", raw) else name
    return None


_PAIR = re.compile(rb"[\x81-\xfe][\x30-\xfe]")
_COMMON_PAIR = re.compile(rb"[\xa1-\xa3\xb0-\xd7][\xa1-\xfe]")


def _is_gb2312(raw: bytes) -> bool:
    """Whether the non-ASCII bytes pair up into common Chinese characters and punctuation.

    Level 1 of GB 2312 (lead bytes B0 to D7) covers nearly all modern Chinese text. Accented letters of Latin-1 stand
    alone or before an ASCII letter and never pair up like that.
    """
    pairs = _PAIR.findall(raw[: 1 << 20])
    common = sum(1 for pair in pairs if _COMMON_PAIR.fullmatch(pair))
    # Korean syllables use the same places, but end at C8; of Chinese the commonest (的 aside) lie beyond.
    korean = len(pairs) >= 10 and not any(pair[0] > 0xC8 for pair in pairs)
    return len(pairs) > 0 and common >= 0.9 * len(pairs) and not korean
