"""Write ``docs/recipe.md`` from the recipe's own field metadata. Run it after a setting was added or changed."""

import sys
from pathlib import Path

from pydantic import BaseModel

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from engine.methods.registry import METHODS  # noqa: E402  (the repository is put on the path first)
from engine.objectives.registry import OBJECTIVES  # noqa: E402
from engine.recipe.fields import Setting, bounds, settings  # noqa: E402
from engine.recipe.quality import QualitySettings  # noqa: E402
from engine.recipe.recipe import (  # noqa: E402
    DataSettings,
    EvaluateSettings,
    FileSettings,
    ModelSettings,
    TrainSettings,
)

HEAD = """# The recipe

A recipe is a TOML file that says all that a run does; `lorimer run recipe.toml` repeats it. Every setting has a
default, a name that is not known is an error that names the nearest one, and relative paths are taken from the file's
folder. This page is written by `packaging/write_docs.py` from the settings themselves.
"""


def recipe_page() -> str:
    """The whole page."""
    tables: list[tuple[str, str, type[BaseModel]]] = [("model", "", ModelSettings), ("data", "", DataSettings)]
    tables += [("data.quality", "", QualitySettings), ('data.per_file."FILE"', "", FileSettings)]
    tables += [("method", f'`name = "{name}"`: {m.summary}.', m.settings) for name, m in METHODS.items()]
    tables += [("objective", f'`name = "{name}"`: {o.summary}.', o.settings) for name, o in OBJECTIVES.items()]
    tables += [("train", "", TrainSettings), ("evaluate", "", EvaluateSettings)]
    return HEAD + "".join(_table(*table) for table in tables)


def _table(name: str, about: str, section: type[BaseModel]) -> str:
    rows = [_row(section, field, setting) for field, setting in settings(section).items()]
    body = (
        "\n".join(["| setting | default | values | what it is |", "|---|---|---|---|", *rows])
        if rows
        else "No settings."
    )
    return f"\n## [{name}]\n\n{about + chr(10) * 2 if about else ''}{body}\n"


def _row(section: type[BaseModel], field: str, setting: Setting) -> str:
    default = section.model_fields[field].default
    term = f" ({setting.term})" if setting.term else ""
    source = f" Source: {setting.source}." if setting.source else ""
    text = f"{setting.label}{term}. {setting.help}{source}"
    return f"| `{field}` | `{_shown(default)}` | {_values(section, field, setting)} | {text} |"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, BaseModel):
        return "see below"
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _values(section: type[BaseModel], field: str, setting: Setting) -> str:
    if setting.choices:
        return ", ".join(f"`{value}`" for value, _ in setting.choices)
    low, high = bounds(section, field)
    span = f"{low} to {high}" if high is not None else f"from {low}" if low is not None else ""
    return " ".join(part for part in (span, str(setting.unit)) if part)


if __name__ == "__main__":
    (ROOT / "docs" / "recipe.md").write_text(recipe_page(), encoding="utf-8")
