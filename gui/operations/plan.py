"""What the user can do with the plan: see what it needs, take the advice, choose a method, start training."""

from __future__ import annotations

import json
import shutil
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.protocol.errors import Failure, UserError
from engine.protocol.text import say
from gui.context import AppContext
from gui.operations.operation import attempt, change
from gui.operations.plan_effects import outcomes
from gui.state.notices import INFO, WARNING
from gui.state.phase import Phase

if TYPE_CHECKING:
    from engine.machine.advise import Advice, Wish
    from engine.machine.dims import ModelDims
    from engine.machine.forecast import DataFacts, Room
    from engine.machine.known_models import KnownModel
    from engine.machine.table import Goal
    from engine.recipe.recipe import MethodSettings, Recipe

NO_PROJECT = say("No project is open, so a run has no place.", "尚未打开项目，训练没有存放位置。")
CHOOSE_PROJECT = say(
    "Open or create one: press the project at the top left, or Ctrl+Shift+P.",
    "请打开或新建项目：点击左上角的项目，或按 Ctrl+Shift+P。",
)


def compute(context: AppContext, *, in_full: bool = True) -> None:
    """Forecast the draft and each method, and ask the advisor where that is another question now; ``in_full`` also what
    every other value of a setting would need, which takes ten times as long: some twenty milliseconds. No process is
    asked."""
    plan = context.plan
    data = data_facts(context)
    plan.room = _room(context)
    if data is None or plan.room is None or not context.models.chosen:
        plan.clear()
        return
    try:
        dims = plan.dims = dims_of(context, str(context.models.chosen["path"]))
        _ask_advisor(context, dims, data)
        _forecast(context, dims, data, in_full=in_full)
    except UserError as error:
        plan.clear(Failure.of(error))
        return
    if _take_first_advice(context):
        _forecast(context, dims, data, in_full=True)
    plan.changed.emit()


def _ask_advisor(context: AppContext, dims: ModelDims, data: DataFacts) -> None:
    """Ask the advisor, unless nothing is other that the advice was made of."""
    plan = context.plan
    wish = _wish(context, plan.goal)
    of = (plan.room, dims, data, context.models.chosen, wish, plan.imagined_gib, context.machine.machine)
    if plan.advice is None or plan.advice_of != of:
        plan.advice, plan.advice_of = _advice(context, dims, data, wish), of


def _wish(context: AppContext, goal: Goal) -> Wish:
    from engine.machine.advise import Wish

    return Wish(goal=goal, objective=context.draft.recipe.objective.name, task=context.plan.task)


def _advice(context: AppContext, dims: ModelDims, data: DataFacts, wish: Wish) -> Advice:
    from engine.machine.advise import ModelFacts
    from engine.machine.nearest import smaller_models
    from engine.machine.plan import advice_for

    chosen = context.models.chosen
    model = ModelFacts(
        context.draft.recipe.model.source,
        chosen.get("parameters") or None,
        bool(chosen.get("template", True)),
        smaller_models(dims, _known_models()),
    )
    imagined = context.plan.imagined_gib
    return advice_for(dims, model, data, wish=wish, machine=context.machine.machine, gpu_memory_gib=imagined)


@lru_cache(maxsize=1)
def _known_models() -> tuple[KnownModel, ...]:
    """The catalogue; only its widths are needed here, so what is wrong in the user's own file is told elsewhere."""
    from engine.machine.known_models import known_models

    return known_models().models


def _forecast(context: AppContext, dims: ModelDims, data: DataFacts, *, in_full: bool) -> None:
    from engine.machine.forecast import forecast
    from engine.methods.registry import METHODS

    plan, recipe = context.plan, context.draft.recipe
    assert plan.advice is not None
    where = plan.advice.forecast.room
    plan.forecast = forecast(recipe, dims, data, where)
    plan.methods = {name: forecast(with_method(recipe, name), dims, data, where) for name in METHODS}
    if in_full:
        plan.outcomes = outcomes(recipe, plan.advice.recipe, dims, data, where)
    kept = plan.kept
    plan.kept_forecast = None if kept is None else forecast(kept.recipe, kept.dims, kept.data, where)
    plan.disk_free = _disk_free(context.project.path)
    plan.failure = None


def _room(context: AppContext) -> Room | None:
    """The device that a run goes to; None until the machine is known."""
    from engine.machine.forecast import room
    from engine.machine.versions import torch_build

    if context.machine.machine is None:
        return None
    build = torch_build()
    return room(context.machine.machine, torch_cuda=build is not None and build.cuda is not None)


