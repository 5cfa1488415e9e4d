"""Conversations to text as the model will see them, and which of its characters are learned.

Templates are Jinja, rendered in a sandbox that is set up as transformers sets up its own (transformers 5,
``utils/chat_template_utils.py``); tests show the text, the tokens and the learned tokens to be equal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.runtime
import jinja2.sandbox
import jinja2.utils

from engine.data.rows import ASSISTANT, SYSTEM, TOOL, USER, Message
from engine.data.templates import TEMPLATES, NamedTemplate
from engine.data.tokenizer import TextTokenizer
from engine.project.atomic import disk_error
from engine.protocol.errors import UserError
from engine.protocol.text import NOTHING, Text, say

Span = tuple[int, int]

# What a template raises that refuses a conversation, by its own word or by stumbling over it.
_TEMPLATE_ERRORS = (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError, ArithmeticError)


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as text.

    Attributes:
        text: what the model sees, special tokens written out; tokenise it without adding any.
        spans: (start, end) in characters of each answer that is learned, the end of its turn included, in order.
    """

    text: str
    spans: tuple[Span, ...]


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
    """

    name: str
    source: str
    reason: Text
    stop: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict, hash=False)
    specials: frozenset[str] = frozenset()
    eos: str | None = None

    # ---------------------------------------------------------------------------------------------------- render
    def render(self, messages: Sequence[Message], *, generation_prompt: bool = False) -> Rendered:
        """The conversation as text with its learned characters.

        Roles that the template does not know are made to fit: a system prompt it refuses or drops is put before the
        first question, a tool's result becomes the user's turn, and turns of one speaker in a row are joined where it
        insists on alternation.

        Args:
            messages: the turns, oldest first.
            generation_prompt: end with the words after which the model is to answer; nothing is learned then.

        Raises:
            UserError: the template refuses the conversation.
        """
        fitted = self._fit(tuple(messages))
        try:
            text, marked = self._render(fitted, generation_prompt=generation_prompt)
        except _TEMPLATE_ERRORS as error:
            fitted = _alternating(fitted)
            try:
                text, marked = self._render(fitted, generation_prompt=generation_prompt)
            except _TEMPLATE_ERRORS:
                raise _refused(self.name, error) from error
        if generation_prompt or not fitted:
            return Rendered(text, ())
        answers = [m for m in fitted if m.role == ASSISTANT]
        spans = marked if len(marked) == len(answers) else self._find_spans(fitted, text)
        text, spans = self._ended(text, spans, fitted[-1].role == ASSISTANT)
        learned = tuple(s for s, m in zip(spans, answers, strict=True) if m.learned)
        return Rendered(text, learned)

    def text(self, messages: Sequence[Message], *, generation_prompt: bool = False) -> str:
        """The text exactly as transformers' ``apply_chat_template`` gives it. Raises what Jinja raises."""
        return self._render(tuple(messages), generation_prompt=generation_prompt)[0]

    @property
    def source_without_marks(self) -> str:
        """The Jinja text without ``{% generation %}``, for programs that do not know it; renders the same."""
        text = re.sub(r"\{%(-?)\s*generation\s*(-?)%\}", r"{%\1 if true \2%}", self.source)
        return re.sub(r"\{%(-?)\s*endgeneration\s*(-?)%\}", r"{%\1 endif \2%}", text)

    def _render(self, messages: tuple[Message, ...], *, generation_prompt: bool = False) -> tuple[str, list[Span]]:
        plain = [{"role": m.role, "content": m.content} for m in messages]
        with _tracking() as tracker:
            for piece in _compiled(self.source).generate(
                messages=plain, tools=None, documents=None, add_generation_prompt=generation_prompt, **self.variables
            ):
                tracker.add(piece)
        return "".join(tracker.pieces), tracker.spans

    # ------------------------------------------------------------------------------------------------------- fit
    def _fit(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        roles = {m.role for m in messages}
        if TOOL in roles and not self._keeps_tool:
            messages = tuple(Message(USER, m.content) if m.role == TOOL else m for m in messages)
        if SYSTEM in roles and not self._keeps_system:
            messages = _system_in_question(messages)
        return messages

    @cached_property
    def _keeps_system(self) -> bool:
        """Whether a system prompt appears in the text: some templates refuse it, some drop it without a word."""
        return self._keeps(Message(SYSTEM, _PROBE), Message(USER, "Q"), Message(ASSISTANT, "A"))

    @cached_property
    def _keeps_tool(self) -> bool:
        return self._keeps(Message(USER, "Q"), Message(ASSISTANT, "C"), Message(TOOL, _PROBE), Message(ASSISTANT, "A"))

    def _keeps(self, *messages: Message) -> bool:
        try:
            return _PROBE in self.text(messages)
        except _TEMPLATE_ERRORS:
            return False

    # ----------------------------------------------------------------------------------------------------- spans
    def _find_spans(self, messages: tuple[Message, ...], text: str) -> list[Span]:
        """The answers in the text of a template without marks: first by its pattern, else turn by turn."""
        pattern = self._pattern(tuple(m.role for m in messages))
        if pattern is not None:
            spans = pattern.match(messages, text)
            if spans is not None:
                return spans
        return self._spans_by_prefix(messages, text)

    @cached_property
    def _patterns(self) -> dict[tuple[str, ...], _Pattern | None]:
        return {}

    def _pattern(self, roles: tuple[str, ...]) -> _Pattern | None:
        """What the template writes between the turns of conversations with these roles; None when it is not so simple.

        Found once per sequence of roles, from probes; each row's text is checked against it, so that a template that
        treats some contents otherwise is never misread. It saves rendering each row once per turn.
        """
        if roles not in self._patterns:
            probes = tuple(Message(role, f"{_PROBE}{i}{_PROBE}") for i, role in enumerate(roles))
            try:
                text = self.text(probes)
                self._patterns[roles] = _Pattern.of(probes, text, self._spans_by_prefix(probes, text))
            except _TEMPLATE_ERRORS:
                self._patterns[roles] = None
        return self._patterns[roles]

    def _spans_by_prefix(self, messages: tuple[Message, ...], text: str) -> list[Span]:
        """Each answer starts where the text of the turns before it, asked to go on, ends."""
        spans: list[Span] = []
        cursor = 0
        for i, message in enumerate(messages):
            if message.role != ASSISTANT:
                continue
            limit = len(text) if i == len(messages) - 1 else _shared(text, self._try(messages[: i + 1]), len(text))
            start = self._start(messages[:i], message, text, cursor)
            content = message.content.strip()
            at = text.find(content, start, max(limit, start)) if content else -1
            end = self._end_of_turn(text, at + len(content) if at >= 0 else start, limit)
            spans.append((start, end))
            cursor = end
        return spans

    def _start(self, before: tuple[Message, ...], message: Message, text: str, cursor: int) -> int:
        prompt = self._try(before, generation_prompt=True)
        if prompt is not None and len(prompt) >= cursor and text.startswith(prompt):
            return len(prompt)
        # The prompt says more than the finished turn keeps (an opened <think>), or the template refuses it alone.
        lower = max(cursor, _shared(text, self._try(before), cursor))
        content = message.content.strip()
        at = text.find(content, lower) if content else -1
        if at >= 0:
            return at
        return max(lower, _shared(text, prompt, lower))

    def _try(self, messages: tuple[Message, ...], *, generation_prompt: bool = False) -> str | None:
        if not messages:
            return None
        try:
            return self.text(messages, generation_prompt=generation_prompt)
        except _TEMPLATE_ERRORS:
            return None

    def _end_of_turn(self, text: str, at: int, limit: int) -> int:
        """End of the first special token from ``at`` on; the limit, less white space, where there is none."""
        found = self._special_pattern.search(text, at, max(limit, at)) if self.specials else None
        if found is not None:
            return found.end()
        return max(at, len(text[:limit].rstrip()))

    @cached_property
    def _special_pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(re.escape(t) for t in sorted(self.specials, key=len, reverse=True)))

    def _ended(self, text: str, spans: list[Span], answered: bool) -> tuple[str, list[Span]]:
        """The last answer with an end: a model that never sees one never stops."""
        if not spans or not answered or self.eos is None:
            return text, spans
        start, end = spans[-1]
        if any(text.endswith(special, start, end) for special in self.specials):
            return text, spans
        end = max(start, len(text[:end].rstrip()))
        return text[:end] + self.eos, [*spans[:-1], (start, end + len(self.eos))]


