"""One training run, from recipe to adapter. Read from top to bottom: `train`."""

from __future__ import annotations

import importlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import Trainer, set_seed
from transformers.utils import logging as library_log

from engine.catalogue import CATALOGUE
from engine.data.choice import NOT_CHOSEN
from engine.data.prepare import Prepared, prepare
from engine.data.rows import message_to_plain, row_to_plain, set_aside_to_plain
from engine.data.template import ChatTemplate
from engine.data.templates import TEMPLATES
from engine.data.token_store import Examples
from engine.machine.detect import gauge
from engine.machine.dims import ModelDims
from engine.machine.forecast import checkpoint_bytes, disk_bytes
from engine.machine.memory import predict
from engine.methods.registry import METHODS
from engine.model.inspect import inspect
from engine.model.load import (
    add_kernels,
    decide_attention,
    decide_precision,
    device,
    load_for,
    load_tokenizer,
    parameters,
    ran_out_of_memory,
)
from engine.model.locate import locate
from engine.objectives.ladder import Ladder, Rung
from engine.objectives.recovering import free
from engine.objectives.registry import OBJECTIVES
from engine.objectives.trainer import Hooks, Parts
from engine.project.atomic import read_json, write_json, write_lines, write_text
from engine.project.environment import differences, environment
from engine.project.fingerprint import model_files
from engine.project.run_folder import RunFolder
from engine.project.runs import sizes
from engine.protocol.channel import Channel, stop_if_asked
from engine.protocol.codec import build
from engine.protocol.errors import UserError
from engine.protocol.events import (
    DONE,
    PAUSED,
    STOPPED,
    CheckpointSaved,
    Note,
    Progress,
    RunPlanned,
    Stage,
)
from engine.protocol.text import Text, say
from engine.recipe.file import load, save
from engine.recipe.recipe import Recipe
from engine.train import checkpoints
from engine.train.adapter import save_adapter, save_state
from engine.train.checkpoints import Checkpoint
from engine.train.disk import MIB, Disk, Freed, could_go, free_bytes
from engine.train.plan import Schedule, schedule
from engine.train.recovery import MOST_RETURNS, Recoveries, ended, roll_back, rows_of, went_back
from engine.train.scoring import chosen
from engine.train.supervisor import Progress as Remembered
from engine.train.supervisor import Supervisor
from engine.train.watch import Trouble, Unstable

GIB = 1024**3
TELL_SECONDS = 0.2


def train(run: RunFolder, channel: Channel, *, resume: bool = False, killed: bool = False) -> dict[str, Any]:
    """Train the run's recipe; gives ``{"run", "status": "done" | "stopped" | "paused", "steps"}``.

    With ``resume`` it goes on from the newest whole checkpoint, step by step as if it had never ended; without any
    checkpoint it starts anew. A stop that the user asks for saves first. With ``killed`` the system ended the process
    that was here before for lack of memory: less is computed at once. A disk that takes nothing more is waited for.

    Raises:
        UserError: recipe, data or model are wrong, memory or disk ran out, or the loss broke away.
        Stopped: the user stopped it before the first step.
    """
    library_log.set_verbosity_warning()
    done = _train(run, channel, resume=resume, killed=killed)
    while done is None:  # the loss broke away, and the run went back
        free()
        done = _train(run, channel, resume=True, killed=False)
    return done


