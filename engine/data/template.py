"""Conversations to text as the model will see them, and which of its characters are learned.

Templates are Jinja, rendered in a sandbox that is set up as transformers sets up its own (transformers 5,
``utils/chat_template_utils.py``); tests show the text, the tokens and the learned tokens to be equal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2

from engine.data.marks import CALL, CONTENT, REASONING, Marker, Part, Place
from engine.data.rows import ASSISTANT, SYSTEM, TOOL, USER, Message, ToolCall
from engine.data.sandbox import TEMPLATE_ERRORS, Span, TooMuch, compiled, line_of, run_template
from engine.data.templates import TEMPLATES, NamedTemplate
from engine.data.tokenizer import TextTokenizer
from engine.data.turns import (
    FORMS,
    NOTES,
    PLAIN_FORM,
    Fitted,
    Form,
    alternating,
    answers,
    calls_as_text,
    one_system,
    reasoning_as_text,
    results_as_questions,
    system_in_question,
    to_dicts,
    tool_list,
    tools_as_text,
    with_system,
)
from engine.project.atomic import disk_error
from engine.protocol.errors import Problem, UserError
from engine.protocol.text import NOTHING, Text, say

DEFAULT, TOOL_USE = "default", "tool_use"
"""Names of templates that transformers chooses between by itself."""
TEMPLATE_FILE = "chat_template.jinja"
TEMPLATES_FOLDER = "additional_chat_templates"
"""Where transformers keeps a model's template, and those by other names."""
_PROBE = "\ue000probe\ue001"
# White space that no template writes by itself, to see whether it strips what it is given.
_PADDING = "\v\t"
# Sequences of roles whose pattern is kept: enough for every file, few enough for memory.
_MOST_PATTERNS = 2048

# Rows that may take too long before the template is given up.
_ENDLESS = 3

