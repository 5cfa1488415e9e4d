"""Well-known open models: what they are, known before anything is downloaded, from ``resources/models.toml``.

The user's own ``models.toml`` in the settings folder is read after it: an entry of it with an id that is listed takes
the listed one's place. What is wrong in it is told with file and line, and spoils no other entry.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.host.platform import config_folder
from engine.machine.dims import FAMILIES, ModelDims
from engine.project.atomic import disk_error
from engine.protocol.errors import Problem, UserError
from engine.protocol.text import NOTHING, Text, say
from engine.recipe.file import closest

FILE = Path(__file__).resolve().parents[2] / "resources" / "models.toml"
# Bytes of a weight in the 16-bit formats that models are published in.
WIDTH = 2
# How far the widths' count may be from the stated one: pages round to one or two digits.
TOLERANCE = 0.02
KEYS: dict[str, type] = {
    "id": str,
    "parameters": int,
    "licence": str,
    "gated": bool,
    "chat_template": bool,
    "bytes": int,
    "good_for": dict,
    "config": dict,
}
NEEDED = ("id", "parameters", "licence", "config")
# An owner and a name, as the hub allows them (huggingface_hub, utils/_validators.py).
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


@dataclass(frozen=True, slots=True)
class Licence:
    """A licence that models come under.

    Attributes:
        label: what people call it.
        is_free: it allows any use and asks for no more than the mention of its author.
        about: what it asks for, in one sentence.
    """

    label: str
    is_free: bool
    about: Text


_ANY_USE = say("Any use, commercial use included.", "可用于任何用途，包括商业用途。")
_META = say(
    "Commercial use below 700 million monthly users; a use policy; what you make from it is named “Llama”.",
    "月活用户 7 亿以下可商用；须遵守使用政策；衍生模型名称须含“Llama”。",
)
LICENCES: dict[str, Licence] = {
    "apache-2.0": Licence("Apache-2.0", True, _ANY_USE),
    "mit": Licence("MIT", True, _ANY_USE),
    "llama3.1": Licence("Llama 3.1", False, _META),
    "llama3.2": Licence("Llama 3.2", False, _META),
    "llama3.3": Licence("Llama 3.3", False, _META),
    "gemma": Licence(
        "Gemma",
        False,
        say("Commercial use under Google's terms and use policy.", "可商用，须遵守 Google 的条款与使用政策。"),
    ),
    "qwen": Licence(
        "Qwen",
        False,
        say("Commercial use below 100 million monthly users.", "月活用户 1 亿以下可商用。"),
    ),
    "qwen-research": Licence("Qwen Research", False, say("Research only, no commercial use.", "仅限研究，不可商用。")),
}


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model of the catalogue.

    Attributes:
        id: "owner/name" on the hub.
        parameters: as its page states them.
        licence: as its page names it, such as "apache-2.0".
        gated: whether its owner wants to be asked first; None where that is not known.
        has_template: whether it brings a chat template; None where that is not known.
        bytes: of its 16-bit weights on disk.
        good_for: one sentence; empty where an entry of the user's says none.
        dims: its widths.
        is_own: it stands in the user's own file.
    """

    id: str
    parameters: int
    licence: str
    gated: bool | None
    has_template: bool | None
    bytes: int
    good_for: Text
    dims: ModelDims
    is_own: bool = False

    @property
    def name(self) -> str:
        """Without its owner."""
        return self.id.partition("/")[2]

    @property
    def family_label(self) -> str:
        """Its family, for people."""
        return FAMILIES[self.dims.family].label

    @property
    def context(self) -> int:
        """The longest sequence that it knows, in tokens."""
        return self.dims.context

    @property
    def licence_label(self) -> str:
        """Its licence, for people."""
        return licence_label(self.licence)


@dataclass(frozen=True, slots=True)
class KnownModels:
    """The catalogue.

    Attributes:
        models: in the order of the files, the user's own last.
        problems: what is wrong in the user's own file.
    """

    models: tuple[KnownModel, ...] = ()
    problems: tuple[Problem, ...] = field(default=())

    def find(self, hub_id: str) -> KnownModel | None:
        """The model with an id, None when it is not listed."""
        return next((model for model in self.models if model.id == hub_id), None)


def licence_label(licence: str) -> str:
    """What people call a licence: its own name where it is not known here."""
    known = LICENCES.get(licence.lower())
    return known.label if known is not None else licence


def is_free(licence: str) -> bool:
    """Whether a licence is known to allow any use."""
    known = LICENCES.get(licence.lower())
    return known is not None and known.is_free


def own_file() -> Path:
    """Where the user's own entries stand; it need not exist."""
    return config_folder() / "models.toml"


def known_models(own: Path | None = None) -> KnownModels:
    """The catalogue with the user's own entries; reading it takes some ten milliseconds.

    Args:
        own: the user's file, where it is not `own_file`.
    """
    listed = read(FILE)
    path = own or own_file()
    try:
        mine = read(path, is_own=True) if path.is_file() else KnownModels()
    except UserError as error:
        return KnownModels(listed.models, (error.problem,))
    replaced = {model.id for model in mine.models}
    kept = tuple(model for model in listed.models if model.id not in replaced)
    return KnownModels((*kept, *mine.models), mine.problems)


