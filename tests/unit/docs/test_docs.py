"""The docs say what the code does."""

import dataclasses
import importlib.util
import re
from pathlib import Path
from types import ModuleType

from engine.machine import table
from engine.options import parser
from engine.protocol.events import COMMANDS, EVENTS


def _writer(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_docs", repository / "packaging" / "write_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_recipe_page_is_current(repository: Path) -> None:
    page = (repository / "docs" / "recipe.md").read_text(encoding="utf-8")
    assert page == _writer(repository).recipe_page(), "run python packaging/write_docs.py"


def test_the_advice_page_is_current_and_tells_every_figure(repository: Path) -> None:
    writer = _writer(repository)
    page = (repository / "docs" / "advice.md").read_text(encoding="utf-8")
    assert page == writer.advice_page(), "run python packaging/write_docs.py"
    told = {name for name, value in vars(table).items() if isinstance(value, table.Cell)}
    assert told <= writer.FIGURES.keys()
    for words in (*table.GOALS.values(), *table.TASKS.values()):
        assert words.en.lower() in page.lower()


def test_the_protocol_page_names_every_event_and_its_fields(repository: Path) -> None:
    page = (repository / "docs" / "protocol.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    for name, kind in EVENTS.items():
        if name == "unknown":
            continue
        about = [row for row in rows if f"`{name}`" in row.split("|")[1]]
        assert len(about) == 1, f"docs/protocol.md has no row for the event {name}"
        for field in dataclasses.fields(kind):
            known = field.name == "time" or f"`{field.name}`" in about[0]
            assert known, f"docs/protocol.md does not name {name}.{field.name}"
    for command in COMMANDS:
        assert f'"{command}"' in page


def test_the_command_line_page_names_every_command(repository: Path) -> None:
    page = (repository / "docs" / "command-line.md").read_text(encoding="utf-8")
    usage = parser().format_help()
    commands = re.findall(r"^    (\w+) ", usage, re.MULTILINE)
    assert len(commands) >= 10
    for command in commands:
        assert f"`lorimer {command}" in page


def test_the_docs_speak_of_the_project_alone(repository: Path) -> None:
    for path in [repository / "README.md", repository / "CONTRIBUTING.md", *(repository / "docs").glob("*.md")]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"/work/|/root/|pypi\.org|files\.pythonhosted", text), path


def test_the_security_page_names_tests_that_are_there(repository: Path) -> None:
    page = (repository / "docs" / "security.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(tests/[\w/.]+)`", page))
    assert len(named) >= 8
    assert [name for name in sorted(named) if not (repository / name).exists()] == []
