"""What a judge is asked: which rows, in which words, and about how many tokens it will be. Light.

Question, answers and reference may hold anything, "ignore your instructions" included. They stand between marks that
name what they are and that none of them can hold, and the prompt says that nothing between marks is an instruction.
"""

from __future__ import annotations

import hashlib
import random
import re
from dataclasses import dataclass
from string import Formatter

from engine.project.evaluation import EvaluatedRow, Evaluation
from engine.protocol.errors import UserError
from engine.protocol.text import say
from engine.recipe.judge import PARTS, PROMPT_EN, PROMPT_ZH, JudgeSettings

LONGEST_TEXT = 6000
"""Characters of a question, answer or reference that are shown to the judge; what is left out is marked."""
ORDERS = ("base", "tuned")
"""Whose answer stands first."""
VERDICT_TOKENS = 60
"""What a verdict with its reason usually needs."""
_NAMES = {
    "en": {"question": "question", "reference": "reference answer", "first": "first answer", "second": "second answer"},
    "zh": {"question": "问题", "reference": "参考答案", "first": "第一个回答", "second": "第二个回答"},
}
_CJK = re.compile("[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]")


@dataclass(frozen=True, slots=True)
class Forecast:
    """What judging will cost, about.

    Attributes:
        rows: rows that are judged; equal: of them those whose answers are the same, which nobody is asked about.
        requests: calls, without repetitions.
        prompt_tokens: sent, about (a tokenizer of the judge's is not at hand).
        answer_tokens: written by the judge, about, and at most.
    """

    rows: int
    equal: int
    requests: int
    prompt_tokens: int
    answer_tokens: int
    most_answer_tokens: int


def rows_to_judge(evaluation: Evaluation, settings: JudgeSettings, seed: int) -> list[EvaluatedRow]:
    """Rows that both models answered; of too many a sample by the seed, in the order of the evaluation."""
    asked = [row for row in evaluation.rows if row.base.answer is not None and row.tuned.answer is not None]
    if len(asked) <= settings.rows:
        return asked
    return [asked[place] for place in sorted(random.Random(seed).sample(range(len(asked)), settings.rows))]


def forecast(evaluation: Evaluation, settings: JudgeSettings, seed: int) -> Forecast:
    """What judging this evaluation would cost. Raises `UserError` when the prompt is not right."""
    rows = rows_to_judge(evaluation, settings, seed)
    different = [row for row in rows if row.base.answer != row.tuned.answer]
    tokens = sum(tokens_of(judge_prompt(row, first, settings)) for row in different for first in ORDERS)
    requests = len(different) * len(ORDERS)
    return Forecast(
        rows=len(rows),
        equal=len(rows) - len(different),
        requests=requests,
        prompt_tokens=tokens,
        answer_tokens=requests * min(VERDICT_TOKENS, settings.max_tokens),
        most_answer_tokens=requests * settings.max_tokens,
    )


def tokens_of(text: str) -> int:
    """About how many tokens a text is: one for a Chinese, Japanese or Korean character, one for four others."""
    wide = len(_CJK.findall(text))
    return wide + (len(text) - wide) // 4 + 1


def judge_prompt(row: EvaluatedRow, first: str, settings: JudgeSettings) -> str:
    """The whole question to a judge.

    Args:
        first: whose answer stands first, "base" or "tuned".

    Raises:
        UserError: the user's own prompt lacks a part.
    """
    answers = (row.base.answer or "", row.tuned.answer or "")
    one, two = answers if first == "base" else answers[::-1]
    texts = {"question": row.prompt, "reference": row.reference, "first": one, "second": two}
    shown = {name: _cut(text) for name, text in texts.items()}
    mark = _mark(list(shown.values()))
    parts = {name: _fenced(_NAMES[settings.language][name], mark, text) for name, text in shown.items()}
    if not row.reference.strip():
        parts["reference"] = ""
    return checked_prompt(settings).format(**parts)


def checked_prompt(settings: JudgeSettings) -> str:
    """The prompt's pattern. Raises `UserError` where a part is missing, or one that is not known stands in it."""
    if not settings.prompt.strip():
        return PROMPT_ZH if settings.language == "zh" else PROMPT_EN
    try:
        named = {name for _, name, _, _ in Formatter().parse(settings.prompt) if name is not None}
    except ValueError:
        named = {""}
    if named - set(PARTS) or not {"question", "first", "second"} <= named:
        raise UserError(
            "judge.prompt",
            say(
                "The judge's prompt does not hold its parts, or holds braces of something else.",
                "评审提示缺少必要部分，或含有其他花括号。",
            ),
            say(
                "It needs {parts}; write other braces twice.",
                "需要 {parts}；其他花括号请写两次。",
                parts="{question}, {first}, {second}",
            ),
            where="evaluate.judge.prompt",
        )
    return settings.prompt


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} […]"


def _mark(texts: list[str]) -> str:
    """A word that no text holds; the same texts give the same word in either order."""
    digest = hashlib.sha256("\0".join(sorted(texts)).encode()).hexdigest()
    start = next(place for place in range(len(digest)) if not any(_word(digest, place) in text for text in texts))
    return _word(digest, start)


def _word(digest: str, place: int) -> str:
    return (digest[place:] + digest[:place])[:12]


def _fenced(name: str, mark: str, text: str) -> str:
    return f"<<<{name} {mark}>>>\n{text}\n<<<end {mark}>>>"
