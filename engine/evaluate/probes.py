"""General questions of ``resources/probes``, asked of the side in use: what a base model knew, and what is left of it.

Choices are scored as lm-evaluation-harness scores them: the likelier continuation wins, each log-likelihood divided by
the number of its characters (``acc_norm``; Gao et al., https://github.com/EleutherAI/lm-evaluation-harness,
docs/model_guide.md). Where a form is asked for, the greedy answer has to match a regular expression as a whole.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.data.rows import USER, Message
from engine.evaluate.answers import answers
from engine.evaluate.score import Scored, TextLoss, losses
from engine.model.tuned import TunedModel
from engine.project.forgetting import SKILLS
from engine.protocol.errors import UserError

FOLDER = Path(__file__).resolve().parents[2] / "resources" / "probes"
ANSWER_TOKENS = 48
CHOICES_AT_ONCE = 4
"""Choices are short: so many count as one row of a batch."""
_PLAIN = {"en": ("Question: {question}\nAnswer:", " "), "zh": ("问题：{question}\n回答：", "")}
"""How a question is put to a model without a chat template, and what stands before its answer."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A question: with choices, of which that at ``answer`` is right, or with the pattern of answers to ``accept``."""

    id: str
    skill: str
    language: str
    question: str
    choices: tuple[str, ...] = ()
    answer: int = 0
    accept: str = ""

    @property
    def chance(self) -> float:
        """How likely guessing is right."""
        return 1 / len(self.choices) if self.choices else 0.0

    def accepts(self, answer: str) -> bool:
        """Whether an answer has the form that was asked for."""
        return re.fullmatch(self.accept, answer.strip()) is not None


def probes(languages: Sequence[str], per_skill: int, seed: int) -> list[Probe]:
    """The questions of each skill in these languages, at most so many a skill and language; same seed, same ones."""
    found: list[Probe] = []
    for skill in SKILLS:
        for language in languages:
            items = [_probe(skill, language, item) for item in _read(f"{skill}.{language}.jsonl")]
            if len(items) > per_skill:
                kept = sorted(random.Random(f"{seed} {skill}").sample(range(len(items)), per_skill))
                items = [items[place] for place in kept]
            found += items
    return found


def texts(language: str) -> list[str]:
    """Ordinary text of a language, in passages."""
    return [str(item["text"]) for item in _read(f"text.{language}.jsonl")]


def _read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


def _probe(skill: str, language: str, item: dict[str, Any]) -> Probe:
    return Probe(skill=skill, language=language, **{**item, "choices": tuple(item.get("choices", ()))})


# --------------------------------------------------------------------------------------------------------- asking
class Asker:
    """Puts questions to a model: in its own chat template, or as plain text where it has none.

    Args:
        own_template: the model brought a template of its own, and was trained with it.
    """

    def __init__(self, tuned: TunedModel, *, own_template: bool) -> None:
        self._tuned, self.own_template = tuned, own_template

    def right(self, asked: Sequence[Probe], watch: Callable[[float], None]) -> list[bool]:
        """Which questions the side in use answers right.

        Args:
            watch: called with the number of questions done; may raise to end early.
        """
        choice = [place for place, probe in enumerate(asked) if probe.choices]
        open_ = [place for place, probe in enumerate(asked) if not probe.choices]
        found = [False] * len(asked)
        for place, right in zip(choice, self._chosen([asked[i] for i in choice], watch), strict=True):
            found[place] = right
        answered = self._answered([asked[i] for i in open_], lambda done: watch(len(choice) + done))
        for place, right in zip(open_, answered, strict=True):
            found[place] = right
        return found

    def losses(self, given: Sequence[str], watch: Callable[[float], None]) -> list[TextLoss]:
        """The loss of ordinary texts by the side in use, without a template around them."""
        scored = [self._scored("", text) for text in given]
        return losses(self._tuned, scored, batch_size=self._tuned.recipe.evaluate.batch_size, watch=watch)

    def _chosen(self, asked: Sequence[Probe], watch: Callable[[float], None]) -> list[bool]:
        scored = [
            self._scored(self._prompt(probe), self._before_answer(probe) + choice)
            for probe in asked
            for choice in probe.choices
        ]
        size = self._tuned.recipe.evaluate.batch_size * CHOICES_AT_ONCE
        per_question = len(scored) / len(asked) if asked else 1.0
        found = iter(losses(self._tuned, scored, batch_size=size, watch=lambda done: watch(done / per_question)))
        return [likeliest(probe.choices, [next(found).total for _ in probe.choices]) == probe.answer for probe in asked]

    def _answered(self, asked: Sequence[Probe], watch: Callable[[float], None]) -> list[bool]:
        tuned = self._tuned
        prompts = [self._within(tuned.tokenizer.encode(self._prompt(probe))[0], ANSWER_TOKENS) for probe in asked]
        given = answers(tuned, prompts, limit=ANSWER_TOKENS, batch_size=tuned.recipe.evaluate.batch_size, watch=watch)
        return [
            answer is not None and probe.accepts(self._whole(answer.text))
            for probe, answer in zip(asked, given, strict=True)
        ]

    def _whole(self, answer: str) -> str:
        """A model without a template goes on with questions of its own: its answer is the first line."""
        return answer if self.own_template else answer.strip().partition("\n")[0]

    def _prompt(self, probe: Probe) -> str:
        template = self._tuned.template
        if self.own_template:
            try:
                return template.render([Message(USER, probe.question)], generation_prompt=True).text
            except UserError:  # it takes no conversation of one question
                self.own_template = False
        return (template.bos or "") + _PLAIN[probe.language][0].format(question=probe.question)

    def _before_answer(self, probe: Probe) -> str:
        return "" if self.own_template else _PLAIN[probe.language][1]

    def _scored(self, before: str, counted: str) -> Scored:
        """The text whose second part counts, its beginning cut where it is longer than the model's context."""
        encode = self._tuned.tokenizer.encode
        start = before or (self._tuned.template.bos or "")
        prompt, whole = len(encode(start)[0]), encode(start + counted)[0]
        ids = self._within(whole, 0)
        prompt = max(0, prompt - (len(whole) - len(ids)))
        return Scored(ids, [place >= prompt for place in range(len(ids))])

    def _within(self, ids: list[int], room: int) -> list[int]:
        """The end of a text that leaves so much room in the model's context."""
        context = self._tuned.context
        return ids if context is None else ids[-max(1, context - room) :]


def likeliest(choices: Sequence[str], totals: Sequence[float]) -> int:
    """The place of the choice whose negative log-likelihood per character is lowest; the first of equal ones."""
    return min(range(len(choices)), key=lambda place: totals[place] / len(choices[place]))