def data_facts(context: AppContext) -> DataFacts | None:
    """What the forecast needs to know of the data; None while they are not read."""
    from engine.data.registry import SHAPES
    from engine.machine.forecast import DataFacts, Lengths
    from engine.machine.table import task_of

    facts = context.data.facts
    if context.data.status.phase is Phase.WRONG or not context.data.is_scanned:
        return None
    lengths = dict(facts["lengths"])
    known = Lengths(**{name: lengths[name] for name in ("mean", "p50", "p90", "p95", "p99", "longest")})
    shape = str(facts["shape"])
    return DataFacts(
        rows=int(facts["train"]) + int(facts["held_out"]),
        lengths=known,
        preference=shape in SHAPES and SHAPES[shape].preference,
        learned=float(facts.get("learned", 1.0)),
        files=context.draft.recipe.data.files,
        task=task_of(dict(facts.get("kinds") or {}), shape),
    )


def dims_of(context: AppContext, folder: str) -> ModelDims:
    """Widths of the model in a folder, read once per model. Raises `UserError`."""
    from engine.machine.dims import ModelDims
    from engine.project.atomic import disk_error

    known = context.plan.known_dims
    if folder not in known:
        path = Path(folder) / "config.json"
        try:
            config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise disk_error(error, path) from error
        known[folder] = ModelDims.from_config(config)
    return known[folder]


def _disk_free(path: Path) -> int:
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


# ------------------------------------------------------------------------------------------------------------- advice
def _take_first_advice(context: AppContext) -> bool:
    """The first time that this data and model are seen together, the advice becomes the draft, unless the user has
    already chosen settings by hand; later the user asks for it. Whether it did."""
    recipe, advice = context.draft.recipe, context.plan.advice
    key = (recipe.data.files, recipe.model.source, recipe.objective.name)
    if advice is None or context.plan.advised_for == key:
        return False
    context.plan.advised_for = key
    if is_untouched(context):
        take_advice(context)
        return True
    _recognise_wish(context)
    return False


def _recognise_wish(context: AppContext) -> None:
    """A draft of before that is the advice for another wish was made by that wish."""
    from engine.machine.table import GOALS

    plan, data = context.plan, data_facts(context)
    if follows_any_advice(context) or data is None or plan.dims is None:
        return
    for goal in GOALS:
        advice = _advice(context, plan.dims, data, _wish(context, goal))
        if _follows(context, advice):
            plan.goal = goal
            _ask_advisor(context, plan.dims, data)
            return


# -------------------------------------------------------------------------------------------------------------- wishes
def set_goal(context: AppContext, goal: Goal) -> None:
    """Wish for something else; a draft that followed the advice follows it on."""
    _wish_anew(context, goal=goal)


def set_task(context: AppContext, task: str) -> None:
    """Say what the rows teach, "" for what is recognised."""
    _wish_anew(context, task=task)


def imagine(context: AppContext, gib: float | None) -> None:
    """Plan for a card with so much memory, 0 for the CPU; None for this machine."""
    _wish_anew(context, imagined_gib=gib)


def _wish_anew(context: AppContext, **changes: Any) -> None:
    follows = follows_any_advice(context)
    for name, value in changes.items():
        setattr(context.plan, name, value)
    compute(context)
    if follows:
        take_advice(context)
        compute(context)


def cut_rows(context: AppContext, tokens: int) -> None:
    """Let no row be longer, for the rest as advised: the nearest change that makes it fit."""
    take_advice(context)
    attempt(context, lambda: context.draft.set({"data.max_length": tokens}))
    compute(context)


def is_untouched(context: AppContext) -> bool:
    """Whether the settings are the defaults, or what the advisor chose: nobody has changed them by hand."""
    recipe = context.draft.recipe
    return _choices(recipe) == (context.plan.advised or _choices(_defaults(recipe)))


def set_objective(context: AppContext, name: str) -> None:
    """Learn from the rows in another way; its learning rate fits the objective."""
    from engine.methods.registry import METHODS
    from engine.objectives.registry import OBJECTIVES

    untouched = is_untouched(context)
    rate = METHODS[context.draft.recipe.method.name].default_learning_rate
    factor = OBJECTIVES[name].default_learning_rate_factor
    values = {"objective": {"name": name}, "train.learning_rate": rate * factor}
    attempt(context, lambda: context.draft.set(values))
    if untouched:
        # The change is ours, not the user's: advice for the new objective may still be taken.
        context.plan.advised = _choices(context.draft.recipe)


def take_advice(context: AppContext) -> None:
    """Make the advisor's recipe the draft."""
    advice = context.plan.advice
    if advice is None:
        return
    recipe = advised(context.draft.recipe, advice.recipe)
    context.plan.advised = _choices(recipe)
    context.draft.replace(recipe)


def advised(draft: Recipe, advice: Recipe) -> Recipe:
    """The draft with what the advisor decides; files, columns, template and evaluation stay the user's."""
    data = draft.data.model_copy(update={"max_length": advice.data.max_length, "held_out": advice.data.held_out})
    return draft.model_copy(update={"data": data, "method": advice.method, "train": advice.train})


def follows_advice(context: AppContext) -> bool:
    """Whether the draft is what the advisor would choose."""
    advice = context.plan.advice
    return advice is None or _follows(context, advice)


