"""BLEU and chrF as sacrebleu counts them, as sums over rows: each row's counts, and the score of any sum of them.

Equal to sacrebleu's `corpus_score` (a test compares), but of 2,000 resamples at once. Sources: Papineni et al. 2002,
with the smoothing of NIST's mteval-v13a; Popović 2015; Post 2018.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics.bleu import BLEU

Numbers = NDArray[np.float64]
BLEU_ORDER = 4
CHRF_ORDER = 6
_BETA2 = 4.0
"""chrF2: recall weighs twice as much as precision, β² = 4."""

_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
# Kana, Thai, Lao, Burmese, Khmer: no spaces, and no tokenizer in sacrebleu that needs no further program.
_OTHER_UNSPACED = re.compile(r"[\u3040-\u30ff\u31f0-\u31ff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
_LETTER = re.compile(r"[^\W\d_]")
_SHARE = 0.05
"""Share of the letters from which on the tokenizer of a script is used; all of them treat other scripts well, too."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What one answer has in common with the right one.

    Attributes:
        bleu: (10,): words of the answer, of the reference, matched and all sequences of one to four words.
        chrf: (18,): per order, sequences of the answer, of the reference, matched.
        sentence_bleu, sentence_chrf: of this row alone, 0 to 100; BLEU only up to the order that the answer has.
    """

    bleu: Numbers
    chrf: Numbers
    sentence_bleu: float
    sentence_chrf: float


def tokenizer_for(references: Iterable[str]) -> str:
    """sacrebleu's tokenizer for these texts: ``zh`` where there is Chinese, ``char`` where there are other scripts
    without spaces (Japanese, Thai…), else ``13a``."""
    letters = han = unspaced = 0
    for text in references:
        letters += len(_LETTER.findall(text))
        han += len(_HAN.findall(text))
        unspaced += len(_OTHER_UNSPACED.findall(text))
    if unspaced > _SHARE * letters:
        return "char"
    return "zh" if han > _SHARE * letters else "13a"


def counts(reference: str, answer: str, tokenizer: str) -> Counts:
    """Of one row."""
    found = _bleu(tokenizer).sentence_score(answer, [reference])
    words = np.array([found.sys_len, found.ref_len, *found.counts, *found.totals], dtype=float)
    letters = _chrf_counts(reference, answer)
    return Counts(words, letters, float(found.score), float(chrf_of(letters)))


@cache
def _bleu(tokenizer: str) -> BLEU:
    return BLEU(tokenize=tokenizer, effective_order=True)


def _chrf_counts(reference: str, answer: str) -> Numbers:
    found = []
    for right, said in zip(_sequences(reference), _sequences(answer), strict=True):
        matched = sum(min(count, right[sequence]) for sequence, count in said.items() if sequence in right)
        # As sacrebleu does: where the reference has no sequence of this length, the answer's do not count.
        found += [said.total() if right else 0, right.total(), matched]
    return np.array(found, dtype=float)


@lru_cache(maxsize=8)
def _sequences(text: str) -> tuple[Counter[str], ...]:
    """Sequences of one to six characters, white space left out."""
    letters = "".join(text.split())
    return tuple(Counter(letters[i : i + n] for i in range(len(letters) - n + 1)) for n in range(1, CHRF_ORDER + 1))


def bleu_of(sums: Numbers) -> Numbers:
    """Corpus BLEU, 0 to 100, of (…, 10) sums; 0 where no word matches, or no answer has four words."""
    said, right = sums[..., 0], sums[..., 1]
    matched, all_ = sums[..., 2 : 2 + BLEU_ORDER], sums[..., 2 + BLEU_ORDER :]
    # A precision of 0 is smoothed: 1/2 of a match for the first order without any, 1/4 for the next…
    smoothing = 2.0 ** np.cumsum(matched <= 0, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(matched > 0, matched, 1 / smoothing) / all_
        brevity = np.where(said < right, np.exp(1 - right / said), 1.0)
        score = 100 * brevity * np.exp(np.log(precision).mean(-1))
    valid = (all_ > 0).all(-1) & (matched > 0).any(-1) & (said > 0)
    return np.where(valid, score, 0.0)


def chrf_of(sums: Numbers) -> Numbers:
    """Corpus chrF2, 0 to 100, of (…, 18) sums: over the lengths that both have."""
    said, right, matched = (sums[..., place::3] for place in range(3))
    there = (said > 0) & (right > 0)
    orders = np.maximum(there.sum(-1), 1)
    precision = np.where(there, matched / np.where(there, said, 1), 0).sum(-1) / orders
    recall = np.where(there, matched / np.where(there, right, 1), 0).sum(-1) / orders
    below = _BETA2 * precision + recall
    return np.where(below > 0, 100 * (1 + _BETA2) * precision * recall / np.where(below > 0, below, 1), 0.0)