def read(path: Path, *, is_own: bool = False) -> KnownModels:
    """The models of one file; entries with a problem are left out, and told.

    Raises:
        UserError: the file cannot be read, or is no TOML (with the line).
    """
    try:
        text = path.read_text(encoding="utf-8")
        plain = tomllib.loads(text)
    except OSError as error:
        raise disk_error(error, path) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _no_toml(path, error) from error
    entries = plain.get("model", [])
    lines = _Lines(path, text)
    if not isinstance(entries, list) or set(plain) - {"model"}:
        odd = next(iter(set(plain) - {"model"}), "model")
        message = say("“{name}” is no part of this file.", "此文件中不能有“{name}”。", name=odd)
        return KnownModels((), (Problem("models.entry", message, _HOW, lines.of_key(odd)),))
    models: list[KnownModel] = []
    problems: list[Problem] = []
    for number, entry in enumerate(entries):
        found = list(_problems(entry, lambda key, n=number: lines.of(n, key)))
        problems += found
        if not found:
            models.append(_model(entry, is_own=is_own))
    return KnownModels(tuple(models), tuple(problems))


_HOW = say(
    "Each model is a [[model]] table; see the built-in file for examples.",
    "每个模型是一个 [[model]] 表；示例见内置文件。",
)


def _model(entry: Mapping[str, Any], *, is_own: bool) -> KnownModel:
    dims = ModelDims.from_config(entry["config"])
    words = entry.get("good_for", {})
    return KnownModel(
        id=entry["id"],
        parameters=entry["parameters"],
        licence=entry["licence"],
        gated=entry.get("gated"),
        has_template=entry.get("chat_template"),
        bytes=entry.get("bytes", WIDTH * dims.parameters()),
        good_for=Text(words.get("en", ""), words.get("zh", words.get("en", ""))) if words else NOTHING,
        dims=dims,
        is_own=is_own,
    )


# -------------------------------------------------------------------------------------------------------- problems
def _problems(entry: Any, where: Any) -> Iterator[Problem]:
    """All that is wrong with one entry; ``where`` gives the file and line of a key."""
    if not isinstance(entry, dict):
        yield Problem("models.entry", say("This is no table.", "这不是一个表。"), _HOW, where(""))
        return
    for key, value in entry.items():
        if key not in KEYS:
            message = say("“{key}” says nothing of a model.", "“{key}”不是模型的条目。", key=key)
            yield Problem("models.unknown", message, closest(key, KEYS), where(key))
        elif type(value) is not KEYS[key]:
            yield _wrong_type(key, where(key))
    for key in NEEDED:
        if key not in entry:
            message = say("The model has no {key}.", "该模型缺少 {key}。", key=key)
            hint = say("Copy it from the model's page.", "请从模型页面复制。")
            yield Problem("models.missing", message, hint, where(""))
    if isinstance(entry.get("id"), str) and HUB_ID.fullmatch(entry["id"]) is None:
        message = say("“{id}” is no hub id.", "“{id}”不是 hub 标识。", id=entry["id"])
        yield Problem("models.id", message, say("It has the form owner/name.", "格式为 所有者/名称。"), where("id"))
    if isinstance(entry.get("config"), dict):
        yield from _config_problems(entry, where)


def _config_problems(entry: Mapping[str, Any], where: Any) -> Iterator[Problem]:
    try:
        count = ModelDims.from_config(entry["config"]).parameters()
    except UserError as error:
        for problem in error.problems or (error.problem,):
            yield Problem(problem.code, problem.message, problem.hint, where("model.config"))
        return
    stated = entry.get("parameters")
    if type(stated) is int and stated > 0 and abs(count / stated - 1) > TOLERANCE:
        yield Problem(
            "models.parameters",
            say(
                "The widths give {count:.3f} billion parameters, and {stated:.3f} billion are stated.",
                "按各维度计算为 {count:.3f} B 参数，而所写为 {stated:.3f} B。",
                count=count / 1e9,
                stated=stated / 1e9,
            ),
            say(
                "Copy both from the same model; tie_word_embeddings counts too.",
                "请从同一模型复制两者；tie_word_embeddings 也会影响。",
            ),
            where("parameters"),
        )


_NAMES: dict[type, Text] = {
    str: say("a text in quotes", "引号中的文本"),
    int: say("a whole number", "整数"),
    bool: say("true or false", "true 或 false"),
    dict: say("a table", "表"),
}


def _wrong_type(key: str, where: str) -> Problem:
    message = say("{key} must be {kind}.", "{key} 必须是{kind}。", key=key, kind=_NAMES[KEYS[key]])
    return Problem("models.type", message, _HOW, where)


def _no_toml(path: Path, error: Exception) -> UserError:
    found = re.search(r"at line (\d+)", str(error))
    where = f"{path}:{found.group(1)}" if found else str(path)
    return UserError(
        "models.no_toml",
        say("This is not TOML: {why}.", "这不是有效的 TOML：{why}。", why=str(error)),
        say("Mend that line; until then the built-in models are listed alone.", "请改正该行；在此之前只列出内置模型。"),
        where=where,
    )


class _Lines:
    """Where entries stand in a file's text; tomllib does not tell."""

    def __init__(self, path: Path, text: str) -> None:
        self._path, self._lines = path, text.splitlines()
        self._starts = [n for n, line in enumerate(self._lines) if re.match(r"\s*\[\[\s*model\s*\]\]", line)]

    def of(self, number: int, key: str) -> str:
        """File and line of a key of the entry with a number, else of the entry's head."""
        if number >= len(self._starts):
            return str(self._path)
        start = self._starts[number]
        end = self._starts[number + 1] if number + 1 < len(self._starts) else len(self._lines)
        return f"{self._path}:{self._find(key, start, end) + 1}"

    def of_key(self, key: str) -> str:
        """File and line of a key outside of all entries."""
        return f"{self._path}:{self._find(key, 0, len(self._lines)) + 1}"

    def _find(self, key: str, start: int, end: int) -> int:
        if not key:
            return start
        pattern = re.compile(rf"\s*(\[+\s*)?\"?{re.escape(key)}\"?\s*[].=]")
        return next((n for n in range(start, end) if pattern.match(self._lines[n])), start)
