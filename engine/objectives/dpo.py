"""Direct preference optimisation: prefer the chosen answer to the rejected one. Source: Rafailov et al. 2023."""

from __future__ import annotations

from typing import Literal

from engine.objectives.declare import Objective
from engine.protocol.text import say
from engine.recipe.fields import setting
from engine.recipe.recipe import ObjectiveSettings


class DpoSettings(ObjectiveSettings):
    """Settings of DPO."""

    name: Literal["dpo"] = "dpo"
    beta: float = setting(
        0.1,
        label=say("Closeness to the base model", "与基础模型的接近程度"),
        term="beta",
        help=say("Lower moves further from the base model.", "越低离基础模型越远。"),
        gt=0,
        le=10,
        source="Rafailov et al. 2023",
    )


DPO = Objective(
    name="dpo",
    label=say("Learn a preference (DPO)", "学习偏好（DPO）"),
    summary=say("for rows with a better and a worse answer", "适用于有较好和较差回答的数据"),
    settings=DpoSettings,
    preference=True,
    work="engine.objectives.dpo_work",
    forward_passes=2.0,
    rows_per_example=2,
    default_learning_rate_factor=0.1,
    source="Rafailov et al. 2023",
)
