"""Scoring learned positions only gives what scoring all of them gives."""

from pathlib import Path
from typing import Any

import pytest
import torch
from trl.trainer.utils import add_fused_lm_head

from engine.model.load import load_base
from engine.objectives import head
from engine.objectives.head import IGNORED, Scored, add_learned_head, score_all


def batch() -> dict[str, torch.Tensor]:
    ids = torch.arange(3, 43).reshape(4, 10)
    labels = ids.masked_fill((ids % 4) != 0, IGNORED)
    return {"input_ids": ids, "labels": labels, "attention_mask": torch.ones_like(ids)}


def both(model: Any) -> tuple[Scored, Scored]:
    """TRL's way and ours."""
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    theirs = Scored.of(model(**batch(), fused_lm_head=True))
    add_learned_head(model)
    return theirs, model(**batch(), fused_lm_head=True)


def test_same_loss_count_and_accuracy_as_trl(tiny: Path) -> None:
    theirs, ours = both(load_base(tiny, quantised=False))
    assert isinstance(ours, Scored)
    assert ours.total.item() == pytest.approx(theirs.total.item(), rel=1e-6)
    assert int(ours.learned) == int(theirs.learned) == int((batch()["labels"][:, 1:] != IGNORED).sum())
    assert int(ours.right) == int(theirs.right)


def test_same_gradients_as_trl(tiny: Path) -> None:
    gradients = []
    for learned_only in (False, True):
        model = load_base(tiny, quantised=False)
        add_fused_lm_head(model, outputs=("log_probs", "is_top1"))
        if learned_only:
            add_learned_head(model)
        weight = model.get_parameter("model.layers.0.mlp.up_proj.weight").requires_grad_()
        Scored.of(model(**batch(), fused_lm_head=True)).total.backward()
        gradients.append(weight.grad)
    assert torch.allclose(gradients[0], gradients[1], atol=1e-5)


def test_all_logits_at_once_come_to_the_same(tiny: Path) -> None:
    model = load_base(tiny, quantised=False)
    inputs = batch()
    labels = inputs.pop("labels")
    ours, theirs = score_all(model(**inputs).logits, labels), model(**inputs, labels=labels).loss
    assert (ours.total / ours.learned).item() == pytest.approx(theirs.item(), rel=1e-6)
    _, pieces = both(model)
    assert ours.total.item() == pytest.approx(pieces.total.item(), rel=1e-6)
    assert (int(ours.learned), int(ours.right)) == (int(pieces.learned), int(pieces.right))


def test_without_learned_tokens_the_loss_is_zero_and_can_be_differentiated(tiny: Path) -> None:
    model = load_base(tiny, quantised=False)
    add_fused_lm_head(model)
    add_learned_head(model)
    weight = model.get_parameter("model.norm.weight").requires_grad_()
    nothing = {**batch(), "labels": torch.full((4, 10), IGNORED)}
    scored = model(**nothing, fused_lm_head=True)
    scored.total.backward()
    assert (scored.total.item(), int(scored.learned)) == (0.0, 0)
    assert weight.grad is not None
    assert not weight.grad.any()


def test_large_vocabularies_are_left_to_trl(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "MOST_LOGITS", 100)
    theirs, ours = both(load_base(tiny, quantised=False))
    assert not isinstance(ours, Scored)
    assert Scored.of(ours).total.item() == theirs.total.item()


def test_rescaled_logits_are_left_to_trl() -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        final_logit_softcapping=30.0,
    )
    _, ours = both(Gemma2ForCausalLM(config).eval())
    assert not isinstance(ours, Scored)


def test_plain_forward_is_untouched(tiny: Path) -> None:
    model = load_base(tiny, quantised=False)
    before = model(input_ids=batch()["input_ids"]).logits
    both(model)
    assert torch.equal(model(input_ids=batch()["input_ids"]).logits, before)