def _train(run: RunFolder, channel: Channel, *, resume: bool, killed: bool) -> dict[str, Any] | None:
    """As `train`; None when the run went back to go on from there."""
    on = device()
    try:
        # What to do. A resumed run keeps what was decided when it began.
        recipe = load(run.recipe_as_run if resume and run.recipe_as_run.is_file() else run.recipe, CATALOGUE)
        method, objective = METHODS[recipe.method.name], OBJECTIVES[recipe.objective.name]
        checkpoint = _checkpoint(run, channel) if resume else None
        disk = Disk(run, channel, lambda: checkpoint.step if checkpoint else 0)
        recoveries = Recoveries(run, recipe, channel, disk.keep, resume=resume)
        if killed:
            recoveries.restarted(disk.step())
        recipe = recoveries.recipe
        remembered = build(Remembered, checkpoint.progress()) if checkpoint else Remembered()

        # Rows in, tokenised; those that are measured are kept for the evaluation.
        channel.emit(Stage(name="data", text=say("Reading the data", "读取数据")))
        folder = inspect(locate(recipe.model.source, revision=recipe.model.revision)).path
        prepared = prepare(recipe.data, preference=objective.preference, model_folder=folder, progress=_teller(channel))
        # Which of them, and from easy to hard, where the recipe has a model say it.
        prepared = chosen(prepared, recipe, folder, run, channel)
        plan = schedule(recipe.train, rows=len(prepared.train), held_out=len(prepared.held_out))
        recipe = recoveries.recipe = _decided(_with_own_decisions(recipe, run), prepared, plan, on)
        disk.keep(lambda: _keep(run, recipe, prepared, folder))
        _tell_surroundings(run, prepared, remembered, on, channel)

        # The model, with an adapter whose first weights depend on the seed alone.
        channel.emit(Stage(name="model", text=say("Loading the model", "加载模型")))
        stop_if_asked(channel)
        model = load_for(recipe, folder, attention=decide_attention(recipe, on), device=on)
        add_kernels(model, recipe)
        tokenizer = load_tokenizer(folder, prepared.template)
        set_seed(recipe.train.seed)
        adapted = importlib.import_module(method.work).build(model, recipe.method)

        # The run itself.
        channel.emit(Stage(name="train", text=say("Training", "训练")))
        with tempfile.TemporaryDirectory(prefix="lorimer-") as scratch:
            trainer: Hooks
            supervisor = Supervisor(
                channel,
                plan,
                recipe.train,
                progress=remembered,
                tokens=lambda: int(trainer.tokens),
                memory=lambda: held_gib(on),
                gauge=lambda: gauge(os.getpid()),
                left_out=recoveries.left_out,
            )
            disk.step, disk.busy = (lambda: supervisor.step), supervisor.tell_gauge
            parts = Parts(
                model=adapted,
                tokenizer=tokenizer,
                recipe=recipe,
                train=prepared.train,
                held_out=prepared.held_out,
                steps=plan.steps,
                warmup=plan.warmup,
                folder=Path(scratch),
                callbacks=[supervisor],
                save=lambda it: _save_checkpoint(run, it, supervisor, recipe.train.keep_checkpoints, disk, channel),
                ladder=Ladder(Rung.of(recipe), shorten=recipe.train.shorten, tell=recoveries.descended),
                left_out=recoveries.left_out,
            )
            trainer = importlib.import_module(objective.work).build_trainer(parts)
            _tell_plan(run, recipe, prepared, plan, adapted, folder, on, channel)
            to_do = checkpoint is None or (checkpoint.step < plan.steps and not remembered.ended_early)
            try:
                if to_do:
                    trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
            except Unstable as error:
                told = (prepared.template, supervisor.progress, recoveries, channel)
                _go_back(error.trouble, run, trainer, parts, *told)
                return None

        # The adapter: the best that was measured, else the last. A run that only paused has none yet.
        if supervisor.paused:
            return _ended(run, PAUSED, supervisor.step)
        channel.emit(Stage(name="save", text=say("Saving the adapter", "保存适配器")))
        steps = trainer.state.global_step if to_do or not checkpoint else checkpoint.step
        best = _best(run, supervisor.progress, steps, channel)
        source = best or (None if to_do else checkpoint)
        disk.keep(lambda: save_adapter(run.adapter, adapted, tokenizer, prepared.template, source))
    except Freed:
        return _ended(run, PAUSED, disk.step())
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if (failure := ran_out_of_memory(error)) is None:
            raise
        raise failure from error
    return _ended(run, STOPPED if supervisor.stopped else DONE, steps)


