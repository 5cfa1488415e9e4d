"""BLEU, chrF and ROUGE against sacrebleu and rouge_score, called directly."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF

from engine.evaluate.metrics import WordsAndCharacters, common_sequence, rouge
from engine.evaluate.ngrams import bleu_of, chrf_of, counts, tokenizer_for

PAIRS = [
    ("The cat sat on the mat.", "The cat sat on the mat."),
    ("The cat sat on the mat.", ""),
    ("", "something"),
    ("", ""),
    ("今天天气很好，我们去公园散步吧。", "今天天气不错，我们去公园走走。"),
    ("共有3个苹果和 5 pears.", "共有3个苹果，和5 pears"),
    ("猫がソファで寝ている。", "猫はソファの上で寝ています。"),
    ("yes", "no"),
    ("!!! …", "!!!"),
    ("a b\n\nc\td", "a  b c d\u00a0"),
    ("naïve café — “quoted”", 'naive cafe - "quoted"'),
]


@pytest.mark.parametrize("tokenizer", ["13a", "zh", "char"])
def test_corpus_scores_are_sacrebleus(tokenizer: str) -> None:
    references, answers = zip(*PAIRS, strict=True)
    found = [counts(*pair, tokenizer) for pair in PAIRS]
    whole, letters = (
        sum((getattr(one, name) for one in found), np.zeros(k)) for name, k in (("bleu", 10), ("chrf", 18))
    )
    assert float(bleu_of(whole)) == pytest.approx(BLEU(tokenize=tokenizer).corpus_score(answers, [references]).score)
    assert float(chrf_of(letters)) == pytest.approx(CHRF().corpus_score(answers, [references]).score)
    for (reference, answer), one in zip(PAIRS, found, strict=True):
        alone = BLEU(tokenize=tokenizer, effective_order=True).sentence_score(answer, [reference]).score
        assert one.sentence_bleu == pytest.approx(alone)
        assert one.sentence_chrf == pytest.approx(CHRF().sentence_score(answer, [reference]).score)


def test_random_strings_score_as_in_the_libraries() -> None:
    lots = random.Random(11)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=WordsAndCharacters())

    def text() -> str:
        return "".join(lots.choice("ab c dé猫狗，。 的x1 ,.!あ\n") for _ in range(lots.choice((0, 1, 3, 12, 60, 250))))

    for _ in range(60):
        references = [text() for _ in range(lots.choice((1, 3)))]
        answers = [one if lots.random() < 0.2 else text() for one in references]
        found = [counts(*pair, "zh") for pair in zip(references, answers, strict=True)]
        whole = sum((one.bleu for one in found), np.zeros(10))
        letters = sum((one.chrf for one in found), np.zeros(18))
        assert float(bleu_of(whole)) == pytest.approx(BLEU(tokenize="zh").corpus_score(answers, [references]).score)
        assert float(chrf_of(letters)) == pytest.approx(CHRF().corpus_score(answers, [references]).score)
        for reference, answer in zip(references, answers, strict=True):
            wanted, got = scorer.score(reference, answer), rouge(reference, answer)
            for name, value in (("rouge1", got.one), ("rouge2", got.two), ("rougeL", got.longest)):
                assert value is None or value == pytest.approx(wanted[name].fmeasure)


def test_scores_of_many_sums_at_once() -> None:
    one, other = counts("a b c d e", "a b c x e", "13a"), counts("f g h i", "f g h i j", "13a")
    sums = np.stack([one.bleu, other.bleu, one.bleu + other.bleu])
    assert bleu_of(sums) == pytest.approx([float(bleu_of(each)) for each in sums])
    assert bleu_of(np.zeros((2, 10))) == pytest.approx([0, 0])
    assert chrf_of(np.zeros((2, 18))) == pytest.approx([0, 0])


def test_very_long_texts_take_no_second() -> None:
    lots = random.Random(2)
    one, other = (" ".join(lots.choice("abcdefgh") for _ in range(4000)) for _ in range(2))
    began = time.process_time()
    found = rouge(one, other)
    assert time.process_time() - began < 2  # 0.01 s; rouge_score's own search takes some 10 s
    assert found.longest is not None
    assert 0.5 < found.longest < 1


@pytest.mark.parametrize(
    ("one", "other", "length"),
    [("abcd", "acbd", 3), ("", "abc", 0), ("abc", "", 0), ("aaaa", "aa", 2), ("abc", "xyz", 0)],
)
def test_longest_common_sequence(one: str, other: str, length: int) -> None:
    assert common_sequence(one, other) == common_sequence(other, one) == length


def test_a_reference_of_one_word_has_no_pair() -> None:
    assert rouge("yes", "yes").two is None
    assert rouge("yes", "yes").one == 1.0
    assert rouge("!", "!").one is None


@pytest.mark.parametrize(
    ("texts", "tokenizer"),
    [
        (["The cat.", "A dog."], "13a"),
        (["今天天气很好。"], "zh"),
        (["The cat.", "使用 Python 编写函数。"], "zh"),
        (["猫がソファで寝ている。"], "char"),
        (["แมวนอนหลับ"], "char"),
        (["고양이가 잔다."], "13a"),
        ([], "13a"),
        (["", "123 !"], "13a"),
    ],
)
def test_tokenizer_by_the_script(texts: list[str], tokenizer: str) -> None:
    assert tokenizer_for(texts) == tokenizer
