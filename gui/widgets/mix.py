"""What a data set is made of, in one line of shares that can be opened: "English 88% · Chinese 12%"."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLabel, QSizePolicy

from engine.protocol.text import Text
from gui.i18n.language import tr
from gui.theme.apply import colour

Share = tuple[str, str]
"""What is opened, and its words."""


class Mix(QLabel):
    """Shares side by side, each a link; the line wraps where it must.

    Args:
        name: what is mixed, for those who cannot see it.
        open_: called with what the pressed share opens.
    """

    def __init__(self, name: Text, shares: Sequence[Share], open_: Callable[[str], object]) -> None:
        super().__init__()
        self.shares = list(shares)
        self.setTextFormat(Qt.TextFormat.RichText)
        self.setWordWrap(True)
        self.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignTop)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.LinksAccessibleByMouse | _KEYS)
        style = f"color:{colour('text').name()}; text-decoration:none"
        self.setText(" · ".join(_link(to, words, style) for to, words in self.shares))
        self.setAccessibleName(tr(name))
        self.setAccessibleDescription(", ".join(words for _, words in self.shares))
        self.linkActivated.connect(open_)


_KEYS = Qt.TextInteractionFlag.LinksAccessibleByKeyboard


def _link(to: str, words: str, style: str) -> str:
    name, _, share = html.escape(words).rpartition(" ")
    kept = f"{name}&nbsp;{share}" if name else share
    return f'<a href="{html.escape(to)}" style="{style}">{kept}</a>'
