"""Where the base model of a recipe lies on this machine: the starter, a folder, or a hub model in the cache."""

from __future__ import annotations

import re
from pathlib import Path

from engine.protocol.errors import UserError
from engine.protocol.text import say

STARTER = "starter"
STARTER_FOLDER = Path(__file__).resolve().parents[2] / "resources" / "starter"
# An owner and a name, as the hub allows them (huggingface_hub, utils/_validators.py).
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def locate(source: str, *, revision: str = "", cache: Path | None = None) -> Path:
    """The folder of a model; nothing is downloaded.

    Args:
        source: "starter", a folder, or a hub id.
        revision: commit, branch or tag of a hub model; empty for its newest on this machine.
        cache: the hub's cache, where it is not the usual one.

    Raises:
        UserError: there is no such folder, or the hub model is not (or not wholly) on this machine.
    """
    if source == STARTER:
        return _starter()
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder.absolute()
    if is_hub_id(source):
        return _cached(source, revision, cache)
    raise UserError(
        "model.missing",
        say("There is no model at {source}.", "{source} 处没有模型。", source=source),
        say(
            'Give "starter", a folder with safetensors, or a hub id such as Qwen/Qwen2.5-0.5B-Instruct.',
            "请填写“starter”、含 safetensors 的文件夹，或 hub 标识，如 Qwen/Qwen2.5-0.5B-Instruct。",
        ),
        where=source,
    )


def is_hub_id(source: str) -> bool:
    """Whether ``source`` reads like a hub model's id ("owner/name") rather than a path."""
    return HUB_ID.fullmatch(source) is not None and ".." not in source and "--" not in source


def _starter() -> Path:
    if not (STARTER_FOLDER / "model.safetensors").is_file():
        raise UserError(
            "model.starter",
            say("The starter model is missing from this installation.", "安装中缺少入门模型。"),
            say("Install Lorimer again.", "请重新安装 Lorimer。"),
            where=str(STARTER_FOLDER),
        )
    return STARTER_FOLDER


def _cached(hub_id: str, revision: str, cache: Path | None) -> Path:
    from engine.model.hub import cached_folder

    folder = cached_folder(hub_id, revision=revision, cache=cache)
    if folder is None:
        raise UserError(
            "model.not_downloaded",
            say("{id} is not on this machine.", "本机没有 {id}。", id=hub_id),
            say(
                "Download it on the Model page; or, if a folder was meant, check its path.",
                "请在“模型”页下载；若想填文件夹，请检查路径。",
            ),
            where=hub_id,
        )
    return folder
