"""What was taken away from a run, wherever it was put: ``exports.json`` in the run's folder. Light."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engine.project.atomic import read_json, write_json
from engine.project.run_folder import RunFolder

LEDGER = "exports.json"


@dataclass(frozen=True, slots=True)
class Export:
    """One thing that was exported.

    Attributes:
        kind: a key of `engine.export.targets.TARGETS`.
        type: of a GGUF ("Q4_K_M"); else empty.
        file: absolute path of the file or folder.
        bytes: its size.
        time: seconds since the epoch.
        parity: how it agreed with the trained model; ``passed`` False means it should not be used, None unchecked.
    """

    kind: str
    type: str
    file: str
    bytes: int
    time: float
    parity: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_there(self) -> bool:
        """Whether it still lies where it was put."""
        return Path(self.file).exists()

    @property
    def passed(self) -> bool | None:
        """Whether it agreed with the trained model; None when that was not checked."""
        passed = self.parity.get("passed")
        return passed if isinstance(passed, bool) else None


def listed(run: RunFolder) -> tuple[Export, ...]:
    """The run's exports, newest first. Raises `UserError` when the list is damaged."""
    path = run.path / LEDGER
    if not path.is_file():
        return ()
    entries = read_json(path)
    known = [
        Export(**{name: entry[name] for name in Export.__dataclass_fields__ if name in entry}) for entry in entries
    ]
    return tuple(sorted(known, key=lambda export: export.time, reverse=True))


def remember(run: RunFolder, export: Export) -> None:
    """Add an export; one of the same path takes the older one's place. Raises `UserError` when the disk is full."""
    kept = [old for old in listed(run) if old.file != export.file]
    write_json(run.path / LEDGER, [asdict(item) for item in (export, *kept)])
