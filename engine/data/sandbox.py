"""Where chat templates run: Jinja's sandbox, set up as transformers sets up its own, and bounded in time and size.

Templates come from strangers. Jinja's sandbox keeps them from the machine, but not from counting to 10¹⁰ or from
doubling a text forty times; here each turn of a loop looks at the clock, and each value that is kept is weighed.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache, wraps
from typing import Any

import jinja2
import jinja2.ext
import jinja2.filters
import jinja2.nodes
import jinja2.parser
import jinja2.runtime
import jinja2.sandbox
import jinja2.utils

Span = tuple[int, int]

TEMPLATE_ERRORS = (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
"""What a template raises that refuses a conversation, by its own word or by stumbling over it."""

SECONDS = 2.0
"""Longest time of a processor for one conversation; a real template takes a hundredth of it at most."""
# On a busy machine it may take this many times as long by the clock.
_WAIT = 4

# Characters that a template may hold or write at once, and that times what it is given: a text that is told twice, once
# as JSON, is still no attack.
_MOST = 4_000_000
_TIMES = 8
_LONGEST_SOURCE = 1_000_000
_LARGEST_NUMBER = 100_000
_LARGEST_INDENT = 16
_LONGEST_SUM = 1000
_FEW = 20
_LONGEST_CHAIN = 200
_LONGEST_REASON = 1000


class TooMuch(jinja2.TemplateError):
    """The template takes too long, or makes too much."""


class _Run:
    """One rendering: pieces so far, which characters stand between generation marks, what may still be used."""

    __slots__ = ("began", "deadline", "given", "last", "left", "length", "most", "pieces", "spans")

    def __init__(self, given: int, known: Iterable[Any]) -> None:
        self.given = {id(value) for value in known}
        self.pieces: list[str] = []
        self.spans: list[Span] = []
        self.length = 0
        self.most = _MOST + _TIMES * given
        self.left = 4 * self.most
        self.began = time.thread_time()
        now = time.monotonic()
        self.deadline = now + SECONDS
        self.last = now + _WAIT * SECONDS

    def check_time(self) -> None:
        """Raise `TooMuch` when its time is up; what a busy machine does meanwhile hardly counts."""
        now = time.monotonic()
        if now > self.deadline:
            left = SECONDS - (time.thread_time() - self.began)
            if left <= 0 or now > self.last:
                raise TooMuch(f"it takes longer than {SECONDS:.0f} s")
            self.deadline = min(now + left, self.last)


_RUN: ContextVar[_Run | None] = ContextVar("run", default=None)


def run_template(source: str, values: Mapping[str, Any], given: int) -> tuple[str, list[Span]]:
    """(text, characters between ``{% generation %}`` marks) of a template.

    Args:
        source: Jinja text.
        values: what it is given by name; ``messages`` is a list.
        given: characters in ``values``, about.

    Raises:
        TEMPLATE_ERRORS: it refuses, stumbles, takes longer than `SECONDS`, or makes too much.
    """
    template = compiled(source)
    run = _Run(given, values["messages"])
    token = _RUN.set(run)
    try:
        for piece in template.generate(**values):
            run.pieces.append(piece)
            run.length += len(piece)
            if run.length > run.most:
                raise _too_much("text")
    except RecursionError as error:
        raise TooMuch("it calls itself too often").with_traceback(error.__traceback__) from error
    except MemoryError as error:
        raise _too_much("memory").with_traceback(error.__traceback__) from error
    finally:
        _RUN.reset(token)
    return "".join(run.pieces), run.spans


@lru_cache(maxsize=64)
def compiled(source: str) -> jinja2.Template:
    """The template, ready to run.

    Raises:
        jinja2.TemplateError: it is no valid template.
    """
    if len(source) > _LONGEST_SOURCE:
        raise jinja2.TemplateError(f"it is longer than {_LONGEST_SOURCE} characters")
    sandbox = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols])
    sandbox.filters |= {"tojson": _tojson, _TICK: _tick, _KEEP: _keep, _TELL: _tell, "map": _map, "join": _join}
    sandbox.filters |= {name: _guarded(sandbox.filters[name], check) for name, check in _FILTER_CHECKS.items()}
    # Made for filling pages; nothing a chat template needs, and its size has no bound.
    del sandbox.globals["lipsum"]
    sandbox.globals["raise_exception"] = _raise
    sandbox.globals["strftime_now"] = _now
    sandbox.globals["dict"] = _Dict()
    sandbox.globals["namespace"] = _Namespace
    try:
        template = sandbox.from_string(source)
        # Jinja chains these of several mappings, and copies them for each rendering: from one it is five times as fast.
        template.globals = dict(template.globals)
        return template
    except (SyntaxError, RecursionError, MemoryError) as error:
        # Python's own compiler has limits for nesting, and tells of them in these ways.
        raise jinja2.TemplateError(f"it is nested too deeply ({error})") from error


def line_of(error: BaseException) -> int | None:
    """The template's line at which an error arose, from 1; None where the error does not say."""
    if isinstance(error, jinja2.TemplateSyntaxError):
        return error.lineno
    found = None
    place = error.__traceback__
    while place is not None:
        # Jinja gives the frames of a template made from text this name, and rewrites their lines to the template's.
        if place.tb_frame.f_code.co_filename in ("<template>", "<unknown>"):
            found = place.tb_lineno
        place = place.tb_next
    return found


