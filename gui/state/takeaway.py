"""What the user wants to take away of the run, what was taken away, and what can be done with it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, Signal

from engine.export import lmstudio, ollama, serve
from engine.export.gguf_size import estimated_gguf_bytes
from engine.export.hub_upload import Sent
from engine.export.ledger import Export, listed
from engine.export.parity import Parity
from engine.export.serve import Serving
from engine.export.targets import QUANTISATIONS, RECOMMENDED, TARGETS, estimated_bytes, gguf_refusal
from engine.project.atomic import read_json
from engine.project.project import slug
from engine.project.run_folder import RunFolder
from engine.protocol.errors import Failure, UserError
from engine.protocol.events import RunPlanned
from engine.protocol.text import NOTHING, Text

ADAPTER_BYTES = 4
MERGED_BITS = 16.0
GGUF, MERGED = "gguf", "merged"
OFFERED = (GGUF, "adapter", MERGED, "gguf-adapter")
"""Targets that are offered as a choice; the others are uses of a GGUF."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One thing to take away.

    Attributes:
        name: a key of `TARGETS`, or a GGUF type such as "Q4_K_M".
        label, summary: what people read.
        refusal: why it cannot be made of this model; empty when it can.
        bytes: about how large; 0 when not known.
        checked: what the newest export of this kind was found to be; None where there is none.
    """

    name: str
    label: Text
    summary: Text
    refusal: Text = NOTHING
    bytes: int = 0
    checked: Parity | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """Something that was exported.

    Attributes:
        export: its entry.
        is_there: it still lies where it was put.
        parity: its check.
    """

    export: Export
    is_there: bool
    parity: Parity

    @property
    def path(self) -> Path:
        """Where it was put."""
        return Path(self.export.file)


@dataclass(frozen=True, slots=True)
class Found:
    """What the disk knows, read in the background.

    Attributes:
        run: whose it is.
        exports: newest first.
        targets, types: what can be made.
        place: folder that is written to.
        free: bytes free there; None where that is not known.
        servers: that run for this user.
        ollama: its program; None where it is not installed.
        lm_studio: its models folder; None where it is not installed.
        failure: why the list of exports cannot be read.
        converter: folder of llama.cpp's sources, where only the converter in it makes a GGUF of this model.
    """

    run: RunFolder | None = None
    exports: tuple[Taken, ...] = ()
    targets: Mapping[str, Offer] = field(default_factory=dict)
    types: Mapping[str, Offer] = field(default_factory=dict)
    place: Path = Path()
    free: int | None = None
    servers: tuple[Serving, ...] = ()
    ollama: Path | None = None
    lm_studio: Path | None = None
    failure: Failure | None = None
    converter: str = ""


def find(
    run: RunFolder, facts: Mapping[str, Any], plan: RunPlanned | None, folder: Path | None, converter: str = ""
) -> Found:
    """Look at a run, its exports and what is installed. Reads files: never on the window's thread.

    Args:
        folder: where exports are put; None for the run's own.
        converter: folder of llama.cpp's sources, for what Lorimer does not write itself; empty for none.
    """
    failure = None
    try:
        exports = tuple(Taken(item, item.is_there, item.checked) for item in listed(run))
    except UserError as error:
        exports, failure = (), Failure.of(error)
    config, refusal = _config(facts)
    by_converter = converter if refusal and config else ""
    place = folder or run.exports
    return Found(
        run,
        exports,
        _targets(plan, NOTHING if by_converter else refusal, exports),
        _types(config, plan, NOTHING if by_converter else refusal, exports),
        place,
        _free(place),
        serve.running(),
        ollama.program(),
        lmstudio.models_folder(),
        failure,
        by_converter,
    )


def _config(facts: Mapping[str, Any]) -> tuple[dict[str, Any], Text]:
    """The run's base model's configuration, and why it cannot become a GGUF."""
    try:
        config: dict[str, Any] = read_json(Path(str(facts.get("model_folder", ""))) / "config.json")
        error = gguf_refusal(config)
    except UserError as missing:
        config, error = {}, missing
    return config, error.problem.message if error is not None else NOTHING


def _targets(plan: RunPlanned | None, refusal: Text, exports: tuple[Taken, ...]) -> dict[str, Offer]:
    weights = plan.all_parameters if plan is not None else 0
    trained = plan.trained_parameters if plan is not None else 0
    sizes = {"adapter": trained * ADAPTER_BYTES, "gguf-adapter": trained * ADAPTER_BYTES}
    sizes[MERGED] = estimated_bytes(weights, MERGED_BITS)
    found = {}
    for name in OFFERED:
        target = TARGETS[name]
        newest = next((item.parity for item in exports if item.export.kind == name), None)
        why = refusal if name in (GGUF, "gguf-adapter") else NOTHING
        found[name] = Offer(name, target.label, target.summary, why, sizes.get(name, 0), newest)
    return found


def _types(
    config: dict[str, Any], plan: RunPlanned | None, refusal: Text, exports: tuple[Taken, ...]
) -> dict[str, Offer]:
    weights = plan.all_parameters if plan is not None else 0
    found = {}
    for name, kind in QUANTISATIONS.items():
        newest = next((item.parity for item in exports if item.export.kind == GGUF and item.export.type == name), None)
        size = estimated_gguf_bytes(config, name) or estimated_bytes(weights, kind.bits)
        found[name] = Offer(name, kind.label, kind.summary, refusal, size, newest)
    return found


def _free(folder: Path) -> int | None:
    """Free bytes on the disk that holds the folder, or will."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


