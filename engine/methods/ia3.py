"""(IA)³: learned scales on keys, values and the feed-forward's inner activations. Source: Liu et al. 2022."""

from __future__ import annotations

from typing import Literal

from engine.methods.declare import LinearShape, Method, Numbers
from engine.protocol.text import Text, say
from engine.recipe.fields import setting
from engine.recipe.recipe import MethodSettings

OUTPUT_SCALED = ("k_proj", "v_proj")
INPUT_SCALED = ("down_proj",)


class Ia3Settings(MethodSettings):
    """Settings of (IA)³."""

    name: Literal["ia3"] = "ia3"
    feed_forward: bool = setting(
        True,
        label=say("Scale the feed-forward too", "同时缩放前馈层"),
        term="feedforward modules",
        help=say("Learns a little more for one scale per inner width.", "每个中间维度多一个缩放，略增学习能力。"),
        source="Liu et al. 2022",
    )


def trained_parameters(layers: tuple[LinearShape, ...], settings: Ia3Settings) -> int:
    """One scale per output of keys and values, and per input of the feed-forward's last layer (Liu et al. 2022)."""
    outputs = sum(s.outputs * s.count for s in layers if s.name in OUTPUT_SCALED)
    inputs = sum(s.inputs * s.count for s in layers if s.name in INPUT_SCALED)
    return outputs + (inputs if settings.feed_forward else 0)


def kept_per_token(layers: tuple[LinearShape, ...], settings: Ia3Settings, numbers: Numbers) -> int:
    """Bytes per token that the scales keep for the backward pass, all layers together: what they multiply.

    peft multiplies the feed-forward's input in fp32. Source: our count of tensors saved by autograd (torch 2.13, peft
    0.21, transformers 5.23), equal to within 1%.
    """
    outputs = sum(numbers.width * s.outputs * s.count for s in layers if s.name in OUTPUT_SCALED)
    inputs = sum(4 * s.inputs * s.count for s in layers if s.name in INPUT_SCALED)
    return outputs + (inputs if settings.feed_forward else 0)


def passing_per_token(layers: tuple[LinearShape, ...], settings: Ia3Settings, numbers: Numbers) -> int:
    """Bytes per token while the scale's gradient is computed: the incoming gradient and both products in fp32. Source:
    `engine.train.simulate`.
    """
    names = OUTPUT_SCALED + (INPUT_SCALED if settings.feed_forward else ())
    scaled = [s.inputs if s.name in INPUT_SCALED else s.outputs for s in layers if s.name in names]
    return 12 * max(scaled, default=0)


def _describe(settings: Ia3Settings) -> Text:
    return say("(IA)³", "(IA)³")


IA3 = Method(
    name="ia3",
    label=say("(IA)³", "(IA)³"),
    summary=say("fewest weights; weak on new knowledge", "训练的权重最少；不擅长学新知识"),
    settings=Ia3Settings,
    quantised=False,
    trained_parameters=trained_parameters,
    kept_per_token=kept_per_token,
    passing_per_token=passing_per_token,
    describe=_describe,
    work="engine.methods.ia3_work",
    relative_time=0.95,
    default_learning_rate=3e-3,
    source="Liu et al. 2022",
)
