"""The sandbox of templates: no way out, an end to everything, and each error shown at its line."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import pytest

from engine.data.rows import Message
from engine.data.sandbox import SECONDS, TEMPLATE_ERRORS, TooMuch, line_of, run_template
from engine.data.template import ChatTemplate, check_template, choose_template
from engine.protocol.errors import UserError
from engine.protocol.text import NOTHING

TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
LONGEST = 10.0
GOOD = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}\n{% endfor %}"


def run(source: str, **values: Any) -> str:
    return run_template(source, {"messages": TURNS, **values}, 4)[0]


# ---------------------------------------------------------------------------------------------------------- no way out
@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__class__.__base__.__subclasses__() }}",
        "{{ (''|attr('__class__')|attr('__mro__'))[1] }}",
        "{{ messages|map(attribute='__class__')|map(attribute='__mro__')|first }}{{ x.y.z }}",
        "{{ raise_exception.__globals__['os'].system('true') }}",
        "{{ self.__init__.__globals__.__builtins__ }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ joiner.__init__.__globals__.os }}",
        "{{ namespace.__init__.__globals__.os }}",
        "{{ dict.__call__.__globals__ }}",
        "{{ '{0.__class__.__init__.__globals__}'.format(raise_exception) }}",
        "{{ '{m.__class__}'.format_map({'m': messages}).x.y }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(role='x') }}",
        "{% set ns = namespace(__class__=1) %}",
        "{% set ns = namespace() %}{% set ns.__init__ = 1 %}",
        "{% import 'os' as os %}",
        "{% include '/etc/passwd' %}",
        "{% extends 'base' %}",
        "{% from 'os' import path %}",
        "{{ lipsum.__globals__ }}",
        "{{ lipsum(5) }}",
        "{{ joiner.__class__.__mro__ }}",
    ],
)
def test_there_is_no_way_out(source: str) -> None:
    with pytest.raises(TEMPLATE_ERRORS):
        run(source)
    assert TURNS == [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]


@pytest.mark.parametrize("source", ["{{ ''|attr('__class__') }}", "{{ ''['__class__'] }}", "{{ (1).__class__ }}"])
def test_types_are_never_shown(source: str) -> None:
    try:
        text = run(source)
    except TEMPLATE_ERRORS:
        return
    assert text == ""


# ------------------------------------------------------------------------------------------------------- an end to all
MUCH = [
    "{% for i in range(99999) %}{% for j in range(99999) %}xxxxxx{% endfor %}{% endfor %}",
    "{% macro m() %}{% for i in range(9999) %}{% for i in range(999) %}{{ 'x' * 99 }}{% endfor %}{% endfor %}"
    "{% endmacro %}{{ m() | length }}",
    "{% set x %}{% for i in range(99999) %}{% for i in range(999) %}xxxxxxxxx{% endfor %}{% endfor %}{% endset %}",
    "{% filter upper %}{% for i in range(9999) %}{% for i in range(999) %}xxxx{% endfor %}{% endfor %}{% endfilter %}",
    "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x|length }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "{% macro m(x) %}{{ m(x + x) }}{% endmacro %}{{ m('abc') }}",
    "{% macro m(n) %}{{ m(n) }}{% endmacro %}{{ m(1) }}",
    "{% for a in ['x' * 999999] %}{% for b in [a + a] %}{% for c in [b + b] %}{% for d in [c + c] %}{% endfor %}"
    "{% endfor %}{% endfor %}{% endfor %}",
    "{% with a = 'x' * 3000000 %}{% with b = a + a %}{{ b | length }}{% endwith %}{% endwith %}",
    "{{ 'a' * 10 ** 10 }}",
    "{{ messages * 10 ** 9 }}",
    "{{ 9 ** (9 ** (9 ** 9)) }}",
    "{{ ([messages] * 99999) | tojson | length }}",
    "{{ messages | tojson(indent=10 ** 9) }}",
    "{{ 'a' | center(10 ** 9) }}",
    "{{ 'a'.center(10 ** 9) }}",
    "{{ 'a'.ljust(10 ** 9) }}{{ 'a'.zfill(10 ** 9) }}",
    "{{ '\t'.expandtabs(10 ** 9) }}",
    "{{ '%0999999999d' % 1 }}",
    "{{ '%*d' % (999999999, 1) }}",
    "{{ '%0999999999d' | format(1) }}",
    "{{ '{:>999999999}'.format(1) }}",
    "{{ '{:>{}}'.format(1, 999999999) }}",
    "{{ ('a' * 99999).replace('a', 'b' * 99999) }}",
    "{{ ('a' * 99999) | replace('a', 'b' * 99999) }}",
    "{{ ('b' * 99999).join('a' * 99999) }}",
    "{{ ('a' * 99999) | join('b' * 99999) }}",
    "{{ ('\n' * 99999) | indent(99999) }}",
    "{{ ('a' * 99999) | wordwrap(1, wrapstring='b' * 99999) }}",
    "{{ ('a' * 99999).translate({97: 'b' * 99999}) }}",
    "{{ range(99999) | map('center', 99999) | list | length }}",
    "{{ range(99999) | map('center', 99999) | join | length }}",
    "{{ 'x'.join(range(99999) | map('center', 99999)) | length }}",
    "{{ range(10 ** 8) | list }}",
    "{{ [[0] * 9999] * 9999 }}",
    "{{ 1.5 | round(10 ** 9) }}",
    "{% for i in range(99999) recursive %}{{ i }}{{ loop(range(99999)) }}{% endfor %}",
    f"{{{{ {' + '.join(['messages[0].content'] * 1000)} }}}}",
    f"{{{{ {'(' * 500}1{')' * 500} }}}}",
    "x" * 2_000_000,
]


@pytest.mark.parametrize("source", MUCH, ids=[source[:60] for source in MUCH])
def test_too_much_is_refused_at_once(source: str) -> None:
    start = time.process_time()
    with pytest.raises(TEMPLATE_ERRORS):
        run(source)
    assert time.process_time() - start < LONGEST


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro m() %}{% endmacro %}{% for i in range(99999) %}{% for j in range(99999) %}{{ m() }}{% endfor %}"
        "{% endfor %}",
    ],
)
def test_endless_work_ends(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.data.sandbox.SECONDS", 0.5)
    start = time.process_time()
    with pytest.raises(TooMuch, match="takes longer"):
        run(source)
    assert time.process_time() - start < SECONDS


def test_the_check_of_an_endless_template_ends() -> None:
    start = time.process_time()
    found = check_template("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}")
    assert [problem.code for problem in found] == ["template.failed"]
    assert "takes longer" in found[0].message.en
    assert time.process_time() - start < LONGEST


def test_a_template_that_is_endless_for_many_rows_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.data.sandbox.SECONDS", 0.2)
    source = "{% for m in messages %}{{ m.content }}{% if m.content == 'no' %}"
    source += "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}{% endif %}{% endfor %}"
    template = ChatTemplate("mine.jinja", source, NOTHING)
    good = (Message("user", "Q"), Message("assistant", "yes"))
    assert template.render(good).text == "Qyes"
    start = time.process_time()
    for _ in range(100):
        with pytest.raises(UserError, match="takes longer"):
            template.render((Message("user", "Q"), Message("assistant", "no")))
    assert time.process_time() - start < LONGEST


def test_what_real_templates_do_is_not_too_much() -> None:
    """Jinja's and transformers' results, with every check that a value passes."""
    assert run("{{ ['a', 'b'] | join(', ') }}{{ messages | map(attribute='role') | join('-') }}") == (
        "a, buser-assistant"
    )
    assert run("{{ messages | join(',', attribute='role') }}{{ 'abab' | replace('a', 'c') }}") == "user,assistantcbcb"
    assert run("{{ 'a\nb' | indent(2) }}{{ 'x'.replace('x', 'y') }}{{ '-'.join(['a']) }}") == "a\n  bya"
    assert run("{{ {'a': [1, 'ü']} | tojson }}{{ [1] | tojson(indent=2) }}") == '{"a": [1, "ü"]}[\n  1\n]'
    assert run("{{ '%s-%02d' % ('a', 7) }}{{ '%s' | format('b') }}{{ '{:>3}'.format(1) }}{{ 7 % 4 }}") == "a-07b  13"
    assert run("{{ [1, 2] | sum }}{{ [[1], [2]] | sum(start=[]) }}{{ 'a' * 3 }}{{ 2 ** 8 }}") == "3[1, 2]aaa256"
    assert run("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}") == "a1"
    assert run(
        "{% for m in messages recursive %}{{ m.role }}{% if loop.first %}{{ loop([m]) if 0 }}{% endif %}{% endfor %}"
    )
    assert run("{% macro m(x) %}<{{ x }}{{ caller() }}>{% endmacro %}{% call m(1) %}in{% endcall %}") == "<1in>"
    assert run("{{ messages[0].nothing is defined }}{{ messages[0].items is defined }}") == "FalseTrue"
    assert run("{% set ns = namespace(a=1) %}{{ ns.a }}{{ ns.b is defined }}{% set ns.b = 2 %}{{ ns.b }}") == "1False2"
    long = "x" * 20_000_000
    assert run_template("{{ a }}{{ a }}", {"messages": [], "a": long}, len(long))[0] == long * 2


# ------------------------------------------------------------------------------------------------------------ its line
@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        ("a\n{% for %}\n", 2, "Expected"),
        ("a\nb\n{% if x %}\n", 3, "endif"),
        ("a\n\n{{ nope.x }}\n", 3, "'nope' is undefined"),
        ("{% for m in messages %}\n{{ m.content }}\n{{ 1 / 0 }}\n{% endfor %}", 3, "division by zero"),
        ("{% macro m() %}\n{{ raise_exception('never') }}\n{% endmacro %}\n\n{{ m() }}", 2, "never"),
        ("x\n{{ 'a' * 10 ** 10 }}", 2, "too much"),
        ("x\n{{ messages | nofilter }}", 2, "nofilter"),
    ],
)
def test_errors_are_shown_at_their_line(source: str, line: int, words: str) -> None:
    with pytest.raises(TEMPLATE_ERRORS) as caught:
        run(source)
    assert line_of(caught.value) == line
    (problem,) = check_template(source, name="mine.jinja")
    assert problem.where == f"mine.jinja:{line}"
    assert words in problem.message.en
    assert words in problem.message.zh
    assert problem.hint


def test_a_row_that_is_refused_says_at_which_line() -> None:
    source = "{% for m in messages %}\n{% if m.content == 'no' %}{{ raise_exception('not this') }}{% endif %}\n"
    template = ChatTemplate("mine.jinja", source + "{{ m.content }}\n{% endfor %}", NOTHING)
    assert template.render((Message("user", "Q"), Message("assistant", "yes"))).spans
    with pytest.raises(UserError) as caught:
        template.render((Message("user", "Q"), Message("assistant", "no")))
    assert (caught.value.problem.code, caught.value.problem.where) == ("template.refused", "mine.jinja:2")
    assert "not this" in caught.value.problem.message.en


# ------------------------------------------------------------------------------------------------------------ the check
def test_good_templates_have_no_problems(shared_data: Path) -> None:
    assert check_template(GOOD) == ()
    for path in sorted((shared_data / "templates").glob("*.jinja")):
        assert check_template(path.read_text(encoding="utf-8"), name=path.name) == (), path.name


@pytest.mark.parametrize(
    ("source", "codes"),
    [
        ("{{ messages[0].content }}", ["template.no_answer"]),
        (
            "{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content }}{% endif %}{% endfor %}",
            ["no_question"],
        ),
        ("Hello", ["template.no_answer", "template.no_question"]),
        ("", ["template.no_answer", "template.no_question"]),
        ("{{ raise_exception('never') }}", ["template.failed"]),
        ("{% if %}", ["template.syntax"]),
        ("{% for i in range(10**9) %}{% endfor %}", ["template.failed"]),
        ("{{ ''.__class__.__mro__ }}", ["template.failed"]),
    ],
)
def test_useless_templates_are_told(source: str, codes: list[str]) -> None:
    found = check_template(source, name="mine.jinja")
    assert [problem.code for problem in found] == [f"template.{code.removeprefix('template.')}" for code in codes]
    assert all(problem.where.startswith("mine.jinja") and problem.hint.zh for problem in found)


def test_a_file_is_checked_when_it_is_chosen(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    folder = tiny_model("</s>", eos_token="</s>")
    path = tmp_path / "mine.jinja"
    for content, code in (
        (b"\n\n{% for %}", "template.syntax"),
        (b"Hello", "template.no_answer"),
        (b"\xff\xfe\x00", "template.encoding"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError) as caught:
            choose_template(folder, str(path))
        assert caught.value.problem.code == code
        assert "mine.jinja" in caught.value.problem.where
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert choose_template(folder, str(path)).source == GOOD


def test_jinjas_own_errors_are_all_caught() -> None:
    assert issubclass(jinja2.exceptions.SecurityError, TEMPLATE_ERRORS)
    assert issubclass(TooMuch, TEMPLATE_ERRORS)
    assert issubclass(OverflowError, TEMPLATE_ERRORS)
