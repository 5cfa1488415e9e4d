"""Whether merged weights say what base and adapter say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from engine.merge.compare import Agreement
from engine.merge.prompts import Sample
from engine.merge.reference import Choice, Reference, opened
from engine.merge.weights import BaseWeights
from engine.protocol.text import Text, say

# Rounding once to bf16 moves a logit by far less than a wrong scale or a forgotten layer would; measured 1.0 on the
# starter and on stories260K.
LIMIT = 0.99
ANSWER = 32
_GIB = 1024**3


def precision_that_fits(base: BaseWeights) -> str | None:
    """ "fp32" where the free memory holds the model so, else "bf16", else None."""
    free = psutil.virtual_memory().available
    for precision, size in (("fp32", 4), ("bf16", 2)):
        if base.elements * size * 1.3 < free:
            return precision
    return None


def no_memory(base: BaseWeights) -> dict[str, str]:
    """Why nothing was compared, as JSON holds it: a text in each language."""
    return plain(
        say(
            "comparing needs {need:.1f} GiB of free memory",
            "对比需要 {need:.1f} GiB 空闲内存",
            need=base.elements * 2.6 / _GIB,
        )
    )


def plain(text: Text) -> dict[str, str]:
    """A text as JSON holds it."""
    return {"en": text.en, "zh": text.zh}


def answer_choices(
    reference: Reference, samples: Sequence[Sample], stops: Sequence[int], beat: Callable[[], None]
) -> list[list[Choice]]:
    """What a model says at each place of each sample's answer; of its own answer where the sample has none."""
    found = []
    for sample in samples:
        beat()
        if sample.answer:
            answer = sample.answer[:ANSWER]
            found.append(reference.forced(sample.prompt + answer, len(sample.prompt)))
        else:
            found.append(reference.greedy(sample.prompt, ANSWER, stops))
    return found


def verify_merged(
    base: BaseWeights,
    adapter: Path,
    merged: Path,
    samples: Sequence[Sample],
    stops: Sequence[int],
    beat: Callable[[], None],
) -> dict[str, Any]:
    """Next-token agreement of the folder ``merged`` with ``base`` and ``adapter`` along the samples' answers.

    Returns:
        ``{"prompts", "agreement", "passed", "near_ties", "limit"}``; ``agreement`` and ``passed`` are None, with a
        ``"reason"``, where the memory does not hold the model.
    """
    precision = precision_that_fits(base)
    if precision is None:
        return {
            "prompts": 0,
            "agreement": None,
            "passed": None,
            "near_ties": 0,
            "limit": LIMIT,
            "reason": no_memory(base),
        }
    with opened(base.folder, adapter, precision) as reference:
        expected = answer_choices(reference, samples, stops, beat)
    along = [
        replace(sample, answer=sample.answer or [choice.token for choice in choices])
        for sample, choices in zip(samples, expected, strict=True)
    ]
    with opened(merged, None, precision) as reference:
        found = answer_choices(reference, along, stops, beat)
    agreement = Agreement()
    for ours, theirs in zip(expected, found, strict=True):
        agreement.add_forced(ours, theirs)
    return {
        "prompts": len(samples),
        "agreement": agreement.share,
        "passed": agreement.tokens > 0 and agreement.share >= LIMIT,
        "near_ties": agreement.near,
        "limit": LIMIT,
    }
