"""What the user prefers of the window itself."""

from __future__ import annotations

from dataclasses import replace

from PySide6.QtCore import QObject, Signal

from engine.project.settings import Settings, load_settings, save_settings
from engine.protocol.errors import UserError


class AppSettings(QObject):
    """Language and theme, kept as soon as they change.

    Attributes:
        values: what is chosen now.

    Signals:
        changed: language or theme is another.
        not_kept(UserError): the choice counts, but the disk did not take it.
    """

    changed = Signal()
    not_kept = Signal(object)

    def __init__(self, parent: QObject | None = None, *, language: str = "", theme: str = "") -> None:
        super().__init__(parent)
        kept = load_settings()
        self.values = replace(kept, language=language or kept.language, theme=theme or kept.theme)

    def set_language(self, language: str) -> None:
        """Speak "en", "zh", or "auto" for the system's language."""
        self._set(replace(self.values, language=language))

    def set_theme(self, theme: str) -> None:
        """Show "light", "dark", or "auto" for the system's theme."""
        self._set(replace(self.values, theme=theme))

    def _set(self, values: Settings) -> None:
        if values == self.values:
            return
        self.values = values
        self.changed.emit()
        try:
            save_settings(values)
        except UserError as error:
            self.not_kept.emit(error)
