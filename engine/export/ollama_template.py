"""A chat template as Ollama writes it (Go's text/template), from what the model's own Jinja template renders. Light.

A model without TEMPLATE gets one of Ollama's own list when its Jinja text is within 100 edits of a known one
(server/model.go, template/template.go), which a tuned template may well be without being equal. Else newer versions of
Ollama have llama.cpp render the Jinja inside the GGUF, and older ones send ``{{ .Prompt }}`` alone. So the template is
written out here. (A newer Ollama still takes the Jinja where that knows tools and TEMPLATE does not: server/images.go.)

It is not translated word by word but measured: conversations with marks in the place of contents are rendered, and what
stands between the marks is the template. Other conversations are then rendered in both forms; where they differ, the
template does more than put texts between turns, and there is no translation.

Ollama joins all system messages, and messages of one speaker in a row, before a template sees them, and trims nothing.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
Turn = tuple[str, str]
Render = Callable[[Sequence[Turn]], str]
"""Conversation → what the model is given, the opening of the next answer included. Raises `ValueError` for none."""

_MARKS = {name: [f"qz{name}{number}zq" for number in range(4)] for name in (SYSTEM, USER, ASSISTANT)}
_TRIED = ("What is 2 + 2?", "你好，世界", '{{ .System }} "quoted" `ticks` \\ and\nlines\n\n- more', "Yes.")


@dataclass(frozen=True, slots=True)
class Pieces:
    """What a template puts around contents.

    Attributes:
        start: before the first question where there is no system prompt.
        before_system, after_system: around the system prompt.
        to_answer: between a question and its answer, in the middle.
        to_question: between an answer and the next question.
        opening: behind the last question: where the model goes on.
        with_last: the system prompt stands before the last question instead of the first.
    """

    start: str
    before_system: str
    after_system: str
    to_answer: str
    to_question: str
    opening: str
    with_last: bool = False


def measured(render: Render) -> Pieces | None:
    """The pieces of a template; None where it cannot be told as pieces."""
    system = _MARKS[SYSTEM][0]
    users, answers = _MARKS[USER], _MARKS[ASSISTANT]
    try:
        start, opening = _cut(render([(USER, users[0])]), users[0])
        first, to_answer, to_question, _ = _cut(render(_talk(2)), users[0], answers[0], users[1])
        alone, after, _ = _cut(render([(SYSTEM, system), (USER, users[0])]), system, users[0])
        talk = render([(SYSTEM, system), *_talk(2)])
        with_last = talk.index(system) > talk.index(answers[0])
    except ValueError:
        return None
    if with_last:
        before_last = _between(talk, answers[0], system)
        if first != start or not before_last.startswith(to_question):
            return None
        alone = before_last.removeprefix(to_question)
    pieces = Pieces(start, alone, after, to_answer, to_question, opening, with_last)
    return pieces if agrees(pieces, render) else None


def agrees(pieces: Pieces, render: Render) -> bool:
    """Whether pieces and template write the same, for one to four questions, with and without a system prompt."""
    for count, system in itertools.product(range(1, 5), (False, True)):
        turns: list[Turn] = [(SYSTEM, "Answer in one word.")] if system else []
        for number in range(count):
            turns += [(USER, _TRIED[number]), (ASSISTANT, _TRIED[-1 - number])]
        turns.pop()
        try:
            if render(turns) != written(pieces, turns):
                return False
        except ValueError:
            return False
    return True


def written(pieces: Pieces, turns: Sequence[Turn]) -> str:
    """A conversation in these pieces, as `go_template` has Ollama write it."""
    system = "\n\n".join(content for role, content in turns if role == SYSTEM)
    spoken = [turn for turn in turns if turn[0] != SYSTEM]
    at_start = bool(system) and not pieces.with_last
    text = pieces.before_system + system + pieces.after_system if at_start else pieces.start
    for number, (role, content) in enumerate(spoken):
        last = number == len(spoken) - 1
        if role == USER:
            if last and system and pieces.with_last:
                text += pieces.before_system + system + pieces.after_system
            text += content + (pieces.opening if last else pieces.to_answer)
        else:
            text += content + ("" if last else pieces.to_question)
    return text


def go_template(pieces: Pieces) -> str:
    """The text behind TEMPLATE. Literal text stands in quoted strings, so that nothing in it counts as Go's."""
    system = f"{_go(pieces.before_system)}{{{{ $.System }}}}{_go(pieces.after_system)}"
    if pieces.with_last:
        head, within = _go(pieces.start), f"{{{{- if and $last $.System }}}}{system}{{{{- end }}}}"
    else:
        head, within = f"{{{{- if .System }}}}{system}{{{{- else }}}}{_go(pieces.start)}{{{{- end }}}}", ""
    return "\n".join(
        (
            head,
            "{{- range $i, $message := .Messages }}",
            "{{- $last := eq (len (slice $.Messages $i)) 1 }}",
            '{{- if eq $message.Role "user" }}',
            *filter(None, (within,)),
            f"{{{{- $message.Content }}}}{_choice(pieces.opening, pieces.to_answer)}",
            '{{- else if eq $message.Role "assistant" }}',
            f"{{{{- $message.Content }}}}{_choice('', pieces.to_question)}",
            "{{- end }}",
            "{{- end }}",
        )
    )


def _choice(last: str, other: str) -> str:
    if last == other:
        return _go(last)
    if not last:
        return f"{{{{- if not $last }}}}{_go(other)}{{{{- end }}}}"
    return f"{{{{- if $last }}}}{_go(last)}{{{{- else }}}}{_go(other)}{{{{- end }}}}"


def _go(text: str) -> str:
    """An action that writes ``text``. JSON's escapes are Go's, but for characters beyond the first 65,536."""
    quoted = "".join(f"\\U{ord(sign):08x}" if ord(sign) > 0xFFFF else json.dumps(sign)[1:-1] for sign in text)
    return f'{{{{- "{quoted}" }}}}' if text else ""


def _talk(questions: int) -> list[Turn]:
    turns: list[Turn] = []
    for number in range(questions):
        turns += [(USER, _MARKS[USER][number]), (ASSISTANT, _MARKS[ASSISTANT][number])]
    return turns[:-1]


def _cut(text: str, *marks: str) -> list[str]:
    """What stands before, between and after marks. Raises `ValueError` where one is not there just once, in order."""
    parts = []
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found:
            raise ValueError(mark)
        parts.append(before)
    if any(mark in part for part in (*parts, text) for mark in marks):
        raise ValueError("twice")
    return [*parts, text]


def _between(text: str, first: str, last: str) -> str:
    return text[text.index(first) + len(first) : text.index(last)]
