"""A recipe for a model, some data and this machine: what ``lorimer plan`` prints and the Plan page shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.catalogue import CATALOGUE
from engine.data.check import NO_QUESTIONS
from engine.data.lengths import summary
from engine.data.preview import DataView
from engine.data.rows import REASONS
from engine.machine.advise import ModelFacts, Wish
from engine.machine.forecast import DataFacts, Lengths
from engine.machine.known_models import known_models
from engine.machine.memory import PARTS
from engine.machine.nearest import smaller_models
from engine.machine.plan import plan
from engine.machine.reasons import passes
from engine.machine.table import GOALS, task_of
from engine.model.inspect import inspect
from engine.model.locate import locate
from engine.protocol.codec import build, to_plain
from engine.protocol.text import Text, as_text, say
from engine.recipe.file import from_plain
from engine.recipe.recipe import DataSettings


def plan_for(
    model: str,
    files: tuple[Path, ...],
    *,
    wish: Wish | None = None,
    gpu_memory_gib: float | None = None,
    reading: DataSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """The document of ``lorimer plan``.

    Args:
        model: "starter", a folder, or a hub id in the cache.
        files: data files.
        wish: what counts most, and what the rows teach where that is not recognised.
        gpu_memory_gib: plan for a GPU with so many GiB; 0 for the CPU; None for this machine.
        reading: shape, mapping and encoding of the files, where what is found is not right.

    Raises:
        UserError: model or data cannot be used.
    """
    info = inspect(locate(model))
    paths = tuple(str(path.expanduser().resolve()) for path in files)
    data = (reading or DataSettings()).model_copy(update={"files": paths, "max_length": info.context})
    view = DataView(data, info.path)
    view.refuse_doubt()
    if not view.is_scanned:
        view.scan()
    view.measure(progress=progress)
    facts = view.facts()
    source = model if model == "starter" or info.path != Path(model).expanduser().resolve() else str(info.path)
    document = plan(
        info.dims,
        ModelFacts(source, info.parameters, info.has_template, smaller_models(info.dims, known_models().models)),
        DataFacts(
            rows=facts["trainable"],
            lengths=build(Lengths, summary(view.lengths)),
            preference=facts["preference"],
            learned=view.learned_share,
            files=paths,
            task=task_of(view.kinds, facts["files"][0]["shape"]),
        ),
        wish=wish,
        gpu_memory_gib=gpu_memory_gib,
    )
    if reading is not None:
        said = {"shape": reading.shape, "mapping": dict(reading.mapping), "encoding": reading.encoding}
        document["recipe"]["data"] |= {name: value for name, value in said.items() if value not in ("auto", {})}
    if facts["trainable"] < facts["total"]:
        reason = _set_aside(facts)
        # After what it needs: nothing else changes as much of what is learned.
        document["reasons"].insert(1, reason.en)
        document["texts"]["reasons"].insert(1, to_plain(reason))
    if _is_plain_text(facts):
        document["reasons"].append(NO_QUESTIONS.en)
        document["texts"]["reasons"].append(to_plain(NO_QUESTIONS))
    return document


def _is_plain_text(facts: dict[str, Any]) -> bool:
    return any(file["shape"] == "text" for file in facts["files"])


def _set_aside(facts: dict[str, Any]) -> Text:
    """How many rows do not train, and why."""
    why = [
        say("{reason}: {n}", "{reason}：{n}", reason=REASONS[reason], n=count)
        for reason, count in facts["set_aside"].items()
    ]
    return say(
        "{n} of {total} rows do not train ({why}).",
        "{total} 行中有 {n} 行不参与训练（{why}）。",
        n=facts["total"] - facts["trainable"],
        total=facts["total"],
        why=Text(", ".join(text.en for text in why), "，".join(text.zh for text in why)),
    )


def plan_lines(document: dict[str, Any]) -> list[Text]:
    """The plan for people."""
    recipe = from_plain(document["recipe"], CATALOGUE)
    memory = document["memory_gib"]
    device = document["device"]
    shown = {PARTS[name]: value for name, value in memory.items() if name != "total" and value >= 0.005}
    parts = Text(
        ", ".join(f"{label.en.lower()} {value:.2f}" for label, value in shown.items()),
        "，".join(f"{label.zh} {value:.2f}" for label, value in shown.items()),
    )
    fits = say("fits", "放得下") if document["fits"] else say("does not fit", "放不下")
    goal = next(words for name, words in GOALS.items() if name == document["wish"])
    lines = [
        say(
            "{goal}: {method}, {passes}, {batch} rows a step, rows of at most {length} tokens",
            "{goal}：{method}，{passes}，每步 {batch} 行，每行最多 {length} 词元",
            goal=Text(goal.en.capitalize(), goal.zh),
            method=document["recipe"]["method"]["name"],
            passes=passes(recipe.train.epochs),
            batch=recipe.effective_batch,
            length=recipe.data.max_length,
        ),
        say(
            "Memory: {total:.2f} GiB of {free:.1f} GiB free on {device}, {fits} ({parts})",
            "内存：{device} 可用 {free:.1f} GiB，需要 {total:.2f} GiB，{fits}（{parts}）",
            total=memory["total"],
            free=device["free_gib"],
            device=device["name"],
            fits=fits,
            parts=parts,
        ),
        say(
            "Time: about {minutes:.1f} min for {steps} steps",
            "时间：{steps} 步约 {minutes:.1f} 分钟",
            minutes=document["seconds"] / 60,
            steps=document["steps"],
        ),
    ]
    lines += [as_text(reason) for reason in document["texts"]["reasons"]]
    if document["texts"]["nearest"]:
        lines.append(as_text(document["texts"]["nearest"]))
    return lines
