"""The data session: rows as the model will see them, models on this machine, and the hub."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.data import hub_data
from engine.data.lengths import summary
from engine.data.preview import DataView
from engine.data.scored import RowScores
from engine.model import hub, listing
from engine.model.download import download
from engine.model.inspect import inspect
from engine.model.locate import locate
from engine.project import model_folders
from engine.protocol.codec import to_plain
from engine.protocol.errors import Stopped, UserError
from engine.protocol.events import Event, Progress, Request
from engine.protocol.text import say
from engine.recipe.quality import QualitySettings
from engine.recipe.recipe import DataSettings

QUICK = frozenset({"rows", "row"})
"""Requests whose answers somebody looks at: they come one after the other, and never tell progress."""
Emit = Callable[[Event], None]
LIMITS = ("max_length", "over_long")
"""What the request "limit" may change."""
MEASURED_AT_ONCE = 4000
"""Rows whose tokens are counted while the data are opened: about a second."""
TELL_SECONDS = 0.1
SWITCH_SECONDS = 0.0005
"""A thread that is slow gives Python's lock up so soon to one whose answer somebody waits for."""
GATE_SECONDS = 1.0
"""What is slow rests so long at most."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request under way.

    Attributes:
        number: the request's.
        cancelled: set when nobody wants the answer any more.
        emit: tells the one who asked.
        gate: closed while something is answered that somebody waits for: what is slow rests meanwhile.
    """

    number: int
    cancelled: threading.Event
    emit: Emit
    gate: threading.Event

    def teller(self, unit: str) -> Callable[[int, int], None]:
        """A progress callback that tells ten times a second at most; it raises `Stopped` when it is cancelled."""
        last, began = 0.0, time.monotonic()

        def tell(done: int, total: int) -> None:
            nonlocal last
            self.gate.wait(GATE_SECONDS)
            if self.cancelled.is_set():
                raise Stopped
            now = time.monotonic()
            if now - last >= TELL_SECONDS or done >= total:
                last = now
                left = (now - began) * (total - done) / done if done and now - began > 1 else None
                self.emit(Progress(done=done, total=total, unit=unit, seconds_left=left, request=self.number))

        return tell


