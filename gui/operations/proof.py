"""What was found out about the run that is looked at: read from its folder, and saved as a report."""

from __future__ import annotations

from PySide6.QtCore import QObject

from gui.context import AppContext
from gui.operations.operation import Operation
from gui.state.proof import read_proof


def look_at_proof(context: AppContext) -> None:
    """Read in the background what stands in the run's folder: records are long, and a drive may stall."""
    runs, run = context.runs, context.runs.run
    if run is None:
        return
    known = runs.proof
    looking = Operation(context).in_background(lambda: read_proof(run, known))
    looking.on_failure(lambda failure: None)  # it stands as it is known
    looking.on_success(lambda found: runs.set_proof(run, found))


class Prover(QObject):
    """Reads the run's records whenever they may be others: another run is looked at, or a job on it has ended."""

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self._context = context
        runs = context.runs
        runs.selected.connect(self._look)
        for job in (runs.train, runs.evaluate, runs.judge, runs.harness):
            job.finished.connect(self._look)
        self._look()

    def _look(self) -> None:
        look_at_proof(self._context)