def _ended(run: RunFolder, status: str, steps: int) -> dict[str, Any]:
    return {"run": str(run.path), "status": status, "steps": steps}


# ---------------------------------------------------------------------------------------------------------- before
def _checkpoint(run: RunFolder, channel: Channel) -> Checkpoint | None:
    """Where to go on from. Damaged ones that are passed over are told and removed: none may count as one to keep."""
    checkpoints.mend(run)
    found = checkpoints.latest(run)
    for bad in checkpoints.damaged(run, found):
        text = say(
            "The checkpoint of step {bad} is damaged; going on from {found}.",
            "第 {bad} 步的检查点已损坏，将从{found}继续。",
            bad=bad.step,
            found=say("step {n}", "第 {n} 步", n=found.step) if found else say("the beginning", "头"),
        )
        channel.emit(Note(code="train.checkpoint_damaged", level="recovery", text=text))
        checkpoints.remove(bad.path)
    return found


def _teller(channel: Channel) -> Callable[[int, int], None]:
    """Tells how far the rows are, a few times a second, and looks whether to stop."""
    last = 0.0

    def tell(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last < TELL_SECONDS and done < total:
            return
        last = time.monotonic()
        channel.emit(Progress(done=done, total=total, unit="rows"))
        stop_if_asked(channel)

    return tell


def _decided(recipe: Recipe, prepared: Prepared, plan: Schedule, on: str) -> Recipe:
    """The recipe with every "auto" replaced by what it came to."""
    data = recipe.data.model_copy(update=_read_as(prepared))
    settings = recipe.train.model_copy(
        update={
            "precision": decide_precision(recipe.train.precision, on),
            "evaluate_every": plan.evaluate_every or recipe.train.evaluate_every,
            "save_every": plan.save_every,
        }
    )
    return recipe.model_copy(update={"data": data, "train": settings})


def _read_as(prepared: Prepared) -> dict[str, Any]:
    """How the files were read, as far as it is the same for all; and the template, unless it is the model's own."""
    found: dict[str, Any] = {"max_length": prepared.limit}
    if prepared.template.name in TEMPLATES:
        found["template"] = prepared.template.name
    first = prepared.sources[0]
    if all(source.shape == first.shape and source.mapping == first.mapping for source in prepared.sources):
        found |= {"shape": first.shape.name, "mapping": first.mapping}
    if first.format != "parquet" and all(source.encoding == first.encoding for source in prepared.sources):
        found["encoding"] = first.encoding
    return found


def _with_own_decisions(recipe: Recipe, run: RunFolder) -> Recipe:
    """The recipe with the decisions of this moment, kept beside the run: those of the project go on changing."""
    source = Path(recipe.data.decisions) if recipe.data.decisions else None
    if source is None or source == run.decisions:
        return recipe
    kept = ""
    if source.is_file():
        write_text(run.decisions, source.read_text(encoding="utf-8"))
        kept = str(run.decisions)
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"decisions": kept})})


def _keep(run: RunFolder, recipe: Recipe, prepared: Prepared, folder: Path) -> None:
    """Write down what the run is made of, before anything can go wrong."""
    save(recipe, run.recipe_as_run)
    write_lines(run.held_out, (row_to_plain(example.row) for example in prepared.held_out.with_rows()))
    write_lines(run.set_aside, map(set_aside_to_plain, prepared.set_aside))
    if prepared.examples:
        write_lines(run.examples, map(message_to_plain, prepared.examples))
    facts = run.read_facts() if run.facts.is_file() else {}
    data = [{"path": str(source.path), "sha256": source.sha256} for source in prepared.sources]
    run.write_facts({**facts, "model_folder": str(folder), "model_files": model_files(folder), "data": data})


def _tell_surroundings(run: RunFolder, prepared: Prepared, remembered: Remembered, on: str, channel: Channel) -> None:
    """The data and the machine, and what of them is other than at the checkpoint."""
    _tell_data(prepared, remembered, channel)
    _tell_model(run, remembered, channel)
    _tell_environment(run, remembered, on, channel)


