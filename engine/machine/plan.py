"""The advice as the document of ``lorimer plan --json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.machine.advise import Advice, ModelFacts, Wish, advise
from engine.machine.detect import Machine, detect, disk_free_gib
from engine.machine.dims import ModelDims
from engine.machine.forecast import DataFacts, Forecast, gib
from engine.machine.table import ORDER
from engine.machine.versions import torch_build
from engine.protocol.text import Text
from engine.recipe.file import to_plain


def plan(
    dims: ModelDims,
    model: ModelFacts,
    data: DataFacts,
    *,
    wish: Wish | None = None,
    machine: Machine | None = None,
    gpu_memory_gib: float | None = None,
    project: Path | None = None,
) -> dict[str, Any]:
    """The document of ``lorimer plan``; `document` says what it holds.

    Args:
        machine: detected when absent.
        gpu_memory_gib: plan for a GPU with so much memory; 0 for the CPU.
        project: where the run would be written, for the free disk.
    """
    here = machine or detect(project)
    return document(advice_for(dims, model, data, wish=wish, machine=here, gpu_memory_gib=gpu_memory_gib), project)


def advice_for(
    dims: ModelDims,
    model: ModelFacts,
    data: DataFacts,
    *,
    wish: Wish | None = None,
    machine: Machine | None = None,
    gpu_memory_gib: float | None = None,
) -> Advice:
    """The advice for this machine, with what the installed torch can use."""
    build = torch_build()
    return advise(
        machine or detect(),
        dims,
        model,
        data,
        wish,
        gpu_memory_gib=gpu_memory_gib,
        torch_cuda=build is not None and build.cuda is not None,
    )


def document(advice: Advice, project: Path | None = None) -> dict[str, Any]:
    """``{"recipe", "fits", "memory_gib": {"total", …parts}, "seconds", "reasons", "nearest", "steps", …}``."""
    free = disk_free_gib(project or Path.cwd())
    return {
        "recipe": to_plain(advice.recipe),
        "fits": advice.fits,
        "memory_gib": memory_gib(advice.forecast),
        "afterwards_gib": afterwards_gib(advice.forecast),
        "seconds": round(advice.seconds, 1),
        "step_seconds": round(advice.forecast.step_seconds, 4),
        "reasons": [reason.en for reason in advice.reasons],
        "nearest": advice.nearest.en if advice.nearest else None,
        # The same sentences in both languages, for people.
        "texts": {
            "reasons": [_both(reason) for reason in advice.reasons],
            "nearest": _both(advice.nearest) if advice.nearest else None,
        },
        "changes": [
            {
                "kind": change.kind,
                "amount": round(change.amount, 3),
                "memory_gib": round(change.memory_gib, 3),
                "name": change.name or None,
            }
            for change in advice.changes
        ],
        "wish": advice.goal,
        "place": advice.place,
        "places": len(ORDER[advice.goal]),
        "steps": advice.forecast.steps,
        "trained_parameters": advice.forecast.trained_parameters,
        "device": {
            "kind": advice.forecast.room.device,
            "name": advice.forecast.room.name,
            "free_gib": round(advice.forecast.room.free_gib, 3),
            "total_gib": round(advice.forecast.room.whole_gib, 3),
        },
        "disk_gib": {
            "needed": round(gib(advice.forecast.disk_bytes), 3),
            "checkpoint": round(gib(advice.forecast.checkpoint_bytes), 3),
            "free": None if free is None else round(free, 3),
        },
        "alternatives": [
            {
                "method": option.method,
                "label": option.label.en,
                "summary": option.summary.en,
                "fits": option.fits,
                "memory_gib": memory_gib(option.forecast),
                "seconds": round(option.forecast.seconds, 1),
            }
            for option in advice.alternatives
        ],
    }


def _both(text: Text) -> dict[str, str]:
    return {"en": text.en, "zh": text.zh}


def memory_gib(forecast: Forecast) -> dict[str, float]:
    """Total and parts in GiB, rounded to thousandths."""
    memory = forecast.memory
    return {"total": round(memory.total, 3), **{name: round(value, 3) for name, value in memory.parts.items()}}


def afterwards_gib(forecast: Forecast) -> dict[str, float]:
    """What the evaluation that follows needs, in GiB, rounded to thousandths."""
    found = forecast.afterwards
    return {"measuring": round(found.measuring_gib, 3), "answering": round(found.answering_gib, 3)}
