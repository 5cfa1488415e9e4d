"""What the user can do with base models: list, filter, look at, choose, open a folder, look up and download."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.protocol.errors import Failure
from engine.protocol.text import NOTHING, as_text, say
from gui.context import AppContext
from gui.operations.operation import Operation, attempt
from gui.state.notices import GOOD, WARNING, line_of

if TYPE_CHECKING:
    from engine.machine.dims import ModelDims
    from engine.machine.fits import Fit
    from engine.machine.forecast import DataFacts
    from engine.machine.known_models import KnownModels

SMALL, LARGE = 2.0e9, 10.0e9
"""Weights up to which a model is small, and from which it is large: what usually fits 6 GiB, and what needs 24."""


def list_models(context: AppContext) -> Operation:
    """Find the models on this machine."""
    models = context.models
    models.status.work(say("Looking for models on this machine…", "正在查找本机的模型…"))

    def done(value: dict[str, Any]) -> None:
        models.listing = None
        listed = list(value.get("models", []))
        sources = {model.get("source") for model in listed}
        models.models = listed + [m for m in models.models if m.get("where") == "folder" and m["source"] not in sources]
        models.begun = dict(value.get("begun", {}))
        models.status.ready()
        models.changed.emit()
        inspect_chosen(context)

    def failed(failure: Failure) -> None:
        models.listing = None
        models.status.fail(failure)
        models.changed.emit()

    read_catalogue(context)
    operation = Operation(context).in_session(context.bridge.data, "list_models")
    models.listing = operation.on_success(done).on_failure(failed)
    models.changed.emit()
    return operation


def read_catalogue(context: AppContext) -> Operation:
    """Read the well-known models, and the user's own; what is wrong with those is told with file and line."""
    from engine.machine.known_models import known_models

    def done(found: KnownModels) -> None:
        context.models.catalogue = found
        context.models.changed.emit()
        if found.problems:
            context.notices.tell(
                WARNING,
                say("Some of your own models are not listed.", "你自己的部分模型未列出。"),
                problems=tuple(line_of(problem) for problem in found.problems),
            )

    return Operation(context).in_background(known_models).on_success(done)


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
    _inspect(context, source)


def choose_model(context: AppContext, source: str) -> None:
    """Start from another model."""
    context.models.looked_at, context.models.access.open = "", False
    attempt(context, lambda: context.draft.set({"model.source": source, "model.revision": ""}))
    context.models.changed.emit()


def look_at(context: AppContext, hub_id: str) -> None:
    """Show a model that is not on this machine; nothing is asked of the hub yet, and the draft stays as it is."""
    models = context.models
    models.looked_at = hub_id
    models.access.open = False
    if models.hub_asking is None and models.hub_for != hub_id:
        leave_hub(context)
    else:
        models.changed.emit()


def open_folder(context: AppContext, path: Path) -> Operation:
    """List the models of a folder from now on, and choose it when it is one; what is wrong with it is explained."""
    models = context.models
    models.looked_at = ""
    models.chosen, models.chosen_status.doing = {}, NOTHING
    models.chosen_status.work(say("Looking at {name}…", "正在检查 {name}…", name=path.name))
    models.changed.emit()

    def done(value: dict[str, Any]) -> None:
        found = list(value["models"])
        for model in found:
            models.put(model)
        usable = [model for model in found if not model.get("problem")]
        if len(usable) == 1:
            _chosen(context, usable[0])
            choose_model(context, str(usable[0]["source"]))
            return
        words = say("{n} models were found in {name}.", "在 {name} 中找到 {n} 个模型。", n=len(found), name=path.name)
        context.notices.tell(GOOD, words)
        inspect_chosen(context)

    operation = Operation(context).in_session(context.bridge.data, "find_models", folder=str(path))
    return operation.on_success(done).on_failure(lambda failure: _not_chosen(context, failure))


def _not_chosen(context: AppContext, failure: Failure) -> None:
    context.models.chosen = {}
    context.models.chosen_status.fail(failure)
    context.models.changed.emit()


def _inspect(context: AppContext, source: str) -> Operation:
    models = context.models
    models.chosen, models.chosen_status.doing = {}, NOTHING
    models.chosen_status.work(say("Looking at {name}…", "正在检查 {name}…", name=Path(source).name))
    models.changed.emit()

    def done(model: dict[str, Any]) -> None:
        models.put(model)
        _chosen(context, model)

    operation = Operation(context).in_session(context.bridge.data, "inspect_model", source=source)
    return operation.on_success(done).on_failure(lambda failure: _not_chosen(context, failure))


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
    models.access.open = False
    models.looked_at = models.hub_for = name
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
    models.looked_at = models.hub_for = name
    models.hub_status.work(say("Downloading {name}…", "正在下载 {name}…", name=name))

    def told(event: Any) -> None:
        models.hub_status.tell(event)
        models.changed.emit()

    def done(_value: dict[str, Any]) -> None:
        models.hub_ends()
        models.hub, models.hub_for = {}, ""
        models.hub_status.clear()
        models.begun.pop(name, None)
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
    """Forget what was looked up; a model of the catalogue stays in view."""
    models = context.models
    models.hub_ends()
    models.hub, models.hub_for = {}, ""
    models.hub_status.clear()
    known = models.catalogue is not None and models.catalogue.find(models.looked_at) is not None
    if not known and models.looked_at not in models.begun:
        models.looked_at = ""
    models.changed.emit()


def _hub_failed(context: AppContext, failure: Failure) -> None:
    """What was cancelled can go on later: what has come is kept, and no longer missing."""
    models = context.models
    models.hub_ends()
    if failure.code == "cancelled" and models.hub:
        come = models.hub_status.progress
        if come is not None:
            models.hub["missing_bytes"] = max(0, int(come.total - come.done))
            models.begun[models.hub_for] = int(come.done)
        models.hub_status.ready()
    else:
        models.hub_status.fail(failure)
    models.changed.emit()