# -------------------------------------------------------------------------------------------------------- what is held
def _too_much(what: str) -> TooMuch:
    return TooMuch(f"it makes too much {what}")


def _weigh(value: Any, most: int) -> int:
    """About how many characters a value holds when written out. Raises `TooMuch` beyond ``most``."""
    if type(value) is str and len(value) <= most:
        return len(value)
    total = 0
    stack = [value]
    while stack:
        item = stack.pop()
        kind = type(item)
        if kind is str:
            total += len(item)
        elif kind is dict:
            total += len(item)
            stack.extend(item)
            stack.extend(item.values())
        elif kind is list or kind is tuple:
            total += len(item)
            stack.extend(item)
        elif kind is int:
            total += item.bit_length() >> 3
        elif isinstance(item, str | bytes | bytearray):
            total += len(item)
        else:
            total += 1
        if total > most:
            raise _too_much("text")
    return total


def _most() -> int:
    run = _RUN.get()
    return _MOST if run is None else run.most


def _bound(size: int) -> None:
    if size > _most():
        raise _too_much("text")


def _number(*values: Any) -> None:
    for value in values:
        if isinstance(value, int) and abs(value) > _LARGEST_NUMBER:
            raise TooMuch(f"the number {str(value)[:12]} is too large")


# Names with a space, which no template can write.
_TICK, _KEEP, _TELL = "lorimer tick", "lorimer keep", "lorimer tell"


# With the context, so that Jinja does not run it once and for all while it compiles.
@jinja2.pass_context
def _tick(context: jinja2.runtime.Context, value: Any, written: int) -> None:
    """Once per turn of a loop or call of a macro: the clock, the loop's value, and what the turn writes."""
    run = _RUN.get()
    if run is None:
        return
    run.check_time()
    run.left -= written
    if run.left < 0:
        raise _too_much("text")
    # Most loops are over the turns, whose size is known.
    if id(value) not in run.given:
        _weigh(value, run.most)


def _keep(value: Any) -> Any:
    """A value about to be kept under a name."""
    kind = type(value)
    if kind is bool or value is None:
        return value
    run = _RUN.get()
    # The turns, or some of them, are of a size that is known.
    if run is None or kind is not list or len(value) > len(run.given) or not _distinct(value, run.given):
        _weigh(value, _MOST if run is None else run.most)
    return value


