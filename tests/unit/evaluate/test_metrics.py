"""Metrics against values worked out by hand."""

import math

import pytest
from rouge_score.tokenizers import DefaultTokenizer

from engine.evaluate.metrics import (
    WordsAndCharacters,
    answer_limit,
    exact_match,
    mean,
    mean_loss,
    perplexity,
    rouge_l,
    share,
    sign_test,
    tally,
)


@pytest.mark.parametrize(
    ("reference", "answer", "same"),
    [
        ("The cat.", " The  cat.\n", True),
        ("The cat.", "the cat.", False),
        ("The cat.", "The cat", False),
        ("caf\u00e9", "cafe\u0301", True),
        ("红色", "红色", True),
        ("红色", "红", False),
        ("", "", True),
    ],
)
def test_exact_match(reference: str, answer: str, same: bool) -> None:
    assert exact_match(reference, answer) is same


@pytest.mark.parametrize(
    ("reference", "answer", "expected"),
    [
        # LCS "the cat on mat" = 4 of 5 and of 6: F1 = 2·(4/5)(4/6)/(4/5+4/6) = 8/11.
        ("the cat is on mat", "a the cat on a mat", 8 / 11),
        ("the cat", "the cat", 1.0),
        ("the cat", "dog", 0.0),
        ("the cat", "", 0.0),
        # LCS 我喜欢猫 = 4 of 5 and of 4: F1 = 2·0.8/1.8 = 8/9.
        ("我喜欢小猫。", "我喜欢猫", 8 / 9),
        ("共有 3 个苹果", "共有 3 个苹果", 1.0),
    ],
)
def test_rouge_l(reference: str, answer: str, expected: float) -> None:
    assert rouge_l(reference, answer) == pytest.approx(expected)


def test_rouge_l_does_not_apply_without_words() -> None:
    assert rouge_l("!!! 🎉", "!!! 🎉") is None


def test_words_equal_those_of_rouge_score_on_ascii() -> None:
    text = "It's 3.5 o'clock, snake_case & CamelCase -- e.g. THIS?"
    assert WordsAndCharacters().tokenize(text) == DefaultTokenizer().tokenize(text)


def test_words_of_mixed_text() -> None:
    assert WordsAndCharacters().tokenize("用GPU训练 2 次，Größe") == ["用", "gpu", "训", "练", "2", "次", "größe"]


def test_mean_loss_weighs_tokens() -> None:
    assert mean_loss([2.0, 9.0], [1, 9]) == pytest.approx(1.1)
    assert mean_loss([0.0], [0]) is None
    assert mean_loss([1.0, math.nan], [1, 1]) is None
    assert mean_loss([1.0, math.inf], [1, 1]) is None


def test_perplexity() -> None:
    assert perplexity(math.log(8)) == pytest.approx(8.0)
    assert perplexity(710.0) is None
    assert perplexity(None) is None


def test_mean_and_share() -> None:
    assert mean([1.0, None, 0.0]) == 0.5
    assert mean([None]) is None
    assert share(1, 4) == 0.25
    assert share(0, 0) is None


@pytest.mark.parametrize(
    ("better", "worse", "expected"),
    [
        # 2·(C(10,0)+C(10,1))/2^10 = 22/1024.
        (9, 1, 22 / 1024),
        (1, 9, 22 / 1024),
        (5, 0, 2 / 32),
        # 2·(1+5+10+10... half of all)/2^4 is above 1 and is capped.
        (2, 2, 1.0),
        (1, 0, 1.0),
    ],
)
def test_sign_test(better: int, worse: int, expected: float) -> None:
    assert sign_test(better, worse) == pytest.approx(expected, rel=1e-12)


def test_sign_test_of_nothing_and_of_much() -> None:
    assert sign_test(0, 0) is None
    much = sign_test(90_000, 10_000)
    assert much is not None
    assert much == 0.0 or much < 1e-300


def test_tally_leaves_out_what_cannot_be_compared() -> None:
    counted = tally([0.5, 1e-12, -0.1, None, 0.2])
    assert (counted.better, counted.worse, counted.same) == (2, 1, 1)
    assert counted.p_value == pytest.approx(1.0)


def test_answer_limit() -> None:
    assert answer_limit(128, 20) == 56
    assert answer_limit(32, 20) == 32
    assert answer_limit(128, 0) == 16
