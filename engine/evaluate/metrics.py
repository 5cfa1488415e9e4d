"""How good answers and losses are: pure functions on strings and numbers. Knows nothing of models.

The unit of a loss is nats per token. Shares are 0 to 1. A metric that does not apply is None, never a made-up 0.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer

from engine.project.votes import binomial_p

# Scripts written without spaces, in which each character counts as a word: Han, kana, Thai, Lao, Burmese, Khmer.
_UNSPACED = (
    r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
    r"\u3040-\u30ff\u31f0-\u31ff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
)
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")


class WordsAndCharacters(Tokenizer):  # type: ignore[misc]  # rouge_score ships no types
    """Lower-case words, and single characters in scripts that put no space between words.

    On ASCII text it gives what rouge_score's own tokenizer gives; that one drops every other character, so that a right
    answer in Chinese would score 0.
    """

    def tokenize(self, text: str) -> list[str]:
        """The units that ROUGE compares."""
        return _WORD.findall(text.lower())


@cache
def _scorer() -> RougeScorer:
    return RougeScorer(["rouge1", "rouge2"], tokenizer=WordsAndCharacters())


@dataclass(frozen=True, slots=True)
class Rouge:
    """F1 of words, pairs of words, and the longest common sequence of words (Lin 2004); None where the reference has no
    word, or no pair, for which it is not defined."""

    one: float | None
    two: float | None
    longest: float | None


def rouge(reference: str, answer: str) -> Rouge:
    """ROUGE-1, ROUGE-2 and ROUGE-L as rouge_score gives them, on words (characters in Chinese)."""
    words, said = (WordsAndCharacters().tokenize(text) for text in (reference, answer))
    if not words:
        return Rouge(None, None, None)
    found = _scorer().score(reference, answer)
    two = float(found["rouge2"].fmeasure) if len(words) > 1 else None
    # rouge_score's own search for it takes a second for two texts of 2,000 words.
    return Rouge(float(found["rouge1"].fmeasure), two, 2 * common_sequence(words, said) / (len(words) + len(said)))


def rouge_l(reference: str, answer: str) -> float | None:
    """ROUGE-L F1 (Lin 2004): the longest common subsequence of words (characters in Chinese).

    None when the reference has no word at all (only punctuation or emoji), for which ROUGE is not defined.
    """
    return rouge(reference, answer).longest


def common_sequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence; a bit for each place of ``one`` (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for place, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << place
    every = (1 << len(one)) - 1
    left = every
    for word in other:
        met = left & places.get(word, 0)
        left = ((left + met) | (left - met)) & every
    return len(one) - left.bit_count()


def exact_match(reference: str, answer: str) -> bool:
    """The same text, after Unicode composition (NFC) and with every run of white space taken as one space.

    Case and punctuation count: what was asked for is what was trained.
    """
    return _canonical(reference) == _canonical(answer)


def _canonical(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that apply; None when none does."""
    found = [value for value in values if value is not None]
    return math.fsum(found) / len(found) if found else None


def mean_loss(sums: Sequence[float], tokens: Sequence[int]) -> float | None:
    """Mean loss over all learned tokens of all rows, as training counts it (long rows weigh more).

    Args:
        sums: summed negative log-likelihood of each row.
        tokens: learned tokens of each row.

    Returns:
        nats per token; None when there is no token or the sum is not a finite number.
    """
    count = sum(tokens)
    total = math.fsum(sums) if all(math.isfinite(value) for value in sums) else math.inf
    return total / count if count and math.isfinite(total) else None


def perplexity(loss: float | None) -> float | None:
    """exp(loss); None without a loss, and where the result is beyond what a float holds (a loss above 709)."""
    if loss is None:
        return None
    try:
        return math.exp(loss)
    except OverflowError:
        return None


def share(right: int, of: int) -> float | None:
    """``right / of``; None when there is nothing to count."""
    return right / of if of else None


def sign_test(better: int, worse: int) -> float | None:
    """Two-sided exact sign test (binomial with p = 1/2; ties are left out before, Dixon & Mood 1946).

    Returns:
        probability of a split at least this uneven if both sides were equally good; None when nothing differs.
    """
    return binomial_p(better, better + worse) if better + worse else None


@dataclass(frozen=True, slots=True)
class Tally:
    """How a paired comparison came out: rows better, worse, the same, and the sign test's p-value."""

    better: int
    worse: int
    same: int
    p_value: float | None


def tally(differences: Iterable[float | None], *, tolerance: float = 1e-9) -> Tally:
    """Count paired differences (above 0: tuned is better; None: not comparable, left out)."""
    better = worse = same = 0
    for difference in differences:
        if difference is None:
            continue
        if difference > tolerance:
            better += 1
        elif difference < -tolerance:
            worse += 1
        else:
            same += 1
    return Tally(better, worse, same, sign_test(better, worse))


def answer_limit(setting: int, longest_reference: int) -> int:
    """How many tokens an answer may have: min(setting, 2 × longest reference + 16).

    A base model that never learned to stop would babble to the setting on each row; an answer more than twice as long
    as the longest right one can be neither exact nor close, so nothing is lost by ending it.
    """
    return max(1, min(setting, 2 * longest_reference + 16))
