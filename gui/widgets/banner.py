"""What a page shows when it has nothing yet, is working, or something is wrong: one sentence, a hint, the way on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QProgressBar, QPushButton, QVBoxLayout, QWidget

from engine.protocol.text import NOTHING, Text, as_text, say
from gui.i18n.language import sentences, tr
from gui.i18n.numbers import count, duration, percent, size
from gui.state.notices import details_of
from gui.widgets.basic import button, clear, column, copy, label, row
from gui.widgets.card import Card

if TYPE_CHECKING:
    from engine.protocol.errors import Failure
    from engine.protocol.events import Progress

UNITS = {"rows": say("rows", "行")}
_WIDTH = 520
_MARGIN = 26
_SPACE = 8


class StatusBanner(QWidget):
    """The three states of a page that are not "ready". Call `empty`, `working` or `wrong` to switch.

    Attributes:
        buttons: the buttons now shown, in reading order.
    """

    def __init__(self) -> None:
        super().__init__()
        self._title = label("", "heading", wrap=True)
        self._hint = label("", "muted", wrap=True)
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        self._where = label("", "facts", wrap=True, selectable=True)
        self._problems = label("", "muted", wrap=True, selectable=True)
        self._buttons = QVBoxLayout()
        self._buttons.setSpacing(_SPACE)
        self.buttons: list[QPushButton] = []
        self._card = Card("", "", self._title, self._hint, self._bar, self._where, self._problems, self._buttons)
        self._card.setFixedWidth(_WIDTH)
        self._card.layout().setContentsMargins(_MARGIN, 24, _MARGIN, 24)  # type: ignore[union-attr]
        layout = column(None, row(None, self._card, None), None, None)
        self.setLayout(layout)
        for text in (self._title, self._hint):
            text.setAlignment(Qt.AlignmentFlag.AlignLeft)

    @property
    def sentence(self) -> str:
        """The main sentence now shown."""
        return self._title.text()

    def empty(self, sentence: Text, hint: Text = NOTHING, *buttons: QPushButton) -> None:
        """Nothing is there yet: what to do first."""
        self._show(sentence, hint, list(buttons))

    def working(self, sentence: Text, progress: Progress | None, cancel: Callable[[], object] | None = None) -> None:
        """Something is being done: what, how far, and the way to stop it."""
        shown = [button(say("Cancel", "取消"), cancel, shortcut="Esc")] if cancel is not None else []
        if not self._bar.isHidden() and len(self.buttons) == len(shown):
            shown = []  # keep the button that is there: it may have the focus
            self._title.setText(tr(sentence))
        else:
            self._show(sentence, NOTHING, shown)
        self._bar.show()
        show_progress(self._bar, progress)
        self._hint.setText(progress_words(progress))
        self._hint.setVisible(bool(self._hint.text()))

    def wrong(self, failure: Failure, *buttons: QPushButton) -> None:
        """Something went wrong: the sentence, what to do, and the details to copy."""
        details = details_of(failure)
        own = button(say("Copy details", "复制详情"), lambda: copy(details), shortcut="Ctrl+Shift+C")
        self._show(failure.message, failure.hint, [*buttons, own])
        self._card.set_tone("bad")
        self._where.setText(failure.where)
        self._where.setVisible(bool(failure.where))
        lines = [f"• {p.where}: {sentences(p.message, p.hint)}" for p in failure.problems[:12]]
        self._problems.setText("\n".join(lines))
        self._problems.setVisible(len(lines) > 1)

    def invite(self, inviting: bool) -> None:
        """Show that something can be dropped here."""
        self._card.set_tone("drop" if inviting else "")

    def _show(self, sentence: Text, hint: Text, buttons: list[QPushButton]) -> None:
        self._card.set_tone("")
        self._title.setText(tr(sentence))
        self._hint.setText(tr(hint))
        self._hint.setVisible(bool(hint))
        for widget in (self._bar, self._where, self._problems):
            widget.hide()
        clear(self._buttons)
        self.buttons = buttons
        for line in _lines(buttons):
            self._buttons.addLayout(row(*line, None, spacing=_SPACE))


def _lines(buttons: list[QPushButton]) -> list[list[QPushButton]]:
    """The buttons in as many lines as the card's width asks for."""
    lines: list[list[QPushButton]] = []
    left = 0
    for item in buttons:
        width = item.sizeHint().width() + _SPACE
        if not lines or width > left:
            lines.append([])
            left = _WIDTH - 2 * _MARGIN + _SPACE
        lines[-1].append(item)
        left -= width
    return lines


def show_progress(bar: QProgressBar, progress: Progress | None) -> None:
    """Put a progress on a bar; a moving band where the end is unknown."""
    if progress is None or progress.total <= 0:
        bar.setRange(0, 0)
    else:
        bar.setRange(0, 1000)
        bar.setValue(round(1000 * min(1.0, progress.done / progress.total)))


def progress_words(progress: Progress | None) -> str:
    """A progress in words: "1.2 GiB of 4.0 GiB · 3 min left"."""
    if progress is None or progress.total <= 0:
        return ""
    is_size = progress.unit in ("B", "bytes")
    write = size if is_size else count
    unit = "" if is_size or not progress.unit else f" {tr(UNITS.get(progress.unit, as_text(progress.unit)))}"
    done, total = write(progress.done), write(progress.total)
    words = tr(say("{done} of {total}{unit}", "{done} / {total}{unit}", done=done, total=total, unit=unit))
    if progress.unit == "share":
        words = percent(progress.done / progress.total)
    if progress.seconds_left is not None:
        words += " · " + tr(say("{time} left", "剩余 {time}", time=duration(progress.seconds_left)))
    return words
