"""Supervised fine-tuning: learn the answers of the rows, token by token."""

from __future__ import annotations

from typing import Literal

from engine.objectives.declare import Objective
from engine.protocol.text import say
from engine.recipe.recipe import ObjectiveSettings


class SftSettings(ObjectiveSettings):
    """SFT has no settings of its own; what is learned is said by ``data.learn_from``."""

    name: Literal["sft"] = "sft"


SFT = Objective(
    name="sft",
    label=say("Learn the answers (SFT)", "学习回答（SFT）"),
    summary=say("for rows with a question and a good answer", "适用于有提问和优质回答的数据"),
    settings=SftSettings,
    preference=False,
    work="engine.objectives.sft_work",
    forward_passes=1.0,
    rows_per_example=1,
    default_learning_rate_factor=1.0,
    source="TRL SFTTrainer",
)
