"""What follows from a change of the draft: the data are read again, the model is looked at, the plan is computed."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QObject, QTimer

from gui.context import AppContext
from gui.operations.data import open_data
from gui.operations.models import inspect_chosen
from gui.operations.operation import Operation
from gui.operations.plan import compute
from gui.operations.rows import can_be_judged, check_texts, follow_limit
from gui.state.phase import Phase

READ_DELAY_MS = 250
IMPORT_DELAY_MS = 10
"""Somebody waits for files that were just imported; other settings are often changed several in a row."""
PLAN_DELAY_MS = 30
READS_DATA = ("data.", "model.", "objective.name")
QUALITY = "data.quality"
LIMITS = {"data.max_length", "data.over_long"}
"""What changes nothing of the rows but how much of them is used."""


class Follower(QObject):
    """Connects the states to the operations that keep them true. Changes that come together are answered once."""

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self._context = context
        self._reading: Operation | None = None
        self._limiting: Operation | None = None
        self._read = self._timer("data are read again", READ_DELAY_MS, self._open_data)
        self._plan = self._timer("plan is computed", PLAN_DELAY_MS, self._compute)
        context.draft.changed.connect(self._draft_changed)
        self._planned: tuple[dict[str, Any], Phase] | None = None
        context.data.changed.connect(self._data_changed)
        for signal in (context.models.changed, context.machine.detected, context.project.opened):
            signal.connect(self._plan.start)

    def catch_up(self) -> None:
        """Do at once what the draft asks for as it stands: the project was opened before anybody followed it."""
        self._open_data()
        self._plan.start()

    def _timer(self, name: str, delay: int, action: object) -> QTimer:
        timer = QTimer(self)
        timer.setObjectName(name)
        timer.setSingleShot(True)
        timer.setInterval(delay)
        timer.timeout.connect(action)
        return timer

    def _draft_changed(self, names: set[str]) -> None:
        reads = {name for name in names if name.startswith(READS_DATA)}
        if reads == {QUALITY} and can_be_judged(self._context) and not self._read.isActive():
            check_texts(self._context)
        elif reads and reads <= LIMITS and self._context.data.facts and not self._read.isActive():
            self._drop_limit()
            self._limiting = follow_limit(self._context)
            self._limiting.ended.connect(self._forget_limit)
        elif reads:
            self._read.start(IMPORT_DELAY_MS if "data.files" in reads else READ_DELAY_MS)
        if any(name.startswith("model.") for name in names):
            inspect_chosen(self._context)
        if names <= LIMITS or not reads:
            compute(self._context, in_full=False)  # somebody moves a slider and looks at the figures
        self._plan.start()

    def _data_changed(self) -> None:
        """Plan anew for other facts; progress, which is told often, changes nothing."""
        facts, phase = self._context.data.facts, self._context.data.status.phase
        if self._planned is None or self._planned[0] is not facts or self._planned[1] is not phase:
            self._planned = (facts, phase)  # kept, so that no other facts can be taken for them
            self._plan.start()

    def _open_data(self) -> None:
        if self._reading is not None:
            self._reading.drop()
        self._drop_limit()
        self._reading = open_data(self._context)
        self._read.stop()  # what opening itself put into the draft is already read
        if self._reading is not None:
            self._reading.ended.connect(self._forget)

    def _drop_limit(self) -> None:
        """Nobody wants the answer for the limit of before."""
        if self._limiting is not None:
            self._limiting.drop()
            self._limiting = None

    def _forget_limit(self) -> None:
        if self.sender() is self._limiting:
            self._limiting = None

    def _forget(self) -> None:
        if self.sender() is self._reading:
            self._reading = None

    def _compute(self) -> None:
        compute(self._context)