def _distinct(items: list[Any], known: set[int]) -> bool:
    own = {id(item) for item in items}
    return len(own) == len(items) and own <= known


def _tell(value: Any) -> Any:
    """A value about to be written where the text is not seen at once (in a macro, a filter's block)."""
    run = _RUN.get()
    if run is not None:
        run.left -= _weigh(value, run.most)
        if run.left < 0:
            raise _too_much("text")
    return value


# "%*d" and "{:{}}" take their width from the arguments.
_WIDE_PERCENT = re.compile(r"%[-+ #0]*(?:\d{5,}|\*)|%[-+ #0\d]*\.(?:\d{5,}|\*)")
_WIDE_FORMAT = re.compile(r"\{[^{}]*(?:\d{5,}|\{)")
_WIDTH = re.compile(r"\d+")


def _check_percent(pattern: Any, *values: Any, **named: Any) -> None:
    if isinstance(pattern, str):
        # Behind "%(name)" a width is as wide as elsewhere.
        if _WIDE_PERCENT.search(pattern) or ("%(" in pattern and _widest(pattern) >= 10**4):
            raise TooMuch("a width in a format is too large")
        # By name one value may be written many times.
        times = pattern.count("%(") or 1
        _bound(len(pattern) + _widths(pattern) + times * _weigh([values, named], _most()))


