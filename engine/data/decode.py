"""Bytes to text: which encoding a file has, and what to say when it is no text at all."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from pathlib import Path

import charset_normalizer

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
    (b"\x1f\x8b", say("a gzip archive", "gzip 压缩文件")),
    (b"\x28\xb5\x2f\xfd", say("a Zstandard archive", "Zstandard 压缩文件")),
    (b"%PDF", say("a PDF", "PDF 文件")),
    (b"\x89PNG", say("a picture", "图片")),
    (b"\xff\xd8\xff", say("a picture", "图片")),
    (b"ARROW1", say("an Arrow file", "Arrow 文件")),
    (b"SQLite format 3", say("an SQLite database", "SQLite 数据库")),
    (b"GGUF", say("a GGUF model", "GGUF 模型")),
)
# Legacy encodings that datasets really come in. A free choice among a hundred finds exotic ones in short texts, and one
# between the Latin alphabets of West and East is a guess: the Western one is taken, the other can be chosen by hand.
_CANDIDATES = ["gb18030", "big5", "shift_jis", "euc_jp", "cp949", "cp1251", "koi8_r", "cp1252"]
_HEAD = 1 << 16
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
