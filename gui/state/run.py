"""The run that the Train, Evaluate, Compare and Export pages look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, Signal

from engine.project.run_folder import JobFolder, RunFolder
from engine.protocol.errors import UserError
from engine.protocol.text import Text, say
from gui.bridge.bridge import Bridge
from gui.i18n.numbers import count
from gui.state.job import JobView
from gui.state.proof import Proof

if TYPE_CHECKING:
    from engine.protocol.state import JobState

ENDINGS: dict[str, Text] = {
    "done": say("The run is done.", "训练完成。"),
    "stopped": say("Stopped, as you asked. What was learned is kept.", "已按你的要求停止。学到的内容已保存。"),
    "paused": say("Paused. Continue whenever you like.", "已暂停，可随时继续。"),
    "failed": say("The run ended with an error. Its checkpoints are kept.", "训练出错结束。检查点已保留。"),
}
"""How a training run ended, in words; `ending` says what was not saved, too."""
HOW_STOPPED: dict[str, Text] = {
    "terminated": say("It did not answer and was ended at step {n}.", "没有响应，已在第 {n} 步被结束。"),
    "killed": say("Stopped by force at step {n}.", "已在第 {n} 步被强制停止。"),
}
"""Rung of the stop ladder → how the run was stopped."""
KEPT = say("What was learned is kept.", "学到的内容已保存。")


def ending(state: JobState) -> Text:
    """How a training run ended: what it learned is only said to be kept where that is so."""
    lost = unsaved(state)
    if state.status != "stopped" or (lost is None and state.rung not in HOW_STOPPED):
        return ENDINGS[state.status]
    step = count(state.step)
    how = HOW_STOPPED.get(state.rung, say("Stopped at step {n}.", "已在第 {n} 步停止。"))
    how = Text(how.en.format(n=step), how.zh.format(n=step))
    if not state.step:
        return how
    if lost is None:
        return say("{how} {kept}", "{how}{kept}", how=how, kept=KEPT)
    was = "was" if lost.is_one else "were"
    if not lost.kept:
        return say(
            "{how} {Steps} {was} not saved; there is no checkpoint.",
            "{how}{Steps}没有保存，也没有检查点。",
            how=how,
            Steps=lost.words,
            was=was,
        )
    return say(
        "{how} {Steps} {was} not saved; the checkpoint of step {kept} is kept.",
        "{how}{Steps}没有保存；第 {kept} 步的检查点仍在。",
        how=how,
        Steps=lost.words,
        was=was,
        kept=count(lost.kept),
    )


def at_risk(state: JobState) -> Text | None:
    """What an end now would cost, where nothing can be saved first; None where all is saved."""
    lost = unsaved(state)
    if lost is None:
        return None
    are = "is" if lost.is_one else "are"
    steps = Text(lost.words.en.lower(), lost.words.zh)
    if not lost.kept:
        return say(
            "A stop now keeps nothing: {steps} {are} in memory only.",
            "现在停止将不保留任何内容：{steps}仅在内存中。",
            steps=steps,
            are=are,
        )
    return say(
        "A stop now keeps the checkpoint of step {kept}; {steps} {are} in memory only.",
        "现在停止将保留第 {kept} 步的检查点；{steps}仅在内存中。",
        kept=count(lost.kept),
        steps=steps,
        are=are,
    )


@dataclass(frozen=True, slots=True)
class Unsaved:
    """Steps that no checkpoint has.

    Attributes:
        kept: step of the newest checkpoint, 0 where there is none.
        words: which steps, at the beginning of a sentence.
        is_one: it is a single step.
    """

    kept: int
    words: Text
    is_one: bool


def unsaved(state: JobState) -> Unsaved | None:
    """The steps of a run that no checkpoint has, None when each is saved."""
    kept = max((saved.step for saved in state.checkpoints), default=0)
    if kept >= state.step:
        return None
    first, last = count(kept + 1), count(state.step)
    if kept + 1 == state.step:
        return Unsaved(kept, say("Step {n}", "第 {n} 步", n=last), True)
    return Unsaved(kept, say("Steps {a} to {b}", "第 {a} 至 {b} 步", a=first, b=last), False)


@dataclass(frozen=True, slots=True)
class Looked:
    """What only the disk knows of a run.

    Attributes:
        has_begun: a process was started for it; so it is taken until it is known.
        is_trained: there is an adapter.
        other: title of another run of the project whose process is alive, empty when there is none.
    """

    has_begun: bool = True
    is_trained: bool = False
    other: str = ""


class RunState(QObject):
    """One run: its training, and the later jobs on it.

    Attributes:
        run: the run that is looked at, None when there is none.
        facts: ``run.json`` of it.
        looked: what was read of it in the background.
        proof: what was measured of it, read in the background, too.
        train, evaluate, judge, harness, export: its jobs (`export` also merges, checks and uploads).

    Signals:
        selected: another run is looked at.
        looked_at: `looked` is another.
        proven: `proof` is another.
        changed: any of its jobs' states.
    """

    selected = Signal()
    looked_at = Signal()
    proven = Signal()
    changed = Signal()

    def __init__(self, bridge: Bridge, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.run: RunFolder | None = None
        self.facts: dict[str, Any] = {}
        self.looked = Looked()
        self.proof = Proof()
        self.train = JobView(bridge, self)
        self.evaluate = JobView(bridge, self)
        self.judge = JobView(bridge, self)
        self.harness = JobView(bridge, self)
        self.export = JobView(bridge, self)
        # The run writes down what it was made of while it works; who listens after us reads it as it is then.
        self.train.finished.connect(self._read_facts)
        for job in (self.train, self.evaluate, self.judge, self.harness, self.export):
            job.changed.connect(self.changed)

    def select(self, run: RunFolder | None) -> None:
        """Look at another run, or at none."""
        self.run = run
        self.facts = _facts(run)
        self.looked = Looked()
        self.proof = Proof()
        self.train.follow(run)
        self.evaluate.follow(_newest(run, "evaluate"))
        self.judge.follow(_newest(run, "judge"))
        self.harness.follow(_newest(run, "harness"))
        self.export.follow(_newest(run, "export", "merge", "check", "upload"))
        self.selected.emit()

    def set_looked(self, run: RunFolder, found: Looked) -> None:
        """The disk was asked about a run, which may not be the one that is looked at any more."""
        if run == self.run and found != self.looked:
            self.looked = found
            self.looked_at.emit()

    def set_proof(self, run: RunFolder, found: Proof) -> None:
        """The records of a run were read, which may not be the one that is looked at any more."""
        if run == self.run and found != self.proof:
            self.proof = found
            self.proven.emit()

    def _read_facts(self) -> None:
        self.facts = _facts(self.run)

    @property
    def is_trained(self) -> bool:
        """Whether there is an adapter to evaluate, talk to and take away."""
        return self.run is not None and self.run.adapter_written > 0

    @property
    def created(self) -> float:
        """When the run that is looked at was made, in epoch seconds; 0 where that is not known."""
        known = self.facts.get("created")
        return float(known) if isinstance(known, int | float) else 0.0

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