# Tokens that end a turn, in templates of well-known families: where several special tokens follow an answer, the turn
# ends at the first of these.
_TURN_ENDS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|eot|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<turn|>",
    "<|END_OF_TURN_TOKEN|>",
    "<|end_of_turn|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<｜end▁of▁sentence｜>",
    "[EOS]",
    "<eos>",
    "</s>",
)


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as text.

    Attributes:
        text: what the model sees, special tokens written out; tokenise it without adding any.
        spans: (start, end) in characters of each answer that is learned, the end of its turn included, in order.
        notes: codes of `engine.data.turns.NOTES`: what the template dropped or altered in this row, each once.
    """

    text: str
    spans: tuple[Span, ...]
    notes: tuple[str, ...] = ()

    @property
    def remarks(self) -> tuple[Text, ...]:
        """``notes`` as sentences."""
        return tuple(NOTES[code] for code in self.notes)


@dataclass(frozen=True, slots=True)
class _Found:
    """The answers in a text.

    Attributes:
        spans: (start, end) of each, learned or not.
        notes: what the template dropped or altered.
    """

    spans: tuple[Span, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template, ready to render.

    Attributes:
        name: "model" for the model's own, a key of `TEMPLATES`, or a file's name.
        source: its Jinja text, complete: saved beside the adapter it renders the same in transformers.
        reason: why this one.
        stop: texts of the tokens that end an answer, the trained one first.
        variables: special tokens by the names that templates use (``bos_token``…).
        specials: texts of all special tokens of the model.
        eos: the token to end an answer with where the template does not end it itself; None adds nothing.
        bos: the token that the tokenizer puts before a plain text; "" for none.
        tool_use: the model's template of that name, for rows that offer tools; None where this one serves all.
    """

    name: str
    source: str
    reason: Text
    stop: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict, hash=False)
    specials: frozenset[str] = frozenset()
    eos: str | None = None
    bos: str = ""
    tool_use: ChatTemplate | None = None

    # ---------------------------------------------------------------------------------------------------- render
    def render(self, messages: Sequence[Message], *, tools: str = "", generation_prompt: bool = False) -> Rendered:
        """The conversation as text with its learned characters.

        What the template does not know is made to fit, and told in the result's notes: a system prompt it refuses or
        drops is put before the first question, a tool's result becomes the user's turn, tools and calls are told as
        text, and turns of one speaker in a row are joined where it insists on alternation.

        Args:
            messages: the turns, oldest first.
            tools: the tools that the model may call, JSON text of a list.
            generation_prompt: end with the words after which the model is to answer; nothing is learned then.

        Raises:
            UserError: the template refuses the conversation, or does with it what cannot be followed.
        """
        if tools and self.tool_use is not None:
            return self.tool_use.render(messages, tools=tools, generation_prompt=generation_prompt)
        fitted, text, marked = self._first_that_fits(tuple(messages), tools, generation_prompt)
        if generation_prompt or not fitted.turns:
            return Rendered(text, (), fitted.notes)
        try:
            found = self._find(fitted, text)
        except TooMuch as error:
            raise self._refused(error) from error
        turns = answers(fitted.turns)
        if marked and len(marked) == len(turns):
            spans = tuple(marked)
            # The marks say where an answer ends.
            told = [note for note in found.notes if note != "end_missing"] if found is not None else ["altered"]
        elif found is not None:
            spans, told = found.spans, [*found.notes]
        else:
            raise self._unclear()
        if spans and fitted.turns[-1].role == ASSISTANT:
            text, spans, added = self._ended(text, spans)
            told += added
        notes = tuple(dict.fromkeys((*fitted.notes, *told))) if told else fitted.notes
        return Rendered(text, tuple([s for s, m in zip(spans, turns, strict=True) if m.learned]), notes)

    def render_text(self, text: str) -> Rendered:
        """Plain text as the model sees it: bos where the tokenizer adds one, the text, eos; all of it is learned."""
        start = self.bos if self.bos and not text.startswith(self.bos) else ""
        end = self.eos if self.eos and not text.endswith(self.eos) else ""
        whole = f"{start}{text}{end}"
        return Rendered(whole, ((0, len(whole)),) if whole else ())

    def text(self, messages: Sequence[Message], *, tools: str = "", generation_prompt: bool = False) -> str:
        """The text exactly as transformers' ``apply_chat_template`` gives it, nothing made to fit.

        Raises:
            TEMPLATE_ERRORS: what Jinja raises.
        """
        if tools and self.tool_use is not None:
            return self.tool_use.text(messages, tools=tools, generation_prompt=generation_prompt)
        turns = tuple(messages)
        size = _size(turns) + len(tools)
        fitted = Fitted(turns, tool_list(tools) if tools else None, (), _is_plain(turns) and not tools, size)
        return self._render(fitted, generation_prompt=generation_prompt)[0]

    def handed(self, messages: Sequence[Message], *, tools: str = "") -> tuple[list[dict[str, Any]], list[Any] | None]:
        """(messages, tools) as the template gets them, made to fit: arguments for ``apply_chat_template``.

        Raises:
            UserError: as `render`.
        """
        if tools and self.tool_use is not None:
            return self.tool_use.handed(messages, tools=tools)
        fitted = self._first_that_fits(tuple(messages), tools, False)[0]
        return to_dicts(fitted.turns, self._form), fitted.tools

    @property
    def sources(self) -> str | dict[str, str]:
        """What transformers' tokenizers hold as ``chat_template``: the Jinja text, or texts by name."""
        return self.source if self.tool_use is None else {DEFAULT: self.source, TOOL_USE: self.tool_use.source}

    @property
    def source_without_marks(self) -> str:
        """The Jinja text without ``{% generation %}``, for programs that do not know it; renders the same."""
        text = re.sub(r"\{%(-?)\s*generation\s*(-?)%\}", r"{%\1 if true \2%}", self.source)
        return re.sub(r"\{%(-?)\s*endgeneration\s*(-?)%\}", r"{%\1 endif \2%}", text)

    def _render(self, fitted: Fitted, *, generation_prompt: bool = False) -> tuple[str, list[Span]]:
        if fitted.plain:
            plain: list[dict[str, Any]] = [{"role": m.role, "content": m.content} for m in fitted.turns]
        else:
            plain = to_dicts(fitted.turns, self._form)
        return self._run(plain, fitted.tools, generation_prompt, fitted.size)

    def _run(
        self, messages: list[dict[str, Any]], tools: list[Any] | None, generation_prompt: bool, size: int
    ) -> tuple[str, list[Span]]:
        values = {
            "messages": messages,
            "tools": tools,
            "documents": None,
            "add_generation_prompt": generation_prompt,
            **self.variables,
        }
        return run_template(self.source, values, size)

    # ------------------------------------------------------------------------------------------------------- fit
    def _first_that_fits(
        self, messages: tuple[Message, ...], tools: str, generation_prompt: bool
    ) -> tuple[Fitted, str, list[Span]]:
        """The first way of handing the conversation over that the template takes, and what it makes of it."""
        if tools:
            _check_tools(tools)
        if len(self._endless) >= _ENDLESS:
            raise self._refused(self._endless[0])
        first: Exception | None = None
        try:
            for fitted in self._ways(messages, tools):
                try:
                    return (fitted, *self._render(fitted, generation_prompt=generation_prompt))
                except TooMuch:
                    raise
                except TEMPLATE_ERRORS as error:
                    first = first or error
        except TooMuch as error:
            self._endless.append(error)
            raise self._refused(error) from error
        assert first is not None
        raise self._refused(first) from first

    @cached_property
    def _endless(self) -> list[TooMuch]:
        """What took too long so far: after a few rows nothing is tried any more, for a file may have a million."""
        return []

    def _ways(self, messages: tuple[Message, ...], tools: str) -> Iterator[Fitted]:
        fitted = self._fit(messages, tools, native=True)
        yield fitted
        if tools or any(m.calls for m in messages):
            fitted = self._fit(messages, tools, native=False)
            yield fitted
        joined, notes = alternating(fitted.turns)
        if notes:
            yield replace(fitted, turns=tuple(joined), notes=(*fitted.notes, *notes), plain=_is_plain(joined))

    def _fit(self, messages: tuple[Message, ...], tools: str, *, native: bool) -> Fitted:
        as_it_is = None if tools else self._as_it_is(messages)
        if as_it_is is not None:
            return as_it_is
        turns: list[Message] = list(messages)
        notes: list[str] = []
        told = ""
        listed: list[Any] | None = None
        native = native and self._keeps_calls is not None
        if tools:
            listed = tool_list(tools)
            if not native:
                told, listed = tools_as_text(listed), None
                notes.append("tools_as_text")
        plain = _is_plain(turns)
        if not plain:
            turns = self._fit_answers(turns, native, notes)
        roles = {m.role for m in turns}
        if TOOL in roles and not (self._keeps_result if any(m.calls for m in turns) else self._keeps_tool):
            turns = results_as_questions(turns)
            notes.append("results_as_question")
        if told:
            turns = with_system(turns, told)
            roles.add(SYSTEM)
        if SYSTEM in roles:
            turns = self._fit_system(turns, notes)
        if listed is None and self._insists_on_tools:
            listed = []
            notes.append("no_tools")
        plain = not listed and _is_plain(turns)
        return Fitted(tuple(turns), listed, tuple(notes), plain, _size(turns) + len(tools))

    def _as_it_is(self, messages: tuple[Message, ...]) -> Fitted | None:
        """The conversation where nothing need be made to fit, as in most rows; else None."""
        size = 0
        for i, m in enumerate(messages):
            role = m.role
            if m.calls or m.reasoning or m.name or role == TOOL:
                return None
            if role == SYSTEM and (i or not self._keeps_system):
                return None
            size += len(m.content)
        return None if self._insists_on_tools else Fitted(messages, size=size)

    def _fit_answers(self, turns: list[Message], native: bool, notes: list[str]) -> list[Message]:
        if not native and any(m.calls for m in turns):
            turns = [calls_as_text(m) if m.calls else m for m in turns]
            notes.append("calls_as_text")
        elif self._form.calls_alone and any(m.calls and m.content.strip() for m in turns):
            notes.append("call_text_dropped")
        # A plan beside a call is reasoning that has its place.
        lost = {id(m) for m in turns if m.reasoning and not (m.calls and self._form.plan)}
        if lost and self._keeps_reasoning == "text":
            turns = [reasoning_as_text(m) if id(m) in lost else m for m in turns]
            notes.append("reasoning_as_text")
        elif lost and self._keeps_reasoning == "":
            turns = [replace(m, reasoning="") if id(m) in lost else m for m in turns]
            notes.append("reasoning_dropped")
        return turns

    def _fit_system(self, turns: list[Message], notes: list[str]) -> list[Message]:
        several = any(m.role == SYSTEM for m in turns[1:])
        if not self._keeps_system:
            notes.append("system_in_question")
            return system_in_question(turns)
        if several and not self._keeps_later_system:
            notes.append("system_joined")
            return one_system(turns)
        return turns

    # ---------------------------------------------------------------------------------------- what a template knows
    @cached_property
    def _insists_on_tools(self) -> bool:
        """Whether it takes a conversation without tools only with an empty list of them, not with none."""
        plain: list[dict[str, Any]] = [{"role": USER, "content": "Q"}, {"role": ASSISTANT, "content": "A"}]
        return self._probe(plain, None) is None and self._probe(plain, []) is not None

    @cached_property
    def _keeps_system(self) -> bool:
        """Whether a system prompt appears in the text: some templates refuse it, some drop it without a word."""
        return self._keeps(Message(SYSTEM, _PROBE), Message(USER, "Q"), Message(ASSISTANT, "A"))

    @cached_property
    def _keeps_later_system(self) -> bool:
        """Whether system prompts in the middle appear as well as the first."""
        turns = (Message(SYSTEM, _PROBE), Message(USER, "Q"), Message(ASSISTANT, "A"))
        return self._keeps(*turns, Message(SYSTEM, _PROBE), *turns[1:], count=2)

    @cached_property
    def _keeps_tool(self) -> bool:
        """Whether a tool's result appears that follows an answer in words."""
        return self._keeps(Message(USER, "Q"), Message(ASSISTANT, "C"), Message(TOOL, _PROBE), Message(ASSISTANT, "A"))

    @cached_property
    def _keeps_result(self) -> bool:
        """Whether a tool's result appears that follows a call of it."""
        call = Message(ASSISTANT, "", calls=(ToolCall("c", '{"a": "b"}'),))
        return self._keeps(Message(USER, "Q"), call, Message(TOOL, _PROBE), Message(ASSISTANT, "A"))

    @cached_property
    def _keeps_reasoning(self) -> str:
        """How reasoning gets into the text: "field", "text" (as <think>…</think>), or "" for not at all."""
        if self._keeps(Message(USER, "Q"), Message(ASSISTANT, "A", reasoning=_PROBE)):
            return "field"
        written = reasoning_as_text(Message(ASSISTANT, "A", reasoning=_PROBE))
        return "text" if self._keeps(Message(USER, "Q"), written) else ""

    @cached_property
    def _keeps_calls(self) -> Form | None:
        """How it wants calls; None where calls or tools do not both appear in the text."""
        tool = {"name": f"{_PROBE}0", "description": "D", "parameters": _NO_PARAMETERS}
        turns = (
            Message(USER, "Q"),
            Message(ASSISTANT, "", calls=(ToolCall(f"{_PROBE}1", json.dumps({"a": f"{_PROBE}2"})),)),
            Message(TOOL, "R"),
            Message(ASSISTANT, "A"),
        )
        for form in FORMS:
            text = self._probe(to_dicts(turns, form), [{"type": "function", "function": tool}])
            if text is not None and all(f"{_PROBE}{i}" in text for i in range(3)):
                return replace(form, plan="tool_plan" in self.source)
        return None

    @property
    def _form(self) -> Form:
        return self._keeps_calls or PLAIN_FORM

    def _keeps(self, *messages: Message, count: int = 1) -> bool:
        text = self._probe(
            to_dicts(messages, self._form if any(m.calls for m in messages) else PLAIN_FORM),
            [] if self._insists_on_tools else None,
        )
        return text is not None and text.count(_PROBE) >= count

    def _probe(self, messages: list[dict[str, Any]], tools: list[Any] | None, prompt: bool = False) -> str | None:
        try:
            return self._run(messages, tools, prompt, 0)[0]
        except TooMuch:
            raise
        except TEMPLATE_ERRORS:
            return None

    # ----------------------------------------------------------------------------------------------------- spans
    def _find(self, fitted: Fitted, text: str) -> _Found | None:
        """The answers in the text: by the pattern of these roles, else by marks; None where neither can tell."""
        if fitted.plain:
            pattern = self._pattern(fitted)
            if pattern is not None:
                found = pattern.match(fitted.turns, text)
                if found is not None:
                    return found
        return self._by_marks(fitted, text)

    @cached_property
    def _patterns(self) -> dict[tuple[str, ...], _Pattern | None]:
        return {}

    def _pattern(self, fitted: Fitted) -> _Pattern | None:
        """What the template writes between the turns of conversations with these roles; None when it is not so simple.

        Found once per sequence of roles, from probes; each row's text is checked against it, so that a template that
        treats some contents otherwise is never misread. It saves rendering each row once more with marks.
        """
        roles = tuple([m.role if m.content.strip() else f"no {m.role}" for m in fitted.turns])
        try:
            return self._patterns[roles]
        except KeyError:
            if len(self._patterns) >= _MOST_PATTERNS:
                self._patterns.clear()
            pattern = self._patterns[roles] = self._learn_pattern(fitted)
            return pattern

    def _learn_pattern(self, fitted: Fitted) -> _Pattern | None:
        probes = tuple(
            replace(m, content=f"{_PROBE}{i}{_PROBE}" if m.content.strip() else "") for i, m in enumerate(fitted.turns)
        )
        padded = tuple(replace(m, content=m.content and f"{_PADDING}{m.content}{_PADDING}") for m in probes)
        asked = replace(fitted, turns=probes, size=0)
        try:
            text = self._render(asked)[0]
            spread = self._render(replace(asked, turns=padded))[0]
        except TEMPLATE_ERRORS:
            return None
        found = self._by_marks(asked, text)
        return None if found is None else _Pattern.of(probes, text, spread, found)

    def _by_marks(self, fitted: Fitted, text: str) -> _Found | None:
        """The answers by marks put around what each turn says; None where marks change what the template does."""
        for every in (True, False):
            for outer in (True, False):
                marker = Marker(
                    fitted.turns, text, outer=outer, every=every, arguments_as_text=self._form.arguments_as_text
                )
                if not marker.usable:
                    return None
                try:
                    marked = self._render(replace(fitted, turns=tuple(marker.turns)))[0]
                except TEMPLATE_ERRORS:
                    break
                places = marker.read(marked)
                if places is not None:
                    found = self._spans(fitted, text, places, marker.parts)
                    return found if outer else _with_trim(found, fitted.turns)
                if not marker.has_edges:
                    break
        return None

    def _spans(self, fitted: Fitted, text: str, places: list[Place | None], parts: list[Part]) -> _Found:
        notes = _notes(fitted.turns, text, places, parts)
        ranges: dict[int, Span] = {}
        for place in places:
            if place is not None:
                start, end = ranges.get(place.part.turn, (place.start, place.end))
                ranges[place.part.turn] = (min(start, place.start), max(end, place.end))
        spans: list[Span] = []
        cursor = 0
        last = len(fitted.turns) - 1
        for i, turn in enumerate(fitted.turns):
            if turn.role != ASSISTANT:
                continue
            limit = min((start for j, (start, _) in ranges.items() if j > i), default=len(text))
            start, at = self._start(fitted, i, text, ranges.get(i), cursor, limit)
            end, ended = self._end(fitted, i, text, at, limit)
            if not ended and i != last and turn.learned:
                notes.append("end_missing")
            spans.append((start, end))
            cursor = end
        return _Found(tuple(spans), tuple(dict.fromkeys(notes)))

    def _start(self, fitted: Fitted, i: int, text: str, found: Span | None, cursor: int, limit: int) -> tuple[int, int]:
        """(where the answer begins, where to look for its end from).

        It begins where the turns before it, asked to go on, end; where that text goes another way (an opened <think>),
        with what the turn says, and what the template writes before that for a call alone.
        """
        prompt = self._before(fitted, i, generation_prompt=True)
        if found is None:
            # It says nothing: its end comes right after its heading.
            lower = max(cursor, _shared(text, self._before(fitted, i), cursor))
            start = max(lower, _shared(text, prompt, lower))
            end = self._end_pattern.search(text, lower, limit)
            start = min(start, end.start()) if end is not None else start
            return start, start
        first, last = found
        if prompt is not None and cursor <= len(prompt) <= first and text.startswith(prompt):
            return len(prompt), last
        if fitted.turns[i].calls:
            return first - self._lead(fitted, i, text, first), last
        # Marks stand within <think>, not around it.
        opening = fitted.turns[i].content.partition(text[first:last])[0]
        return (first - len(opening) if opening.strip() and text.endswith(opening, 0, first) else first), last

    def _lead(self, fitted: Fitted, i: int, text: str, first: int) -> int:
        """Characters that the template writes before what a call says, and does not write before other answers."""
        call, words = (
            self._before(replace(fitted, turns=(*fitted.turns[:i], turn)), i + 1)
            for turn in (fitted.turns[i], Message(ASSISTANT, _PROBE))
        )
        if call is None or words is None:
            return 0
        shared = _shared(call, words, 0)
        name = call.find(fitted.turns[i].calls[0].name, shared)
        lead = call[shared:name] if name >= 0 else ""
        return len(lead) if text[:first].endswith(lead) else 0

    def _end(self, fitted: Fitted, i: int, text: str, at: int, limit: int) -> tuple[int, bool]:
        """(end of the turn that says its last word at ``at``, whether a token ends it)."""
        found = self._end_pattern.search(text, at, limit)
        if found is not None:
            return found.end(), True
        if i < len(fitted.turns) - 1:
            limit = min(limit, max(at, _shared(text, self._before(fitted, i + 1), at)))
        special = self._special_pattern.search(text, at, limit) if self.specials else None
        if special is not None:
            limit = special.start()
        return max(at, len(text[:limit].rstrip())), False

    def _before(self, fitted: Fitted, i: int, *, generation_prompt: bool = False) -> str | None:
        """The text of the turns before the ``i``-th; None where there are none, or the template refuses them."""
        if i == 0:
            return None
        try:
            return self._render(replace(fitted, turns=fitted.turns[:i]), generation_prompt=generation_prompt)[0]
        except TEMPLATE_ERRORS:
            return None

    @cached_property
    def _special_pattern(self) -> re.Pattern[str]:
        return _one_of(self.specials)

    @cached_property
    def _end_pattern(self) -> re.Pattern[str]:
        """Tokens that end an answer: the known ones, else the special token that follows it."""
        known = self.specials.intersection((*_TURN_ENDS, self.eos or ""))
        plain = to_dicts((Message(USER, "Q"), Message(ASSISTANT, _PROBE)))
        text = self._probe(plain, [] if self._insists_on_tools else None) or ""
        rest = text.partition(_PROBE)[2]
        special = self._special_pattern.search(rest) if self.specials else None
        if special is not None and not (known and _one_of(known).search(rest)):
            known |= {special.group()}
        return _one_of(known)

    def _ended(self, text: str, spans: tuple[Span, ...]) -> tuple[str, tuple[Span, ...], tuple[str, ...]]:
        """The last answer with an end, and the note if it had none: a model that never sees one never stops."""
        start, end = spans[-1]
        # A tuple is compared in one go.
        if self.eos is None or text.endswith(self._special_texts, start, end):
            return text, spans, ()
        end = max(start, len(text[:end].rstrip()))
        return text[:end] + self.eos, (*spans[:-1], (start, end + len(self.eos))), ("end_added",)

    @cached_property
    def _special_texts(self) -> tuple[str, ...]:
        return tuple(self.specials)

    # ---------------------------------------------------------------------------------------------------- refusals
    @property
    def _file(self) -> str:
        return self.name if self.name.endswith(_SUFFIXES) else "chat_template.jinja"

    def _refused(self, error: Exception) -> UserError:
        return UserError(
            "template.refused",
            say(
                'The chat template "{name}" refuses the conversation: {reason}.',
                "对话模板“{name}”不接受该对话：{reason}。",
                name=self.name,
                reason=_reason(error),
            ),
            say("Choose another chat template.", "请选择其他对话模板。"),
            where=_where(self._file, error) if line_of(error) is not None else "data.template",
            details=str(error),
        )

    def _unclear(self) -> UserError:
        return UserError(
            "template.unclear",
            say(
                'It cannot be told which words of the text made by the chat template "{name}" are the answer.',
                "无法判断对话模板“{name}”生成的文本中哪些是回答。",
                name=self.name,
            ),
            say(
                "Put {mark} around the answer in the template, or choose another.",
                "请在模板中用 {mark} 包住回答，或选择其他模板。",
                mark="{% generation %}…{% endgeneration %}",
            ),
            where="data.template",
        )


