"""What was found out about a run after its training, as the disk has it: read in the background, shown by pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from engine.project.run_folder import RunFolder
from engine.protocol.errors import Failure, UserError
from engine.protocol.text import NOTHING, Text, say

if TYPE_CHECKING:
    from engine.project.effect import Effect
    from engine.project.evaluation import Evaluation
    from engine.project.forgetting import Forgetting
    from engine.project.harness_record import HarnessResult
    from engine.project.judgement import Judgement

Stamp = tuple[tuple[int, int] | None, ...]
Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Proof:
    """What stands in a run's folder. None for what was not measured yet.

    Attributes:
        stamp: changes when any of the files is written anew.
        evaluation: base against tuned on held-out rows.
        forgetting, effect, harness, judgement: what else was measured.
        failure: why the evaluation cannot be read.
    """

    stamp: Stamp = ()
    evaluation: Evaluation | None = None
    forgetting: Forgetting | None = None
    effect: Effect | None = None
    harness: HarnessResult | None = None
    judgement: Judgement | None = None
    failure: Failure | None = None


def stamp_of(run: RunFolder) -> Stamp:
    """What changes when one of the run's records is written anew."""
    stamps: list[tuple[int, int] | None] = []
    for path in (run.evaluation, run.forgetting, run.effect, run.harness, run.judgement):
        try:
            status = path.stat()
        except OSError:
            stamps.append(None)
        else:
            stamps.append((status.st_mtime_ns, status.st_size))
    return tuple(stamps)


def read_proof(run: RunFolder, known: Proof) -> Proof:
    """What stands in the run's folder; ``known`` again where nothing was written since. Not for the window's thread.

    A damaged record beside the evaluation counts as not there: it is made anew with the next measurement.
    """
    stamp = stamp_of(run)
    if stamp == known.stamp:
        return known
    from engine.project.effect import read_effect  # here and not above: the first frame needs no figures
    from engine.project.evaluation import read_evaluation
    from engine.project.forgetting import read_forgetting
    from engine.project.harness_record import read_harness
    from engine.project.judgement import read_judgement

    evaluation, failure = None, None
    try:
        evaluation = read_evaluation(run)
    except UserError as error:
        failure = Failure.of(error)
    return Proof(
        stamp,
        evaluation,
        _or_none(lambda: read_forgetting(run)),
        _or_none(lambda: read_effect(run)),
        _or_none(lambda: read_harness(run)),
        _or_none(lambda: read_judgement(run)),
        failure,
    )


def points(change: float, digits: int = 0) -> Text:
    """A change of a share (0 to 1) in percentage points, with its sign: +38 pt."""
    return say("{n} pt", "{n} 个百分点", n=f"{100 * change:+.{digits}f}")


def gain_of(found: Evaluation) -> Text:
    """What tuning changed, in one figure: by the measure that says most; empty where there is none."""
    measure = found.measure(found.headline)
    if measure is None or measure.difference.value is None:
        return NOTHING
    if measure.kind.full == 1.0:
        return points(measure.difference.value)
    return say("{n}", "{n}", n=f"{measure.difference.value:+.{1 if measure.kind.full else 2}f}")


def _or_none(read: Callable[[], Record | None]) -> Record | None:
    try:
        return read()
    except UserError:
        return None
