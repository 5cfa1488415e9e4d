"""What all pages share: a heading, the four states, and the way a page is refreshed."""

from __future__ import annotations

from PySide6.QtWidgets import QStackedLayout, QVBoxLayout, QWidget

from engine.protocol.text import NOTHING, Text
from gui.context import AppContext
from gui.i18n.language import tr
from gui.widgets.banner import StatusBanner
from gui.widgets.basic import ElidedLabel, column, label, row


class Page(QWidget):
    """A page. A subclass sets `title` and `subtitle`, builds its body in `build`, and shows its states in `refresh`.

    A page holds no truth: it renders the context's states. It is built when first looked at, and built anew when the
    language or the theme changes. `refresh` is called when it is shown and by the signals that the page connects.

    Attributes:
        context: all a page may use.
        banner: for the states "nothing yet", "working" and "wrong"; `show_banner` brings it to the front.
        head: layout at the right of the heading, for buttons.
    """

    title: Text = NOTHING
    subtitle: Text = NOTHING

    def __init__(self, context: AppContext) -> None:
        super().__init__()
        self.context = context
        self.setObjectName("page")
        self._title = label(self.title, "title")
        self._subtitle = ElidedLabel(self.subtitle, "muted")
        self.head = row()
        heading = row(column(self._title, self._subtitle, spacing=4), self.head, spacing=12)
        heading.setStretch(0, 1)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(24, 20, 24, 20)
        outer.setSpacing(14)
        outer.addLayout(heading)
        self._stack = QStackedLayout()
        outer.addLayout(self._stack, 1)
        self.banner = StatusBanner()
        self._stack.addWidget(self.banner)
        self._body: QWidget | None = None
        self.setAccessibleName(tr(self.title))

    def build(self) -> QWidget:
        """The page's body for the state "ready"; called once, when it is first needed."""
        return QWidget()

    def refresh(self) -> None:
        """Show what the states say now."""

    @property
    def is_ready(self) -> bool:
        """Whether the body, not the banner, is in front."""
        return self._body is not None and self._stack.currentWidget() is self._body

    @property
    def is_built(self) -> bool:
        """Whether the body exists."""
        return self._body is not None

    def show_banner(self) -> StatusBanner:
        """Bring the banner to the front."""
        self._stack.setCurrentWidget(self.banner)
        return self.banner

    def build_ahead(self) -> None:
        """Build the body before it is needed, where there is time for it, and draw it once, which the style sheet and
        letters that were never drawn make slow the first time."""
        if self._body is None:
            self._make_body().grab()

    def _make_body(self) -> QWidget:
        self._body = self.build()
        self._stack.addWidget(self._body)
        return self._body

    def show_body(self) -> None:
        """Bring the body to the front; it is built when it is first needed."""
        self._stack.setCurrentWidget(self._body or self._make_body())

    def set_subtitle(self, text: Text | str) -> None:
        """Put other words below the title."""
        self._subtitle.setText(tr(text))