_SUFFIXES = (".jinja", ".jinja2", ".j2")
_NO_PARAMETERS = {"type": "object", "properties": {"a": {"type": "string", "description": "D"}}, "required": ["a"]}


def _one_of(texts: frozenset[str]) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(t) for t in sorted(texts, key=len, reverse=True) if t) or "(?!)")


def _size(turns: Sequence[Message]) -> int:
    return sum([len(m.content) for m in turns]) + sum(
        len(m.reasoning) + sum(len(c.arguments) for c in m.calls) for m in turns if m.reasoning or m.calls
    )


def _is_plain(turns: Sequence[Message]) -> bool:
    """Whether the turns are text alone."""
    return all([not (m.calls or m.reasoning or m.name or m.role == TOOL) for m in turns])  # noqa: C419  # twice as fast


def _notes(turns: Sequence[Message], text: str, places: Sequence[Place | None], parts: Sequence[Part]) -> list[str]:
    """What the template did to the parts of the turns."""
    notes: list[str] = []
    for part, place in zip(parts, places, strict=True):
        turn = turns[part.turn]
        if place is None:
            if part.kind == REASONING:
                notes.append("reasoning_dropped")
            elif part.kind == CONTENT:
                notes.append("call_text_dropped" if turn.calls else "turn_dropped")
            else:
                notes.append("turn_dropped")
            continue
        # Texts in a call are written as JSON.
        if part.kind != CALL and text[place.start : place.end] != part.text:
            notes.append("altered")
        # White space between </think> and the answer is no end of what the turn says.
        lead = part.lead if turn.content.startswith(part.lead + part.text) else ""
        trail = part.trail if turn.content.endswith(part.text + part.trail) else ""
        kept = text.endswith(lead, 0, place.start) and text.startswith(trail, place.end)
        if part.kind == CONTENT and not kept:
            notes.append("answer_trimmed" if turn.role == ASSISTANT else "prompt_trimmed")
    return notes


