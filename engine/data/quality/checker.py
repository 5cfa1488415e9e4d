"""Looks for what `engine.data.quality.checks` declares in one row after another."""

from __future__ import annotations

import re
from collections.abc import Callable

from engine.data.quality import patterns
from engine.data.quality.checks import NAMES, actions
from engine.data.rows import ASSISTANT, USER, Row
from engine.recipe.quality import QualitySettings

Place = tuple[str, int, int]
"""Part of a row, and the first and the one after the last character: ("messages.1.content", 0, 5)."""

_WIDE = re.compile(r"[\u1100-\u11ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]")
WIDE = 3
"""What one Chinese, Japanese or Korean character counts for; as in UTF-8, and about as much as it says."""
_LABEL = re.compile(
    r"\W*(?:yes|no|true|false|none|n/?a|positive|negative|neutral|maybe|unknown|对|错|是|否|正确|错误|是的|不是|有|没有|真|假"
    r"|[A-Ha-h]|[-+±]?\s?[$€£¥]?\s?\d[\d,.:/%°^*+ -]*\s?\w{0,6})\W*",
    re.IGNORECASE,
)
_ASKS_FOR_LITTLE = re.compile(
    r"classif|categor|sentiment|\blabel|true or false|which|multiple choice|\bspam|choose|select|pick|identify|\bname\b"
    r"|synonym|antonym|one word|single word|\bwho|\bwhen\b|\bwhere\b|how (?:many|much|old|long|far|tall)"
    r"|what(?:'s| is| was| are| were) the|calculate|compute|solve|convert|translate|rewrite|fill in"
    r"|detect|determine|extract|find the"
    r"|答案|判断|分类|选择|类别|情感|归类|标签|同义词|反义词|谁|何时|哪|多少|几|计算|求|翻译|填空|提取|识别|找出"
    r"|转换|命名|列举|什么词",
    re.IGNORECASE,
)


class RowChecker:
    """The checks of a row that are not switched off.

    Raises:
        UserError: the settings name a check that there is not.
    """

    def __init__(self, settings: QualitySettings) -> None:
        chosen = actions(settings.actions)
        self.names = tuple(name for name in NAMES if chosen[name] != "off")
        self._on = frozenset(self.names)
        self._min_question = settings.min_question
        self._min_answer = settings.min_answer
        self._find: dict[str, Callable[[_Parts], list[Place]]] = {
            "short_question": self._short_question,
            "short_answer": self._short_answer,
            "placeholder": lambda row: row.everywhere(patterns.placeholders),
            "trails_off": lambda row: row.in_answer(patterns.trailing_dots),
            "refusal": lambda row: row.in_answers(patterns.refusals),
            "email": lambda row: row.everywhere(patterns.emails),
            "phone": lambda row: row.everywhere(patterns.phones),
            "id_number": lambda row: row.everywhere(patterns.id_numbers),
            "bank": lambda row: row.everywhere(patterns.bank_numbers),
            "secret": lambda row: row.everywhere(patterns.secrets),
            "garbled": lambda row: row.everywhere(patterns.garbled),
            "control": lambda row: row.everywhere(patterns.controls),
            "markup": lambda row: [] if patterns.speaks_of_code(row.whole) else row.everywhere(patterns.markup),
            "repeated": lambda row: row.everywhere(patterns.loop),
            "echo": _echo,
            "blob": lambda row: row.everywhere(patterns.blobs),
        }

    def check(self, row: Row) -> tuple[str, ...]:
        """Names of the checks that find something in the row, in the order of the report."""
        parts = _Parts(row)
        suspected = self._suspected(parts)
        if not suspected:
            return ()
        return tuple(name for name in NAMES if name in suspected and name in self._on and self._find[name](parts))

    def find(self, row: Row, check: str) -> list[Place]:
        """Where the check finds something; also one that is switched off. Raises `KeyError` for an unknown check."""
        return self._find[check](_Parts(row))

    def _suspected(self, row: _Parts) -> list[str]:
        """The checks worth while a thorough look: for most rows, none."""
        question, answer = row.question[1], row.answer[1]
        found = _suspected_text(row.whole)
        if len(question) < self._min_question + 2 or question[:1].isspace() or question[-1:].isspace():
            found.append("short_question")
        if len(answer) < self._min_answer + 2 or answer[:1].isspace() or answer[-1:].isspace():
            found += ("short_answer", "trails_off", "echo")
        elif answer.endswith(patterns.DOTS):
            found.append("trails_off")
        if patterns.may_refuse(answer) or len(row.answers) > 1:
            found.append("refusal")
        if -9 < len(question) - len(answer) < 9 or question[-1:].isspace():
            found.append("echo")
        for _, text in row.named:
            if patterns.loop(text):
                found.append("repeated")
                break
        return found

    def _short_question(self, row: _Parts) -> list[Place]:
        name, text = row.question
        return [(name, 0, len(text))] if name and too_short(text, self._min_question) else []

    def _short_answer(self, row: _Parts) -> list[Place]:
        name, text = row.answer
        if not name or not too_short(text, self._min_answer) or row.calls:
            return []
        return [] if is_label(row.question[1], text) else [(name, 0, len(text))]


