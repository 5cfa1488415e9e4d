"""Supervised fine-tuning by TRL, on rows tokenised by the data room; the loss counts learned tokens only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np
import torch
from transformers.trainer_utils import EvalLoopOutput
from trl import SFTConfig, SFTTrainer

from engine.objectives.head import IGNORED, Scored, add_learned_head, score_all
from engine.objectives.trainer import Hooks, Parts, arguments, full_precision, one_device
from engine.protocol.errors import UserError
from engine.protocol.text import say

if TYPE_CHECKING:
    from engine.data.token_store import Examples


def build_trainer(parts: Parts) -> Hooks:
    """A trainer that learns the marked tokens of each row, in every turn."""
    restore = full_precision(parts.model)
    packed = parts.recipe.train.short_rows == "packed"
    if packed:
        prove_isolation(parts.model)
    trainer = Supervised(
        model=parts.model,
        args=one_device(SFTConfig(**arguments(parts), max_length=None, dataset_kwargs={"skip_prepare_dataset": True})),
        # TRL looks at one row to learn what it is given, and insists on this class; `attach` brings the rows.
        train_dataset=datasets.Dataset.from_list(
            [{name: value.tolist() for name, value in encode(parts.train, 0).items()}]
        ),
        processing_class=parts.tokenizer,
        data_collator=Join() if packed else Pad(parts.tokenizer.pad_token_id),
        callbacks=parts.callbacks,
    )
    restore()
    trainer.whole = parts.recipe.train.loss == "all"
    # A mixture of experts balances its experts with a loss of its own, which TRL's head brings along.
    if trainer.args.device.type == "cpu" and not trainer.aux_loss_enabled:
        add_learned_head(parts.model.get_base_model())
    trainer.attach(parts, encode)
    return trainer


def encode(rows: Examples, place: int) -> dict[str, torch.Tensor]:
    """A row as the model is given it: ids, and labels that are `IGNORED` where nothing is learned."""
    tokens, learned = rows.tokens(place)
    ids = torch.from_numpy(tokens.astype(np.int64))
    return {"input_ids": ids, "labels": ids.masked_fill(~torch.from_numpy(np.array(learned)), IGNORED)}


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


class Join:
    """Rows of one batch put behind one another, without padding.

    Positions begin anew with each row and no mask is given: transformers then lets each token attend to its own row
    alone (``masking_utils.find_packed_sequence_indices``); `prove_isolation` looks whether the model does.
    """

    def __call__(self, rows: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """(1, tokens of all rows) each: input_ids, labels, position_ids."""
        labels = [row["labels"].clone() for row in rows]
        for label in labels:
            label[0] = IGNORED  # what ends a row must not learn to predict how the next begins
        ids = [row["input_ids"] for row in rows]
        return {
            "input_ids": torch.cat(ids)[None],
            "labels": torch.cat(labels)[None],
            "position_ids": torch.cat([torch.arange(len(row)) for row in ids])[None],
        }


def prove_isolation(model: Any) -> None:
    """Show that in packed rows no token attends to another row: a row's scores stay when the row before it changes.

    Raises:
        UserError: the model's architecture does not keep packed rows apart.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    device, size = base.device, base.get_input_embeddings().num_embeddings
    first, other, row = (torch.arange(n, n + length) % size for n, length in ((3, 7), (11, 7), (29, 5)))
    was_training = model.training
    model.eval()
    with torch.no_grad():
        packs = [Join()([{"input_ids": ids, "labels": ids} for ids in (before, row)]) for before in (first, other)]
        scores = []
        for pack in packs:
            inputs = {name: value.to(device) for name, value in pack.items() if name != "labels"}
            scores.append(base(**inputs, use_cache=False).logits[0, len(first) :].float())
    model.train(was_training)
    one, two = scores
    if not torch.allclose(one, two, rtol=0, atol=1e-3 * float(one.abs().max())):
        raise UserError(
            "train.packing_leaks",
            say("With this model packed rows see one another.", "该模型无法隔离拼接在一起的行。"),
            say("Choose rows grouped by length instead.", "请改用按长度分组。"),
            where="train.short_rows",
        )


class Supervised(Hooks, SFTTrainer):
    """TRL's trainer, with a held-out loss that weighs every learned token alike, and no wait for figures.

    Attributes:
        whole: compute all logits at once, as transformers does.
    """

    whole = False
    _counted: torch.Tensor | None = None

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean loss over the learned tokens of the step: the sum here, divided by their number in all its batches."""
        if self.aux_loss_enabled:  # mixtures of experts: TRL adds their balancing loss
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)  # type: ignore[no-untyped-call]
        if self.whole:
            labels = inputs.pop("labels")
            scored = score_all(model(**inputs, use_cache=False).logits, labels)
        else:
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
