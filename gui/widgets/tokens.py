"""What the model will see of one row: learned tokens marked by ground and underline, special ones set apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PySide6.QtGui import QFont, QTextCharFormat, QTextCursor
from PySide6.QtWidgets import QTextEdit

from engine.protocol.text import say
from gui.i18n.language import tr
from gui.theme.apply import colour, mono_font

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

    def put(self, tokens: Sequence[dict[str, Any]]) -> None:
        """Show the tokens of a row: each with ``text``, ``learned`` and ``special``."""
        self.clear()
        cursor = QTextCursor(self.document())
        cursor.beginEditBlock()
        kinds = {(learned, special): _format(learned, special) for learned in (0, 1) for special in (0, 1)}
        for text, learned, special in runs(tokens[:MOST]):
            cursor.insertText(text, kinds[learned, special])
        if len(tokens) > MOST:
            more = tr(say(" … and {n} more tokens", " … 另有 {n} 个词元", n=len(tokens) - MOST))
            cursor.insertText(more, kinds[0, 0])
        cursor.endEditBlock()
        self.moveCursor(QTextCursor.MoveOperation.Start)


def runs(tokens: Sequence[dict[str, Any]]) -> list[tuple[str, int, int]]:
    """Neighbouring tokens of the same kind as one piece of text; line ends are made visible and kept."""
    pieces: list[tuple[str, int, int]] = []
    for token in tokens:
        text = str(token.get("text", "")).replace("\r\n", "\n").replace("\n", "↵\n")
        kind = (int(bool(token.get("learned"))), int(bool(token.get("special"))))
        if pieces and pieces[-1][1:] == kind:
            pieces[-1] = (pieces[-1][0] + text, *kind)
        else:
            pieces.append((text, *kind))
    return pieces


def _format(learned: int, special: int) -> QTextCharFormat:
    made = QTextCharFormat()
    made.setFont(mono_font())
    if learned:
        made.setBackground(colour("learned"))
        made.setForeground(colour("text"))
        made.setUnderlineStyle(QTextCharFormat.UnderlineStyle.SingleUnderline)
        made.setUnderlineColor(colour("learned_line"))
    else:
        made.setForeground(colour("faint" if special else "muted"))
    if special:
        made.setFontWeight(QFont.Weight.Medium)
    return made
