"""The data session: rows as the model will see them, models on this machine, and the hub."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.data.preview import DataView
from engine.machine.forecast import Lengths
from engine.model import hub
from engine.model.inspect import ModelInfo, inspect
from engine.model.locate import is_hub_id, locate
from engine.protocol.codec import to_plain
from engine.protocol.errors import Stopped, UserError
from engine.protocol.events import Event, Progress, Request
from engine.protocol.text import say
from engine.recipe.recipe import DataSettings

Emit = Callable[[Event], None]
STARTER = "starter"


class DataService:
    """Answers the requests that ``docs/protocol.md`` lists for the data session.

    One data set is open at a time; a request that reads rows speaks of that one.
    """

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        self._view: DataView | None = None

    def cancel(self) -> None:
        """End the present request at its next progress; called from another thread."""
        self._cancelled.set()

    def handle(self, request: Request, emit: Emit) -> dict[str, Any]:
        """The value of the request's answer.

        Raises:
            UserError: what was asked for is wrong.
            Stopped: it was cancelled.
        """
        self._cancelled.clear()
        answers: dict[str, Callable[..., dict[str, Any]]] = {
            "open_data": self._open_data,
            "rows": self._rows,
            "row": self._row,
            "list_models": self._list_models,
            "inspect_model": self._inspect_model,
            "hub_info": self._hub_info,
            "hub_download": self._hub_download,
        }
        if request.name not in answers:
            message = say("There is no request “{name}”.", "没有名为“{name}”的请求。", name=request.name)
            raise UserError("session.unknown_request", message)
        answer: dict[str, Any] = to_plain(answers[request.name](emit, **request.arguments))
        return answer

    # ---------------------------------------------------------------------------------------------------------- rows
    def _open_data(
        self, emit: Emit, *, data: dict[str, Any], model: str, preference: bool | None = None
    ) -> dict[str, Any]:
        """Read the files and measure every row; without a usable model lengths are estimated.

        ``preference`` None takes the rows for what they are.
        """
        settings = DataSettings.model_validate(data)
        self._view = None
        view = DataView(settings, _folder_of(model), preference=preference)
        view.measure(progress=self._teller(emit, "rows"))
        self._view = view
        facts = view.facts()
        first = facts["files"][0]
        return {
            **{
                name: first[name]
                for name in ("name", "format", "encoding", "shape", "confidence", "mapping", "columns")
            },
            **facts,
            "rows": facts["total"],
            "train": facts["trainable"] - facts["held_out"],
            "learned": view.learned_share,
            "lengths": {**view.histogram(), **asdict(Lengths.of(view.lengths))},
            "shapes": view.shapes(),
        }

    def _rows(self, emit: Emit, *, start: int, count: int, status: str = "") -> dict[str, Any]:
        return self._opened().page(start, count, status=status)

    def _row(self, emit: Emit, *, index: int) -> dict[str, Any]:
        return self._opened().row(index)

    def _opened(self) -> DataView:
        if self._view is None:
            raise UserError("session.no_data", say("No data are open.", "尚未打开数据。"))
        return self._view

    # -------------------------------------------------------------------------------------------------------- models
    def _list_models(self, emit: Emit) -> dict[str, Any]:
        """The starter, then the hub's cache; a model that cannot be used is listed with its problem."""
        cached = [(model.id, "cache") for model in hub.cached_models()]
        return {"models": [_described(source, where) for source, where in [(STARTER, STARTER), *cached]]}

    def _inspect_model(self, emit: Emit, *, source: str) -> dict[str, Any]:
        where = STARTER if source == STARTER else "cache" if is_hub_id(source) else "folder"
        return _plain(source, where, inspect(locate(source)))

    def _hub_info(self, emit: Emit, *, id: str) -> dict[str, Any]:
        about = hub.info(id)
        free = about.disk_free_gib
        return {**asdict(about), "free_bytes": None if free is None else int(free * 1024**3)}

    def _hub_download(self, emit: Emit, *, id: str) -> dict[str, Any]:
        folder = hub.download(id, progress=self._teller(emit, "B"), cancelled=self._cancelled.is_set)
        return {"folder": str(folder)}

    def _teller(self, emit: Emit, unit: str) -> Callable[[int, int], None]:
        def tell(done: int, total: int) -> None:
            emit(Progress(done=done, total=total, unit=unit))
            if self._cancelled.is_set():
                raise Stopped

        return tell


def _folder_of(model: str) -> Path | None:
    """The model's folder; None when it is not on this machine (yet), the Model page says why."""
    try:
        return locate(model)
    except UserError:
        return None


def _described(source: str, where: str) -> dict[str, Any]:
    try:
        return _plain(source, where, inspect(locate(source)))
    except UserError as error:
        return {"source": source, "name": source, "where": where, "problem": error.problem.message}


def _plain(source: str, where: str, info: ModelInfo) -> dict[str, Any]:
    name = info.name if where != "cache" else source
    return {
        **info.to_plain(),
        "source": source,
        "name": name,
        "where": where,
        "template": info.has_template,
        "problem": None,
    }
