"""Runs that a test may change."""

from __future__ import annotations

import shutil
from pathlib import Path

from engine.export.ledger import LEDGER
from engine.project.run_folder import RunFolder


def moved(run: RunFolder, to: Path) -> RunFolder:
    """A copy of a run whose list names its own exports."""
    copy = RunFolder(Path(shutil.copytree(run.path, to)))
    ledger = copy.path / LEDGER
    ledger.write_text(ledger.read_text(encoding="utf-8").replace(str(run.path), str(copy.path)), encoding="utf-8")
    return copy
