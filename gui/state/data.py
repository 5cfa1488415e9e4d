"""What is known of the data that the draft names: the answer of the data session, and what goes on about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, Signal

from engine.protocol.text import NOTHING
from gui.state.phase import Phase, Status

if TYPE_CHECKING:
    from engine.data.hub_names import HubName

ASK = "ask"
"""The certainty of a file whose columns somebody must confirm."""


@dataclass(slots=True)
class Errand:
    """A slow request about rows that are in view and can be used meanwhile.

    Attributes:
        status: how far it is; ready when it was done, empty when it was never asked for or was cancelled.
        operation: that which does it, None while none does.
    """

    status: Status = field(default_factory=Status)
    operation: Any = None

    @property
    def is_working(self) -> bool:
        """Whether it goes on."""
        return self.status.phase is Phase.WORKING

    def drop(self) -> None:
        """Nobody wants its answer any more."""
        if self.operation is not None:
            self.operation.cancel()
            self.operation.drop()
        self.operation = None
        self.status.clear()


@dataclass(slots=True)
class Splitting:
    """Another way to hold rows out that is tried: it is taken where it works.

    Attributes:
        wished: fields of the recipe's data section that are other than the draft's.
        errand: how far the try is; wrong says why it is not taken.
    """

    wished: dict[str, Any] = field(default_factory=dict)
    errand: Errand = field(default_factory=Errand)


@dataclass(slots=True)
class HubLook:
    """What the user looks up on the hub.

    Attributes:
        is_open: whether it is in view.
        text: what was asked for.
        here: data sets that were fetched before.
        about: the hub's answer: configurations, splits, sizes; empty before.
        wished: the split that would be taken, None before the hub answered.
        first: its first rows; empty before.
        asking, peeking: how far the two questions are, each with the operation that asks.
        known: names that are on this machine for certain.
    """

    is_open: bool = False
    text: str = ""
    here: list[dict[str, Any]] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
    wished: HubName | None = None
    first: dict[str, Any] = field(default_factory=dict)
    asking: Errand = field(default_factory=Errand)
    peeking: Errand = field(default_factory=Errand)
    known: set[str] = field(default_factory=set)

    def forget(self) -> None:
        """Nothing is asked, and nothing was answered."""
        self.asking.drop()
        self.peeking.drop()
        self.about, self.wished, self.first = {}, None, {}


class DataState(QObject):
    """The data as the model will see it.

    Attributes:
        status: nothing, reading, there, or wrong.
        facts: the answer to "open_data"; empty until it is there.
        is_new: the files were imported just now, and the answer about them may choose the objective.
        version: counts each newly read data set, so that late answers about an older one are known as such.
        decided: counts the changes of rows of the same data set: a row cannot be taken for what it was before.
        reading: the operation that reads, None while none does.
        counting, checking, finding: exact lengths, the texts' quality, and the search, each beside the others.
        words: what was looked for last; "" shows all rows.
        is_stopped: the user ended the reading, and nothing was read since.
        told: the notice about what was undone last.
        hub: what is looked up on the hub.
        splitting: what is tried of the split.

    Signals:
        changed: any of it.
    """

    changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.status = Status()
        self.facts: dict[str, Any] = {}
        self.is_new = False
        self.version = 0
        self.decided = 0
        self.reading: Any = None
        self.finding, self.checking, self.counting = Errand(), Errand(), Errand()
        self.words = ""
        self.is_stopped = False
        self.told = NOTHING
        self.hub = HubLook()
        self.splitting = Splitting()
        self._good: dict[str, Any] = {}
        self._good_draft: Path | None = None

    @property
    def errands(self) -> Iterator[Errand]:
        """All slow requests, those that a person waits for first."""
        yield from (self.finding, self.checking, self.counting)

    @property
    def under_way(self) -> Errand | None:
        """The slow request that the page tells of, None where there is none."""
        return next((errand for errand in self.errands if errand.is_working), None)

    def drop_errands(self) -> None:
        """Other data are read: nothing about the ones of before is wanted."""
        for errand in self.errands:
            errand.drop()
        self.words = ""

    @property
    def is_scanned(self) -> bool:
        """Whether every row is known; of large files the first ones are there before."""
        return bool(self.facts) and bool(self.facts.get("scanned", True))

    @property
    def doubtful(self) -> list[dict[str, Any]]:
        """Facts of the files whose columns must be confirmed before anything is learned from them."""
        return [file for file in self.facts.get("files", []) if file.get("certainty") == ASK]

    def show_first(self, facts: dict[str, Any]) -> None:
        """The first rows of large files are there, while all of them are read."""
        self.facts = facts
        self.version += 1
        self.changed.emit()

    def know_more(self, facts: dict[str, Any]) -> None:
        """More is known of the same rows."""
        self.facts = facts
        self.changed.emit()

    def rows_changed(self, facts: dict[str, Any]) -> None:
        """Some of the same rows are others now, or stand elsewhere."""
        self.decided += 1
        self.know_more(facts)

    def set_facts(self, facts: dict[str, Any]) -> None:
        """The data are read."""
        self.facts, self.reading = facts, None
        self.version += 1
        self.status.ready()
        self.changed.emit()

    def clear(self, *, is_stopped: bool = False) -> None:
        """There are no data, or none any more because the user ended the reading."""
        self.facts, self.reading, self.is_stopped = {}, None, is_stopped
        self.version += 1
        self.status.clear()
        self.changed.emit()

    def keep_good(self, draft: Path | None, values: dict[str, Any]) -> None:
        """Data were read with these values of the draft that is kept at ``draft``."""
        self._good_draft, self._good = draft, values

    def good(self, draft: Path | None) -> dict[str, Any]:
        """The values with which data of this draft were last read well, empty where none were."""
        return self._good if draft == self._good_draft else {}
