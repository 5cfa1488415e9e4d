"""Rules of the house that no linter knows: sizes, empty `__init__` files, Chinese punctuation."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

LONGEST_FUNCTION = {"gui": 40, "engine": 90}
LONGEST_MAIN_WINDOW = 250
_CJK = "[\u3400-\u9fff]"
# ASCII punctuation that touches a Chinese character; code spans and placeholders are cut out before.
_ASCII_IN_CHINESE = re.compile(rf"{_CJK}[,:;!?(]|[,:;!?)]{_CJK}")


def sources(repository: Path, room: str) -> Iterator[tuple[Path, ast.Module]]:
    """Every source file of `engine` or `gui`, parsed."""
    for file in sorted((repository / room).rglob("*.py")):
        yield file.relative_to(repository), ast.parse(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("room", ["engine", "gui"])
def test_functions_stay_short(repository: Path, room: str) -> None:
    too_long = [
        f"{file}:{node.lineno} {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for file, tree in sources(repository, room)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > LONGEST_FUNCTION[room]
    ]
    assert too_long == [], f"longer than {LONGEST_FUNCTION[room]} lines: cut them into steps that have names"


def test_the_main_window_only_composes(repository: Path) -> None:
    lines = (repository / "gui" / "main_window.py").read_text(encoding="utf-8").count("\n")
    assert lines < LONGEST_MAIN_WINDOW


@pytest.mark.parametrize("room", ["engine", "gui"])
def test_nothing_happens_at_import(repository: Path, room: str) -> None:
    busy = [
        str(file)
        for file, tree in sources(repository, room)
        if file.name == "__init__.py"
        for node in tree.body
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    ]
    assert busy == [], "an __init__.py holds a docstring at most"


@pytest.mark.parametrize("room", ["engine", "gui", "packaging"])
def test_chinese_texts_have_chinese_punctuation(repository: Path, room: str) -> None:
    wrong = [
        f"{file}:{node.lineno} {text!r}"
        for file, tree in sources(repository, room)
        for node in ast.walk(tree)
        for text in chinese_of(node)
        if _ASCII_IN_CHINESE.search(text)
    ]
    assert wrong == []


def chinese_of(node: ast.AST) -> list[str]:
    """The Chinese text of a `say(english, chinese)` call, without its code spans and placeholders."""
    is_say = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "say"
    if not is_say or len(node.args) < 2:
        return []
    text = node.args[1]
    if not (isinstance(text, ast.Constant) and isinstance(text.value, str)):
        return []
    return [re.sub(r"`[^`]*`|\{[^}]*\}", "", text.value)]


@pytest.mark.parametrize("chinese", ["磁盘已满:请腾出空间", "说明(可选)", "完成!"])
def test_the_punctuation_rule_can_fail(chinese: str) -> None:
    assert _ASCII_IN_CHINESE.search(chinese)