def _follows(context: AppContext, advice: Advice) -> bool:
    return _choices(context.draft.recipe) == _choices(advised(context.draft.recipe, advice.recipe))


def _choices(recipe: Recipe) -> tuple[Any, ...]:
    """What the advisor decides, of a recipe."""
    return (recipe.method, recipe.train, recipe.data.max_length, recipe.data.held_out)


def _defaults(recipe: Recipe) -> Recipe:
    from engine.catalogue import CATALOGUE
    from engine.recipe.file import from_plain

    return from_plain({"objective": {"name": recipe.objective.name}}, CATALOGUE)


# ------------------------------------------------------------------------------------------------------------- method
def with_method(recipe: Recipe, name: str) -> Recipe:
    """The recipe with another method; settings that both methods have are kept."""
    return recipe.model_copy(update={"method": _settings(recipe, name)})


def _settings(recipe: Recipe, name: str) -> MethodSettings:
    from engine.methods.registry import METHODS

    declared, old = METHODS[name].settings, recipe.method
    shared = {field: getattr(old, field) for field in declared.model_fields if field != "name" and hasattr(old, field)}
    return declared(name=name, **shared)


def settings_for(context: AppContext, name: str) -> MethodSettings:
    """The settings that `choose_method` would take for a method."""
    option = next((item for item in _alternatives(context) if item.method == name), None)
    if option is not None and follows_any_advice(context):
        chosen: MethodSettings = option.recipe.method
        return chosen
    return _settings(context.draft.recipe, name)


def choose_method(context: AppContext, name: str) -> None:
    """Train by another method: as the advisor would where it was followed, else with the settings that are kept."""
    recipe = context.draft.recipe
    if name == recipe.method.name:
        return
    option = next((item for item in _alternatives(context) if item.method == name), None)
    if follows_any_advice(context) and option is not None:
        context.plan.advised = _choices(advised(recipe, option.recipe))
        context.draft.replace(advised(recipe, option.recipe))
        return
    from engine.methods.registry import METHODS

    train = recipe.train
    if train.learning_rate == METHODS[recipe.method.name].default_learning_rate:
        train = train.model_copy(update={"learning_rate": METHODS[name].default_learning_rate})
    context.draft.replace(with_method(recipe, name).model_copy(update={"train": train}))


def follows_any_advice(context: AppContext) -> bool:
    """Whether the draft is the advisor's recipe for its method."""
    recipe = context.draft.recipe
    return any(_choices(recipe) == _choices(advised(recipe, option.recipe)) for option in _alternatives(context))


def _alternatives(context: AppContext) -> tuple[Any, ...]:
    return context.plan.advice.alternatives if context.plan.advice is not None else ()


# --------------------------------------------------------------------------------------------------------------- file
def open_recipe(context: AppContext, path: Path) -> None:
    """Make a recipe file the draft."""
    from engine.catalogue import CATALOGUE
    from engine.recipe.file import load

    recipe = attempt(context, lambda: load(path, CATALOGUE))
    if recipe is not None:
        context.plan.advised_for = (recipe.data.files, recipe.model.source, recipe.objective.name)
        context.draft.replace(recipe)
        context.notices.tell(INFO, say("{name} is the plan now.", "{name} 已作为当前计划。", name=path.name))


def save_recipe(context: AppContext, path: Path) -> None:
    """Write the draft to a file."""
    from engine.recipe.file import save

    attempt(context, lambda: save(context.draft.recipe, path))


# ---------------------------------------------------------------------------------------------------------------- run
def queue_training(context: AppContext) -> None:
    """Make a run of the draft, and let it wait until what trains now has ended."""
    from gui.operations.project import refresh_lists
    from gui.operations.queue import enqueue

    project = context.project.project
    if project is None:
        context.notices.tell(WARNING, NO_PROJECT, CHOOSE_PROJECT)
        return
    context.draft.keep()
    run = change(context, lambda: project.new_run(context.draft.recipe))
    if run is not None:
        enqueue(context, run)
        refresh_lists(context)


def start_training(context: AppContext) -> None:
    """Make a run of the draft, start it, and look at it; while a run of the queue trains, it waits behind that."""
    from engine.host.launch import start_job
    from engine.project.queue import is_at_work
    from engine.project.recent import remember_project_of

    project = context.project.project
    if project is None:
        context.notices.tell(WARNING, NO_PROJECT, CHOOSE_PROJECT)
        return
    if is_at_work():  # maybe of another project, or begun this moment
        queue_training(context)
        return
    context.draft.keep()

    def start() -> Any:
        run = project.new_run(context.draft.recipe)
        remember_project_of(run)
        start_job(run, "train", {"run": str(run.path)})
        return run

    run = change(context, start)
    if run is not None:
        from gui.operations.project import refresh_lists

        context.runs.select(run)
        refresh_lists(context)
        context.wizard.go("train")