_PROBE = "\ue000probe\ue001"


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A template's text around the turns' contents.

    Attributes:
        between: what stands before each content that appears, and after the last.
        order: index of the turn that each content is of.
        edges: per answer: (start, end) counted from its content's start and end.
    """

    between: tuple[str, ...]
    order: tuple[int, ...]
    edges: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, probes: tuple[Message, ...], text: str, spans: list[Span]) -> _Pattern | None:
        places = sorted((text.find(m.content), i) for i, m in enumerate(probes))
        places = [(at, i) for at, i in places if at >= 0]
        order = tuple(i for _, i in places)
        if any(text.count(m.content) > 1 for m in probes) or order != tuple(sorted(order)):
            return None
        between: list[str] = []
        cursor = 0
        for at, i in places:
            between.append(text[cursor:at])
            cursor = at + len(probes[i].content)
        between.append(text[cursor:])
        starts = {i: at for at, i in places}
        answers = [i for i, m in enumerate(probes) if m.role == ASSISTANT]
        if any(i not in starts for i in answers):
            return None
        edges = tuple(
            (i, start - starts[i], end - starts[i] - len(probes[i].content))
            for i, (start, end) in zip(answers, spans, strict=True)
        )
        return cls(tuple(between), order, edges)

    def match(self, messages: tuple[Message, ...], text: str) -> list[Span] | None:
        """The answers' places in ``text``, None when it does not follow the pattern to the letter."""
        pieces: list[str] = []
        starts: dict[int, int] = {}
        length = 0
        for before, i in zip(self.between, self.order, strict=False):
            starts[i] = length + len(before)
            content = messages[i].content
            pieces += (before, content)
            length = starts[i] + len(content)
        pieces.append(self.between[-1])
        if "".join(pieces) != text:
            return None
        return [(starts[i] + a, starts[i] + len(messages[i].content) + b) for i, a, b in self.edges]


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


