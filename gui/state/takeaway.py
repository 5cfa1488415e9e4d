"""What the user wants to take away of the run, and where to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, Signal

from engine.export.gguf_size import estimated_gguf_bytes
from engine.export.ledger import Export, listed
from engine.export.targets import QUANTISATIONS, RECOMMENDED, TARGETS, estimated_bytes, gguf_refusal
from engine.project.atomic import read_json
from engine.project.project import slug
from engine.project.run_folder import RunFolder
from engine.protocol.errors import Failure, UserError
from engine.protocol.events import RunPlanned
from engine.protocol.text import NOTHING, Text, say

ADAPTER_BYTES = 4
MERGED_BITS = 16.0


@dataclass(frozen=True, slots=True)
class Choice:
    """One thing to take away.

    Attributes:
        name: "adapter", "merged", or a GGUF type such as "Q4_K_M".
        label, summary: what people read.
        suffix: of the file; "" for a folder.
        refusal: why it cannot be made of this model; empty when it can.
        bytes: about how large; 0 when not known.
    """

    name: str
    label: Text
    summary: Text
    suffix: str
    refusal: Text = NOTHING
    bytes: int = 0


def choices(facts: dict[str, Any], plan: RunPlanned | None) -> list[Choice]:
    """All that can be taken away of a run, the GGUF types first."""
    config, refusal = _config(facts)
    weights = plan.all_parameters if plan is not None else 0
    trained = plan.trained_parameters if plan is not None else 0
    gguf = TARGETS["gguf"]
    found = [
        Choice(
            name,
            say("GGUF, {type}", "GGUF，{type}", type=kind.label),
            say("{what}; {how}", "{what}；{how}", what=kind.summary, how=gguf.summary),
            gguf.suffix,
            refusal,
            estimated_gguf_bytes(config, name) or estimated_bytes(weights, kind.bits),
        )
        for name, kind in QUANTISATIONS.items()
    ]
    sizes = {"adapter": trained * ADAPTER_BYTES, "merged": estimated_bytes(weights, MERGED_BITS)}
    found += [
        Choice(name, TARGETS[name].label, TARGETS[name].summary, "", NOTHING, size) for name, size in sizes.items()
    ]
    return found


def _config(facts: dict[str, Any]) -> tuple[dict[str, Any], Text]:
    """The run's base model's configuration, and why it cannot become a GGUF."""
    try:
        config: dict[str, Any] = read_json(Path(str(facts.get("model_folder", ""))) / "config.json")
        error = gguf_refusal(config)
    except UserError as missing:
        config, error = {}, missing
    return config, error.problem.message if error is not None else NOTHING


class TakeAway(QObject):
    """The choice, the folder, and what was taken away before.

    Attributes:
        chosen: name of a `Choice`.
        folder: where to put it; None for the run's own ``exports``.
        exports: what was exported of the run, newest first.
        failure: why the list cannot be read.

    Signals:
        changed: any of them.
    """

    changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.chosen = RECOMMENDED
        self.folder: Path | None = None
        self.exports: tuple[Export, ...] = ()
        self.failure: Failure | None = None
        self._run: RunFolder | None = None

    def choose(self, name: str) -> None:
        """Want another thing."""
        self.chosen = name
        self.changed.emit()

    def put_into(self, folder: Path | None) -> None:
        """Want it in another folder; None: in the run's own."""
        self.folder = folder
        self.changed.emit()

    def read(self, run: RunFolder | None) -> None:
        """Read a run's list of exports again. The folder that was chosen for another run is not kept."""
        if run != self._run:
            self._run, self.folder = run, None
        self.failure = None
        try:
            self.exports = listed(run) if run is not None else ()
        except UserError as error:
            self.exports, self.failure = (), Failure.of(error)
        self.changed.emit()

    def target(self, run: RunFolder, title: str, suffix: str) -> Path:
        """File or folder to write."""
        parent = self.folder if self.folder is not None else run.exports
        return parent / f"{slug(title or run.id)}-{self.chosen.lower()}{suffix}"