def _tell_data(prepared: Prepared, remembered: Remembered, channel: Channel) -> None:
    data = " ".join(source.sha256 for source in prepared.sources)
    if remembered.data not in ("", data):
        text = say(
            "The data has changed since the checkpoint: the run goes on, but not exactly as it would have.",
            "数据在保存检查点之后已改变：训练会继续，但结果与原来不完全相同。",
        )
        channel.emit(Note(code="data.changed", level="warning", text=text))
    remembered.data = data
    channel.emit(Note(code="data.template", text=prepared.template.reason))
    if aside := sum(item.reason != NOT_CHOSEN for item in prepared.set_aside):
        text = say("{n} rows are set aside.", "{n} 行已搁置。", n=aside)
        channel.emit(Note(code="data.set_aside", level="warning", text=text))


def _tell_model(run: RunFolder, remembered: Remembered, channel: Channel) -> None:
    files = run.read_facts()["model_files"]
    if remembered.model not in ({}, files):
        text = say(
            "The base model has changed since the checkpoint: the adapter was learned on another.",
            "基础模型在保存检查点之后已改变：适配器是在另一个模型上学到的。",
        )
        channel.emit(Note(code="model.changed", level="warning", text=text))
    remembered.model = files


def _tell_environment(run: RunFolder, remembered: Remembered, on: str, channel: Channel) -> None:
    """Write down what this process computes with; where that is not what was computed with before, say that the run is
    not exact any more."""
    now = environment(on)
    known = read_json(run.environment) if run.environment.is_file() else []
    write_json(run.environment, [*(known if isinstance(known, list) else []), {"time": time.time(), **now}])
    others = differences(remembered.environment, now)
    if remembered.environment and on != "cpu":
        others.append(say("a GPU adds in an order of its own", "GPU 的求和次序不固定"))
    remembered.environment = now
    if others:
        text = say(
            "Going on from the checkpoint, but not bit for bit as an undisturbed run: {en}.",
            "将从检查点继续，但结果与未中断的训练不会逐位相同：{zh}。",
            en="; ".join(other.en for other in others),
            zh="；".join(other.zh for other in others),
        )
        channel.emit(Note(code="train.not_exact", level="warning", text=text))


def _tell_disk(run: RunFolder, recipe: Recipe, trained: int, channel: Channel) -> None:
    """Say before the first step where the disk will not hold what the run keeps; it then waits for room."""
    checkpoint = checkpoint_bytes(trained, recipe)
    kept = disk_bytes(trained, recipe, checkpoint, recipe.train.keep_checkpoints + 2)
    need, free = kept - sizes(run).checkpoints, free_bytes(run.path)
    if need <= free:
        return
    text = say(
        "The run keeps up to {need} MiB, and the disk has room for {free} MiB: it will wait until there is more.{more}",
        "训练最多需保存 {need} MiB，目前可用 {free} MiB：空间不足时会等待。{more}",
        need=round(need / MIB),
        free=round(free / MIB),
        more=could_go(run),
    )
    channel.emit(Note(code="disk.short", level="warning", text=text))


def _tell_plan(
    run: RunFolder,
    recipe: Recipe,
    prepared: Prepared,
    plan: Schedule,
    model: Any,
    folder: Path,
    on: str,
    channel: Channel,
) -> None:
    """What the run is about to do, and whether the disk has room for it."""
    trained, total = parameters(model)
    planned = RunPlanned(
        steps=plan.steps,
        epochs=plan.epochs,
        rows=len(prepared.train),
        held_out=len(prepared.held_out),
        trained_parameters=trained,
        all_parameters=total,
        device=torch.cuda.get_device_name() if on == "cuda" else on,
        predicted_memory_gib=_predicted(recipe, prepared.train, folder, on),
    )
    channel.emit(planned)
    _tell_disk(run, recipe, trained, channel)


