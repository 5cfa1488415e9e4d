"""LoRA and QLoRA: low-rank adapters beside frozen linear layers, 16-bit or 4-bit.

Sources: Hu et al. 2021 (LoRA), Dettmers et al. 2023 (QLoRA), Kalajdzievski 2023 (rank stabilisation).
"""

from __future__ import annotations

from typing import Literal

from engine.methods.declare import LinearShape, Method, Numbers
from engine.protocol.text import Text, say
from engine.recipe.fields import setting
from engine.recipe.recipe import MethodSettings

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
TARGETS: dict[str, tuple[str, ...]] = {
    "all": ALL_LINEAR,
    "attention": ALL_LINEAR[:4],
    "query_value": ("q_proj", "v_proj"),
}


class LoraSettings(MethodSettings):
    """Settings of LoRA with 16-bit base weights."""

    name: Literal["lora"] = "lora"
    rank: int = setting(
        16,
        label=say("Rank", "秩"),
        term="r",
        help=say(
            "Higher learns more and needs more memory; 8 to 32 is usual.", "越高能学得越多、越占显存；常用 8 到 32。"
        ),
        ge=1,
        le=1024,
        source="common practice: 8 to 16 for dialogue, 16 to 32 for reasoning or code",
    )
    alpha: float = setting(
        16.0,
        label=say("Scale", "缩放"),
        term="alpha",
        help=say(
            "The adapter counts alpha/√rank with rank stabilisation, alpha/rank without.",
            "启用秩稳定时适配器乘以 alpha/√rank，否则乘以 alpha/rank。",
        ),
        gt=0,
        le=4096,
    )
    rank_stabilised: bool = setting(
        True,
        label=say("Rank-stabilised", "秩稳定"),
        term="rsLoRA",
        help=say("Keeps the step size right when the rank is changed.", "改变秩时保持更新幅度合适。"),
        source="PEFT method comparison (MetaMathQA): best of the common choices",
    )
    dropout: float = setting(
        0.05,
        label=say("Adapter dropout", "适配器丢弃率"),
        term="dropout",
        help=say("Guards small data sets against learning by heart.", "防止小数据集被死记硬背。"),
        ge=0,
        lt=1,
        source="Dettmers et al. 2023",
    )
    targets: Literal["all", "attention", "query_value"] = setting(
        "all",
        label=say("Layers trained", "训练的层"),
        term="target modules",
        help=say("All linear layers learn best; fewer need less memory.", "所有线性层效果最好；少一些省显存。"),
        choices={
            "all": say("all linear layers", "所有线性层"),
            "attention": say("attention", "注意力层"),
            "query_value": say("query and value", "查询和值"),
        },
        source="Dettmers et al. 2023",
    )


class QloraSettings(LoraSettings):
    """Settings of LoRA on base weights kept in 4-bit NF4."""

    name: Literal["qlora"] = "qlora"  # type: ignore[assignment]
    quant_type: Literal["nf4", "fp4"] = setting(
        "nf4",
        label=say("4-bit format", "4 位格式"),
        term="quant type",
        help=say("NF4 fits the spread of trained weights; FP4 is coarser.", "NF4 更贴合权重分布；FP4 较粗。"),
        choices={"nf4": say("NF4", "NF4"), "fp4": say("FP4", "FP4")},
        source="Dettmers et al. 2023",
    )
    double_quantisation: bool = setting(
        True,
        label=say("Quantise the constants too", "二次量化"),
        term="double quantisation",
        help=say("Saves about 0.4 bits a weight at no visible loss.", "每个权重约省 0.4 位，几乎无损。"),
        source="Dettmers et al. 2023",
    )


def trained_parameters(layers: tuple[LinearShape, ...], settings: LoraSettings) -> int:
    """rank · (inputs + outputs) for each targeted linear layer (Hu et al. 2021, section 4.1)."""
    wanted = TARGETS[settings.targets]
    return sum(settings.rank * (s.inputs + s.outputs) * s.count for s in layers if s.name in wanted)


def kept_per_token(layers: tuple[LinearShape, ...], settings: LoraSettings, numbers: Numbers) -> int:
    """Bytes per token that the adapters keep for the backward pass, all layers together.

    A keeps its input and B keeps A's output (the rank). A's input is the layer's own after dropout, or its copy in the
    compute format; without either q, k, v share one input, gate and up another; o's is the attention's output, kept
    anyway. Source: `engine.train.simulate` (torch 2.13, peft 0.21, transformers 5.23), equal to within 2%.
    """
    wanted = [s for s in layers if s.name in TARGETS[settings.targets]]
    ranks = sum(settings.rank * numbers.width * s.count for s in wanted)
    if settings.dropout > 0:
        return ranks + sum((numbers.width + numbers.mask) * s.inputs * s.count for s in wanted)
    if numbers.copied:
        return ranks + sum(numbers.width * s.inputs * s.count for s in wanted)
    shared = {_INPUT[s.name]: numbers.width * s.inputs * s.count for s in wanted if _INPUT[s.name]}
    return ranks + sum(shared.values())


def passing_per_token(layers: tuple[LinearShape, ...], settings: LoraSettings, numbers: Numbers) -> int:
    """Bytes per token while the adapter of the feed-forward's last layer is computed: the layer's own input, its fp32
    copy and what dropout makes of that, and five values of the hidden width. Source as of `kept_per_token`.
    """
    wanted = [s for s in layers if s.name in TARGETS[settings.targets]]
    widest = max(wanted, key=lambda s: s.inputs, default=None)
    if widest is None:
        return 0
    held = numbers.width if settings.dropout > 0 or numbers.copied else 0
    if numbers.copied:
        held += 8 if settings.dropout > 0 else 4
    return held * widest.inputs + 5 * numbers.width * min(widest.inputs, widest.outputs)


_INPUT = {
    "q_proj": "attention",
    "k_proj": "attention",
    "v_proj": "attention",
    "o_proj": "",
    "gate_proj": "feed_forward",
    "up_proj": "feed_forward",
    "down_proj": "product",
}


def _describe_lora(settings: LoraSettings) -> Text:
    return say("LoRA 16-bit, rank {r}", "LoRA 16 位，秩 {r}", r=settings.rank)


def _describe_qlora(settings: QloraSettings) -> Text:
    return say("QLoRA, rank {r}", "QLoRA，秩 {r}", r=settings.rank)


LORA = Method(
    name="lora",
    label=say("LoRA, 16-bit", "LoRA，16 位"),
    summary=say("exact base weights; needs the most memory of the adapters", "基础权重不量化；在适配器方法中最占显存"),
    settings=LoraSettings,
    quantised=False,
    trained_parameters=trained_parameters,
    kept_per_token=kept_per_token,
    passing_per_token=passing_per_token,
    describe=_describe_lora,
    work="engine.methods.lora_work",
    relative_time=1.0,
    default_learning_rate=2e-4,
    source="Hu et al. 2021",
)
QLORA = Method(
    name="qlora",
    label=say("QLoRA, 4-bit", "QLoRA，4 位"),
    summary=say("base weights in 4-bit; the most model for the memory", "基础权重为 4 位；同样显存可训练最大的模型"),
    settings=QloraSettings,
    quantised=True,
    trained_parameters=trained_parameters,
    kept_per_token=kept_per_token,
    passing_per_token=passing_per_token,
    describe=_describe_qlora,
    work="engine.methods.lora_work",
    relative_time=1.25,
    default_learning_rate=2e-4,
    source="Dettmers et al. 2023",
)