class TakeAway(QObject):
    """The choice, the folder, and what was found of the run.

    Attributes:
        chosen: a target's name.
        types: GGUF types to write in one go, the smallest first.
        folder: where to put it; None for the run's own ``exports``.
        found: what the disk knows.
        shown: path of the export that is looked at; None for the newest.
        stays: a server goes on when the window is closed.
        repo, public: where an upload goes, and whether everybody may see it.
        parcel: path of the export, and the files that an upload of it sends; None before that was looked at.
        removing: path of the export that is about to be removed, if the user says so once more.

    Signals:
        changed: any of them.
    """

    changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.chosen = GGUF
        self.types: tuple[str, ...] = (RECOMMENDED,)
        self.folder: Path | None = None
        self.found = Found()
        self.shown: Path | None = None
        self.stays = self.public = False
        self.repo = ""
        self.parcel: tuple[Path, tuple[Sent, ...]] | None = None
        self.removing: Path | None = None

    def set(self, **values: Any) -> None:
        """Change attributes, and tell."""
        for name, value in values.items():
            setattr(self, name, value)
        self.changed.emit()

    def begin(self, run: RunFolder | None) -> None:
        """Another run is looked at: what was chosen for the one before is not kept."""
        if run != self.found.run:
            self.folder = self.shown = self.removing = None
            self.found = Found(run)
            self.changed.emit()

    def take(self, found: Found) -> None:
        """The disk was asked; a run that is not looked at any more is nobody's."""
        if found.run != self.found.run:
            return
        offer = found.targets.get(self.chosen)
        if offer is not None and offer.refusal:
            self.chosen = "adapter"
        self.set(found=found)

    @property
    def is_read(self) -> bool:
        """Whether the disk was asked about the run."""
        return bool(self.found.targets)

    @property
    def exports(self) -> tuple[Export, ...]:
        """What was exported, newest first."""
        return tuple(item.export for item in self.found.exports)

    @property
    def looked_at(self) -> Taken | None:
        """The export whose stamp is shown."""
        items = self.found.exports
        return next((item for item in items if item.path == self.shown), items[0] if items else None)

    def tick(self, name: str, wanted: bool) -> None:
        """Want a GGUF type, or not; the last one stays."""
        kept = {*self.types, name} if wanted else {*self.types} - {name}
        self.types = tuple(each for each in QUANTISATIONS if each in kept) or self.types
        self.changed.emit()

    def serving_of(self, item: Taken) -> Serving | None:
        """The server that runs on an export."""
        return next((each for each in self.found.servers if each.file == item.export.file), None)

    def targets_of(self, run: RunFolder, title: str) -> list[tuple[str, Path]]:
        """What is to be written: a GGUF type, or the target's name, and where."""
        parent = self.folder if self.folder is not None else run.exports
        name, target = slug(title or run.id), TARGETS[self.chosen]
        wanted = self.types if self.chosen == GGUF else (self.chosen,)
        return [(each, parent / f"{name}-{each.lower()}{target.suffix}") for each in wanted]

    def needed_by_types(self) -> int:
        """Bytes that the chosen GGUF types take together; 0 where that is not known."""
        return sum(self.found.types[name].bytes for name in self.types if name in self.found.types)

    def needed(self) -> int:
        """Bytes that what is chosen takes on the disk; 0 where that is not known."""
        if self.chosen == GGUF:
            return self.needed_by_types()
        offer = self.found.targets.get(self.chosen)
        return offer.bytes if offer is not None else 0
