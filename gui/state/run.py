"""The run that the Train, Evaluate, Compare and Export pages look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, Signal

from engine.project.run_folder import JobFolder, RunFolder
from engine.protocol.errors import UserError
from engine.protocol.text import Text, say
from gui.bridge.bridge import Bridge
from gui.state.job import JobView

ENDINGS: dict[str, Text] = {
    "done": say("The run is done.", "训练完成。"),
    "stopped": say("Stopped, as you asked. What was learned is kept.", "已按你的要求停止。学到的内容已保存。"),
    "paused": say("Paused. Continue whenever you like.", "已暂停，可随时继续。"),
    "failed": say("The run ended with an error. Its checkpoints are kept.", "训练出错结束。检查点已保留。"),
}
"""How a training run ended, in words."""


class RunState(QObject):
    """One run: its training, and the later jobs on it.

    Attributes:
        run: the run that is looked at, None when there is none.
        facts: ``run.json`` of it.
        train, evaluate, export: its jobs (`export` also merges).

    Signals:
        selected: another run is looked at.
        changed: any of its jobs' states.
    """

    selected = Signal()
    changed = Signal()

    def __init__(self, bridge: Bridge, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.run: RunFolder | None = None
        self.facts: dict[str, Any] = {}
        self.train = JobView(bridge, self)
        self.evaluate = JobView(bridge, self)
        self.export = JobView(bridge, self)
        # The run writes down what it was made of while it works; who listens after us reads it as it is then.
        self.train.finished.connect(self._read_facts)
        for job in (self.train, self.evaluate, self.export):
            job.changed.connect(self.changed)

    def select(self, run: RunFolder | None) -> None:
        """Look at another run, or at none."""
        self.run = run
        self.facts = _facts(run)
        self.train.follow(run)
        self.evaluate.follow(_newest(run, "evaluate"))
        self.export.follow(_newest(run, "export", "merge"))
        self.selected.emit()

    def _read_facts(self) -> None:
        self.facts = _facts(self.run)

    @property
    def is_trained(self) -> bool:
        """Whether there is an adapter to evaluate, talk to and take away."""
        return self.run is not None and self.run.adapter_written > 0

    def has_learned_since(self, moment: float) -> bool:
        """Whether the run went on after this epoch second: what was measured or written then is of an earlier state."""
        latest = self.train.state.latest
        return latest is not None and latest.time > moment


def _facts(run: RunFolder | None) -> dict[str, Any]:
    try:
        return run.read_facts() if run is not None else {}
    except UserError:
        return {}  # the run can still be looked at by its events


def _newest(run: RunFolder | None, *kinds: str) -> JobFolder | None:
    """The run's last job of any of these kinds; a run's jobs are numbered in one order, whatever their kind."""
    if run is None or not run.jobs.is_dir():
        return None
    folders = sorted((folder for kind in kinds for folder in run.jobs.glob(f"*-{kind}")), key=_number)
    return JobFolder(folders[-1]) if folders else None


def _number(folder: Path) -> int:
    first = folder.name.split("-")[0]
    return int(first) if first.isdigit() else 0
