"""What pages are given: the states, the bridge, and nothing hidden."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer

from engine.protocol.errors import Failure, UserError
from gui.bridge.bridge import Bridge
from gui.state.control import TAKE_OVER_FIRST, ControlState
from gui.state.data import DataState
from gui.state.draft import DraftRecipe
from gui.state.machine import MachineState
from gui.state.models import ModelState
from gui.state.notices import WARNING, Notices
from gui.state.plan import PlanState
from gui.state.project import ProjectState
from gui.state.run import RunState
from gui.state.settings import AppSettings
from gui.state.wizard import Wizard

if TYPE_CHECKING:
    from gui.state.blind import BlindState
    from gui.state.job import JobView
    from gui.state.judging import JudgingState
    from gui.state.takeaway import TakeAway
    from gui.state.talk import TalkState


class AppContext(QObject):
    """Everything a page may use.

    Attributes:
        settings: language and theme.
        notices: what the user should know and no page says.
        bridge: sessions, jobs, machine and background calls.
        project: the open project, its runs, recent projects.
        control: whether this window controls it, or another does.
        draft: the recipe under work.
        data, models, plan: what is known of it.
        machine: what this machine is and does.
        runs: the run that is looked at, and its jobs.
        wizard: which step is looked at, and where all stand.
    """

    def __init__(self, settings: AppSettings, project: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.settings = settings
        self.notices = Notices(self)
        self.bridge = Bridge(self)
        self.project = ProjectState(project, self)
        self.control = ControlState(self.bridge, self)
        self.draft = DraftRecipe(self)
        self.data = DataState(self)
        self.models = ModelState(self)
        self.plan = PlanState(self)
        self.machine = MachineState(self)
        self.runs = RunState(self.bridge, self)
        self.wizard = Wizard(self.data, self.models, self.plan, self.runs, self.project, self)
        settings.setParent(self)
        for source in (settings, self.draft):
            source.not_kept.connect(self._tell)
        self.draft.may_keep = self.may_change
        self.project.opened.connect(lambda: self.control.begin(self.project.path))
        self.control.gained.connect(self._forget_refusals)

    def may_change(self) -> bool:
        """Whether this window may change the project; where another one controls it, that is told."""
        if not self.control.controls:
            self.notices.tell(WARNING, self.control.sentence, TAKE_OVER_FIRST)
        return self.control.controls

    def _forget_refusals(self) -> None:
        for notice in [notice for notice in self.notices.open if notice.hint == TAKE_OVER_FIRST]:
            self.notices.close(notice)

    def _tell(self, error: UserError) -> None:
        """The disk did not take what the user chose; it counts all the same, and the user should know."""
        self.notices.failure(Failure.of(error))

    @cached_property
    def talk(self) -> TalkState:
        """The conversation; made when a page first asks for it, because the first frame does not."""
        from gui.state.talk import TalkState

        return TalkState(self)

    @cached_property
    def blind(self) -> BlindState:
        """The blind test; made when a page first asks for it."""
        from gui.state.blind import BlindState

        return BlindState(self)

    @cached_property
    def scoring(self) -> JobView:
        """The job in which a model scores the rows; made when a page first asks for it."""
        from gui.state.job import JobView

        return JobView(self.bridge, self)

    @cached_property
    def rehearsal(self) -> JobView:
        """The job in which a recipe is rehearsed; made when a page first asks for it."""
        from gui.state.job import JobView

        return JobView(self.bridge, self)

    @cached_property
    def judging(self) -> JudgingState:
        """What is known of the judge; made when a page first asks for it."""
        from gui.state.judging import JudgingState

        return JudgingState(self)

    @cached_property
    def serving(self) -> JobView:
        """The local server that was started last; made when a page first asks for it."""
        from gui.state.job import JobView

        return JobView(self.bridge, self)

    @cached_property
    def takeaway(self) -> TakeAway:
        """What is to be exported; made when a page first asks for it, because the first frame does not."""
        from gui.state.takeaway import TakeAway

        return TakeAway(self)

    def close(self) -> None:
        """Keep what is not kept yet and end every thread and session; jobs go on."""
        self.draft.keep()
        for timer in self.findChildren(QTimer):
            timer.stop()
        self.bridge.close()
