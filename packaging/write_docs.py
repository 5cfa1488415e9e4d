"""Write ``docs/recipe.md`` from the recipe's own field metadata and ``docs/advice.md`` from the advisor's table. Run it
after a setting or a figure of the table was added or changed."""

import sys
from pathlib import Path

from pydantic import BaseModel

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from engine.machine import table  # noqa: E402  (the repository is put on the path first)
from engine.machine.table import Cell, Row  # noqa: E402
from engine.methods.registry import METHODS  # noqa: E402
from engine.objectives.registry import OBJECTIVES  # noqa: E402
from engine.recipe.fields import Setting, bounds, settings  # noqa: E402
from engine.recipe.judge import JudgeSettings  # noqa: E402
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
    tables += [("evaluate.judge", "", JudgeSettings)]
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


ADVICE = """# The advice

`lorimer plan` and the Plan page give a whole recipe for a machine, a model and data. This page is the advisor's table:
all figures it knows, each with its source. Where sources differ, a measurement of ours comes first, then PEFT's
published comparison of methods, then tutorials and common practice. It is written by `packaging/write_docs.py` from
`engine/machine/table.py`; whoever wants other advice changes that file.

## The order

The advice is the first place at which a recipe fits: so with more memory it never falls to a lower place. A place that
says nothing else must leave 10% of what a run may use free, one that fits closely 4%, because the forecast may be too
low. A run may use 95% of a GPU's free memory, 85% of the machine's. Within a place the largest micro-batch is taken
that brings speed. When no place is reached, the recipe that needs least is shown, with what would change that: shorter
rows, a smaller model of the family, more memory. The CPU has no paged optimizer: there AdamW stays as it is.
"""


def advice_page() -> str:
    """The advisor's table as a page."""
    parts = [ADVICE]
    for goal, places in table.ORDER.items():
        rows = [f"| {n} | {place.words} | {place.source} |" for n, place in enumerate(places, 1)]
        head = ["| place | what it is | why it stands here |", "|---|---|---|"]
        parts.append(
            f"\n### {table.GOALS[goal].en.capitalize()} (`--wish {goal}`)\n\n" + "\n".join([*head, *rows]) + "\n"
        )
    rank_head = ["| what the rows teach | rows | rank | source |", "|---|---|---|---|"]
    ranks = [
        f"| {table.TASKS[task]} | {_from(row)} | {row.cell.value} | {row.cell.source} |"
        for task, rows in table.RANK.items()
        for row in rows
    ]
    parts.append("\n## Rank\n\n" + "\n".join([*rank_head, *ranks]) + "\n")
    figures = ["| figure | from | value | source |", "|---|---|---|---|", *_figures()]
    parts.append("\n## Everything else\n\n" + "\n".join(figures) + "\n")
    return "".join(parts)


FIGURES = {
    "EPOCHS": "passes, by rows",
    "PREFERENCE_EPOCHS": "passes over preferences",
    "FEWEST_EPOCHS": "passes at least, where speed is wished for and they make updates enough",
    "EFFECTIVE_BATCHES": "rows per update, the first that leaves updates enough",
    "LEAST_STEPS": "updates that are enough",
    "HELD_OUT": "share held out",
    "HELD_OUT_ROWS": "rows held out at most",
    "RATE_FACTOR": "factor of the method's learning rate, by the model's weights",
    "FEW_ROWS": "rows below which the rate is raised",
    "FEW_ROWS_FACTOR": "and by how much",
    "SCALE": "alpha/√rank with rank stabilisation",
    "RANK_STABILISED": "rank-stabilised",
    "TARGETS": "layers trained",
    "DROPOUT": "adapter dropout",
    "LOW_RANK": "rank where memory is short",
    "LENGTH_STEP": "the longest row, up to a multiple of",
    "LARGEST_MICRO_BATCH": "rows at once at most",
    "WORTH": "a larger micro-batch must be faster by",
    "ROOMY": "share of the usable memory that may be filled",
    "CLOSE": "the same, where it may fit closely",
    "MAJORITY": "share of the rows that decides what all teach",
}


def _figures() -> list[str]:
    lines = []
    for name, words in FIGURES.items():
        found = getattr(table, name)
        rows = [found] if isinstance(found, Cell) else found
        for row in rows:
            cell, since = (row, "") if isinstance(row, Cell) else (row.cell, _from(row))
            value = ", ".join(map(str, cell.value)) if isinstance(cell.value, tuple) else f"{cell.value}"
            lines.append(f"| {words} | {since} | {value} | {cell.source} |")
    for device, cell in table.MICRO_BATCH_TOKENS.items():
        lines.append(f"| tokens at once that bring speed, {device} | | {cell.value:,} | {cell.source} |")
    return lines


def _from(row: Row[int] | Row[float]) -> str:
    return f"from {row.least:,.0f}" if row.least else ""


if __name__ == "__main__":
    (ROOT / "docs" / "advice.md").write_text(advice_page(), encoding="utf-8")
    (ROOT / "docs" / "recipe.md").write_text(recipe_page(), encoding="utf-8")
