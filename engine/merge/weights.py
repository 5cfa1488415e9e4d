"""Base weights as they lie on disk: safetensors, one file or several, read one tensor at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from engine.merge.mapped import BrokenWeights, Mapped
from engine.model.weights_header import is_weights_name
from engine.project.atomic import disk_error, read_json
from engine.protocol.errors import UserError
from engine.protocol.text import Text, say

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
# Counters and masks that old checkpoints keep beside their weights; they are handed on as they are.
_BESIDE = {"I64": 8, "BOOL": 1}
SIZES = {**FLOATS, **_BESIDE}


# How quantised copies are named on the hub: NAME-bnb-4bit, NAME-GPTQ-Int4, NAME-AWQ, …
_QUANTISED_NAME = re.compile(
    r"(?i)([-_.](unsloth|bnb|gptq|awq|fp8|nf4|(w\d+a\d+)|(int|[qw])?[48][-_]?bits?|int[48]|dynamic|quantized))+$"
)


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor on disk: its file's name, safetensors dtype ("BF16"), shape, and where in the file it begins."""

    file: str
    dtype: str
    shape: tuple[int, ...]
    start: int = 0

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
        return self.elements * SIZES[self.dtype]


@dataclass(frozen=True, slots=True)
class BaseWeights:
    """The weights of a model folder.

    Attributes:
        folder: where they lie.
        config: ``config.json``.
        files: names of the weight files, in order.
        tensors: tensor name → where and what, in file order.
        metadata: file name → what its header says of itself ("format", …).
    """

    folder: Path
    config: dict[str, Any]
    files: tuple[str, ...]
    tensors: dict[str, Stored]
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)
    _mapped: dict[str, Mapped] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, folder: Path) -> BaseWeights:
        """The weights in ``folder``; reads headers only.

        Raises:
            UserError: no safetensors, a missing or damaged file, or weights that are quantised.
        """
        config: dict[str, Any] = read_json(folder / "config.json")
        if config.get("quantization_config"):
            raise _quantised(folder / "config.json", "quantization_config", config)
        base = cls(folder, config, _files(folder), {})
        for name in base.files:
            mapped = base.mapped(name)
            base.metadata[name] = dict(mapped.metadata)
            for tensor, entry in mapped.entries.items():
                if entry.dtype not in SIZES:
                    raise _quantised(folder / name, f"{tensor}: {entry.dtype}", config)
                base.tensors[tensor] = Stored(name, entry.dtype, entry.shape, entry.start)
        return base

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
        """One tensor, in its own dtype, to keep or to change. Raises `UserError` when the file is damaged."""
        return self.view(name).clone()

    def view(self, name: str) -> Tensor:
        """One tensor as it lies in the file, for reading only: writing to it ends the process. Raises as `read`."""
        return self.mapped(self.tensors[name].file).tensor(name)

    def mapped(self, file: str) -> Mapped:
        """One of the files. Raises `UserError` when it is damaged."""
        if file not in self._mapped:
            try:
                self._mapped[file] = Mapped(self.folder / file)
            except BrokenWeights as error:
                raise _damaged(self.folder / file, error) from error
            except OSError as error:
                raise disk_error(error, self.folder / file) from error
        return self._mapped[file]

    def close(self, file: str) -> None:
        """Forget a file that was read; it is opened again when it is asked for."""
        self._mapped.pop(file, None)

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


def _quantised(path: Path, details: str, config: dict[str, Any]) -> UserError:
    """Which weights to take instead, where the names tell."""
    known = str(config.get("_name_or_path") or "") or path.parent.name
    original = _QUANTISED_NAME.sub("", known)
    hint = say(
        "Name the folder of the original 16-bit weights: lorimer merge RUN --base FOLDER --out DIR",
        "请用 --base 指定原始 16 位权重的文件夹：lorimer merge RUN --base FOLDER --out DIR",
    )
    if original != known:
        hint = say(
            "Get the original 16-bit model {name}, then: lorimer merge RUN --base FOLDER --out DIR",
            "请获取原始 16 位模型 {name}，然后：lorimer merge RUN --base FOLDER --out DIR",
            name=original,
        )
    return UserError(
        "base.quantised",
        say(
            "The base weights are quantised; merging into them would lose quality.",
            "基础权重已被量化；合并到其中会损失质量。",
        ),
        hint,
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
