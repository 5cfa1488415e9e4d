"""Direct preference optimisation by TRL, on rows tokenised already. Source: Rafailov et al. 2023, equation 7."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import datasets
from peft import PeftModel
from torch import nn
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from engine.objectives.dpo import DpoSettings
from engine.objectives.trainer import Hooks, Parts, arguments, full_precision, one_device
from engine.protocol.errors import UserError
from engine.protocol.text import say

if TYPE_CHECKING:
    from engine.data.token_store import Examples

REFERENCE = "ref"
"""Name that TRL gives its copy of the adapter."""


def build_trainer(parts: Parts) -> Hooks:
    """A trainer that prefers the chosen answer; the reference is the base model, by switching the adapter off."""
    settings = parts.recipe.objective
    assert isinstance(settings, DpoSettings)
    if parts.recipe.train.short_rows == "packed":
        raise UserError(
            "train.packing_pairs",
            say("Rows of preferences cannot be packed.", "偏好数据不能拼接。"),
            say("Choose rows grouped by length instead.", "请改用按长度分组。"),
            where="train.short_rows",
        )
    restore = full_precision(parts.model)
    _still(parts.model)
    trainer = Preference(
        model=parts.model,
        args=one_device(
            DPOConfig(
                **arguments(parts),
                beta=settings.beta,
                max_length=None,
                # The base model's own dropout is off (`_still`); the adapter's is the recipe's to decide.
                disable_dropout=False,
            )
        ),
        train_dataset=datasets.Dataset.from_list(
            [encode(parts.train, 0)]
        ),  # TRL looks at one row; `attach` brings the others
        processing_class=parts.tokenizer,
        data_collator=DataCollatorForPreference(pad_token_id=parts.tokenizer.pad_token_id),
        callbacks=parts.callbacks,
    )
    if REFERENCE in parts.model.peft_config:
        # The copy of a fresh adapter changes nothing in the base model's answers: without it TRL switches the adapter
        # off instead, which is the same reference, also after a resume, at half the adapter's memory.
        parts.model.delete_adapter(REFERENCE)
    restore()
    trainer.attach(parts, encode)
    return trainer


def encode(rows: Examples, place: int) -> dict[str, list[int]]:
    """A row as TRL's collator is given it."""
    example = rows[place]
    return {
        "prompt_ids": example.prompt_ids,
        "chosen_ids": example.chosen_ids,
        "rejected_ids": example.rejected_ids,
    }


def _still(model: PeftModel) -> None:
    """Turn off the base model's dropout: the reference's log-probabilities must not be noisy."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout) and "lora_dropout" not in name:
            module.p = 0.0


class Preference(Hooks, DPOTrainer):
    """TRL's trainer on rows that are tokenised already."""

    def _prepare_dataset(self, dataset: Any, *arguments: Any, **named: Any) -> Any:
        return dataset