def _suspected_text(whole: str) -> list[str]:
    """The checks of all texts alike that are worth while a thorough look."""
    ascii_only = whole.isascii()
    found: list[str] = []
    if patterns.may_hold_placeholder(whole, whole.lower(), ascii_only):
        found.append("placeholder")
    if "@" in whole:
        found.append("email")
    if patterns.may_hold_number(whole):
        found += ("phone", "id_number", "bank")
    if patterns.may_hold_secret(whole):
        found.append("secret")
    if not ascii_only and patterns.may_be_garbled(whole):
        found.append("garbled")
    if patterns.may_hold_control(whole, ascii_only):
        found.append("control")
    if "<" in whole or "&" in whole:
        found.append("markup")
    if patterns.may_hold_blob(whole):
        found.append("blob")
    return found


class _Parts:
    """A row's texts with their names.

    Attributes:
        named: every text of the row, except the list of tools.
        question, answer: name and text of the last question and of the answer; ("", "") where there is none.
        answers: every text that the model shall learn to write.
        calls: whether the answer calls a tool.
        whole: all texts, an empty line between each two.
    """

    __slots__ = ("answer", "answers", "calls", "named", "question", "whole")

    def __init__(self, row: Row) -> None:
        named: list[tuple[str, str]] = []
        answers: list[tuple[str, str]] = []
        self.question = self.answer = ("", "")
        self.calls = False
        question = ("", "")
        for at, message in enumerate(row.messages):
            part = (f"messages.{at}.content", message.content)
            named.append(part)
            if message.reasoning:
                named.append((f"messages.{at}.reasoning", message.reasoning))
            if message.calls:
                named += [(f"messages.{at}.calls.{i}", call.arguments) for i, call in enumerate(message.calls)]
            if message.role == ASSISTANT:
                answers.append(part)
                self.answer, self.question, self.calls = part, question, bool(message.calls)
            elif message.role == USER:
                question = part
        for name, text in (("chosen", row.chosen), ("rejected", row.rejected), ("text", row.text)):
            if text is not None:
                named.append((name, text))
                if name != "rejected":
                    answers.append((name, text))
                    self.answer, self.question, self.calls = (name, text), question, False
        self.named = named
        self.answers = answers
        self.whole = "\n\n".join([text for _, text in named])

    def everywhere(self, find: Callable[[str], patterns.Places]) -> list[Place]:
        return [(name, start, end) for name, text in self.named for start, end in find(text)]

    def in_answers(self, find: Callable[[str], patterns.Places]) -> list[Place]:
        return [(name, start, end) for name, text in self.answers for start, end in find(text)]

    def in_answer(self, find: Callable[[str], patterns.Places]) -> list[Place]:
        name, text = self.answer
        return [(name, start, end) for start, end in find(text)]


def too_short(text: str, limit: int) -> bool:
    """Whether the text has fewer than ``limit`` characters, spaces around it aside and each wide one counted thrice."""
    text = text.strip()
    if len(text) >= limit:
        return False
    return text.isascii() or len(text) + (WIDE - 1) * len(_WIDE.findall(text)) < limit


def is_label(question: str, answer: str) -> bool:
    """Whether a short answer is all that the question wants: a number, a yes or no, a choice that the question names,
    or an answer to a question for one name, word or label.
    """
    plain = answer.strip().strip(".。!！\"'“”").casefold()
    if not plain:
        return False
    return (
        _LABEL.fullmatch(plain) is not None
        or plain in question.casefold()
        or _ASKS_FOR_LITTLE.search(question) is not None
    )


def _echo(row: _Parts) -> list[Place]:
    question, (name, answer) = row.question[1], row.answer
    same = bool(question.strip()) and question.split() == answer.split()
    if not same:
        same = bool(question.strip()) and question.casefold().split() == answer.casefold().split()
    return [(name, 0, len(answer))] if same else []
