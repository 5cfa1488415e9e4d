"""What was taken away from a run, wherever it was put: ``exports.json`` in the run's folder. Light."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engine.export.parity import Parity, sentence
from engine.project.atomic import read_json, write_json, write_text
from engine.project.run_folder import RunFolder

LEDGER = "exports.json"
MARK = "DO-NOT-USE.txt"
"""Lies in a folder, or beside a file as ``NAME.gguf.DO-NOT-USE.txt``, that differs from what was trained."""


@dataclass(frozen=True, slots=True)
class Export:
    """One thing that was exported.

    Attributes:
        kind: a key of `engine.export.targets.TARGETS`.
        type: of a GGUF ("Q4_K_M"); else empty.
        file: absolute path of the file or folder.
        bytes: its size.
        time: seconds since the epoch.
        parity: how it agreed with the trained model, as JSON; `checked` gives it typed.
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
    def checked(self) -> Parity:
        """How it agreed with the trained model."""
        return Parity.of(self.parity)

    @property
    def passed(self) -> bool | None:
        """Whether it agreed with the trained model; None when that was not checked."""
        return self.checked.passed

    @property
    def mark(self) -> Path:
        """Where a note lies that it must not be used."""
        path = Path(self.file)
        return path / MARK if path.is_dir() else path.with_name(f"{path.name}.{MARK}")


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
    """Add an export, and mark on the disk one that differs from what was trained.

    One of the same path takes the older one's place. Raises `UserError` when the disk is full.
    """
    kept = [old for old in listed(run) if old.file != export.file]
    write_json(run.path / LEDGER, [asdict(item) for item in (export, *kept)])
    mark(export)


def forget(run: RunFolder, file: str) -> None:
    """Take an export off the list; its file is left alone. Raises `UserError` when the disk is full."""
    kept = [item for item in listed(run) if item.file != file]
    write_json(run.path / LEDGER, [asdict(item) for item in kept])


def mark(export: Export) -> None:
    """Put a note to what must not be used, so that it is seen where the file is; take it away from anything else."""
    parity = export.checked
    if parity.passed is not False:
        export.mark.unlink(missing_ok=True)
        return
    said = [sentence(parity), *(line for item in parity.differs for line in (item.text, item.hint))]
    lines = dict.fromkeys(line for line in said if line)
    text = "\n".join([*(line.en for line in lines), "", *(line.zh for line in lines)])
    write_text(export.mark, text + "\n")
