"""The models on this machine, the one that is chosen, and what the hub says of another."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QObject, Signal

from gui.state.phase import Status


class ModelState(QObject):
    """Which models there are.

    Attributes:
        status: whether the list is there.
        models: plain descriptions as the data session gives them.
        chosen: the description of the draft's model; empty until known.
        chosen_status: whether `chosen` is known, or why it cannot be used.
        hub: what the hub says of the id that was asked for; empty when none was.
        hub_status: looking up or downloading, and how far.
        listing: the operation that looks for models, None while none does.
        hub_asking: the operation that looks up or downloads, None while none does.
        is_downloading: it downloads.
        is_ending: the user ended the download, which has not ended yet.

    Signals:
        changed: any of it.
    """

    changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.status = Status()
        self.models: list[dict[str, Any]] = []
        self.chosen: dict[str, Any] = {}
        self.chosen_status = Status()
        self.hub: dict[str, Any] = {}
        self.hub_status = Status()
        self.listing: Any = None
        self.hub_asking: Any = None
        self.is_downloading = False
        self.is_ending = False

    def known(self, source: str) -> dict[str, Any]:
        """The description of ``source``, empty when it is not in the list."""
        return next((model for model in self.models if model.get("source") == source), {})

    def put(self, model: dict[str, Any]) -> None:
        """Add a description to the list, or replace the one of the same source."""
        others = [item for item in self.models if item.get("source") != model.get("source")]
        self.models = [*others, model]
        self.changed.emit()

    def hub_begins(self, operation: Any, *, is_download: bool = False) -> None:
        """Something is asked of the hub."""
        self.hub_asking, self.is_downloading, self.is_ending = operation, is_download, False

    def hub_ends(self) -> None:
        """Nothing is asked of the hub any more."""
        self.hub_asking, self.is_downloading, self.is_ending = None, False, False
