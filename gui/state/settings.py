"""What the user prefers of the window itself."""

from __future__ import annotations

from dataclasses import replace

from PySide6.QtCore import QObject, Signal

from engine.project.settings import Settings, load_settings, save_settings
from engine.protocol.errors import UserError


class AppSettings(QObject):
    """Language, theme and the hub's address, kept as soon as they change.

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

    def set_mirror(self, address: str) -> None:
        """Reach the hub by another address, empty for the usual one; nothing in the window looks different.

        Raises:
            UserError: it is no address, or one that everybody on the way could read.
        """
        from engine.project.hub_access import checked_mirror

        self.values = replace(self.values, mirror=checked_mirror(address))
        self._keep()

    def set_llama_cpp(self, folder: str) -> None:
        """Where llama.cpp's sources are, whose converter is run for some models; nothing looks different."""
        self.values = replace(self.values, llama_cpp=folder)
        self._keep()

    def _set(self, values: Settings) -> None:
        if values == self.values:
            return
        self.values = values
        self.changed.emit()
        self._keep()

    def _keep(self) -> None:
        try:
            save_settings(self.values)
        except UserError as error:
            self.not_kept.emit(error)
