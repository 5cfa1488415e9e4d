"""The steps of the wizard: where each stands, in a word, and why one waits. Computed from the other states only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PySide6.QtCore import QObject, Signal

from engine.protocol.errors import UserError
from engine.protocol.text import NOTHING, Text, as_text, say
from gui.i18n.numbers import count, parameters, percent
from gui.state.data import DataState
from gui.state.job import JobView
from gui.state.measured import exports_of
from gui.state.models import ModelState
from gui.state.phase import Phase
from gui.state.plan import PlanState
from gui.state.project import ProjectState
from gui.state.proof import gain_of
from gui.state.run import RunState


@dataclass(frozen=True, slots=True)
class Step:
    """Where one step stands.

    Attributes:
        done: ticked.
        word: a word or figure beside the name; empty when there is nothing to say.
        waits: why it cannot be done yet; empty when it can.
    """

    done: bool = False
    word: Text = NOTHING
    waits: Text = NOTHING


NO_DATA = say("Waits for data: import some first.", "等待数据：请先导入。")
DOUBTFUL = say("Waits for the columns: confirm them on the Data page.", "等待确认各列：请在“数据”页确认。")
NO_MODEL = say("Waits for a model: choose one first.", "等待模型：请先选择。")
NO_RUN = say("Waits for a run: start one on the Plan page.", "等待训练：请在“计划”页开始。")
NOT_TRAINED = say("Waits for the run to end.", "等待训练结束。")


class Wizard(QObject):
    """Which step is looked at, and where all of them stand.

    Attributes:
        current: name of the step that is looked at.

    Signals:
        moved: another step is looked at.
        changed: a step stands elsewhere.
    """

    moved = Signal()
    changed = Signal()

    def __init__(
        self,
        data: DataState,
        models: ModelState,
        plan: PlanState,
        runs: RunState,
        project: ProjectState,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self.current = "data"
        self._data, self._models, self._plan, self._runs, self._project = data, models, plan, runs, project
        of_runs = (runs.changed, runs.selected, runs.proven)
        for signal in (data.changed, models.changed, plan.changed, *of_runs, project.changed):
            signal.connect(self.changed)

    def go(self, name: str) -> None:
        """Look at another step."""
        if name != self.current:
            self.current = name
            self.moved.emit()

    def step(self, name: str) -> Step:
        """Where a step stands; a step of a page that says nothing of itself is just there."""
        ways: dict[str, Callable[[], Step]] = {
            "data": self._data_step,
            "model": self._model_step,
            "plan": self._plan_step,
            "train": self._train_step,
            "evaluate": self._evaluate_step,
            "compare": self._compare_step,
            "export": self._export_step,
            "runs": self._runs_step,
        }
        return ways[name]() if name in ways else Step()

    def _data_step(self) -> Step:
        if self._data.status.phase is Phase.WORKING:
            return Step(word=say("reading…", "读取中…"))
        if self._data.status.phase is Phase.WRONG:
            return Step(word=say("problem", "有问题"))
        if self._data.status.phase is Phase.EMPTY:
            return Step()
        if self._data.doubtful:
            return Step(word=say("confirm columns", "待确认各列"))
        rows = count(self._data.facts.get("train", 0))
        return Step(done=True, word=say("{n} rows", "{n} 行", n=rows))

    def _model_step(self) -> Step:
        if self._models.chosen_status.phase is Phase.WRONG:
            return Step(word=say("problem", "有问题"))
        if not self._models.chosen:
            return Step()
        size = parameters(float(self._models.chosen.get("parameters") or 0))
        return Step(done=True, word=as_text(size))

    def _plan_step(self) -> Step:
        if self._data.status.phase is not Phase.READY:
            return Step(waits=NO_DATA)
        if self._data.doubtful:
            return Step(waits=DOUBTFUL)
        if not self._models.chosen:
            return Step(waits=NO_MODEL)
        forecast = self._plan.forecast
        if forecast is None:
            return Step()
        word = say("fits", "放得下") if forecast.fits else say("too big", "放不下")
        return Step(done=self._runs.run is not None, word=word)

    def _train_step(self) -> Step:
        if self._runs.run is None:
            return Step(waits=NO_RUN)
        job = self._runs.train
        if job.is_running and not self._runs.run.events.exists():
            return Step(word=say("not started", "未开始"))
        if job.is_running:
            return Step(word=_share(job))
        done = job.state.status == "done" or self._runs.is_trained
        return Step(done=done, word=_STATUS.get(job.state.status, NOTHING))

    def _evaluate_step(self) -> Step:
        if not self._runs.is_trained:
            return Step(waits=NO_RUN if self._runs.run is None else NOT_TRAINED)
        if self._runs.evaluate.is_running:
            return Step(word=say("measuring…", "评估中…"))
        return self._measured()

    def _measured(self) -> Step:
        if self._runs.proof.failure is not None:
            return Step(word=say("problem", "有问题"))
        found = self._runs.proof.evaluation
        if found is None:
            return Step()
        if self._runs.has_learned_since(found.created):
            return Step(word=say("measure again", "需重新评估"))
        return Step(done=True, word=gain_of(found))

    def _compare_step(self) -> Step:
        if not self._runs.is_trained:
            return Step(waits=NO_RUN if self._runs.run is None else NOT_TRAINED)
        return Step()

    def _export_step(self) -> Step:
        if not self._runs.is_trained:
            return Step(waits=NO_RUN if self._runs.run is None else NOT_TRAINED)
        job = self._runs.export
        if job.is_running:
            return Step(word=say("writing…", "写出中…"))
        return self._taken_away()

    def _taken_away(self) -> Step:
        try:
            listed = exports_of(self._runs.run) if self._runs.run is not None else ()
        except UserError:
            return Step(word=say("problem", "有问题"))
        good = [item for item in listed if item.is_there and item.passed is not False]
        if not good:
            failed = self._runs.export.state.status == "failed"
            return Step(word=_STATUS["failed"] if failed else NOTHING)
        if self._runs.has_learned_since(good[0].time):
            return Step(word=say("export again", "需重新导出"))
        return Step(done=True, word=say("{n} taken away", "已导出 {n} 份", n=count(len(good))))

    def _runs_step(self) -> Step:
        number = len(self._project.runs)
        return Step(word=as_text(count(number)) if number else NOTHING)


_STATUS = {
    "done": say("done", "完成"),
    "stopped": say("stopped", "已停止"),
    "paused": say("paused", "已暂停"),
    "failed": say("failed", "失败"),
}


def _share(job: JobView) -> Text:
    waiting = job.state.waiting
    if waiting is not None and waiting.reason == "disk":
        return say("waits for disk", "等待磁盘")
    if job.state.status == "waiting":
        return say("paused", "已暂停")
    if job.state.total_steps == 0:
        return say("starting…", "启动中…")
    return as_text(percent(job.state.step / job.state.total_steps))
