"""The end of a log file, read again while it grows."""

from __future__ import annotations

import re
from pathlib import Path

from PySide6.QtWidgets import QPlainTextEdit

from engine.host.follow import log_tail
from engine.protocol.text import say
from gui.i18n.language import tr

LOG_BYTES = 60_000
MOST_IN_LINE = 2000
"""Characters: a line of a whole log's length takes Qt a second to lay out."""
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")


class LogView(QPlainTextEdit):
    """Shows the last 60 kB of a file; stays at the end unless the user scrolled up."""

    def __init__(self) -> None:
        super().__init__()
        self.setReadOnly(True)
        self.setProperty("role", "mono")
        self.setAccessibleName(tr(say("Log", "日志")))
        self.setPlaceholderText(tr(say("Nothing has been written to the log.", "日志为空。")))
        self._shown: tuple[Path, int] | None = None

    def read(self, path: Path) -> None:
        """Show the end of a file; the same file is read again only when it has grown."""
        size = path.stat().st_size if path.is_file() else 0
        if self._shown == (path, size):
            return
        bar = self.verticalScrollBar()
        at_end = self._shown is None or self._shown[0] != path or bar.value() >= bar.maximum()
        before = bar.value()
        self._shown = (path, size)
        self.setPlainText(readable(log_tail(path, size=LOG_BYTES)))
        bar.setValue(bar.maximum() if at_end else before)


def readable(text: str) -> str:
    """A log without characters that cannot be seen, and with lines that can be laid out."""
    lines = (_CONTROL.sub("", line) for line in text.splitlines())
    return "\n".join(line if len(line) <= MOST_IN_LINE else line[:MOST_IN_LINE] + "…" for line in lines)
