"""What a run would stumble over at its start, found before it has a folder: every problem of the recipe at once.

Only names and headers are looked at; rows and weights are not read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from engine.data.decode import decode
from engine.data.detect import candidates
from engine.data.files import expand
from engine.data.hub_data import is_hub_data
from engine.data.templates import TEMPLATES
from engine.model.inspect import inspect
from engine.model.locate import locate
from engine.project.atomic import disk_error
from engine.project.project import open_run
from engine.protocol.errors import Problem, UserError
from engine.protocol.text import say
from engine.recipe.file import TEMPLATE_FILES, closest, invalid
from engine.recipe.recipe import DataSettings, ModelSettings, Recipe


def check_recipe(recipe: Recipe, *, where: str) -> None:
    """Whether a run can start by ``recipe``.

    Args:
        where: the recipe's file.

    Raises:
        UserError: ``recipe.invalid``, whose ``problems`` name files, a model or names that there are not.
    """
    data = recipe.data
    problems = [*_model(recipe.model), *_files(data), *_names(data), *_template(data.template), *_scorer(data)]
    if problems:
        raise invalid(problems, where=where)


def _model(settings: ModelSettings) -> Iterator[Problem]:
    try:
        folder = locate(settings.source, revision=settings.revision)
    except UserError as error:
        yield replace(error.problem, where="model.source")
        return
    try:
        inspect(folder)
    except UserError as error:
        yield from error.problems or (error.problem,)


def _files(data: DataSettings) -> Iterator[Problem]:
    if not data.files:
        message = say("The recipe names no data file.", "配方没有指定数据文件。")
        hint = say('Set data.files, such as files = ["rows.jsonl"].', '请设置 data.files，如 files = ["rows.jsonl"]。')
        yield Problem("data.no_file", message, hint, "data.files")
    for where in ("files", "general"):
        for name in getattr(data, where):
            yield from _data_file(name, f"data.{where}")
    if data.held_out_file and not is_hub_data(data.held_out_file):
        yield from _file(data.held_out_file, "data.held_out_file")


def _data_file(name: str, where: str) -> Iterator[Problem]:
    """A file, a folder with data files in it, or an id of the hub, which is looked at when it is fetched."""
    if is_hub_data(name):
        return
    if not os.path.isdir(name):
        yield from _file(name, where)
        return
    try:
        expand([name])
    except UserError as error:
        yield replace(error.problem, where=where)


def _file(name: str, where: str) -> Iterator[Problem]:
    # Not the methods of Path: they raise for a name that is too long, or holds what no name may.
    if os.path.isdir(name):
        yield replace(disk_error(IsADirectoryError(), Path(name)).problem, where=where)
    elif not os.path.exists(name):
        yield replace(disk_error(FileNotFoundError(), Path(name)).problem, where=where)


def _names(data: DataSettings) -> Iterator[Problem]:
    """Shape, roles and encoding that there are not."""
    try:
        candidates(data.shape, data.mapping)
    except UserError as error:
        yield error.problem
    try:
        decode(b"", Path(), data.encoding)
    except UserError as error:
        yield error.problem


def _scorer(data: DataSettings) -> Iterator[Problem]:
    """A run that is to say which rows are easy, but has no model to say it."""
    if not (data.scored_by and data.asks_model):
        return
    try:
        open_run(Path(data.scored_by)).trained_on()
    except UserError as error:
        yield replace(error.problem, where="data.scored_by")


def _template(name: str) -> Iterator[Problem]:
    if name.endswith(TEMPLATE_FILES):
        yield from _file(name, "data.template")
    elif name != "auto" and name not in TEMPLATES:
        message = say('There is no chat template "{name}".', "没有名为“{name}”的对话模板。", name=name)
        yield Problem("template.unknown", message, closest(name, ("auto", *TEMPLATES)), "data.template")
