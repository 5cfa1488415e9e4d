"""All models that there are to choose from: on this machine, begun to be fetched, and known of the catalogue."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.machine.dims import FAMILIES, ModelDims
from engine.machine.fits import fits_here
from engine.machine.forecast import DataFacts, Room
from engine.machine.known_models import KnownModel, KnownModels
from engine.model import hub
from engine.model.inspect import ModelInfo, inspect
from engine.model.locate import STARTER, is_hub_id, locate
from engine.project import model_folders
from engine.protocol.errors import UserError
from engine.protocol.text import as_text
from engine.recipe.recipe import Recipe


def models_here() -> list[dict[str, Any]]:
    """The starter, the hub's cache, and the folders that the user opened; one that cannot be used comes with its
    problem."""
    cached = {model.id: "cache" for model in hub.cached_models()}
    folders = {str(path): "folder" for path in model_folders.found()}
    return [described(source, where) for source, where in {STARTER: STARTER, **cached, **folders}.items()]


def begun() -> dict[str, int]:
    """Id → bytes on this machine, of hub models whose download was interrupted."""
    return {model.id: model.bytes for model in hub.unfinished()}


def described(source: str, where: str = "") -> dict[str, Any]:
    """One model as the window and the command line know it; ``problem`` says why it cannot be used.

    Args:
        source: "starter", a folder, or a hub id in the cache.
        where: "starter", "cache" or "folder"; found when empty.
    """
    where = where or where_is(source)
    try:
        return plain(source, where, inspect(locate(source)))
    except UserError as error:
        name = Path(source).name if where == "folder" else source
        return {"source": source, "name": name, "where": where, "problem": error.problem.message}


def where_is(source: str) -> str:
    """Whether a source is the starter, in the hub's cache, or a folder."""
    return STARTER if source == STARTER else "cache" if is_hub_id(source) else "folder"


def plain(source: str, where: str, info: ModelInfo) -> dict[str, Any]:
    """A model that can be used, as JSON knows it."""
    name = info.name if where != "cache" else source
    return {
        **info.to_plain(),
        "source": source,
        "name": name,
        "where": where,
        "template": info.has_template,
        "problem": None,
        "dims": asdict(info.dims),
    }


# -------------------------------------------------------------------------------------------------- the command line
def document(known: KnownModels, where: Room, recipe: Recipe, data: DataFacts) -> dict[str, Any]:
    """``{"models", "device", "length", "problems"}`` of ``lorimer models``, as ``docs/command-line.md`` has it."""
    here = {model["source"]: model for model in models_here()}
    parts = begun()
    rows = [_row(model, known.find(model["source"]), where, recipe, data) for model in here.values()]
    rows += [_known_row(m, parts.get(m.id, 0), where, recipe, data) for m in known.models if m.id not in here]
    listed = {row["id"] for row in rows}
    rows += [_begun_row(name, size) for name, size in parts.items() if name not in listed]
    return {
        "models": rows,
        "device": {"kind": where.device, "name": where.name, "free_gib": round(where.free_gib, 3)},
        "length": data.lengths.longest,
        "problems": [{"code": p.code, "message": p.message, "hint": p.hint, "where": p.where} for p in known.problems],
    }


def _row(
    model: dict[str, Any], known: KnownModel | None, where: Room, recipe: Recipe, data: DataFacts
) -> dict[str, Any]:
    """A model of this machine; the catalogue adds what the files do not say."""
    dims = ModelDims(**model["dims"]) if "dims" in model else None
    return {
        "id": model["source"],
        "where": model["where"],
        "path": str(model.get("path") or ""),
        "parameters": model.get("parameters"),
        "bytes": model.get("bytes"),
        "here_bytes": model.get("bytes"),
        "licence": model.get("licence") or (known.licence if known else ""),
        "gated": known.gated if known else None,
        "context": model.get("context"),
        "family": model.get("family_label", ""),
        "template": model.get("template"),
        "good_for": known.good_for if known else as_text(""),
        "problem": as_text(model["problem"]) if model.get("problem") else None,
        **_fits(dims, where, recipe, data),
    }


def _known_row(model: KnownModel, part: int, where: Room, recipe: Recipe, data: DataFacts) -> dict[str, Any]:
    """A model of the catalogue that is not, or not wholly, on this machine."""
    return {
        "id": model.id,
        "where": "catalogue",
        "path": "",
        "parameters": model.parameters,
        "bytes": model.bytes,
        "here_bytes": part,
        "licence": model.licence,
        "gated": model.gated,
        "context": model.context,
        "family": FAMILIES[model.dims.family].label,
        "template": model.has_template,
        "good_for": model.good_for,
        "problem": None,
        **_fits(model.dims, where, recipe, data),
    }


def _begun_row(hub_id: str, part: int) -> dict[str, Any]:
    """A model that nothing is known of but that its download was begun."""
    names = ("parameters", "bytes", "gated", "context", "template", "problem")
    texts = {"id": hub_id, "where": "begun", "path": "", "licence": "", "family": "", "good_for": as_text("")}
    return {**dict.fromkeys(names), **texts, "here_bytes": part, "fits": {}, "needed_gib": {}}


def _fits(dims: ModelDims | None, where: Room, recipe: Recipe, data: DataFacts) -> dict[str, Any]:
    found = fits_here(dims, where, recipe, data) if dims is not None else {}
    return {
        "fits": {name: fit.verdict for name, fit in found.items()},
        "needed_gib": {name: round(fit.needed_gib, 2) for name, fit in found.items()},
    }