# --------------------------------------------------------------------------------------------------------------- list
def listed(context: AppContext, words: str = "", *, whole: bool = False) -> list[dict[str, Any]]:
    """The models that the filter and some words let through, in the order that was chosen.

    Args:
        whole: pass the filter over.
    """
    wanted, sought = context.models.filter, words.strip().lower()
    rows = [row for row in _all(context) if sought in f"{row.get('name', '')} {row.get('source', '')}".lower()]
    if whole:
        return rows
    rows = [row for row in rows if _is_wanted(context, row)]
    if wanted.order == "name":
        return sorted(rows, key=lambda row: short_name(row).lower())
    if wanted.order in ("small", "large"):
        return sorted(rows, key=_weights, reverse=wanted.order == "large")
    if wanted.order == "context":
        return sorted(rows, key=lambda row: -(row.get("context") or 0))
    return rows


def short_name(row: dict[str, Any]) -> str:
    """A model's name without its owner, unless it is a folder."""
    name = str(row.get("name", ""))
    return name if row.get("where") in ("folder", "starter") else name.rpartition("/")[2]


def families(context: AppContext) -> list[str]:
    """The families of all models there are."""
    return sorted({str(row["family_label"]) for row in _all(context) if row.get("family_label")})


def _weights(row: dict[str, Any]) -> float:
    return float(row.get("parameters") or 0)


def _all(context: AppContext) -> list[dict[str, Any]]:
    """This machine's models, what the catalogue says of them added; then downloads begun; then the catalogue."""
    models = context.models
    known = {} if models.catalogue is None else {model.id: model for model in models.catalogue.models}
    here = {str(row["source"]): row for row in models.models}
    rows = []
    for source, row in here.items():
        facts = known.get(source)
        extra = {} if facts is None else {"gated": facts.gated, "good_for": facts.good_for}
        rows.append({**extra, **row, "licence": row.get("licence") or (facts.licence if facts else "")})
    away = [_known_row(model, models.begun.get(model.id, 0)) for model in known.values() if model.id not in here]
    unknown = [
        {"source": name, "name": name, "where": "begun", "here_bytes": size}
        for name, size in models.begun.items()
        if name not in known and name not in here
    ]
    return [*rows, *unknown, *sorted(away, key=lambda row: not row["here_bytes"])]


def _known_row(model: Any, here_bytes: int) -> dict[str, Any]:
    """A model of the catalogue as the list has it."""
    return {
        "source": model.id,
        "name": model.id,
        "where": "begun" if here_bytes else "catalogue",
        "here_bytes": here_bytes,
        "parameters": model.parameters,
        "bytes": model.bytes,
        "context": model.context,
        "licence": model.licence,
        "gated": model.gated,
        "family_label": model.family_label,
        "template": model.has_template,
        "good_for": model.good_for,
        "layers": model.dims.layers,
        "hidden": model.dims.hidden,
        "is_own": model.is_own,
        "known": model,
    }


def _is_wanted(context: AppContext, row: dict[str, Any]) -> bool:
    from engine.machine.known_models import is_free

    wanted, weights = context.models.filter, _weights(row)
    is_here = row.get("where") not in ("catalogue", "begun")
    fits = {fit.verdict for fit in fits_of(context, row).values()} & {"fits", "tight"}
    checks = {
        "fits": bool(fits),
        "here": is_here,
        "away": not is_here,
        "free": is_free(str(row.get("licence", ""))),
        "own": not is_free(str(row.get("licence", ""))),
        "small": weights <= SMALL,
        "medium": SMALL < weights <= LARGE,
        "large": weights > LARGE,
    }
    asked = (wanted.show, wanted.licence, wanted.size)
    return all(checks.get(name, True) for name in asked) and wanted.family in ("any", row.get("family_label"))


# --------------------------------------------------------------------------------------------------------------- fits
def fits_of(context: AppContext, row: dict[str, Any]) -> dict[str, Fit]:
    """Method → whether a model can be trained by it here, and what it takes; empty while that is unknown.

    The data's longest row counts where it is known, else a usual one; computed once for each state of plan and data.
    """
    from engine.machine.fits import fits_here

    where, models, recipe = context.plan.room, context.models, context.draft.recipe
    if where is None or row.get("problem"):
        return {}
    data = asked_data(context)
    case = (where, recipe.method, recipe.train, recipe.objective, recipe.data.max_length, data.lengths.longest)
    if case != models.fits_for:
        models.fits, models.fits_for = {}, case
    source = str(row["source"])
    if source not in models.fits:
        dims = _dims(row)
        if dims is None:
            return {}
        models.fits[source] = fits_here(dims, where, recipe, data)
    return models.fits[source]


def _dims(row: dict[str, Any]) -> ModelDims | None:
    from engine.machine.dims import ModelDims

    if "known" in row:
        widths: ModelDims = row["known"].dims
        return widths
    return ModelDims(**row["dims"]) if "dims" in row else None


def asked_data(context: AppContext) -> DataFacts:
    """The data that models are asked for: those that are read, else some of a usual length."""
    from engine.machine.fits import typical
    from gui.operations.plan import data_facts

    return data_facts(context) or typical()


def asked_length(context: AppContext) -> tuple[int, bool]:
    """Tokens of the longest row that models are asked for, and whether it is that of the data."""
    from gui.operations.plan import data_facts

    longest = min(asked_data(context).lengths.longest, context.draft.recipe.data.max_length)
    return longest, data_facts(context) is not None


def good_for(row: dict[str, Any]) -> Any:
    """What a model is good for, empty when nobody said."""
    return as_text(row.get("good_for") or "")