def _check_format(pattern: str, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    if _WIDE_FORMAT.search(pattern):
        raise TooMuch("a width in a format is too large")
    _bound(len(pattern) + _widths(pattern) + pattern.count("{") * _weigh([args, named], _most()))


def _widest(pattern: str) -> int:
    return max((int(found[:9]) for found in _WIDTH.findall(pattern)), default=0)


def _widths(pattern: str) -> int:
    return sum(int(found[:9]) for found in _WIDTH.findall(pattern))


def _check_replace(text: Any, old: str, new: str, *_: Any) -> None:
    if isinstance(text, str):
        _bound(len(text) + (text.count(old) if old else len(text) + 1) * len(new))


def _check_join(glue: str, items: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    size = 0
    for item in items:
        size += _weigh(item, _most()) + len(glue)
        _bound(size)
        found.append(item)
    return found


def _check_indent(text: Any, width: int | str = 4, *_: Any, **__: Any) -> None:
    size = len(width) if isinstance(width, str) else width
    _number(size)
    _bound(len(str(text)) + size * (str(text).count("\n") + 1))


def _check_tojson(value: Any, *args: Any, **options: Any) -> None:
    indent = options.get("indent", args[1] if len(args) > 1 else None)
    if isinstance(indent, str | int) and (len(indent) if isinstance(indent, str) else indent) > _LARGEST_INDENT:
        raise TooMuch("an indent is too large")
    _weigh(value, _most())


def _check_sum(environment: Any, items: Any, attribute: Any = None, start: Any = 0) -> None:
    # Lists are added one by one, each time copying all: quadratic.
    if not isinstance(start, int | float) and not (isinstance(items, list | tuple) and len(items) <= _LONGEST_SUM):
        raise TooMuch("it sums too many lists")


def _check_numbers(*values: Any, **named: Any) -> None:
    _number(*values[1:], *named.values())


def _check_wrap(environment: Any, text: str, *values: Any, **named: Any) -> None:
    _number(*values, *named.values())
    wrap = named.get("wrapstring", values[2] if len(values) > 2 else None)
    _bound(len(text) * (1 + len(wrap or "")))


_FILTER_CHECKS: dict[str, Callable[..., Any]] = {
    "batch": _check_numbers,
    "center": _check_numbers,
    "format": _check_percent,
    "indent": _check_indent,
    "replace": lambda context, text, old, new, count=None: _check_replace(str(text), str(old), str(new)),
    "round": _check_numbers,
    "slice": _check_numbers,
    "sum": _check_sum,
    "tojson": _check_tojson,
    "truncate": _check_numbers,
    "wordwrap": _check_wrap,
}


@jinja2.pass_context
def _map(context: jinja2.runtime.Context, value: Any, *args: Any, **named: Any) -> Iterator[Any]:
    """Jinja's ``map``, its items looked at one by one: whatever gathers them is bounded with it."""
    for item in jinja2.filters.FILTERS["map"](context, value, *args, **named):
        _tick(context, None, 0)
        yield _tell(item)


@jinja2.pass_eval_context
def _join(context: jinja2.nodes.EvalContext, value: Any, d: str = "", attribute: Any = None) -> str:
    if attribute is not None:
        value = map(jinja2.filters.make_attrgetter(context.environment, attribute), value)
    text: str = jinja2.filters.do_join(context, _check_join(str(d), value), d)
    return text


def _guarded(work: Callable[..., Any], check: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(work)
    def guarded(*args: Any, **named: Any) -> Any:
        check(*args, **named)
        result = work(*args, **named)
        return _keep(result) if isinstance(result, str) else result

    return guarded


def _check_method(owner: str, name: str, args: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Any, ...]:
    """Arguments for a method of a text; a generator among them is made a list, to be weighed."""
    if name in ("center", "ljust", "rjust", "zfill", "expandtabs"):
        _number(*args, *named.values())
    elif name == "replace" and len(args) > 1:
        _check_replace(owner, str(args[0]), str(args[1]))
    elif name == "join" and args:
        return (_check_join(owner, args[0]), *args[1:])
    elif name in ("format", "format_map"):
        _check_format(owner, args, named)
    elif name == "translate":
        _bound(len(owner) * _weigh(args, _most()))
    return args


# ---------------------------------------------------------------------------------------------------------- the sandbox
_DICT_NAMES = frozenset(dir(dict))


class _Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """Jinja's, with checks put into what the template says."""

    # Texts and lists can be multiplied, numbers raised, and formats widened, all in one step.
    intercepted_binops = frozenset({"*", "**", "%"})

    def _parse(self, source: str, name: str | None, filename: str | None) -> jinja2.nodes.Template:
        tree = super()._parse(source, name, filename)
        _refuse_chains(tree)
        unseen = _unseen(tree)
        for loop in list(tree.find_all(jinja2.nodes.For)):
            written = _written(loop.body) if loop in unseen else 0
            loop.body.insert(0, _ticking(_loaded(loop.target), written, loop.lineno))
        for macro in list(tree.find_all(jinja2.nodes.Macro)):
            macro.body.insert(0, _ticking(jinja2.nodes.Const(None), _written(macro.body), macro.lineno))
        for assignment in tree.find_all(jinja2.nodes.Assign):
            if isinstance(assignment.node, jinja2.nodes.Expr):
                assignment.node = _filtered(assignment.node, _KEEP)
        for block in tree.find_all(jinja2.nodes.With):
            block.values = [_filtered(value, _KEEP) for value in block.values]
        for node in unseen:
            if isinstance(node, jinja2.nodes.Output):
                node.nodes = [
                    n if isinstance(n, jinja2.nodes.TemplateData) else _filtered(n, _TELL) for n in node.nodes
                ]
        return tree

    def getattr(self, obj: Any, attribute: str) -> Any:
        """``turn.role``: as Jinja finds it, without first asking the type of each turn for a method of that name."""
        if type(obj) is dict and attribute not in _DICT_NAMES:
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        if type(obj) is _Namespace and not attribute.startswith("_"):
            try:
                return getattr(obj, attribute)
            except AttributeError:
                return self.undefined(obj=obj, name=attribute)
        return super().getattr(obj, attribute)

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        """``*``, ``**`` and ``%``, where the result is of a size that can be held."""
        if operator == "%":
            if type(left) is int:
                return left % right
            _check_percent(left, right)
        elif isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * abs(right) if operator == "**" else left.bit_length() + right.bit_length()
            if bits > _LARGEST_NUMBER:
                raise _too_much("arithmetic")
        elif operator == "*":
            size, times = (left, right) if isinstance(right, int) else (right, left)
            if isinstance(times, int):
                _bound(_weigh(size, _most()) * max(times, 0))
        return super().call_binop(context, operator, left, right)

    # Jinja's own first parameters have names that no template can give an argument.
    def call(__self, __context: jinja2.runtime.Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """A call, with arguments of a size that can be held."""
        owner = getattr(getattr(__obj, "__wrapped__", __obj), "__self__", None)
        if isinstance(owner, str):
            args = _check_method(owner, __obj.__name__, args, kwargs)
        elif args or (kwargs and type(owner) is not _Generation):
            _weigh([args, kwargs], _most())
        return super().call(__context, __obj, *args, **kwargs)


def _unseen(tree: jinja2.nodes.Template) -> set[jinja2.nodes.Node]:
    """Nodes whose text is gathered before it is written: there `run_template` cannot count it."""
    kinds = (jinja2.nodes.Output, jinja2.nodes.For)
    gathered: list[jinja2.nodes.Node] = [
        *tree.find_all((jinja2.nodes.Macro, jinja2.nodes.FilterBlock, jinja2.nodes.AssignBlock)),
        # Blocks of a few words, such as those that mark an answer, are as good as written.
        *(b for b in tree.find_all(jinja2.nodes.CallBlock) if b.find(jinja2.nodes.For) or len(b.body) > _FEW),
        # A loop that calls itself gathers, too.
        *(loop for loop in tree.find_all(jinja2.nodes.For) if loop.recursive),
    ]
    inside = {node for block in gathered for node in block.find_all(kinds)}
    return inside | {node for node in gathered if isinstance(node, jinja2.nodes.For)}


def _refuse_chains(tree: jinja2.nodes.Template) -> None:
    """Raise `TooMuch` where one expression adds so many texts that their sum, too, could be too much."""
    length: dict[int, int] = {}
    # From the innermost out: children are found after their parents.
    for node in reversed(list(tree.find_all((jinja2.nodes.Add, jinja2.nodes.Concat)))):
        length[id(node)] = sum(length.get(id(child), 1) for child in node.iter_child_nodes())
        if length[id(node)] > _LONGEST_CHAIN:
            raise TooMuch(f"line {node.lineno} adds more than {_LONGEST_CHAIN} values at once")


def _written(body: list[jinja2.nodes.Node]) -> int:
    """Characters of plain text in statements, those of loops inside them not counted."""
    total = 0
    for node in body:
        if isinstance(node, jinja2.nodes.TemplateData):
            total += len(node.data)
        elif not isinstance(node, jinja2.nodes.For):
            total += _written(list(node.iter_child_nodes()))
    return total


def _filtered(node: jinja2.nodes.Expr, name: str) -> jinja2.nodes.Filter:
    found = jinja2.nodes.Filter(node, name, [], [], None, None)
    found.set_lineno(node.lineno)
    return found


def _ticking(value: jinja2.nodes.Expr, written: int, line: int) -> jinja2.nodes.Node:
    tick = jinja2.nodes.Filter(value, _TICK, [jinja2.nodes.Const(written)], [], None, None)
    return jinja2.nodes.ExprStmt(tick).set_lineno(line)


def _loaded(target: jinja2.nodes.Node) -> jinja2.nodes.Expr:
    """A loop's target, to be read."""
    if isinstance(target, jinja2.nodes.Tuple):
        return jinja2.nodes.Tuple([_loaded(item) for item in target.items], "load")
    if isinstance(target, jinja2.nodes.Name):
        return jinja2.nodes.Name(target.name, "load")
    return jinja2.nodes.Const(None)


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
        run = _RUN.get()
        if run is not None:
            run.spans.append((run.length, run.length + len(text)))
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
    raise jinja2.TemplateError(str(message)[:_LONGEST_REASON])


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
