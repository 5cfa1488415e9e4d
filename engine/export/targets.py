"""What a trained model can be taken away as. Light: the window, the command line and the docs list it from here."""

from __future__ import annotations

from dataclasses import dataclass

from engine.export.families.registry import gguf_refusal as gguf_refusal
from engine.export.parity import LIMITS
from engine.protocol.errors import UserError
from engine.protocol.text import Text, say


@dataclass(frozen=True, slots=True)
class Target:
    """A way to export.

    Attributes:
        name: "adapter", "merged", "gguf" or "gguf-adapter".
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
        file_type: llama.cpp's number of the mix (``llama_ftype``).
    """

    name: str
    label: Text
    summary: Text
    bits: float
    file_type: int

    @property
    def limit(self) -> float:
        """Least share of next tokens (0 to 1) that must agree with base and adapter in 32-bit floats."""
        return LIMITS[self.name].next_token


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
GGUF_ADAPTER = Target(
    name="gguf-adapter",
    label=say("Adapter as GGUF", "GGUF 适配器"),
    summary=say(
        "only what was learned, for llama.cpp beside a GGUF of the base",
        "只含学到的部分，供 llama.cpp 配合基础模型的 GGUF",
    ),
    kind="export",
    is_file=True,
    suffix=".gguf",
)
OLLAMA = Target(
    name="ollama",
    label=say("Ollama", "Ollama"),
    summary=say(
        "a GGUF with a Modelfile: template, stop tokens and context as trained",
        "GGUF 加 Modelfile：模板、结束词元和上下文与训练时一致",
    ),
    kind="export",
    is_file=False,
)
LM_STUDIO = Target(
    name="lmstudio",
    label=say("LM Studio", "LM Studio"),
    summary=say("a GGUF where LM Studio looks for models", "把 GGUF 放到 LM Studio 查找模型的位置"),
    kind="export",
    is_file=True,
    suffix=".gguf",
)
TARGETS: dict[str, Target] = {
    target.name: target for target in (ADAPTER, MERGED, GGUF, GGUF_ADAPTER, OLLAMA, LM_STUDIO)
}

# Bits: of Llama 3.1 8B by `engine.export.gguf_size`.
QUANTISATIONS: dict[str, Quantisation] = {
    kind.name: kind
    for kind in (
        Quantisation(
            "Q2_K",
            say("2 bit (Q2_K)", "2 位（Q2_K）"),
            say("the smallest; answers suffer, for when nothing else fits", "最小；回答会变差，仅在别无选择时使用"),
            bits=3.16,
            file_type=10,
        ),
        Quantisation(
            "Q3_K_M",
            say("3 bit (Q3_K_M)", "3 位（Q3_K_M）"),
            say("very small; some loss", "很小；有一定损失"),
            bits=4.0,
            file_type=12,
        ),
        Quantisation(
            "IQ4_XS",
            say("4 bit, tight (IQ4_XS)", "4 位紧凑（IQ4_XS）"),
            say("a tenth smaller than Q4_K_M, slower without a GPU", "比 Q4_K_M 小约一成，无 GPU 时较慢"),
            bits=4.46,
            file_type=30,
        ),
        Quantisation(
            "Q4_0",
            say("4 bit, plain (Q4_0)", "4 位基础（Q4_0）"),
            say("for phones, ARM processors and older programs", "适合手机、ARM 处理器和旧版程序"),
            bits=4.64,
            file_type=2,
        ),
        Quantisation(
            "Q4_K_M",
            say("4 bit (Q4_K_M)", "4 位（Q4_K_M）"),
            say("small with little loss; the usual choice", "体积小、损失少；常用选择"),
            bits=4.89,
            file_type=15,
        ),
        Quantisation(
            "Q5_K_M",
            say("5 bit (Q5_K_M)", "5 位（Q5_K_M）"),
            say("somewhat larger, closer to what you trained", "稍大，更接近训练结果"),
            bits=5.7,
            file_type=17,
        ),
        Quantisation(
            "Q6_K",
            say("6 bit (Q6_K)", "6 位（Q6_K）"),
            say("hardly any loss", "损失极小"),
            bits=6.56,
            file_type=18,
        ),
        Quantisation(
            "Q8_0",
            say("8 bit (Q8_0)", "8 位（Q8_0）"),
            say("next to no loss", "几乎无损"),
            bits=8.5,
            file_type=7,
        ),
        Quantisation(
            "F16",
            say("16 bit (F16)", "16 位（F16）"),
            say("no loss worth naming; runs everywhere", "损失可忽略；处处可用"),
            bits=16.0,
            file_type=1,
        ),
        Quantisation(
            "BF16",
            say("16 bit (BF16)", "16 位（BF16）"),
            say("the weights as merged in bf16; to make other types from", "与 bf16 合并权重相同；便于再转换"),
            bits=16.0,
            file_type=32,
        ),
        Quantisation(
            "F32",
            say("32 bit (F32)", "32 位（F32）"),
            say("nothing is rounded; twice as large, for checking", "不做任何舍入；体积翻倍，用于核对"),
            bits=32.0,
            file_type=0,
        ),
    )
}
RECOMMENDED = "Q4_K_M"
"""The type that is chosen where nobody chose."""


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
