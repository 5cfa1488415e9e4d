"""How one setting is declared: its default, bounds and unit, and what people read of it, in one place.

The form, the command line's help, the docs and the validation all read it from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from engine.protocol.text import NOTHING, Text


class Section(BaseModel):
    """A part of the recipe: frozen, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Setting:
    """What people read of a field.

    Attributes:
        label: the user's words ("Passes over the data").
        term: the field's standard term ("epochs"), shown in brackets or the tooltip; empty when it is the label.
        help: one or two sentences; what more and less of it do.
        unit: such as "tokens"; empty when it has none.
        basic: shown before "all settings" is opened.
        choices: value → what people read; empty for numbers and free text.
        source: where the default comes from.
    """

    label: Text
    help: Text
    term: str = ""
    unit: Text = NOTHING
    basic: bool = False
    choices: tuple[tuple[str, Text], ...] = ()
    source: str = ""


def setting(
    default: Any,
    *,
    label: Text,
    help: Text,  # the word people look for; it shadows a builtin that nothing here needs
    term: str = "",
    unit: Text = NOTHING,
    basic: bool = False,
    choices: dict[str, Text] | None = None,
    source: str = "",
    **bounds: Any,
) -> Any:
    """A pydantic field with its `Setting`; ``bounds`` are pydantic's (``ge``, ``gt``, ``le``, ``lt``…)."""
    about = Setting(label, help, term, unit, basic, tuple((choices or {}).items()), source)
    return Field(default, json_schema_extra={"setting": about}, **bounds)  # type: ignore[dict-item]


def setting_of(field: FieldInfo) -> Setting | None:
    """The `Setting` of a pydantic field, None for one that people do not set."""
    extra = field.json_schema_extra
    about = extra.get("setting") if isinstance(extra, dict) else None
    return about if isinstance(about, Setting) else None


def settings(section: type[BaseModel]) -> dict[str, Setting]:
    """Field name → `Setting` of all fields of ``section`` that people set, in order."""
    found = {name: setting_of(field) for name, field in section.model_fields.items()}
    return {name: about for name, about in found.items() if about is not None}


def bounds(section: type[BaseModel], name: str) -> tuple[float | None, float | None]:
    """Lowest and highest value of a number field, None where it has no bound. Open bounds are given as they stand."""
    low: float | None = None
    high: float | None = None
    for item in section.model_fields[name].metadata:
        low = getattr(item, "ge", None) if getattr(item, "ge", None) is not None else getattr(item, "gt", low)
        high = getattr(item, "le", None) if getattr(item, "le", None) is not None else getattr(item, "lt", high)
    return low, high
