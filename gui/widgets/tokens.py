"""What the model will see of one row: learned tokens marked by ground and underline, special ones set apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from PySide6.QtGui import QFont, QTextBlockFormat, QTextCharFormat, QTextCursor
from PySide6.QtWidgets import QTextEdit

from engine.protocol.text import say
from gui.i18n.language import tr
from gui.theme.apply import colour, mono_font, text_font

LINE_HEIGHT = 145.0
MOST = 6000
"""Tokens drawn at most; a longer row ends in a note with how many more there are."""


class TokenView(QTextEdit):
    """Read-only; colour never stands alone: learned tokens are underlined too."""

    def __init__(self) -> None:
        super().__init__()
        self.setReadOnly(True)
        self.setProperty("role", "bare")
        self.setFont(mono_font())
        self.setTabChangesFocus(True)
        self.document().setDocumentMargin(0)
        self.setAccessibleName(tr(say("What the model will see", "模型看到的内容")))

    def put(self, tokens: Sequence[dict[str, Any]], rejected: Sequence[dict[str, Any]] | None = None) -> None:
        """Show the tokens of a row, each with ``text``, ``learned``, ``special`` and ``cut``.

        A preference has a second side: what the model learns to avoid.
        """
        self.clear()
        cursor = QTextCursor(self.document())
        cursor.beginEditBlock()
        if rejected is not None:
            cursor.insertText(tr(say("Better answer", "较好的回答")) + "\n", _heading())
        _insert(cursor, tokens)
        if rejected is not None:
            cursor.insertText("\n\n" + tr(say("Worse answer", "较差的回答")) + "\n", _heading())
            _insert(cursor, rejected)
        cursor.select(QTextCursor.SelectionType.Document)
        cursor.mergeBlockFormat(_spacing())
        cursor.endEditBlock()
        self.moveCursor(QTextCursor.MoveOperation.Start)


def _insert(cursor: QTextCursor, tokens: Sequence[dict[str, Any]]) -> None:
    for text, kind in runs(tokens[:MOST]):
        cursor.insertText(text, _format(kind))
    if len(tokens) > MOST:
        more = tr(say(" … and {n} more tokens", " … 另有 {n} 个词元", n=len(tokens) - MOST))
        cursor.insertText(more, _format(Kind(False, False, False)))


def _spacing() -> QTextBlockFormat:
    made = QTextBlockFormat()
    made.setLineHeight(LINE_HEIGHT, QTextBlockFormat.LineHeightTypes.ProportionalHeight.value)
    return made


def _heading() -> QTextCharFormat:
    made = QTextCharFormat()
    made.setFont(text_font(11, QFont.Weight.DemiBold))
    made.setForeground(colour("muted"))
    return made


class Kind(NamedTuple):
    """How a token is drawn."""

    learned: bool
    special: bool
    cut: bool


def runs(tokens: Sequence[dict[str, Any]]) -> list[tuple[str, Kind]]:
    """Neighbouring tokens of the same kind as one piece of text; line ends are made visible and kept."""
    pieces: list[tuple[str, Kind]] = []
    for token in tokens:
        text = str(token.get("text", "")).replace("\r\n", "\n").replace("\n", "↵\n")
        kind = Kind(bool(token.get("learned")), bool(token.get("special")), bool(token.get("cut")))
        if pieces and pieces[-1][1] == kind:
            pieces[-1] = (pieces[-1][0] + text, kind)
        else:
            pieces.append((text, kind))
    return pieces


def _format(kind: Kind) -> QTextCharFormat:
    made = QTextCharFormat()
    made.setFont(mono_font())
    if kind.learned and not kind.cut:
        made.setBackground(colour("learned"))
        made.setForeground(colour("text"))
        made.setUnderlineStyle(QTextCharFormat.UnderlineStyle.SingleUnderline)
        made.setUnderlineColor(colour("learned_line"))
    else:
        made.setForeground(colour("faint" if kind.special or kind.cut else "muted"))
    if kind.cut:
        made.setFontStrikeOut(True)
    if kind.special:
        made.setFontWeight(QFont.Weight.Medium)
    return made
