"""The card "Reading the curve": what the losses say, and what to change."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from PySide6.QtCore import QSize
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QLabel, QWidget

from engine.project.curve import reading_of
from engine.protocol.state import JobState
from engine.protocol.text import say
from gui.i18n.language import tr
from gui.widgets.basic import column, label
from gui.widgets.card import Card
from gui.widgets.chip import Chip
from gui.widgets.scroll import scrolled

if TYPE_CHECKING:
    from engine.project.curve import Reading
    from engine.recipe.recipe import Recipe

AGAIN_SECONDS = 2.0
NEW_STEPS = 20


class ReadingCard(Card):
    """Reads the curves now and then: when a held-out loss or twenty steps are new, and at most every two seconds.

    Attributes:
        reading: what was read last, None before.
    """

    def __init__(self) -> None:
        super().__init__(say("Reading the curve", "曲线解读"), " ")
        self.reading: Reading | None = None
        self._read_at, self._seen = 0.0, (0, 0, "")
        self._chip = Chip()
        self.corner(self._chip)
        self.sentence = label("", wrap=True, selectable=True)
        self.advice = label("", "muted", wrap=True, selectable=True)
        self._sheet = _Sheet(self.sentence, self.advice)
        self.body.addWidget(scrolled(self._sheet))
        self.setMinimumHeight(110)

    def forget(self) -> None:
        """Another run is looked at."""
        self._read_at, self._seen = 0.0, (0, 0, "")

    def put(self, state: JobState, recipe: Recipe | None) -> None:
        """Read the curves of this state, if it is time to."""
        if not self._is_due(state):
            return
        self._read_at, self._seen = time.monotonic(), _measure(state)
        self.reading = reading_of(state, recipe)
        self._chip.put(self.reading.word, self.reading.tone)
        self.sentence.setText(tr(self.reading.sentence))
        self.advice.setText("\n".join(f"• {tr(line)}" for line in self.reading.advice))
        self.advice.setVisible(bool(self.reading.advice))
        self._sheet.fit()

    def _is_due(self, state: JobState) -> bool:
        step, held, status = _measure(state)
        before, known, was = self._seen
        if status != was or step < before:
            return True
        is_new = held != known or step - before >= NEW_STEPS
        return is_new and time.monotonic() - self._read_at >= AGAIN_SECONDS


class _Sheet(QWidget):
    """Texts below each other, exactly as high as they need at the width they are given: the least height of texts that
    wrap is that of a narrow column, for which a scroll area would scroll long before it has to."""

    def __init__(self, *texts: QLabel) -> None:
        super().__init__()
        self.setLayout(column(*texts, None, spacing=6))

    def minimumSizeHint(self) -> QSize:
        """What the texts need at this width."""
        layout = self.layout()
        return QSize(0, max(0, layout.totalHeightForWidth(self.width())) if layout is not None else 0)

    def fit(self) -> None:
        """The texts are others."""
        self.updateGeometry()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Another width may need another height."""
        super().resizeEvent(event)
        if event.size().width() != event.oldSize().width():
            self.updateGeometry()


def _measure(state: JobState) -> tuple[int, int, str]:
    return state.step, len(state.held_out), state.status
