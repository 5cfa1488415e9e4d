"""Pickled weights of one model, read once with torch's restricted reader and written as safetensors.

A pickle is a program. `torch.load` with ``weights_only`` runs none of it: it knows tensors and plain containers, and
refuses the rest. That reader has had holes before (CVE-2025-32434, torch below 2.6), so it is used for the one folder
that a person named after the warning, and nothing is remembered: what is trained from is the safetensors.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file

from engine.model.inspect import INDEX, SINGLE, inspect
from engine.project.atomic import disk_error, share, write_json
from engine.protocol.errors import UserError
from engine.protocol.text import Text, say

PICKLED_INDEX = "pytorch_model.bin.index.json"
PICKLED = "pytorch_model.bin"

WARNING = say(
    "Pickled weights are a program that runs when they are opened. Lorimer reads them with torch's restricted reader, "
    "which runs nothing that it does not know; such readers have had holes. Whoever made {folder} could use one to "
    "read your files or take over this account.",
    "pickle 权重是一段打开时就会运行的程序。Lorimer 使用 torch 的受限读取器，它不会运行任何未知内容；"
    "但这类读取器曾有漏洞。制作 {folder} 的人可能借此读取你的文件或控制此账户。",
)
IF_TRUSTED = say(
    "If you trust its source, give the same command with --yes; better, look for a version with safetensors.",
    "若信任其来源，请在同一命令后加 --yes；最好寻找带 safetensors 的版本。",
)

Progress = Callable[[int, int], None]


def warning(folder: Path) -> Text:
    """What it means to open the pickles of this folder."""
    return say(WARNING.en, WARNING.zh, folder=folder)


def convert(folder: Path, progress: Progress) -> list[Path]:
    """Write the pickled weights of a folder as safetensors beside them; gives the new files. The pickles stay.

    Args:
        progress: told (files done, files in all).

    Raises:
        UserError: there are none, safetensors lie there already, a pickle holds anything but weights, the disk is
            full, or what came of it is no model that can be trained.
    """
    folder = folder.expanduser().absolute()
    if (folder / SINGLE).exists() or (folder / INDEX).exists():
        raise _refuse("model.has_weights", say("There are safetensors already.", "已有 safetensors。"), folder)
    sources = _sources(folder)
    made: list[Path] = []
    places: dict[str, str] = {}
    total = 0
    try:
        for number, source in enumerate(sources, 1):
            name = SINGLE if len(sources) == 1 else f"model-{number:05d}-of-{len(sources):05d}.safetensors"
            tensors = {key: value for key, value in _weights(source) if key not in places}
            _write(tensors, folder / name)
            made.append(folder / name)
            places |= dict.fromkeys(tensors, name)
            total += sum(tensor.nbytes for tensor in tensors.values())
            progress(number, len(sources))
        if len(sources) > 1:
            write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": places})
            made.append(folder / INDEX)
        inspect(folder)
    except BaseException:
        for path in made:
            path.unlink(missing_ok=True)
        raise
    return made


def _sources(folder: Path) -> list[Path]:
    """The pickles, as the index lists them, else the single one."""
    index = folder / PICKLED_INDEX
    names = {PICKLED}
    if index.is_file():
        try:
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            names = set()
    good = [name for name in names if isinstance(name, str) and name.endswith(".bin") and Path(name).name == name]
    if not good or len(good) != len(names) or not all((folder / name).is_file() for name in good):
        message = say(
            "There are no whole pickled weights ({name}).", "没有完整的 pickle 权重（{name}）。", name=PICKLED
        )
        raise _refuse("model.no_weights", message, folder)
    return [folder / name for name in sorted(good)]


def _weights(source: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and tensor of each weight. Two names of one tensor are two weights here: safetensors shares nothing."""
    try:
        loaded = torch.load(source, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, OSError, KeyError, TypeError) as error:
        message = say(
            "{name} holds more than weights, or is damaged: it is not opened.",
            "{name} 含有权重以外的内容，或已损坏：未打开。",
            name=source.name,
        )
        raise _refuse("model.pickle_refused", message, source, details=str(error)[:2000]) from error
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        message = say("{name} holds no plain table of weights.", "{name} 不是普通的权重表。", name=source.name)
        raise _refuse("model.pickle_refused", message, source)
    for name, tensor in loaded.items():
        yield str(name), tensor.contiguous().clone()


def _write(tensors: dict[str, torch.Tensor], path: Path) -> None:
    hidden = path.with_name(f".{path.name}.part")
    try:
        save_file(tensors, hidden, metadata={"format": "pt"})
        share(hidden)
        with hidden.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(hidden, path)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        hidden.unlink(missing_ok=True)


def _refuse(code: str, message: Text, path: Path, *, details: str = "") -> UserError:
    hint = say("Choose a version of the model with safetensors.", "请选择带 safetensors 的版本。")
    return UserError(code, message, hint, where=str(path), details=details)
