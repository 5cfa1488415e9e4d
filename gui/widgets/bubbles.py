"""A conversation: what was asked on the right, what was answered on the left, growing while it comes."""

from __future__ import annotations

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from engine.protocol.text import Text, say
from gui.i18n.language import tr
from gui.widgets.basic import button, clear, copy, label, row

REDRAW_MS = 60


class Bubble(QFrame):
    """One utterance; `grow` adds to it, and what came is shown at most every 60 ms."""

    def __init__(self, text: Text | str = "", *, own: bool = False) -> None:
        super().__init__()
        self.setProperty("role", "question" if own else "answer")
        self._text = tr(text)
        self._label = label(self._text, wrap=True, selectable=True)
        self._label.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(12, 8, 12, 8)
        layout.addWidget(self._label)
        self._timer = QTimer(self)
        self._timer.setObjectName("bubble grows")
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._show)

    @property
    def text(self) -> str:
        """All of it."""
        return self._text

    @property
    def words(self) -> QLabel:
        """The label."""
        return self._label

    def grow(self, piece: str) -> None:
        """Add a piece."""
        self._text += piece
        if not self._timer.isActive():
            self._timer.start(REDRAW_MS)

    def put(self, text: str) -> None:
        """Replace the text."""
        self._text = text
        self._show()

    def _show(self) -> None:
        self._timer.stop()
        self._label.setText(self._text)


class Conversation(QScrollArea):
    """Bubbles below each other; the newest stays in view unless the user scrolled up."""

    def __init__(self, name: Text | str) -> None:
        super().__init__()
        self.setAccessibleName(tr(name))
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        inner = QWidget()
        self._layout = QVBoxLayout(inner)
        self._layout.setContentsMargins(0, 0, 6, 0)
        self._layout.setSpacing(8)
        self._layout.addStretch(1)
        self.setWidget(inner)
        self.verticalScrollBar().rangeChanged.connect(self._follow)
        self._at_end = True
        self._invitation: QLabel | None = None
        self.verticalScrollBar().valueChanged.connect(self._scrolled)

    def ask(self, text: str) -> Bubble:
        """Add a question, on the right."""
        if self._invitation is not None:
            self._invitation.hide()
            self._invitation.deleteLater()
            self._invitation = None
        bubble = Bubble(text, own=True)
        self._add(row(None, bubble), answer=False)
        return bubble

    def answer(self, text: str = "") -> Bubble:
        """Add an answer, on the left; grow it as it comes."""
        bubble = Bubble(text)
        self._add(row(bubble, None), answer=True)
        return bubble

    def note(self, text: Text | str) -> QLabel:
        """Add a grey line, such as how many tokens it took."""
        made = label(text, "facts", wrap=True)
        self._layout.insertWidget(self._layout.count() - 1, made)
        return made

    def below(self, widget: QWidget) -> None:
        """Add controls under the newest answer."""
        self._layout.insertWidget(self._layout.count() - 1, widget)

    def trouble(self, text: Text | str, details: str) -> QLabel:
        """Add a line that says why no more was said, with the way to copy its details."""
        made = label(text, "bad", wrap=True)
        made.setVisible(bool(text))
        more = button(say("Copy details", "复制详情"), lambda: copy(details), "small")
        for item in (made, more):
            self._layout.insertWidget(self._layout.count() - 1, item)
        return made

    def invite(self, text: Text | str) -> None:
        """Say what will stand here, until the first question."""
        self._invitation = self.note(text)

    @property
    def invitation(self) -> str:
        """What an empty conversation says; empty when something was asked."""
        return self._invitation.text() if self._invitation is not None else ""

    def clear_all(self) -> None:
        """Begin anew."""
        self._invitation = None
        clear(self._layout)
        self._layout.addStretch(1)

    def _add(self, line: QHBoxLayout, *, answer: bool) -> None:
        # A bubble takes what its text needs, at most six sevenths of the width.
        line.setStretch(0, 6 if answer else 1)
        line.setStretch(1, 1 if answer else 6)
        self._layout.insertLayout(self._layout.count() - 1, line)
        self._at_end = True

    def _scrolled(self, value: int) -> None:
        self._at_end = value >= self.verticalScrollBar().maximum() - 4

    def _follow(self, _low: int, high: int) -> None:
        if self._at_end:
            self.verticalScrollBar().setValue(high)
