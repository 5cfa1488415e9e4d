"""The models there are, the one that is chosen, the one that is looked at, and what the hub says."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, Signal

from engine.protocol.text import NOTHING, Text
from gui.state.phase import Status

if TYPE_CHECKING:
    from engine.machine.fits import Fit
    from engine.machine.known_models import KnownModels


@dataclass(frozen=True, slots=True)
class ModelFilter:
    """Which models are listed, and in which order.

    Attributes:
        show: "all", "fits" (by any method, here), "here" (on this machine) or "away".
        licence: "any", "free" (any use) or "own" (terms of its owner's).
        size: "any", "small" (to 2 billion weights), "medium" (to 10) or "large".
        family: its label, "any" for all.
        order: "here" (this machine's first), "small", "large", "name" or "context".
    """

    show: str = "all"
    licence: str = "any"
    size: str = "any"
    family: str = "any"
    order: str = "here"


@dataclass(slots=True)
class HubAccess:
    """How the hub is reached; the token itself is never here.

    Attributes:
        open: its settings are shown.
        token: "none", "kept" (in the keyring), "variable" (``HF_TOKEN``), or "" while that is not known.
        user: whose token it is, empty when nobody asked.
        doing: what is being done, empty when nothing is.
        status: what went wrong last.
    """

    open: bool = False
    token: str = ""
    user: str = ""
    doing: Text = NOTHING
    status: Status = field(default_factory=Status)


class ModelState(QObject):
    """Which models there are.

    Attributes:
        status: whether the list is there.
        models: those of this machine, plain descriptions as the data session gives them.
        catalogue: well-known models, None until they are read.
        begun: hub id → bytes on this machine, of downloads that were interrupted.
        filter: what of all that is listed.
        chosen: the description of the draft's model; empty until known.
        chosen_status: whether `chosen` is known, or why it cannot be used.
        looked_at: hub id of the model that is looked at, not on this machine; empty when it is the chosen one.
        fits: source → what fits here; good for the case that `fits_for` names.
        fits_for: room, recipe and length that `fits` was asked for.
        access: how the hub is reached.
        hub_for: the id that the hub was asked for; empty when none was.
        hub: what the hub says of it.
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
        self.catalogue: KnownModels | None = None
        self.begun: dict[str, int] = {}
        self.filter = ModelFilter()
        self.chosen: dict[str, Any] = {}
        self.chosen_status = Status()
        self.looked_at = ""
        self.fits: dict[str, dict[str, Fit]] = {}
        self.fits_for: tuple[Any, ...] = ()
        self.access = HubAccess()
        self.hub_for = ""
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

    def list_only(self, **choices: str) -> None:
        """List other models: the fields of `ModelFilter` that change."""
        wanted = replace(self.filter, **choices)
        if wanted != self.filter:
            self.filter = wanted
            self.changed.emit()

    def hub_begins(self, operation: Any, *, is_download: bool = False) -> None:
        """Something is asked of the hub."""
        self.hub_asking, self.is_downloading, self.is_ending = operation, is_download, False

    def hub_ends(self) -> None:
        """Nothing is asked of the hub any more."""
        self.hub_asking, self.is_downloading, self.is_ending = None, False, False
