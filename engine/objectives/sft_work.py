"""Supervised fine-tuning by TRL, on rows tokenised by the data room; the loss counts learned tokens only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import datasets
import torch
from transformers.trainer_utils import EvalLoopOutput
from trl import SFTConfig, SFTTrainer

from engine.objectives.head import IGNORED, Scored, add_learned_head
from engine.objectives.trainer import Hooks, Parts, arguments, full_precision, one_device

if TYPE_CHECKING:
    from engine.data.prepare import Example


def build_trainer(parts: Parts) -> Hooks:
    """A trainer that learns the marked tokens of each row, in every turn."""
    rows = [encode(example) for example in parts.train]
    held_out = [encode(example) for example in sorted(parts.held_out, key=lambda example: len(example.input_ids))]
    restore = full_precision(parts.model)
    trainer = Supervised(
        model=parts.model,
        args=one_device(SFTConfig(**arguments(parts), max_length=None, dataset_kwargs={"skip_prepare_dataset": True})),
        # TRL looks at one row to learn what it is given, and insists on this class; `attach` brings the rows.
        train_dataset=datasets.Dataset.from_list([{name: value.tolist() for name, value in rows[0].items()}]),
        processing_class=parts.tokenizer,
        data_collator=Pad(parts.tokenizer.pad_token_id),
        callbacks=parts.callbacks,
    )
    restore()
    if trainer.args.device.type == "cpu":
        add_learned_head(parts.model.get_base_model())
    trainer.attach(parts, rows, held_out, [len(row["input_ids"]) for row in rows])
    return trainer


def encode(example: Example) -> dict[str, torch.Tensor]:
    """A row as the model is given it: ids, and labels that are `IGNORED` where nothing is learned."""
    ids = torch.tensor(example.input_ids)
    return {"input_ids": ids, "labels": ids.masked_fill(~torch.tensor(example.learned), IGNORED)}


class Pad:
    """Rows of one batch on the right brought to the length of its longest.

    TRL's collator does the same by way of lists; this one starts from the tensors that are there.
    """

    def __init__(self, padding: int) -> None:
        self._padding = padding

    def __call__(self, rows: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """(rows, longest) each: input_ids, labels, attention_mask."""
        pad = torch.nn.utils.rnn.pad_sequence
        ids = [row["input_ids"] for row in rows]
        return {
            "input_ids": pad(ids, batch_first=True, padding_value=self._padding),
            "labels": pad([row["labels"] for row in rows], batch_first=True, padding_value=IGNORED),
            "attention_mask": pad([torch.ones_like(row) for row in ids], batch_first=True),
        }


class Supervised(Hooks, SFTTrainer):
    """TRL's trainer, with a held-out loss that weighs every learned token alike, and no wait for figures."""

    _counted: torch.Tensor | None = None

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean loss over the learned tokens of the step: the sum here, divided by their number in all its batches."""
        if self.aux_loss_enabled:  # mixtures of experts: TRL adds their balancing loss
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)  # type: ignore[no-untyped-call]
        scored = Scored.of(model(**inputs, use_cache=False, fused_lm_head=True))
        self._tally(scored.total.detach(), scored.learned, scored.right)
        return scored.total / (scored.learned.clamp(min=1) if num_items_in_batch is None else num_items_in_batch)

    def _tally(self, *figures: torch.Tensor) -> None:
        """Count loss, learned tokens and right tokens, on the device: reading them here would make a GPU wait."""
        added = torch.stack([figure.float() for figure in figures])
        self._counted = added if self._counted is None else self._counted + added

    def _read(self) -> tuple[float, float] | None:
        """Mean loss and share of right tokens since the last reading; None when nothing was counted."""
        counted, self._counted = self._counted, None
        if counted is None:
            return None
        total, learned, right = counted.tolist()
        return (total / learned, right / learned) if learned else None

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the token accuracy of the step."""
        if "loss" in logs and (read := self._read()):
            logs["mean_token_accuracy"] = read[1]
        super().log(logs, start_time)

    def evaluation_loop(self, *arguments: Any, **named: Any) -> EvalLoopOutput:
        """Measure; the library's mean over batches is replaced by the mean over learned tokens."""
        self._counted = None
        output = super().evaluation_loop(*arguments, **named)
        read = self._read()
        if read and output.metrics is not None:
            output.metrics["eval_loss"], output.metrics["eval_mean_token_accuracy"] = read
        return output
