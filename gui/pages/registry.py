"""The pages there are, in the order of the wizard, then those beside it. A new page is a file and its line here."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.protocol.text import Text, say

if TYPE_CHECKING:
    from gui.context import AppContext
    from gui.pages.page import Page


@dataclass(frozen=True, slots=True)
class Entry:
    """One page.

    Attributes:
        name: of the step, as `gui.state.wizard` knows it.
        label: in the sidebar.
        module, kind: where the page's class is; imported when the page is first looked at.
        sign: what stands in the circle of a page that is no step of the wizard; empty for a step, which has its number.
    """

    name: str
    label: Text
    module: str
    kind: str
    sign: str = ""

    def build(self, context: AppContext) -> Page:
        """The page itself."""
        page: Page = getattr(importlib.import_module(self.module), self.kind)(context)
        return page


PAGES: tuple[Entry, ...] = (
    Entry("data", say("Data", "数据"), "gui.pages.data", "DataPage"),
    Entry("model", say("Model", "模型"), "gui.pages.model", "ModelPage"),
    Entry("plan", say("Plan", "计划"), "gui.pages.plan", "PlanPage"),
    Entry("train", say("Train", "训练"), "gui.pages.train", "TrainPage"),
    Entry("evaluate", say("Evaluate", "评估"), "gui.pages.evaluate", "EvaluatePage"),
    Entry("compare", say("Compare", "对比"), "gui.pages.compare", "ComparePage"),
    Entry("export", say("Export", "导出"), "gui.pages.export", "ExportPage"),
    Entry("runs", say("Runs", "训练记录"), "gui.pages.runs", "RunsPage", sign="≡"),
)
