"""The recipe as a TOML file, and the validation that names every problem at once."""

from __future__ import annotations

import difflib
import json
import os
import tomllib
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from engine.project.atomic import disk_error, read_plain, write_text
from engine.protocol.errors import Problem, UserError
from engine.protocol.text import NOTHING, Text, say
from engine.recipe.fields import Section, setting_of
from engine.recipe.recipe import HUB_DATA, MethodSettings, ObjectiveSettings, Recipe
from engine.recipe.tokens import with_keys

TEMPLATE_FILES = (".jinja", ".jinja2", ".j2")
"""How the name of a file with a chat template ends."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Which methods and objectives there are: name → the section that holds their settings."""

    methods: Mapping[str, type[MethodSettings]]
    objectives: Mapping[str, type[ObjectiveSettings]]


def load(path: Path, catalogue: Catalogue) -> Recipe:
    """The recipe of a file; relative paths in it are taken from the file's folder.

    Raises:
        UserError: the file cannot be read, or `problems` lists all that is wrong in it.
    """
    try:
        text = read_plain(path).decode("utf-8-sig")
    except OSError as error:
        raise disk_error(IsADirectoryError() if os.path.isdir(path) else error, path) from error
    except UnicodeDecodeError as error:
        raise UserError(
            "recipe.encoding",
            say("{name} is not UTF-8 text.", "{name} 不是 UTF-8 文本。", name=path.name),
            say("Save it as UTF-8.", "请另存为 UTF-8。"),
            where=str(path),
        ) from error
    return _anchored(loads(text, catalogue, where=str(path)), path.resolve().parent)


def loads(text: str, catalogue: Catalogue, *, where: str = "recipe") -> Recipe:
    """The recipe of a TOML text. Raises `UserError` whose ``problems`` lists all that is wrong."""
    try:
        plain = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(
            "recipe.syntax",
            say("The recipe is not valid TOML: {error}.", "配方不是有效的 TOML：{error}。", error=error),
            say("Text needs quotes, and each name may stand once.", "文本需要引号，每个名称只能出现一次。"),
            where=where,
        ) from error
    except RecursionError as error:
        raise UserError(
            "recipe.syntax",
            say("The recipe is nested too deeply.", "配方嵌套过深。"),
            say("It has tables and lists of plain values only.", "配方只含表，以及普通值的列表。"),
            where=where,
        ) from error
    return from_plain(plain, catalogue, where=where)


def from_plain(plain: Mapping[str, Any], catalogue: Catalogue, *, where: str = "recipe") -> Recipe:
    """The recipe of a plain mapping. Raises `UserError` whose ``problems`` lists all that is wrong."""
    if keys := with_keys(plain):  # before anything else repeats them in its sentence
        raise invalid(keys, where=where)
    filled = dict(plain)
    problems: list[Problem] = []
    for part, kinds, default in (("method", catalogue.methods, "qlora"), ("objective", catalogue.objectives, "sft")):
        filled[part], found = _declared(part, filled.get(part, {"name": default}), kinds, default)
        problems += found
    try:
        recipe = Recipe.model_validate({**filled, **{p: _BLANK[p] for p in _BLANK if filled[p] is None}})
    except ValidationError as error:
        problems = _problems(error, Recipe, ()) + problems
    if problems:
        raise invalid(problems, where=where)
    return recipe


def invalid(problems: Sequence[Problem], *, where: str) -> UserError:
    """The error that tells of all that is wrong in the recipe ``where``."""
    first = problems[0]
    if len(problems) == 1:
        message, hint = first.message, first.hint
    else:
        message = say("{n} settings are wrong.", "{n} 项设置有误。", n=len(problems))
        hint = say("Change each as is said of it.", "请按各项的提示逐一修改。")
    return UserError("recipe.invalid", message, hint, where=where, problems=tuple(problems))


_BLANK: dict[str, Section] = {"method": MethodSettings(name=""), "objective": ObjectiveSettings(name="")}


def _declared(part: str, plain: Any, kinds: Mapping[str, type[Section]], default: str) -> tuple[Any, list[Problem]]:
    """The section that the method or objective named in ``plain`` declares, or what is wrong with it."""
    if isinstance(plain, Section):
        return plain, []
    if not isinstance(plain, dict):
        return None, [
            Problem(
                "recipe.type", say("[{part}] must be a table.", "[{part}] 必须是表。", part=part), _as_table(part), part
            )
        ]
    name = plain.get("name", default)
    if not isinstance(name, str) or name not in kinds:
        message = say('There is no {part} "{name}".', "没有名为“{name}”的 {part}。", part=part, name=name)
        return None, [Problem("recipe.unknown_name", message, closest(str(name), kinds), f"{part}.name")]
    try:
        return kinds[name].model_validate({**plain, "name": name}), []
    except ValidationError as error:
        return None, _problems(error, kinds[name], (part,))


