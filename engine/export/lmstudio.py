"""Where LM Studio looks for models, and how one must lie there. Light.

A model is found at ``PUBLISHER/MODEL/FILE.gguf`` below its models folder, and nowhere else (lmstudio.ai/docs, "Import
Models"). The models folder is a setting of LM Studio, in ``settings.json`` of its own folder, which is ``.lmstudio`` in
the user's home on every system (``.cache/lm-studio`` before version 0.3.6), or named by ``.lmstudio-home-pointer``.
"""

from __future__ import annotations

import re
from pathlib import Path

from engine.project.atomic import read_json, read_plain
from engine.protocol.errors import UserError
from engine.protocol.text import say

POINTER = ".lmstudio-home-pointer"
HOMES = (".lmstudio", ".cache/lm-studio")
PUBLISHER = "lorimer"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}")


def home_folder(home: Path | None = None) -> Path | None:
    """LM Studio's own folder; None where there is none on this machine.

    Args:
        home: the user's, where it is not that of this process.
    """
    home = home or Path.home()
    try:
        pointed = Path(read_plain(home / POINTER).decode("utf-8").strip())
        if pointed.is_absolute() and pointed.is_dir():
            return pointed
    except (OSError, ValueError):
        pass
    return next((home / name for name in HOMES if (home / name).is_dir()), None)


def models_folder(home: Path | None = None) -> Path | None:
    """The folder that LM Studio looks in for models; None where LM Studio is not on this machine."""
    own = home_folder(home)
    if own is None:
        return None
    try:
        chosen = read_json(own / "settings.json").get("downloadsFolder")
    except (UserError, AttributeError):
        chosen = None
    if isinstance(chosen, str) and Path(chosen).is_absolute() and Path(chosen).is_dir():
        return Path(chosen)
    return own / "models"


def needed_models_folder(given: Path | None = None) -> Path:
    """The models folder that is given, else LM Studio's. Raises `UserError` where neither is there."""
    if given is not None:
        return given.expanduser().absolute()
    found = models_folder()
    if found is not None:
        return found
    raise UserError(
        "lmstudio.missing",
        say("LM Studio's models folder was not found.", "未找到 LM Studio 的模型文件夹。"),
        say(
            "Say where it is (LM Studio shows it under “My Models”): --models-folder DIR",
            "请指明其位置（在 LM Studio 的“My Models”中可见）：--models-folder DIR",
        ),
    )


def checked_part(name: str) -> str:
    """A publisher's or model's name that is one folder on every system. Raises `UserError` when it is none."""
    if _NAME.fullmatch(name) and not name.endswith("."):
        return name
    raise UserError(
        "lmstudio.name",
        say(
            "“{name}” is no name for a folder of LM Studio.", "“{name}”不能用作 LM Studio 的文件夹名。", name=name[:80]
        ),
        say("Use letters, digits, dots, dashes and underscores.", "请使用字母、数字、点、连字符和下划线。"),
        where="--name",
    )


def place_of(gguf: str, models: Path, name: str, publisher: str = PUBLISHER) -> Path:
    """Where a GGUF is put. Raises `UserError` where a name is none."""
    return models / checked_part(publisher) / checked_part(name) / gguf
