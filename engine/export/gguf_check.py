"""Whether a GGUF says in llama.cpp what base and adapter say in transformers."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.export.gguf_tokenizer import Vocabulary
from engine.export.llama_cpp import LlamaCpp, loaded
from engine.export.targets import Quantisation
from engine.merge.compare import Agreement
from engine.merge.prompts import Sample, Trained
from engine.merge.reference import Choice, Reference, opened
from engine.merge.verify import ANSWER, no_memory, precision_that_fits
from engine.merge.weights import BaseWeights

ENOUGH = 4
BUDGET = 90.0  # seconds for what transformers says
TEXTS = (
    "Hello, world! It's 3:45 pm; I'm 21 years old.",
    "She'll say: “don't worry” — we've 1234567890 left…",
    "你好，世界！今天是2024年5月17日，气温23度。",
    "价格为￥99.50，优惠码：ABC-123。",
    "def f(x):\n    return x ** 2  # square\n\n\nprint(f(3))",
    "Ünïcödé: naïve café, Привет, こんにちは, 안녕하세요 🙂👍🏽",
)


@dataclass(frozen=True, slots=True)
class Expected:
    """What transformers says to one sample: along its answer, and on its own."""

    sample: Sample
    forced: list[Choice]
    greedy: list[Choice]


def verify_gguf(
    path: Path,
    base: BaseWeights,
    adapter: Path,
    trained: Trained,
    vocabulary: Vocabulary,
    samples: Sequence[Sample],
    quantisation: Quantisation,
    beat: Callable[[], None],
) -> dict[str, Any]:
    """Compare the file at ``path`` with base and adapter on ``samples``, tokenizer, template and stop included.

    Returns:
        ``{"prompts", "agreement", "passed", "limit", "tokens", "near_ties", "greedy_equal", "greedy_near_ties",
        "tokenizer_equal", "template_equal", "stops_equal"}``. ``agreement`` is the share of equal next tokens along the
        reference answers, ``greedy_equal`` the share of prompts with the same first 32 tokens, both without toss-ups;
        None with a ``"reason"`` where the memory does not hold the model.

    Raises:
        UserError: llama.cpp does not load the file.
    """
    precision = precision_that_fits(base)
    expected: list[Expected] = []
    if precision is not None:
        with opened(base.folder, adapter, precision) as reference:
            expected = _expected(reference, samples, trained.stops, beat)
    longest = max((len(sample.prompt) + len(sample.answer) for sample in samples), default=0)
    with loaded(path, longest + 2 * ANSWER) as model:
        result = {
            "prompts": len(samples),
            "tokenizer_equal": _tokenizer_equal(model, trained, vocabulary, samples),
            "template_equal": _template_equal(model, trained, samples),
        }
        agreement, stops_equal = compare(model, expected, trained.stops, beat)
    if precision is None:
        return result | {"agreement": None, "passed": None, "limit": quantisation.limit, "reason": no_memory(base)}
    # Greedy answers are told, not judged: of a few prompts one that parts late would count too much.
    passed = agreement.tokens > 0 and agreement.share >= quantisation.limit
    return result | {
        "prompts": len(expected),
        "agreement": agreement.share,
        "passed": passed and stops_equal and result["tokenizer_equal"] and result["template_equal"],
        "limit": quantisation.limit,
        "tokens": agreement.tokens,
        "near_ties": agreement.near,
        "greedy_equal": agreement.greedy_share,
        "greedy_near_ties": agreement.near_prompts,
        "stops_equal": stops_equal,
    }


def _expected(
    reference: Reference, samples: Sequence[Sample], stops: Sequence[int], beat: Callable[[], None]
) -> list[Expected]:
    found: list[Expected] = []
    began = time.monotonic()
    for sample in samples:
        beat()
        # A large model on a slow processor: fewer prompts rather than a wait without end.
        if len(found) >= ENOUGH and time.monotonic() - began > BUDGET:
            break
        greedy = reference.greedy(sample.prompt, ANSWER, stops)
        # A prompt without a reference answer is compared along what base and adapter say themselves.
        answer = sample.answer[:ANSWER] or [choice.token for choice in greedy]
        forced = reference.forced(sample.prompt + answer, len(sample.prompt))
        found.append(Expected(replace(sample, answer=answer), forced, greedy))
    return found


def compare(
    model: LlamaCpp, expected: Sequence[Expected], stops: Sequence[int], beat: Callable[[], None]
) -> tuple[Agreement, bool]:
    """Counts over all samples, and whether every equal answer that ends in transformers ends in llama.cpp too."""
    agreement, stops_equal = Agreement(), True
    for item in expected:
        beat()
        prompt = item.sample.prompt
        agreement.add_forced(item.forced, model.forced(prompt + item.sample.answer, len(prompt)))
        greedy, ended = model.greedy(prompt, ANSWER)
        agreement.add_greedy(item.greedy, greedy)
        same = [choice.token for choice in greedy] == [choice.token for choice in item.greedy]
        if same and (item.greedy[-1].token in stops) != ended:
            stops_equal = False
    return agreement, stops_equal


def _tokenizer_equal(model: LlamaCpp, trained: Trained, vocabulary: Vocabulary, samples: Sequence[Sample]) -> bool:
    """Whether both cut a set of awkward texts, and the samples' own, into the same tokens."""
    bos = trained.tokenizer.bos if trained.starts_with_bos else None
    texts = [f"{bos or ''}{text}" for text in TEXTS] + [sample.text for sample in samples]
    for text in texts:
        if vocabulary.collapses:
            # llama.cpp keeps the spaces that this tokenizer drops; everything else must still be equal.
            text = re.sub(r" {2,}", " ", text).strip()
        # llama.cpp puts bos in front by itself.
        asked = text.removeprefix(bos) if bos else text
        if model.tokenize(asked) != trained.tokenizer.encode(text)[0]:
            return False
    return True


def _template_equal(model: LlamaCpp, trained: Trained, samples: Sequence[Sample]) -> bool:
    """Whether the template inside the file writes the samples' prompts as training did."""
    bos = trained.tokenizer.bos if trained.starts_with_bos else None
    for sample in samples:
        ours = trained.template.render(sample.messages, generation_prompt=True).text
        theirs = model.render([{"role": m.role, "content": m.content} for m in sample.messages])
        if ours.removeprefix(bos or "") != theirs.removeprefix(bos or ""):
            return False
    return True