def _system_in_question(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The system prompts put before the first question."""
    system = "\n\n".join(m.content for m in messages if m.role == SYSTEM)
    rest = [m for m in messages if m.role != SYSTEM]
    first = next((i for i, m in enumerate(rest) if m.role == USER), None)
    if first is None:
        return (Message(USER, system), *rest)
    rest[first] = Message(USER, f"{system}\n\n{rest[first].content}")
    return tuple(rest)


def _alternating(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Without tools' turns, and with turns of one speaker in a row joined."""
    joined: list[Message] = []
    for message in messages:
        role = USER if message.role == TOOL else message.role
        if joined and joined[-1].role == role:
            last = joined[-1]
            joined[-1] = Message(role, f"{last.content}\n\n{message.content}", last.learned and message.learned)
        else:
            joined.append(Message(role, message.content, message.learned))
    return tuple(joined)


def _refused(name: str, error: Exception) -> UserError:
    reason = str(error).strip().split("\n", 1)[0] or type(error).__name__
    return UserError(
        "template.refused",
        say(
            'The chat template "{name}" refuses the conversation: {reason}.',
            "对话模板“{name}”不接受该对话：{reason}。",
            name=name,
            reason=reason.rstrip("."),
        ),
        say("Choose another chat template.", "请选择其他对话模板。"),
        where="data.template",
        details=str(error),
    )


# ------------------------------------------------------------------------------------------------------- the sandbox
class _Tracker:
    """Pieces rendered so far, and which of their characters stand between generation marks."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.spans: list[Span] = []
        self.length = 0

    def add(self, piece: str) -> None:
        self.pieces.append(piece)
        self.length += len(piece)


_TRACKER: ContextVar[_Tracker | None] = ContextVar("tracker", default=None)


@contextmanager
def _tracking() -> Iterator[_Tracker]:
    tracker = _Tracker()
    token = _TRACKER.set(tracker)
    try:
        yield tracker
    finally:
        _TRACKER.reset(token)


class _Generation(jinja2.ext.Extension):
    """``{% generation %}…{% endgeneration %}``: text that the model is to write."""

    tags = {"generation"}  # noqa: RUF012  # Jinja's own declaration

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        """The block as a call of `_marked`."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller: jinja2.runtime.Macro) -> str:
        text: str = caller()
        tracker = _TRACKER.get()
        if tracker is not None:
            tracker.spans.append((tracker.length, tracker.length + len(text)))
        return text


class _Dict:
    """``dict()`` without the ways out of the sandbox that the type itself offers."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _Namespace(jinja2.utils.Namespace):
    """``namespace()`` that takes no name starting with an underscore: such names lead out of the sandbox."""

    # Named like Jinja's own first parameter, so that a template may keep a "self" in it.
    def __init__(*args: Any, **kwargs: Any) -> None:
        itself, *rest = args
        values = dict(*rest, **kwargs)
        for name in values:
            _refuse_underscore(name)
        jinja2.utils.Namespace.__init__(itself, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_underscore(name)
        super().__setitem__(name, value)


def _refuse_underscore(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a chat template may not name a value {name!r}")


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes HTML, which no model expects.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


@lru_cache(maxsize=64)
def _compiled(source: str) -> jinja2.Template:
    sandbox = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    sandbox.filters["tojson"] = _tojson
    sandbox.globals["raise_exception"] = _raise
    sandbox.globals["strftime_now"] = _now
    sandbox.globals["dict"] = _Dict()
    sandbox.globals["namespace"] = _Namespace
    return sandbox.from_string(source)


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
    if name.endswith((".jinja", ".jinja2", ".j2")):
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
    own = own_template(folder)
    if own is None:
        return _for_base_model(tokenizer, NOTHING)
    broken = _syntax_error(own)
    if broken:
        note = say("The model's own template is broken ({reason}). ", "模型自带的模板有错（{reason}）。", reason=broken)
        return _for_base_model(tokenizer, note)
    return _build("model", own, say("The model's own.", "模型自带。"), tokenizer)


def own_template(folder: Path) -> str | None:
    """The model's own chat template, from wherever its files keep it; None when it has none."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    for name in ("chat_template.json", "tokenizer_config.json"):
        try:
            found = json.loads((folder / name).read_text(encoding="utf-8")).get("chat_template")
        except (OSError, ValueError, AttributeError):
            # Damage of the tokenizer's own file is told when the tokenizer is loaded.
            continue
        if isinstance(found, list):
            named = {t.get("name"): t.get("template") for t in found if isinstance(t, dict)}
            found = named.get("default", next(iter(named.values()), None))
        if isinstance(found, str) and found.strip():
            return found
    return None


def _syntax_error(source: str) -> str:
    try:
        _compiled(source)
    except jinja2.TemplateError as error:
        return str(error)
    return ""


def _from_file(path: Path, tokenizer: TextTokenizer) -> ChatTemplate:
    try:
        source = path.read_text(encoding="utf-8")
    except OSError as error:
        raise disk_error(error, path) from error
    broken = _syntax_error(source)
    if broken:
        raise UserError(
            "template.syntax",
            say(
                "{name} is no valid template: {reason}.",
                "{name} 不是有效的模板：{reason}。",
                name=path.name,
                reason=broken,
            ),
            say("Mend it, or choose another.", "请修正，或选择其他模板。"),
            where=str(path),
        )
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
    template = ChatTemplate(name, source, reason, (), dict(tokenizer.declared), tokenizer.specials, tokenizer.eos)
    ends = _ends(template)
    stop = tuple(dict.fromkeys((*ends, tokenizer.eos)))
    return ChatTemplate(name, source, reason, stop, template.variables, tokenizer.specials, tokenizer.eos)


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
