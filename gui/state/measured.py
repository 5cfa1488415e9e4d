"""What is kept of a run on disk, its figures and its exports, read again only when the file is another."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from engine.protocol.text import NOTHING, Text, say

if TYPE_CHECKING:
    from engine.export.ledger import Export
    from engine.project.evaluation import Evaluation
    from engine.project.run_folder import RunFolder

Stamp = tuple[int, int] | None


def evaluation_of(run: RunFolder) -> Evaluation | None:
    """The run's figures, None while there are none. Raises `UserError` when the file is damaged."""
    return _evaluation(run, _stamp(run.evaluation))


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
def _evaluation(run: RunFolder, stamp: Stamp) -> Evaluation | None:
    from engine.project.evaluation import read_evaluation  # here and not above: the first frame needs no figures

    return read_evaluation(run) if stamp is not None else None


@lru_cache(maxsize=2)
def _exports(run: RunFolder, stamp: Stamp) -> tuple[Export, ...]:
    from engine.export.ledger import listed

    return listed(run) if stamp is not None else ()


def points(change: float, digits: int = 0) -> Text:
    """A change of a share (0 to 1) in percentage points, with its sign: +38 pt."""
    return say("{n} pt", "{n} 个百分点", n=f"{100 * change:+.{digits}f}")


def gain_of(found: Evaluation) -> Text:
    """What tuning changed, in one figure: the share of exact answers, else of right tokens; empty without either."""
    for name in ("exact_match", "preference_accuracy", "token_accuracy"):
        base, tuned = getattr(found.base, name), getattr(found.tuned, name)
        if base is not None and tuned is not None:
            return points(tuned - base)
    return NOTHING
