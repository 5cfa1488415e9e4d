"""The second proof of the import rules: what is really loaded when the window's process and the light rooms are.

The first proof, import-linter's contracts in pyproject.toml, reads the source; it cannot see what libraries import.
"""

import ast
import json
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

HEAVY = ("torch", "transformers", "peft", "trl", "bitsandbytes", "datasets", "accelerate")
LIGHT_ROOMS = ("engine.recipe", "engine.protocol", "engine.machine", "engine.project", "engine.host")
REGISTRIES = ("engine.methods.registry", "engine.objectives.registry", "engine.data.registry", "engine.export.targets")
WITHOUT_TORCH = ("torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate")


def loaded_with(modules: list[str], watched: tuple[str, ...], folder: Path) -> list[str]:
    """Which of `watched` a fresh interpreter holds after importing `modules`."""
    program = f"""
import importlib, json, sys
for name in {modules!r}:
    importlib.import_module(name)
print(json.dumps([name for name in {watched!r} if name in sys.modules]))
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=folder, timeout=120)
    assert answer.returncode == 0, answer.stderr
    found: list[str] = json.loads(answer.stdout)
    return found


def modules_of(package: str) -> list[str]:
    """Every module of a package, itself included, except programs (`__main__`)."""
    found = pkgutil.walk_packages(import_module(package).__path__, f"{package}.")
    return [package, *(module.name for module in found if not module.name.endswith("__main__"))]


def test_light_rooms_load_nothing_heavy(repository: Path) -> None:
    modules = [module for room in LIGHT_ROOMS for module in modules_of(room)]
    assert len(modules) > len(LIGHT_ROOMS)
    assert loaded_with([*modules, *REGISTRIES, "engine.catalogue"], HEAVY, repository) == []


def test_the_whole_window_loads_nothing_heavy(repository: Path) -> None:
    modules = modules_of("gui")
    assert "gui.app" in modules
    assert loaded_with(modules, HEAVY, repository) == []


def test_the_window_starts_without_the_plot_library(repository: Path) -> None:
    assert loaded_with(["gui.app", "gui.main_window"], ("pyqtgraph",), repository) == []


def test_the_command_line_starts_light(repository: Path) -> None:
    assert loaded_with(["engine.cli"], HEAVY, repository) == []


def test_the_data_room_works_without_torch(repository: Path) -> None:
    assert loaded_with(modules_of("engine.data"), WITHOUT_TORCH, repository) == []


@pytest.mark.parametrize("room", ["engine", "gui"])
def test_every_library_in_use_is_declared(repository: Path, room: str) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {plain(re.split(r"[<>=!~ ]", requirement)[0]) for requirement in project["dependencies"]}
    distributions = packages_distributions()
    used = {name for file in (repository / room).rglob("*.py") for name in libraries_in(file)}
    assert used
    undeclared = {name for name in used if not declared & {plain(source) for source in distributions.get(name, ())}}
    assert undeclared == set(), "add them to the dependencies in pyproject.toml, and to packaging/constraints.txt"


def libraries_in(file: Path) -> Iterator[str]:
    """First names of the third-party modules that a file imports anywhere."""
    own = {"engine", "gui", *sys.stdlib_module_names}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.append(node.module)
        yield from {name.partition(".")[0] for name in names} - own


def plain(name: str) -> str:
    """A distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("room", ["engine", "gui"])
def test_every_folder_of_code_is_a_package(repository: Path, room: str) -> None:
    folders = {file.parent for file in (repository / room).rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []
