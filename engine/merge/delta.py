"""What a trained adapter changes of one base weight: the arithmetic shared by merging and by every export.

Sources: Hu et al. 2021 (LoRA), Kalajdzievski 2023 (rank stabilisation), Liu et al. 2022 ((IA)³), in the file format of
PEFT (``adapter_config.json`` and ``adapter_model.safetensors``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from engine.project.atomic import read_json
from engine.protocol.errors import UserError
from engine.protocol.text import say

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

_PREFIX = "base_model.model."
_PARTS = ("lora_A.weight", "lora_B.weight", "lora_embedding_A", "lora_embedding_B", "ia3_l")
# What PEFT writes for variants whose arithmetic is not the one here.
_REFUSED = ("use_dora", "lora_bias", "use_qalora", "trainable_token_indices", "target_parameters")


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter folder whose weights are read one at a time.

    Attributes:
        folder: where it lies.
        config: ``adapter_config.json``.
        parts: base tensor name → {part ("lora_A.weight", …, or "" for a whole replaced tensor) → name in the file}.
    """

    folder: Path
    config: Mapping[str, Any]
    parts: Mapping[str, Mapping[str, str]]

    @classmethod
    def open(cls, folder: Path) -> Adapter:
        """The adapter in ``folder``.

        Raises:
            UserError: a file is missing or damaged, or the adapter is of a kind that cannot be merged.
        """
        config: dict[str, Any] = read_json(folder / CONFIG)
        _check_kind(config, folder)
        path = folder / WEIGHTS
        if not path.is_file():
            read_error = FileNotFoundError(str(path))
            raise _damaged(path, read_error) from read_error
        try:
            with safe_open(path, framework="pt") as file:
                names = list(file.keys())
        except (SafetensorError, OSError) as error:
            raise _damaged(path, error) from error
        parts: dict[str, dict[str, str]] = {}
        for name in names:
            base, part = _split(name)
            parts.setdefault(base, {})[part] = name
        return cls(folder, config, parts)

    def check_against(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """See that every weight the adapter changes is one of the base's ``shapes``.

        Raises:
            UserError: it belongs to another base model.
        """
        missing = [name for name in self.parts if name not in shapes]
        if missing:
            raise UserError(
                "adapter.other_base",
                say(
                    "The adapter changes {name}, which the base model does not have.",
                    "适配器修改了 {name}，但基础模型中没有该权重。",
                    name=missing[0],
                ),
                say("Use the base model that the run was trained on.", "请使用该次训练所用的基础模型。"),
                where=str(self.folder),
            )

    def merged(self, name: str, weight: Tensor) -> Tensor:
        """Base tensor ``name`` with the adapter in it, in float32; shape as given.

        A bias of a layer whose outputs are scaled by (IA)³ is scaled with them.

        Raises:
            UserError: the shapes do not fit: the adapter belongs to another base model.
        """
        result = weight.to(torch.float32)
        scaled_bias = name.endswith(".bias") and self._scales_outputs(name)
        parts = self.parts.get(f"{name.removesuffix('.bias')}.weight" if scaled_bias else name)
        if parts is None:
            return result
        tensors = self._read(parts)
        try:
            if scaled_bias:
                return result * tensors["ia3_l"].reshape(result.shape)
            return self._with(name, result, tensors)
        except RuntimeError as error:
            raise UserError(
                "adapter.other_base",
                say(
                    "The adapter does not fit {name} of the base model.",
                    "适配器与基础模型的 {name} 不匹配。",
                    name=name,
                ),
                say("Use the base model that the run was trained on.", "请使用该次训练所用的基础模型。"),
                where=str(self.folder),
                details=str(error),
            ) from error

    def _with(self, name: str, weight: Tensor, parts: Mapping[str, Tensor]) -> Tensor:
        if "" in parts:
            return parts[""].expand_as(weight).clone()
        if "ia3_l" in parts:
            return weight * (parts["ia3_l"].T if self.config.get("fan_in_fan_out") else parts["ia3_l"])
        if "lora_embedding_A" in parts:
            delta = (parts["lora_embedding_B"] @ parts["lora_embedding_A"]).T
        else:
            delta = parts["lora_B.weight"] @ parts["lora_A.weight"]
            delta = delta.T if self.config.get("fan_in_fan_out") else delta
        return weight + delta * self.scaling(name)

    def scaling(self, name: str) -> float:
        """alpha/rank, or alpha/√rank with rank stabilisation, of the layer that holds base tensor ``name``."""
        module = name.removesuffix(".weight")
        rank = float(_by_pattern(self.config.get("rank_pattern"), module, self.config["r"]))
        alpha = float(_by_pattern(self.config.get("alpha_pattern"), module, self.config["lora_alpha"]))
        return alpha / math.sqrt(rank) if self.config.get("use_rslora") else alpha / rank

    def _scales_outputs(self, bias: str) -> bool:
        parts = self.parts.get(f"{bias.removesuffix('.bias')}.weight", {})
        inner = self.config.get("feedforward_modules") or []
        return "ia3_l" in parts and bias.removesuffix(".bias").rpartition(".")[2] not in inner

    def _read(self, parts: Mapping[str, str]) -> dict[str, Tensor]:
        path = self.folder / WEIGHTS
        try:
            with safe_open(path, framework="pt") as file:
                return {part: file.get_tensor(name).to(torch.float32) for part, name in parts.items()}
        except (SafetensorError, OSError) as error:
            raise _damaged(path, error) from error


def _split(name: str) -> tuple[str, str]:
    """("model.layers.0.self_attn.q_proj.weight", "lora_A.weight") of a name in an adapter's file."""
    plain = name.removeprefix(_PREFIX)
    for part in _PARTS:
        if plain.endswith("." + part):
            return plain.removesuffix(part) + "weight", part
    return plain, ""


def _by_pattern(patterns: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    """The value of the first pattern that fits the end of ``module``, as PEFT looks it up."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def _check_kind(config: Mapping[str, Any], folder: Path) -> None:
    kind = str(config.get("peft_type", ""))
    variant = next((name for name in _REFUSED if config.get(name)), "")
    if kind in ("LORA", "IA3") and not variant:
        return
    raise UserError(
        "adapter.kind",
        say(
            "An adapter of the kind {kind} cannot be merged.",
            "无法合并 {kind} 类型的适配器。",
            kind=f"{kind} ({variant})" if variant else kind or "?",
        ),
        say("LoRA, QLoRA and (IA)³ can be merged.", "可以合并 LoRA、QLoRA 和 (IA)³。"),
        where=str(folder / CONFIG),
    )


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(
        "adapter.damaged",
        say("The adapter's weights {name} cannot be read.", "无法读取适配器权重 {name}。", name=path.name),
        say("Resume the run, or train it again.", "请恢复该次训练，或重新训练。"),
        where=str(path),
        details=str(error),
    )
