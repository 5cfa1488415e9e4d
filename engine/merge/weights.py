"""Base weights as they lie on disk: safetensors, one file or several, read one tensor at a time."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from engine.model.weights_header import is_weights_name
from engine.project.atomic import disk_error, read_json
from engine.protocol.errors import UserError
from engine.protocol.text import Text, say

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor on disk: its file's name, safetensors dtype ("BF16") and shape."""

    file: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Number of values."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def bytes(self) -> int:
        """Size on disk."""
        return self.elements * FLOATS[self.dtype]


@dataclass(frozen=True, slots=True)
class BaseWeights:
    """The weights of a model folder.

    Attributes:
        folder: where they lie.
        config: ``config.json``.
        files: names of the weight files, in order.
        tensors: tensor name → where and what, in file order.
    """

    folder: Path
    config: dict[str, Any]
    files: tuple[str, ...]
    tensors: dict[str, Stored]

    @classmethod
    def open(cls, folder: Path) -> BaseWeights:
        """The weights in ``folder``; reads headers only.

        Raises:
            UserError: no safetensors, a missing or damaged file, or weights that are quantised.
        """
        config: dict[str, Any] = read_json(folder / "config.json")
        if config.get("quantization_config"):
            raise _quantised(folder / "config.json", "quantization_config")
        files = _files(folder)
        tensors: dict[str, Stored] = {}
        for name in files:
            for tensor, entry in _header(folder / name).items():
                if entry["dtype"] not in FLOATS:
                    raise _quantised(folder / name, f"{tensor}: {entry['dtype']}")
                tensors[tensor] = Stored(name, entry["dtype"], tuple(entry["shape"]))
        return cls(folder, config, files, tensors)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Tensor name → shape."""
        return {name: stored.shape for name, stored in self.tensors.items()}

    @property
    def elements(self) -> int:
        """Number of all weights."""
        return sum(stored.elements for stored in self.tensors.values())

    @property
    def bytes(self) -> int:
        """Size of all tensors."""
        return sum(stored.bytes for stored in self.tensors.values())

    def read(self, name: str) -> Tensor:
        """One tensor, in its own dtype. Raises `UserError` when the file is damaged."""
        path = self.folder / self.tensors[name].file
        try:
            with safe_open(path, framework="pt") as file:
                tensor: Tensor = file.get_tensor(name)
                return tensor
        except (SafetensorError, OSError) as error:
            raise _damaged(path, error) from error

    def shards(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """(file name, names of its tensors), in order."""
        for file in self.files:
            yield file, tuple(name for name, stored in self.tensors.items() if stored.file == file)


def _files(folder: Path) -> tuple[str, ...]:
    if (folder / INDEX).is_file():
        try:
            names = tuple(sorted(set(read_json(folder / INDEX)["weight_map"].values())))
        except (KeyError, TypeError, AttributeError) as error:
            raise _damaged(folder / INDEX, error) from error
        # Merged weights are written under the same names.
        if not all(map(is_weights_name, names)):
            raise _damaged(folder / INDEX, ValueError("it names files that are no safetensors of this folder"))
    else:
        names = (SINGLE,)
    for name in names:
        if not (folder / name).is_file():
            raise _missing(folder, name)
    return names


def _header(path: Path) -> dict[str, dict[str, Any]]:
    """The header of a safetensors file, by the format's own description: u64 length, JSON, data."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length)) if length < 100_000_000 else None
            size = path.stat().st_size
    except OSError as error:
        raise disk_error(error, path) from error
    except (ValueError, struct.error, RecursionError) as error:
        raise _damaged(path, error) from error
    if not isinstance(header, dict):
        raise _damaged(path, ValueError("the header is not an object"))
    header.pop("__metadata__", None)
    try:
        end = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
        for entry in header.values():
            entry["dtype"], entry["shape"] = str(entry["dtype"]), [int(width) for width in entry["shape"]]
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise _damaged(path, error) from error
    if 8 + length + end > size:
        raise _damaged(path, ValueError(f"{size} bytes, {8 + length + end} expected"))
    return header


def _quantised(path: Path, details: str) -> UserError:
    return UserError(
        "base.quantised",
        say(
            "The base weights are quantised; merging into them would lose quality.",
            "基础权重已被量化；合并到其中会损失质量。",
        ),
        say("Use the model's original 16-bit weights.", "请使用该模型的原始 16 位权重。"),
        where=str(path),
        details=details,
    )


def _missing(folder: Path, name: str) -> UserError:
    hint: Text = say(
        "Download the model again; only safetensors are used.", "请重新下载模型；只使用 safetensors 格式的权重。"
    )
    return UserError(
        "base.no_weights",
        say("The base model lacks the file {name}.", "基础模型缺少文件 {name}。", name=name),
        hint,
        where=str(folder / name),
    )


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(
        "base.damaged",
        say("The weights {name} are damaged.", "权重文件 {name} 已损坏。", name=path.name),
        say("Download the model again.", "请重新下载模型。"),
        where=str(path),
        details=str(error),
    )