def dumps(recipe: Recipe) -> str:
    """The recipe as TOML; `loads` gives an equal recipe."""
    return tomli_w.dumps(to_plain(recipe))


def save(recipe: Recipe, path: Path) -> None:
    """Write the recipe. Raises `UserError` when the disk does not take it."""
    write_text(path, dumps(recipe))


def to_plain(recipe: Recipe) -> dict[str, Any]:
    """The recipe as TOML and JSON know it (tuples as lists)."""
    plain = recipe.model_dump(mode="json")
    if not plain["recovered"]:
        del plain["recovered"]
    return plain


def changed(recipe: Recipe, values: Mapping[str, Any], catalogue: Catalogue) -> Recipe:
    """The recipe with other values at dotted names ("train.epochs"), validated.

    Raises:
        UserError: a name or value is wrong; the given recipe stays as it was.
    """
    plain = to_plain(recipe)
    for dotted, value in values.items():
        *path, last = dotted.split(".")
        table = plain
        for part in path:
            table = table.setdefault(part, {})
        table[last] = value
    return from_plain(plain, catalogue)


def _anchored(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with data files, a template's file, a run that scores and a model folder as absolute paths."""

    def anchor(name: str) -> str:
        return str((folder / name).resolve()) if name and not name.startswith(HUB_DATA) else name

    source = recipe.model.source
    is_folder = source.startswith((".", "~")) or os.path.isdir(folder / source)
    model = recipe.model.model_copy(update={"source": anchor(str(Path(source).expanduser())) if is_folder else source})
    template = recipe.data.template
    data = recipe.data.model_copy(
        update={
            "template": anchor(template) if template.endswith(TEMPLATE_FILES) else template,
            "files": tuple(anchor(name) for name in recipe.data.files),
            "general": tuple(anchor(name) for name in recipe.data.general),
            "held_out_file": anchor(recipe.data.held_out_file),
            "decisions": anchor(recipe.data.decisions),
            "scored_by": anchor(recipe.data.scored_by),
            "per_file": {anchor(name): own for name, own in recipe.data.per_file.items()},
        }
    )
    return recipe.model_copy(update={"model": model, "data": data})


def _problems(error: ValidationError, section: type[BaseModel], prefix: tuple[str, ...]) -> list[Problem]:
    return [_problem(dict(item), section, prefix) for item in error.errors(include_url=False)]


def _problem(item: dict[str, Any], section: type[BaseModel], prefix: tuple[str, ...]) -> Problem:
    location = tuple(str(part) for part in item["loc"])
    where = ".".join((*prefix, *location))
    kind = str(item["type"])
    if kind == "extra_forbidden":
        message = say('There is no setting "{name}".', "没有名为“{name}”的设置。", name=where)
        names = _fields_at(section, location[:-1])
        return Problem("recipe.unknown_field", message, closest(location[-1], names), where)
    sentence = _SENTENCES.get(kind)
    context = {key: value for key, value in item.get("ctx", {}).items() if key != "error"}
    if "expected" in context:
        english = str(context["expected"])
        context["expected"] = Text(english, english.replace(", ", "、").replace(" or ", " 或 "))
    given = item.get("input")
    if sentence is None:
        message = say("{name}: {text}.", "{name}：{text}。", name=where, text=item["msg"])
    else:
        message = say(sentence.en, sentence.zh, name=where, given=_shown(given), **context)
    code = "recipe.missing" if kind == "missing" else "recipe.value"
    return Problem(code, message, _hint(section, location, where, given), where)


_SENTENCES: dict[str, Text] = {
    "missing": Text("{name} is missing.", "缺少 {name}。"),
    "greater_than": Text("{name} is {given}, but must be above {gt}.", "{name} 为 {given}，必须大于 {gt}。"),
    "greater_than_equal": Text("{name} is {given}, but must be at least {ge}.", "{name} 为 {given}，不能小于 {ge}。"),
    "less_than": Text("{name} is {given}, but must be below {lt}.", "{name} 为 {given}，必须小于 {lt}。"),
    "less_than_equal": Text("{name} is {given}, but must be at most {le}.", "{name} 为 {given}，不能大于 {le}。"),
    "literal_error": Text("{name} is {given}, but must be {expected}.", "{name} 为 {given}，只能是 {expected}。"),
    "int_parsing": Text("{name} is {given}, but must be a whole number.", "{name} 为 {given}，必须是整数。"),
    "int_type": Text("{name} is {given}, but must be a whole number.", "{name} 为 {given}，必须是整数。"),
    "int_from_float": Text("{name} is {given}, but must be a whole number.", "{name} 为 {given}，必须是整数。"),
    "float_parsing": Text("{name} is {given}, but must be a number.", "{name} 为 {given}，必须是数字。"),
    "float_type": Text("{name} is {given}, but must be a number.", "{name} 为 {given}，必须是数字。"),
    "bool_parsing": Text("{name} is {given}, but must be true or false.", "{name} 为 {given}，只能是 true 或 false。"),
    "bool_type": Text("{name} is {given}, but must be true or false.", "{name} 为 {given}，只能是 true 或 false。"),
    "string_type": Text("{name} is {given}, but must be text in quotes.", "{name} 为 {given}，必须是带引号的文本。"),
    "string_too_short": Text("{name} is empty.", "{name} 为空。"),
    "tuple_type": Text("{name} is {given}, but must be a list.", "{name} 为 {given}，必须是列表。"),
    "dict_type": Text("{name} is {given}, but must be a table.", "{name} 为 {given}，必须是表。"),
    "model_type": Text("{name} is {given}, but must be a table.", "{name} 为 {given}，必须是表。"),
    "finite_number": Text("{name} must be a finite number.", "{name} 必须是有限的数。"),
}


def _shown(value: Any) -> str:
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _hint(section: type[BaseModel], location: tuple[str, ...], where: str, given: Any) -> Text:
    """What may stand at ``location``, from the declaration of its field."""
    field = _field_at(section, location)
    if field is None:
        return _as_table(where)
    kind, default = field.annotation, field.get_default(call_default_factory=True)
    if typing.get_origin(kind) is typing.Literal:
        return closest(given if isinstance(given, str) else "", [str(value) for value in typing.get_args(kind)])
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _as_table(where)
    if typing.get_origin(kind) is dict:
        return say('Write it like {prompt = "question"}.', '请写成 {prompt = "question"} 的形式。')
    if typing.get_origin(kind) is tuple:
        return say('Write it as a list, like ["rows.jsonl"].', '请写成列表，如 ["rows.jsonl"]。')
    return _with_default(_allowed(kind, field), default)


def _as_table(where: str) -> Text:
    return say("Write [{name}] and its settings below it.", "请写 [{name}]，并在其下写各项设置。", name=where)


def _allowed(kind: Any, field: FieldInfo) -> Text:
    """Which values a number, a switch or a text may have."""
    if kind is bool:
        return say("Use true or false", "可用 true 或 false")
    about = setting_of(field)
    if kind is str:
        return Text(about.help.en.rstrip("."), about.help.zh.rstrip("。")) if about else NOTHING
    limits = {
        name: limit for item in field.metadata for name in _BOUNDS if (limit := getattr(item, name, None)) is not None
    }
    shown = {name: f"{limit:g}" if isinstance(limit, float) else str(limit) for name, limit in limits.items()}
    sentence = _ALLOWED.get(tuple(sorted(limits)), _ALLOWED[()])
    return say(sentence.en, sentence.zh, **shown)


_BOUNDS = ("ge", "gt", "le", "lt")
_ALLOWED: dict[tuple[str, ...], Text] = {
    (): Text("Use a number", "请填数字"),
    ("ge",): Text("Use {ge} or more", "应不小于 {ge}"),
    ("gt",): Text("Use more than {gt}", "应大于 {gt}"),
    ("ge", "le"): Text("Use {ge} to {le}", "应为 {ge} 到 {le}"),
    ("gt", "le"): Text("Use more than {gt}, at most {le}", "应大于 {gt} 且不大于 {le}"),
    ("ge", "lt"): Text("Use {ge} or more, less than {lt}", "应不小于 {ge} 且小于 {lt}"),
    ("gt", "lt"): Text("Use more than {gt}, less than {lt}", "应大于 {gt} 且小于 {lt}"),
}


def _with_default(allowed: Text, default: Any) -> Text:
    if not isinstance(default, (bool, int, float, str)) or default == "":
        return say("{allowed}.", "{allowed}。", allowed=allowed) if allowed else NOTHING
    shown = f"{default:g}" if isinstance(default, float) else json.dumps(default, ensure_ascii=False)
    return say("{allowed}; the default is {default}.", "{allowed}；默认为 {default}。", allowed=allowed, default=shown)


def _field_at(section: type[BaseModel], location: tuple[str, ...]) -> FieldInfo | None:
    """The field that ``location`` leads to, or the list or table that it is a part of."""
    field: FieldInfo | None = None
    for part in location:
        found = section.model_fields.get(part)
        if found is None:
            return field
        field = found
        if isinstance(found.annotation, type) and issubclass(found.annotation, BaseModel):
            section = found.annotation
    return field


def _fields_at(section: type[BaseModel], location: tuple[str, ...]) -> list[str]:
    """Names of the fields of the table that ``location`` leads to."""
    for part in location:
        field = section.model_fields.get(part)
        inner = field.annotation if field else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        section = inner
    return list(section.model_fields)


def closest(name: str, names: Iterable[str]) -> Text:
    """The name that was meant, or all that there are."""
    names = list(names)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        return say('Did you mean "{near}"?', "是否想写“{near}”？", near=near[0])
    return say("Known: {names}.", "可用：{names}。", names=", ".join(names))
