"""How far a job is inside a card: a bar and, below it, what is being done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtWidgets import QProgressBar, QPushButton, QWidget

from engine.protocol.text import say
from gui.i18n.language import tr
from gui.widgets.banner import progress_words, show_progress
from gui.widgets.basic import column, label, row

if TYPE_CHECKING:
    from engine.protocol.state import JobState


class JobBar(QWidget):
    """Bar and words of a job, with the buttons that stand at their right."""

    def __init__(self, *buttons: QPushButton) -> None:
        super().__init__()
        self._bar, self._words = QProgressBar(), label("", "muted", wrap=True)
        self._bar.setTextVisible(False)
        line = row(self._words, *buttons)
        line.setStretch(0, 1)
        self.setLayout(column(self._bar, line, spacing=6))

    def put(self, state: JobState) -> None:
        """Show where the job stands."""
        show_progress(self._bar, state.progress)
        stage = tr(state.stage or say("Starting…", "启动中……"))
        self._words.setText(" · ".join(part for part in (stage, progress_words(state.progress)) if part))
