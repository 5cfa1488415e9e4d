"""Every architecture that Lorimer itself writes as a GGUF."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.export.families.declare import Family, rope
from engine.export.families.gemma import GEMMA2, GEMMA3
from engine.export.families.llama import LLAMA
from engine.export.families.mistral import MISTRAL
from engine.export.families.mixtral import MIXTRAL
from engine.export.families.phi import PHI3
from engine.export.families.qwen import QWEN2, QWEN3, QWEN3_MOE
from engine.protocol.errors import UserError
from engine.protocol.text import Text, say

FAMILIES: dict[str, Family] = {
    family.architecture: family for family in (LLAMA, MISTRAL, QWEN2, QWEN3, GEMMA2, GEMMA3, PHI3, QWEN3_MOE, MIXTRAL)
}


def architecture_of(config: Mapping[str, Any]) -> str:
    """The name of a model's architecture as its ``config.json`` gives it; "?" where it gives none."""
    named = config.get("architectures")
    first = named[0] if isinstance(named, list) and named else None
    return str(first or config.get("model_type") or "?")


def unfit(config: Mapping[str, Any], family: Family) -> tuple[Text, str] | None:
    """What of a model of ``family`` llama.cpp would compute otherwise, and the setting; None where nothing."""
    kind = str(rope(config)["rope_type"])
    if kind not in family.ropes:
        why = say("it stretches its context by {kind}", "它使用 {kind} 扩展上下文", kind=kind)
        return why, "rope_parameters"
    act = config.get("hidden_activation") or config.get("hidden_act") or family.activations[0]
    if act not in family.activations:
        return say("its layers use {name}", "它的层使用 {name}", name=str(act)), "hidden_act"
    share = rope(config).get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
    if share != 1.0 and family is not PHI3:
        return say("it turns only a part of each head", "它只旋转每个头的一部分"), "partial_rotary_factor"
    why_not = family.unfit(config)
    return None if why_not is None else (why_not, "config.json")


def gguf_refusal(config: Mapping[str, Any]) -> UserError | None:
    """Why a model with this ``config.json`` cannot become a GGUF here; None when it can."""
    name = architecture_of(config)
    family = FAMILIES.get(name)
    if family is None:
        return _refusal(
            say(
                "Lorimer itself writes no GGUF of {name}; it does of {known}.",
                "Lorimer 自身不支持将 {name} 写成 GGUF；支持：{known}。",
                name=name,
                known="; ".join(family.label for family in FAMILIES.values()),
            ),
            say(
                "llama.cpp's own converter may: name the folder of its sources with --llama-cpp. "
                "Or export the adapter or the merged weights.",
                "llama.cpp 自带的转换器也许可以：请用 --llama-cpp 指定其源码文件夹。也可以导出适配器或合并后的权重。",
            ),
            "architectures",
        )
    try:
        found = unfit(config, family)
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
        return damaged(error)
    if found is None:
        return None
    why, where = found
    return _refusal(
        say(
            "llama.cpp would compute this model otherwise: {why}.",
            "llama.cpp 的计算方式与该模型不同：{why}。",
            why=why,
        ),
        say("Export the adapter or the merged weights instead.", "请改为导出适配器或合并后的权重。"),
        where,
    )


def _refusal(message: Text, hint: Text, where: str) -> UserError:
    return UserError("export.architecture", message, hint, where=f"config.json: {where}")


def damaged(error: Exception) -> UserError:
    """The error for a configuration that holds what it should not."""
    return UserError(
        "export.config",
        say("The model's configuration is not what it should be.", "模型的配置不符合要求。"),
        say("Download the model's config.json again.", "请重新下载模型的 config.json。"),
        where="config.json",
        details=repr(error),
    )
