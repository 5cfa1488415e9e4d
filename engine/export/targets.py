"""What a trained model can be taken away as. Light: the window, the command line and the docs list it from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.protocol.errors import UserError
from engine.protocol.text import Text, say


@dataclass(frozen=True, slots=True)
class Target:
    """A way to export.

    Attributes:
        name: "adapter", "merged" or "gguf".
        label, summary: what people read.
        kind: the worker's job that makes it (an export is told the target's name as ``to``).
        is_file: it is one file; else a folder.
        suffix: of the file ("" for a folder).
    """

    name: str
    label: Text
    summary: Text
    kind: str
    is_file: bool
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Quantisation:
    """A type of GGUF.

    Attributes:
        name: as on the command line, in upper case ("Q4_K_M").
        label, summary: what people read.
        bits: mean bits per weight of large models, for a forecast of the size.
        limit: least share of next tokens (0 to 1) that must agree with base and adapter in 32-bit floats.
        file_type: llama.cpp's number of the mix (``llama_ftype``).
    """

    name: str
    label: Text
    summary: Text
    bits: float
    limit: float
    file_type: int


ADAPTER = Target(
    name="adapter",
    label=say("Adapter", "适配器"),
    summary=say("only what was learned; needs the base model beside it", "只含学到的部分；使用时需要基础模型"),
    kind="export",
    is_file=False,
)
MERGED = Target(
    name="merged",
    label=say("Merged weights", "合并后的权重"),
    summary=say(
        "a complete model in 16 bit, for transformers and vLLM", "完整的 16 位模型，可用于 transformers 和 vLLM"
    ),
    kind="merge",
    is_file=False,
)
GGUF = Target(
    name="gguf",
    label=say("GGUF", "GGUF"),
    summary=say("one file for llama.cpp, Ollama and LM Studio", "单个文件，可用于 llama.cpp、Ollama 和 LM Studio"),
    kind="export",
    is_file=True,
    suffix=".gguf",
)
TARGETS: dict[str, Target] = {target.name: target for target in (ADAPTER, MERGED, GGUF)}

# Bits of large models as llama.cpp's README of `quantize` lists them; limits: see tests/bench/bench_gguf_parity.py.
QUANTISATIONS: dict[str, Quantisation] = {
    kind.name: kind
    for kind in (
        Quantisation(
            "Q4_K_M",
            say("4 bit (Q4_K_M)", "4 位（Q4_K_M）"),
            say("smallest; the usual choice", "最小；常用选择"),
            bits=4.89,
            limit=0.85,
            file_type=15,
        ),
        Quantisation(
            "Q8_0",
            say("8 bit (Q8_0)", "8 位（Q8_0）"),
            say("next to no loss", "几乎无损"),
            bits=8.5,
            limit=0.98,
            file_type=7,
        ),
        Quantisation(
            "F16",
            say("16 bit (F16)", "16 位（F16）"),
            say("exact; the largest", "无损；体积最大"),
            bits=16.0,
            limit=0.995,
            file_type=1,
        ),
    )
}


def quantisation(name: str) -> Quantisation:
    """The type called ``name``, in any case ("q4_k_m"). Raises `UserError` when there is none."""
    found = QUANTISATIONS.get(name.upper())
    if found is None:
        raise UserError(
            "export.unknown_type",
            say('There is no GGUF type "{name}".', "没有名为“{name}”的 GGUF 类型。", name=name),
            say("Known: {names}.", "可用：{names}。", names=", ".join(QUANTISATIONS)),
            where="quantize",
        )
    return found


def estimated_bytes(parameters: int, bits: float) -> int:
    """Size of an export of a model with ``parameters`` weights of ``bits`` each."""
    return int(parameters * bits / 8)


_ROPES = ("default", "linear", "llama3", "yarn")


def gguf_refusal(config: Mapping[str, Any]) -> UserError | None:
    """Why a model with this ``config.json`` cannot become a GGUF here; None when it can."""
    architecture = next(iter(config.get("architectures") or ()), str(config.get("model_type", "?")))
    if architecture != "LlamaForCausalLM":
        return _refusal(
            say(
                "GGUF is written for the Llama architecture; this model is {name}.",
                "GGUF 导出支持 Llama 架构；此模型为 {name}。",
                name=architecture,
            ),
            "architectures",
        )
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind not in _ROPES:
        return _refusal(
            say(
                "The model stretches its context by {kind}, which GGUF does not hold.",
                "该模型使用 {kind} 扩展上下文，GGUF 不支持。",
                kind=kind,
            ),
            "rope_scaling",
        )
    return None


def _refusal(message: Text, where: str) -> UserError:
    return UserError(
        "export.architecture",
        message,
        say("Export the adapter or the merged weights instead.", "请改为导出适配器或合并后的权重。"),
        where=f"config.json: {where}",
    )
