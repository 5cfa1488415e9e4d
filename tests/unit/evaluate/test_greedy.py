"""Answers of a batch, token by token, against transformers' `generate` for each prompt alone, in fp32."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from transformers import (
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from engine.evaluate.greedy import Asked, Greedy, common_prefix, knows

VOCABULARY = 61
END = 7
SIZES: dict[str, Any] = {"vocab_size": VOCABULARY, "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 48}


def _llama() -> Any:
    return LlamaForCausalLM(LlamaConfig(**SIZES, num_attention_heads=4, num_key_value_heads=2))


def _mistral() -> Any:
    """Its window is shorter than prompt and answer."""
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 12}
    return MistralForCausalLM(MistralConfig(**SIZES, **heads))


def _gpt2() -> Any:
    """Learned positions: beyond the last there is nothing."""
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_layer=2, n_embd=32, n_head=4, n_positions=48))


@pytest.fixture(params=[_llama, _mistral, _gpt2])
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(3)
    made = request.param().eval().float()
    for weight in made.parameters():
        weight.data.mul_(6)  # answers that depend on what stands before, and end sooner or later
    return made


def _alone(model: Any, ids: list[int], limit: int) -> list[int]:
    settings = GenerationConfig(max_new_tokens=limit, do_sample=False, pad_token_id=0, eos_token_id=END)
    given = torch.tensor([ids])
    said = model.generate(input_ids=given, attention_mask=torch.ones_like(given), generation_config=settings)
    return [int(token) for token in said[0, len(ids) :]]


@pytest.mark.parametrize("shared", [0, 20])
def test_answers_are_those_of_each_prompt_alone(model: Any, shared: int) -> None:
    lots = random.Random(5)
    beginning = [lots.randrange(8, VOCABULARY) for _ in range(shared)]
    prompts = [beginning + [lots.randrange(8, VOCABULARY) for _ in range(n)] for n in (1, 3, 3, 9, 14, 2, 6)]
    limits = [12, 5, 12, 12, 3, 12, 1]
    alone = [_alone(model, ids, limit) for ids, limit in zip(prompts, limits, strict=True)]
    told: list[float] = []
    greedy = Greedy(model, pad=0, context=48, prompts=prompts)
    asked = [Asked(ids, limit) for ids, limit in zip(prompts, limits, strict=True)]
    assert greedy.answer(asked, lambda said: said[-1] == END, told.append) == alone
    assert told == sorted(told)
    assert told[-1] == 1.0
    # And again: what all begin with is not touched by an answer.
    assert greedy.answer(asked[:2], lambda said: said[-1] == END, told.append) == alone[:2]


def test_rows_that_have_ended_leave_the_batch(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    forward = type(model).forward

    def watched(self: Any, *given: Any, **named: Any) -> Any:
        sizes.append(len(named["input_ids"]))
        return forward(self, *given, **named)

    greedy = Greedy(model, pad=0, context=None, prompts=[])
    monkeypatch.setattr(type(model), "forward", watched)
    greedy.answer([Asked([9, 10], limit) for limit in (2, 2, 2, 6)], lambda said: False, lambda done: None)
    assert sizes == [4, 4, 1, 1, 1, 1]


def test_a_prompt_that_fills_the_context_ends_in_time() -> None:
    model = _gpt2().eval()
    full, short = [9] * 46, [9, 10]
    greedy = Greedy(model, pad=0, context=48, prompts=[])
    said = greedy.answer([Asked(full, 2), *[Asked(short, 20)] * 4], lambda said: False, lambda done: None)
    assert [len(tokens) for tokens in said] == [2, 20, 20, 20, 20]


def test_models_it_does_not_know_are_left_to_generate(model: Any) -> None:
    assert knows(model)
    recurrent = MambaConfig(vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=1, state_size=4)
    assert not knows(MambaForCausalLM(recurrent))


@pytest.mark.parametrize(
    ("prompts", "shared"),
    [([], 0), ([[1, 2, 3]], 2), ([[1, 2], [1, 2, 3]], 1), ([[1, 2, 3], [1, 2, 4], [1, 2, 5, 6]], 2), ([[1], [2]], 0)],
)
def test_what_all_begin_with(prompts: list[list[int]], shared: int) -> None:
    assert common_prefix(prompts) == shared
