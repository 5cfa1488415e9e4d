"""What was taken away of a run, read again only when the list is another."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.export.ledger import Export
    from engine.project.run_folder import RunFolder

Stamp = tuple[int, int] | None


def exports_of(run: RunFolder) -> tuple[Export, ...]:
    """What was taken away of the run, newest first. Raises `UserError` when the list is damaged."""
    from engine.export.ledger import LEDGER

    return _exports(run, _stamp(run.path / LEDGER))


def _stamp(path: Path) -> Stamp:
    """What changes when a file is written anew; None when it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=2)
def _exports(run: RunFolder, stamp: Stamp) -> tuple[Export, ...]:
    from engine.export.ledger import listed

    return listed(run) if stamp is not None else ()