def _with_trim(found: _Found, turns: Sequence[Message]) -> _Found:
    """With a note that white space was stripped, where that is known only by marks outside it having stopped it."""
    loose = {turn.role == ASSISTANT for turn in turns if turn.content != turn.content.strip()}
    if not loose or not {"answer_trimmed", "prompt_trimmed"}.isdisjoint(found.notes):
        return found
    return replace(found, notes=(*found.notes, "answer_trimmed" if True in loose else "prompt_trimmed"))


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A template's text around the turns' contents.

    Attributes:
        between: what stands before each content that appears, and after the last.
        slots: per content that appears: (index of its turn, whether its start is stripped, whether its end is).
        edges: per answer: (its turn, start and end counted from its content's start and end).
        notes: what the template drops whatever the turns say.
    """

    between: tuple[str, ...]
    slots: tuple[tuple[int, bool, bool], ...]
    edges: tuple[tuple[int, int, int], ...]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, probes: tuple[Message, ...], text: str, padded: str, found: _Found) -> _Pattern | None:
        """The pattern of a text made of probes, and of one made of probes in white space."""
        places = sorted((text.find(m.content), i) for i, m in enumerate(probes) if m.content)
        places = [(at, i) for at, i in places if at >= 0]
        order = tuple(i for _, i in places)
        if any(text.count(m.content) > 1 for m in probes if m.content) or order != tuple(sorted(order)):
            return None
        between: list[str] = []
        slots: list[tuple[int, bool, bool]] = []
        cursor = 0
        for at, i in places:
            between.append(text[cursor:at])
            cursor = at + len(probes[i].content)
            spread = padded.find(probes[i].content)
            if spread < 0:
                return None
            slots.append(
                (
                    i,
                    not padded.endswith(_PADDING, 0, spread),
                    not padded.startswith(_PADDING, spread + len(probes[i].content)),
                )
            )
        between.append(text[cursor:])
        starts = {i: at for at, i in places}
        turns = [i for i, m in enumerate(probes) if m.role == ASSISTANT]
        if any(i not in starts for i in turns):
            return None
        edges = tuple(
            (i, start - starts[i], end - starts[i] - len(probes[i].content))
            for i, (start, end) in zip(turns, found.spans, strict=True)
        )
        return cls(tuple(between), tuple(slots), edges, found.notes)

    def match(self, turns: tuple[Message, ...], text: str) -> _Found | None:
        """The answers' places in ``text``, None when it does not follow the pattern to the letter."""
        pieces: list[str] = []
        places: dict[int, Span] = {}
        notes = self.notes
        length = 0
        for before, (i, left, right) in zip(self.between, self.slots, strict=False):
            whole = content = turns[i].content
            if left:
                content = content.lstrip()
            if right:
                content = content.rstrip()
            if len(content) != len(whole):
                notes = (*notes, "answer_trimmed" if turns[i].role == ASSISTANT else "prompt_trimmed")
            start = length + len(before)
            length = start + len(content)
            places[i] = (start, length)
            pieces += (before, content)
        pieces.append(self.between[-1])
        if "".join(pieces) != text:
            return None
        return _Found(tuple([(places[i][0] + a, places[i][1] + b) for i, a, b in self.edges]), notes)


def _shared(text: str, other: str | None, otherwise: int) -> int:
    """Length of what two texts begin with in common; ``otherwise`` when there is no other text."""
    if other is None:
        return otherwise
    low, high = 0, min(len(text), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if text[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _check_tools(tools: str) -> None:
    try:
        tool_list(tools)
    except ValueError as error:
        raise UserError(
            "template.bad_tools",
            say("The tools are no JSON: {reason}.", "工具说明不是有效的 JSON：{reason}。", reason=_reason(error)),
            say("Mend them, or leave them out.", "请修正，或将其删除。"),
        ) from error


def _reason(error: Exception) -> str:
    return (str(error).strip().split("\n", 1)[0] or type(error).__name__).rstrip(".")


def _where(file: str, error: Exception) -> str:
    line = line_of(error)
    return file if line is None else f"{file}:{line}"


# ------------------------------------------------------------------------------------------------------------- check
def check_template(source: str, *, name: str = "chat_template.jinja") -> tuple[Problem, ...]:
    """What is wrong with a template that somebody wrote; nothing where it can be trained with.

    It is tried on small conversations in the sandbox, where each takes `engine.data.sandbox.SECONDS` at most.

    Args:
        source: Jinja text.
        name: what to call it in `Problem.where`, which says ``name:line`` where a line is at fault.
    """
    try:
        compiled(source)
    except jinja2.TemplateError as error:
        message = say(
            "{name} is no valid template: {reason}.", "{name} 不是有效的模板：{reason}。", **_told(name, error)
        )
        return (Problem("template.syntax", message, _MEND, _where(name, error)),)
    template = ChatTemplate(name, source, NOTHING, variables={"bos_token": "<s>", "eos_token": "</s>"})
    question, answer = f"{_PROBE}Q", f"{_PROBE}A"
    turns = (Message(USER, question), Message(ASSISTANT, answer))
    try:
        text = template._first_that_fits(turns, "", False)[1]
        prompt = template._first_that_fits(turns[:1], "", True)[1]
    except UserError as error:
        return (_failed(name, error),)
    problems: list[Problem] = []
    if answer not in text:
        message = say(
            "{name} never shows an answer: there is nothing to learn from.",
            "{name} 从不显示回答：没有可学习的内容。",
            name=name,
        )
        hint = say(
            "Write {code} where the role is assistant.", "请在角色为 assistant 处写出 {code}。", code=_CONTENT_CODE
        )
        problems.append(Problem("template.no_answer", message, hint, name))
    if question not in text or question not in prompt:
        message = say(
            "{name} drops the question: the model would not see what is asked.",
            "{name} 丢弃了提问：模型看不到问题。",
            name=name,
        )
        hint = say("Write {code} where the role is user.", "请在角色为 user 处写出 {code}。", code=_CONTENT_CODE)
        problems.append(Problem("template.no_question", message, hint, name))
    return tuple(problems)


_MEND = say("Mend it, or choose another.", "请修正，或选择其他模板。")
_CONTENT_CODE = "{{ message['content'] }}"


def _told(name: str, error: Exception) -> dict[str, str]:
    return {"name": name, "reason": _reason(error)}


def _failed(name: str, error: UserError) -> Problem:
    cause = error.__cause__ or error
    assert isinstance(cause, Exception)
    message = say(
        "{name} refuses even one question with its answer: {reason}.",
        "{name} 连一问一答也不接受：{reason}。",
        **_told(name, cause),
    )
    return Problem("template.failed", message, _MEND, _where(name, cause))


# ------------------------------------------------------------------------------------------------------------ choose
def choose_template(folder: Path, name: str = "auto", *, tokenizer: TextTokenizer | None = None) -> ChatTemplate:
    """The chat template for a model.

    Args:
        folder: the model's folder.
        name: "auto" for the model's own, or one that fits a model without; a key of `TEMPLATES`; or a ``.jinja`` file.
        tokenizer: the folder's, where it is loaded already.

    Raises:
        UserError: no template of that name, a file that cannot be read or is no template, or a tokenizer that does not
            load.
    """
    tokenizer = tokenizer or TextTokenizer.load(folder)
    if name in TEMPLATES:
        return _named(TEMPLATES[name], tokenizer, say("You chose it.", "由你选择。"))
    if name.endswith(_SUFFIXES):
        return _from_file(Path(name), tokenizer)
    if name != "auto":
        raise UserError(
            "template.unknown",
            say('There is no chat template "{name}".', "没有名为“{name}”的对话模板。", name=name),
            say(
                "Known: auto, {all}, or a .jinja file.", "已有：auto、{all}，或 .jinja 文件。", all=", ".join(TEMPLATES)
            ),
            where="data.template",
        )
    found = own_templates(folder)
    if not found:
        return _for_base_model(tokenizer, NOTHING)
    broken = _syntax_error(next(iter(found.values())))
    if broken:
        note = say("The model's own template is broken ({reason}). ", "模型自带的模板有错（{reason}）。", reason=broken)
        return _for_base_model(tokenizer, note)
    return _own(found, tokenizer)


def _own(found: Mapping[str, str], tokenizer: TextTokenizer) -> ChatTemplate:
    """The model's own: as transformers chooses, "tool_use" for rows with tools, "default" for the others."""
    name, source = next(iter(found.items()))
    others = ", ".join(f"“{other}”" for other in found if other not in (name, TOOL_USE))
    reason = say("The model's own.", "模型自带。")
    if name != DEFAULT:
        reason = say(
            "The model's own, “{name}”: it has none called default.",
            "模型自带的“{name}”（没有名为 default 的模板）。",
            name=name,
        )
    if others:
        reason = say("{reason} Not used: {others}.", "{reason}未使用：{others}。", reason=reason, others=others)
    tools = found.get(TOOL_USE) if name != TOOL_USE else None
    if tools is None:
        return _build("model", source, reason, tokenizer)
    broken = _syntax_error(tools)
    if broken:
        reason = say(
            "{reason} Its “tool_use” template is broken ({broken}) and not used.",
            "{reason}其“tool_use”模板有错（{broken}），未使用。",
            reason=reason,
            broken=broken,
        )
        return _build("model", source, reason, tokenizer)
    reason = say(
        "{reason} Rows with tools are written by its “tool_use” template.",
        "{reason}带工具的行使用其“tool_use”模板。",
        reason=reason,
    )
    with_tools = _build("model", tools, reason, tokenizer)
    made = _build("model", source, reason, tokenizer)
    return replace(made, tool_use=with_tools, stop=tuple(dict.fromkeys((*made.stop, *with_tools.stop))))


def own_template(folder: Path) -> str | None:
    """The model's own chat template, its default one where it has several; None when it has none."""
    return next(iter(own_templates(folder).values()), None)


def own_templates(folder: Path) -> dict[str, str]:
    """The model's own chat templates by name, the default one first; one alone is called "default".

    They are taken from wherever the model's files keep them; as in transformers, files of their own count alone where
    there are any.
    """
    files = {DEFAULT: folder / TEMPLATE_FILE}
    files |= {path.stem: path for path in sorted((folder / TEMPLATES_FOLDER).glob("*.jinja"))}
    found = {name: path.read_text(encoding="utf-8") for name, path in files.items() if path.is_file()}
    for name in () if found else ("chat_template.json", "tokenizer_config.json"):
        try:
            kept = json.loads((folder / name).read_text(encoding="utf-8")).get("chat_template")
        except (OSError, ValueError, AttributeError, RecursionError):
            # Damage of the tokenizer's own file is told when the tokenizer is loaded.
            continue
        if isinstance(kept, list):
            kept = {
                t["name"]: t.get("template") for t in kept if isinstance(t, dict) and isinstance(t.get("name"), str)
            }
        named = kept if isinstance(kept, dict) else {DEFAULT: kept}
        found = {name: source for name, source in named.items() if isinstance(source, str) and source.strip()}
        if found:
            break
    first = [DEFAULT] if DEFAULT in found else [name for name in found if name != TOOL_USE][:1]
    return {name: found[name] for name in dict.fromkeys([*first, *found])}


def _syntax_error(source: str) -> str:
    try:
        compiled(source)
    except jinja2.TemplateError as error:
        return _reason(error)
    return ""


def _from_file(path: Path, tokenizer: TextTokenizer) -> ChatTemplate:
    try:
        source = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise disk_error(error, path) from error
    except UnicodeDecodeError as error:
        message = say("{name} is not UTF-8 text.", "{name} 不是 UTF-8 文本。", name=path.name)
        hint = say("Save it again as UTF-8.", "请重新另存为 UTF-8。")
        raise UserError("template.encoding", message, hint, where=str(path)) from error
    problems = check_template(source, name=path.name)
    if problems:
        first = problems[0]
        raise UserError(first.code, first.message, first.hint, where=first.where, problems=problems)
    return _build(path.name, source, say("You chose it.", "由你选择。"), tokenizer)


def _for_base_model(tokenizer: TextTokenizer, note: Text) -> ChatTemplate:
    """A template whose tokens the model has, else plain text."""
    template = next(t for t in TEMPLATES.values() if tokenizer.holds(t.tokens))
    if template.tokens:
        why = say(
            "{note}The model has no chat template; its vocabulary holds {tokens}, so {label} was chosen.",
            "{note}模型没有对话模板；其词表含有 {tokens}，因此选择了 {label}。",
            note=note,
            tokens=", ".join(template.tokens),
            label=template.label,
        )
    else:
        why = say(
            "{note}The model has no chat template and no tokens for one, so plain text was chosen: "
            '"Question: … Answer: …", ended by {eos}.',
            "{note}模型没有对话模板，也没有相应的特殊词元，因此选择了纯文本：“Question: … Answer: …”，以 {eos} 结尾。",
            note=note,
            eos=tokenizer.eos or "–",
        )
    return _named(template, tokenizer, why)


def _named(template: NamedTemplate, tokenizer: TextTokenizer, reason: Text) -> ChatTemplate:
    """A named template made complete for this model: its bos and eos, and bos in front where the model expects it."""
    source = template.source
    if tokenizer.adds_bos and "bos_token" not in source:
        source = "{{- bos_token -}}\n" + source
    for variable, text in (("bos_token", tokenizer.bos), ("eos_token", tokenizer.eos)):
        if variable not in tokenizer.declared:
            source = source.replace(variable, json.dumps(text or "", ensure_ascii=False))
    return _build(template.name, source, reason, tokenizer)


def _build(name: str, source: str, reason: Text, tokenizer: TextTokenizer) -> ChatTemplate:
    if tokenizer.eos is None:
        raise UserError(
            "tokenizer.no_end",
            say("The model has no token that ends an answer.", "模型没有表示回答结束的词元。"),
            say("Set eos_token in its tokenizer_config.json.", "请在其 tokenizer_config.json 中设置 eos_token。"),
            where=str(tokenizer.folder / "tokenizer_config.json"),
        )
    bos = tokenizer.bos if tokenizer.adds_bos and tokenizer.bos else ""
    variables = dict(tokenizer.declared)
    template = ChatTemplate(name, source, reason, (), variables, tokenizer.specials, tokenizer.eos, bos)
    return replace(template, stop=tuple(dict.fromkeys((*_ends(template), tokenizer.eos))))


def _ends(template: ChatTemplate) -> tuple[str, ...]:
    """The special token that ends a rendered answer."""
    try:
        rendered = template.render((Message(USER, "Q"), Message(ASSISTANT, "A")))
    except UserError:
        return ()
    if not rendered.spans:
        return ()
    start, end = rendered.spans[-1]
    found = [t for t in template.specials if rendered.text.endswith(t, start, end)]
    return tuple(sorted(found, key=len, reverse=True)[:1])