class DataService:
    """Answers the requests that ``docs/protocol.md`` lists for the data session.

    One data set is open at a time; a request that reads rows speaks of that one. Those in `slow` go on beside others.
    """

    slow = frozenset({"scan", "measure", "find", "inspect", "split", "hub_data_get"})

    def __init__(self) -> None:
        self._cancels: dict[int, threading.Event] = {}
        self._view: DataView | None = None
        sys.setswitchinterval(SWITCH_SECONDS)
        self._gate = threading.Event()
        self._gate.set()
        self._thread = threading.local()

    def cancel(self, request: int) -> None:
        """End a request at its next progress, 0 every one; called from another thread."""
        for number in [request] if request else list(self._cancels):
            self._cancels.setdefault(number, threading.Event()).set()

    def handle(self, request: Request, emit: Emit) -> dict[str, Any]:
        """The value of the request's answer.

        Raises:
            UserError: what was asked for is wrong.
            Stopped: it was cancelled.
        """
        cancelled = self._cancels.setdefault(request.request, threading.Event())
        answers: dict[str, Callable[..., dict[str, Any]]] = {
            "open_data": self._open_data,
            "scan": self._scan,
            "limit": self._limit,
            "measure": self._measure,
            "find": self._find,
            "inspect": self._inspect,
            "split": self._split,
            "scores": self._read_scores,
            "decide": self._decide,
            "undo": self._undo,
            "rows": self._rows,
            "row": self._row,
            "list_models": self._list_models,
            "inspect_model": self._inspect_model,
            "find_models": self._find_models,
            "hub_user": self._hub_user,
            "hub_info": self._hub_info,
            "hub_download": self._hub_download,
            "hub_data_here": self._hub_data_here,
            "hub_data_info": self._hub_data_info,
            "hub_data_rows": self._hub_data_rows,
            "hub_data_get": self._hub_data_get,
        }
        if request.name not in answers:
            message = say("There is no request “{name}”.", "没有名为“{name}”的请求。", name=request.name)
            raise UserError("session.unknown_request", message)
        is_quick = request.name in QUICK
        self._thread.is_slow = request.name in self.slow
        if is_quick:
            self._gate.clear()
        try:
            answer = answers[request.name](Asked(request.request, cancelled, emit, self._gate), **request.arguments)
        finally:
            self._cancels.pop(request.request, None)
            if is_quick:
                self._gate.set()
        plain: dict[str, Any] = to_plain(answer)
        return plain

    # ---------------------------------------------------------------------------------------------------------- rows
    def _open_data(
        self, asked: Asked, *, data: dict[str, Any], model: str, preference: bool | None = None
    ) -> dict[str, Any]:
        """What the files are. Small ones are read whole; of large ones the first rows are told, and "scan" reads them.

        ``preference`` None takes the rows for what they are; without a usable model lengths are estimated.
        """
        self.cancel_others(asked.number)
        settings, before = DataSettings.model_validate(data), self._view
        self._view = None
        rows = before.rows_for(settings, preference) if before is not None else None
        view = DataView(
            settings, _folder_of(model), preference=preference, rows=rows, known=before if rows is not None else None
        )
        view.pause = self._let_others_go_first
        view.scores = before.scores if before is not None and rows is not None else None
        if view.is_scanned:
            self._know_lengths(view, asked)
        self._view = view
        return _facts(view)

    def _let_others_go_first(self) -> None:
        """Rest, where this thread does something slow, while somebody waits for an answer."""
        if getattr(self._thread, "is_slow", False):
            self._gate.wait(GATE_SECONDS)

    def _limit(self, asked: Asked, *, data: dict[str, Any]) -> dict[str, Any]:
        """Another longest length, or something else done with longer rows; the answer is that of "open_data".

        ``data`` is the recipe's table. Nothing is read, tokenised or checked again, and what is being done goes on.
        """
        view = self._opened()
        settings = DataSettings.model_validate(data)
        view.follow_limit(view.data.model_copy(update={name: getattr(settings, name) for name in LIMITS}))
        return _facts(view)

    def cancel_others(self, number: int) -> None:
        """End what still goes on about the data of before."""
        for other in list(self._cancels):
            if other != number:
                self.cancel(other)

    def _scan(self, asked: Asked) -> dict[str, Any]:
        """Look at every row; the answer is that of "open_data", now of all rows."""
        view = self._opened()
        view.scan(asked.teller("bytes"))
        self._know_lengths(view, asked)
        return _facts(view)

    @staticmethod
    def _know_lengths(view: DataView, asked: Asked) -> None:
        """Measure few rows at once; of many a sample."""
        if view.total <= MEASURED_AT_ONCE:
            view.measure(progress=asked.teller("rows"))
        else:
            view.guess_lengths()

    def _measure(self, asked: Asked) -> dict[str, Any]:
        """Count every row's tokens; the answer is that of "open_data"."""
        view = self._opened()
        view.measure(progress=asked.teller("rows"))
        return _facts(view)

    def _find(self, asked: Asked, *, words: str) -> dict[str, Any]:
        return self._opened().find(words, asked.teller("rows"))

    def _inspect(self, asked: Asked, *, quality: dict[str, Any] | None = None) -> dict[str, Any]:
        """Look at the rows' quality; the answer is that of "open_data".

        ``quality``, the recipe's table, where it is another now: what was found is kept where it answers that too.
        """
        view = self._opened()
        if quality is None or not view.judge(QualitySettings.model_validate(quality)):
            view.inspect(asked.teller("share"))
        return _facts(view)

    def _split(self, asked: Asked, *, data: dict[str, Any]) -> dict[str, Any]:
        """What another way of holding rows out comes to; nothing is changed. ``data`` is the recipe's table."""
        return dict(self._opened().try_split(DataSettings.model_validate(data)))

    def _read_scores(self, asked: Asked, *, file: str) -> dict[str, Any]:
        """Take what the job "score" wrote of these rows; the answer is that of "open_data", with ``scores``."""
        view = self._opened()
        view.scores = RowScores(Path(file))
        return _facts(view)

    def _decide(
        self, asked: Asked, *, index: int, column: str = "", value: Any = None, aside: bool | None = None
    ) -> dict[str, Any]:
        """Change a cell, set a row aside or take it back; the answer is that of "open_data"."""
        view = self._opened()
        view.decide(index, column=column, value=value, aside=aside)
        return _facts(view)

    def _undo(self, asked: Asked) -> dict[str, Any]:
        """Take the last decision back; the answer is that of "open_data", with ``undone`` (None for none)."""
        view = self._opened()
        undone = view.undo()
        return {**_facts(view), "undone": undone}

    def _rows(self, asked: Asked, *, start: int, count: int, status: str = "", found: bool = False) -> dict[str, Any]:
        view = self._opened()
        answer = view.page(start, count, status=status, found=found)
        if view.scores is not None:
            answer["rows"] = [line | view.scores.of(line["index"]) for line in answer["rows"]]
        return answer

    def _row(self, asked: Asked, *, index: int) -> dict[str, Any]:
        return self._opened().row(index)

    def _opened(self) -> DataView:
        if self._view is None:
            raise UserError("session.no_data", say("No data are open.", "尚未打开数据。"))
        return self._view

    # -------------------------------------------------------------------------------------------------------- models
    def _list_models(self, asked: Asked) -> dict[str, Any]:
        """What is on this machine, and hub models of which a part is; what cannot be used comes with its problem."""
        return {"models": listing.models_here(), "begun": listing.begun()}

    def _inspect_model(self, asked: Asked, *, source: str) -> dict[str, Any]:
        return listing.plain(source, listing.where_is(source), inspect(locate(source)))

    def _find_models(self, asked: Asked, *, folder: str) -> dict[str, Any]:
        """The models of a folder, which is listed from now on; one without any is told what it lacks."""
        path = Path(folder)
        found = model_folders.inside(path)
        if found in ([], [path]):
            found = [inspect(path).path]
        model_folders.remember(path)
        return {"models": [listing.described(str(each), "folder") for each in found]}

    def _hub_user(self, asked: Asked) -> dict[str, Any]:
        """The account whose token is used."""
        return {"user": hub.user()}

    def _hub_info(self, asked: Asked, *, id: str) -> dict[str, Any]:
        about = hub.info(id)
        free = about.disk_free_gib
        return {
            **asdict(about),
            "sizes": {},
            "free_bytes": None if free is None else int(free * 1024**3),
        }

    def _hub_download(self, asked: Asked, *, id: str) -> dict[str, Any]:
        folder = download(id, progress=asked.teller("B"), cancelled=asked.cancelled.is_set)
        return {"folder": str(folder)}

    # ----------------------------------------------------------------------------------------------- data of the hub
    def _hub_data_here(self, asked: Asked) -> dict[str, Any]:
        """Data sets of the hub that were fetched before, last used first."""
        return {"data": hub_data.here()}

    def _hub_data_info(self, asked: Asked, *, id: str, config: str = "") -> dict[str, Any]:
        return asdict(hub_data.about(id, config))

    def _hub_data_rows(self, asked: Asked, *, named: str) -> dict[str, Any]:
        return hub_data.peek(named)

    def _hub_data_get(self, asked: Asked, *, names: list[str]) -> dict[str, Any]:
        """Fetch data sets that are not on this machine; progress is told in rows."""
        wanted = [name for name in dict.fromkeys(names) if not hub_data.is_here(name)]
        for name in wanted:
            hub_data.fetched(name, asked.teller("rows"))
        return {"fetched": wanted}


def _facts(view: DataView) -> dict[str, Any]:
    """All that is known of the open data; the first file's facts also by themselves."""
    facts = view.facts()
    first = facts["files"][0]
    names = ("name", "format", "encoding", "shape", "confidence", "mapping", "columns")
    return {
        **{name: first[name] for name in names},
        **facts,
        "rows": facts["total"],
        "train": facts["trainable"] - facts["held_out"],
        "learned": view.learned_share,
        "kinds": view.kinds,
        "lengths": {**view.histogram(), **summary(view.lengths)},
        "shapes": view.shapes(),
        "quality": view.quality,
        "scores": view.scores.to_plain() if view.scores is not None else None,
        "decisions": view.decisions,
    }


def _folder_of(model: str) -> Path | None:
    """The model's folder; None when it is not on this machine (yet), the Model page says why."""
    try:
        return locate(model)
    except UserError:
        return None
