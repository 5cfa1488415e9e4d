"""What the user can do with base models: list, choose, open a folder, look up and download from the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.protocol.errors import Failure, UserError
from engine.protocol.text import NOTHING, say
from gui.context import AppContext
from gui.operations.operation import Operation, attempt
from gui.state.notices import GOOD


def list_models(context: AppContext) -> Operation:
    """Find the models on this machine."""
    models = context.models
    models.status.work(say("Looking for models on this machine…", "正在查找本机的模型…"))

    def done(value: dict[str, Any]) -> None:
        models.listing = None
        listed = list(value.get("models", []))
        sources = {model.get("source") for model in listed}
        models.models = listed + [m for m in models.models if m.get("where") == "folder" and m["source"] not in sources]
        models.status.ready()
        models.changed.emit()
        inspect_chosen(context)

    def failed(failure: Failure) -> None:
        models.listing = None
        models.status.fail(failure)
        models.changed.emit()

    operation = Operation(context).in_session(context.bridge.data, "list_models")
    models.listing = operation.on_success(done).on_failure(failed)
    models.changed.emit()
    return operation


def cancel_listing(context: AppContext) -> None:
    """Do not wait for the list: a folder can be opened and a hub id asked for without it."""
    models = context.models
    if models.listing is not None:
        models.listing.drop()
    models.listing = None
    models.status.ready()
    models.changed.emit()
    inspect_chosen(context)


def inspect_chosen(context: AppContext) -> None:
    """Find out what the draft's model is, and whether it can be trained."""
    source = context.draft.recipe.model.source
    known = context.models.known(source)
    if known and not known.get("problem"):
        _chosen(context, known)
        return
    _inspect(context, source, choose=False)


def choose_model(context: AppContext, source: str) -> None:
    """Start from another model."""
    attempt(context, lambda: context.draft.set({"model.source": source, "model.revision": ""}))


def open_folder(context: AppContext, path: Path) -> Operation:
    """Look at a folder with a model and choose it; what is wrong with it is explained."""
    return _inspect(context, str(path), choose=True)


def _inspect(context: AppContext, source: str, *, choose: bool) -> Operation:
    models = context.models
    models.chosen, models.chosen_status.doing = {}, NOTHING
    models.chosen_status.work(say("Looking at {name}…", "正在检查 {name}…", name=Path(source).name))
    models.changed.emit()

    def done(model: dict[str, Any]) -> None:
        models.put(model)
        _chosen(context, model)
        if choose:
            choose_model(context, str(model.get("source", source)))

    def failed(failure: Failure) -> None:
        models.chosen = {}
        models.chosen_status.fail(failure)
        models.changed.emit()

    operation = Operation(context).in_session(context.bridge.data, "inspect_model", source=source)
    return operation.on_success(done).on_failure(failed)


def _chosen(context: AppContext, model: dict[str, Any]) -> None:
    context.models.chosen = model
    context.models.chosen_status.ready()
    context.models.changed.emit()


def look_up(context: AppContext, name: str) -> Operation | None:
    """Ask the hub what a model is: size, licence, whether it is gated, and whether the disk has room.

    None while a download is under way: its progress stays in view.
    """
    models = context.models
    if models.is_downloading:
        return None
    if models.hub_asking is not None:
        models.hub_asking.drop()
    models.hub = {}
    models.hub_status.work(say("Asking the hub about {name}…", "正在向 hub 查询 {name}…", name=name))

    def done(value: dict[str, Any]) -> None:
        models.hub_ends()
        models.hub = value
        models.hub_status.ready()
        models.changed.emit()

    operation = Operation(context).in_session(context.bridge.hub, "hub_info", id=name)
    models.hub_begins(operation.on_success(done).on_failure(lambda failure: _hub_failed(context, failure)))
    models.changed.emit()
    return operation


def download(context: AppContext, name: str) -> Operation | None:
    """Download a model into the hub's cache and choose it. `cancel_hub` keeps what has come, so it can go on later.

    None while another download is under way.
    """
    models = context.models
    if models.is_downloading:
        return None
    models.hub_status.work(say("Downloading {name}…", "正在下载 {name}…", name=name))

    def told(event: Any) -> None:
        models.hub_status.tell(event)
        models.changed.emit()

    def done(_value: dict[str, Any]) -> None:
        models.hub_ends()
        models.hub = {}
        models.hub_status.clear()
        context.notices.tell(GOOD, say("{name} is on this machine now.", "{name} 已下载到本机。", name=name))
        choose_model(context, name)
        list_models(context)

    operation = Operation(context).in_session(context.bridge.hub, "hub_download", id=name)
    operation.on_progress(told).on_success(done).on_failure(lambda failure: _hub_failed(context, failure))
    models.hub_begins(operation, is_download=True)
    models.changed.emit()
    return operation


def cancel_hub(context: AppContext) -> None:
    """End what is asked of the hub. A download ends after the piece that is coming; a question is just dropped."""
    models = context.models
    if models.hub_asking is None:
        return
    models.hub_asking.cancel()
    if models.is_downloading:
        models.is_ending = True
        models.hub_status.doing = say("Stopping the download…", "正在停止下载…")
        models.changed.emit()
        return
    models.hub_asking.drop()
    leave_hub(context)


def leave_hub(context: AppContext) -> None:
    """Forget what was looked up."""
    context.models.hub_ends()
    context.models.hub = {}
    context.models.hub_status.clear()
    context.models.changed.emit()


def _hub_failed(context: AppContext, failure: Failure) -> None:
    context.models.hub_ends()
    if failure.code == "cancelled" and context.models.hub:
        context.models.hub_status.ready()
    else:
        context.models.hub_status.fail(failure)
    context.models.changed.emit()


def fit(context: AppContext, model: dict[str, Any], method: str) -> str:
    """Whether a model can be trained here by a method: "fits", "tight", "no", or "" while that is unknown.

    The data's lengths count where they are known, else rows as long as the draft allows.
    """
    from engine.machine.forecast import DataFacts, Lengths, forecast
    from gui.operations.plan import data_facts, dims_of, with_method

    where = context.plan.room
    if where is None or model.get("problem") or not model.get("path"):
        return ""
    longest = context.draft.recipe.data.max_length
    known = data_facts(context) or DataFacts(1000, Lengths(longest, longest, longest, longest, longest, longest))
    try:
        needs = forecast(with_method(context.draft.recipe, method), dims_of(context, str(model["path"])), known, where)
    except UserError:
        return ""
    return ("tight" if needs.tight else "fits") if needs.fits else "no"
