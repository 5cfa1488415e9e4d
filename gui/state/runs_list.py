"""The project's runs as the Runs page shows them: rows, sizes, what is searched for and chosen, and the queue."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from engine.project.runs import Listing, RunRow, Sizes, found, in_order, query_of
from engine.protocol.text import NOTHING, Text
from gui.state.phase import Status

if TYPE_CHECKING:
    from engine.project.curve import Reading
    from engine.project.kept import Kept
    from engine.project.queue import Entry
    from engine.project.runs import Difference
    from engine.protocol.state import JobState
    from engine.recipe.recipe import Recipe

MOST_COMPARED = 6


@dataclass(frozen=True, slots=True)
class Compared:
    """Runs side by side.

    Attributes:
        rows, states: of each run.
        recipes: of each, as asked.
        differing: settings that are not the same in all.
    """

    rows: tuple[RunRow, ...]
    states: tuple[JobState, ...]
    recipes: tuple[Recipe, ...]
    differing: tuple[Difference, ...]


class RunsList(QObject):
    """What the page shows.

    Attributes:
        project: whose runs they are.
        listing: reads them; used in the background only.
        is_reading: it is at it.
        status: of reading the list.
        rows: all runs, newest first.
        sizes: as far as they were measured.
        kept: checkpoints of runs that were looked at.
        readings: what their curves say; None where nothing was trained.
        text, stands, tag, order: what is searched for, and how it is sorted.
        chosen: folders of the runs that are chosen, in the order of the list.
        compared: runs that are compared; None while the list is shown.
        queue: what waits for its turn, on this machine.
        doing: what is being done to a run, in a few words; empty when nothing is.
        has_earlier_plan: a plan was put aside when a run's recipe took its place.

    Signals:
        changed: any of them.
    """

    changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.project: Path | None = None
        self.listing: Listing | None = None
        self.is_reading = False
        self.status = Status()
        self.rows: list[RunRow] = []
        self.sizes: dict[Path, Sizes] = {}
        self.kept: dict[Path, list[Kept]] = {}
        self.readings: dict[Path, Reading | None] = {}
        self.text, self.stands, self.tag, self.order = "", "", "", "newest"
        self.chosen: tuple[Path, ...] = ()
        self.compared: Compared | None = None
        self.queue: tuple[Entry, ...] = ()
        self.doing: Text = NOTHING
        self.has_earlier_plan = False

    def begin(self, project: Path) -> None:
        """Another project is looked at."""
        self.project, self.listing = project, Listing(project)
        self.status.clear()
        self.rows, self.sizes, self.kept, self.readings, self.chosen, self.compared = [], {}, {}, {}, (), None
        self.text = self.stands = self.tag = ""
        self.changed.emit()

    @property
    def shown(self) -> list[RunRow]:
        """The runs that are searched for, sorted."""
        query = query_of(self.text, status=self.stands, tag=self.tag)
        return in_order([row for row in self.rows if found(row, query)], self.order, self.sizes)

    @property
    def tags(self) -> list[str]:
        """All tags, the most used first."""
        counts: dict[str, int] = {}
        for row in self.rows:
            for tag in row.tags:
                counts[tag] = counts.get(tag, 0) + 1
        return sorted(counts, key=lambda tag: (-counts[tag], tag.casefold()))

    @property
    def chosen_rows(self) -> list[RunRow]:
        """The runs that are chosen and still there."""
        known = {row.folder.path: row for row in self.rows}
        return [known[path] for path in self.chosen if path in known]

    @property
    def total_bytes(self) -> int:
        """On disk, of all runs that were measured."""
        return sum(item.total for item in self.sizes.values())

    def put(self, **values: object) -> None:
        """Change any of the attributes, and tell it where one is another."""
        if any(getattr(self, name) != value for name, value in values.items()):
            for name, value in values.items():
                setattr(self, name, value)
            self.changed.emit()