def _predicted(recipe: Recipe, rows: Examples, folder: Path, on: str) -> float | None:
    """GiB that the memory model expects; None for an architecture that it does not know."""
    try:
        dims = ModelDims.from_config(read_json(folder / "config.json"))
    except UserError:
        return None
    return predict(dims, recipe, longest=int(rows.lengths.max()), device="cuda" if on == "cuda" else "cpu").total


# ---------------------------------------------------------------------------------------------------------- during
def held_gib(on: str) -> float:
    """Memory that this process holds: the GPU's, or resident memory on the CPU."""
    if on == "cuda":
        return float(torch.cuda.memory_reserved()) / GIB
    return float(psutil.Process().memory_info().rss) / GIB


def _save_checkpoint(
    run: RunFolder, trainer: Trainer, supervisor: Supervisor, keep: int, disk: Disk, channel: Channel
) -> None:
    """Write a checkpoint from which `Trainer.train` goes on exactly, and when it has proved to be whole remove the
    oldest."""
    step, began = trainer.state.global_step, time.monotonic()

    def write() -> Checkpoint:
        nonlocal began
        began = time.monotonic()
        return checkpoints.write(run, step, supervisor.progress.plain(), lambda folder: save_state(trainer, folder))

    saved = disk.keep(write)
    seconds = time.monotonic() - began
    disk.took(saved.bytes)
    best = supervisor.progress.best_step
    disk.keep(lambda: checkpoints.rotate(run, saved, keep, best or None))
    relative = saved.path.relative_to(run.path).as_posix()
    channel.emit(
        CheckpointSaved(
            step=step,
            path=relative,
            best=best == step,
            reason=supervisor.reason,
            bytes=saved.bytes,
            seconds=round(seconds, 3),
        )
    )
    supervisor.saved(seconds)


def _go_back(
    trouble: Trouble,
    run: RunFolder,
    trainer: Hooks,
    parts: Parts,
    template: ChatTemplate,
    progress: Remembered,
    recoveries: Recoveries,
    channel: Channel,
) -> None:
    """Go back to before the loss broke away, and leave the rows out that it broke away on.

    Raises:
        UserError: the recipe says to stop there, or it has happened too often. The adapter is that of before.
    """
    rows = rows_of(trainer, parts.train, trouble)
    back = roll_back(run, trouble, channel)
    recoveries.left(trouble)
    channel.emit(went_back(trouble, rows, back))
    if parts.recipe.train.unstable == "skip" and recoveries.returns <= MOST_RETURNS:
        return
    if back is not None:
        best = _best(run, progress, back.step, channel) or back
        save_adapter(run.adapter, trainer.model, parts.tokenizer, template, best)
    raise ended(trouble, rows, back, parts.recipe)


# ----------------------------------------------------------------------------------------------------------- after
def _best(run: RunFolder, progress: Remembered, last: int, channel: Channel) -> Checkpoint | None:
    """The checkpoint whose weights become the adapter; None for the last weights."""
    if progress.best_loss is None or progress.best_step == last:
        return None
    found = next((item for item in checkpoints.checkpoints(run) if item.step == progress.best_step), None)
    if found is None or not checkpoints.is_whole(found):
        channel.emit(Note(code="train.best_lost", level="warning", text=best_lost(progress.best_step)))
        return None
    channel.emit(Note(code="train.best", text=best_kept(progress.best_step, progress.best_loss)))
    return found


def best_lost(step: int) -> Text:
    """The sentence that tells of a best checkpoint that is gone."""
    return say(
        "The checkpoint of step {step}, whose held-out loss was lowest, is damaged or gone: the adapter is that of the "
        "last step.",
        "留出损失最低的第 {step} 步检查点已损坏或不存在：适配器取自最后一步。",
        step=step,
    )


def best_kept(step: int, loss: float) -> Text:
    """The sentence that tells which weights were kept."""
    return say(
        "The adapter is that of step {step}, whose held-out loss was lowest ({loss:.3f}).",
        "适配器取自第 {step} 步，其留出损失最低（{loss:.3f}）。",
        step=step,
        loss=loss,
    )
