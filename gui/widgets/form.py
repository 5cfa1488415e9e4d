"""The settings form, built from the recipe's own field metadata: label, term, unit, bounds, help, default.

Basic settings first; all of them on request, with a search. Knows nothing of what the settings do.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QGridLayout, QLabel, QLineEdit, QSpinBox, QVBoxLayout, QWidget

from engine.protocol.errors import UserError
from engine.protocol.text import Text, say
from engine.recipe.fields import Section, Setting, settings
from gui.i18n.language import tr
from gui.state.draft import DraftRecipe
from gui.widgets.basic import column, holder, label, row, set_property, tool
from gui.widgets.editors import ChoiceEditor, Editor, SliderEditor, editor_for
from gui.widgets.scroll import scrolled
from gui.widgets.stop_slider import Stop

SECTIONS: tuple[tuple[str, Text], ...] = (
    ("method", say("Method", "方法")),
    ("objective", say("Objective", "目标")),
    ("train", say("Training", "训练")),
    ("data", say("Data", "数据")),
    ("evaluate", say("Evaluation", "评估")),
)
ELSEWHERE = frozenset(
    f"data.{name}" for name in ("files", "general", "mapping", "shape", "encoding", "per_file", "decisions", "quality")
) | {"evaluate.judge"}
"""Settings that the Data page and the Evaluate page edit, where their effect is seen."""
LABELS = 138
LONGEST_UNIT = 12
"""Letters that a unit may have beside its number; a longer one stands below the name, where it is not cut."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What other values of a setting would bring.

    Attributes:
        stops: the values, with what each needs.
        words: the next one's difference, in a few words.
    """

    stops: tuple[Stop, ...]
    words: str


@dataclass(frozen=True, slots=True)
class FieldOf:
    """One setting: its dotted name, the section's class it is declared in, and what people read of it."""

    name: str
    section: type[Section]
    about: Setting

    @property
    def default(self) -> Any:
        """The declared default."""
        return self.section.model_fields[self.name.split(".")[1]].get_default()

    def matches(self, words: str) -> bool:
        """Whether a search finds it: by label, term, name or help, in both languages."""
        about = self.about
        whole = " ".join((self.name, about.term, about.label.en, about.label.zh, about.help.en, about.help.zh)).lower()
        return all(word in whole for word in words.lower().split())


def fields_of(draft: DraftRecipe) -> list[FieldOf]:
    """All settings of the draft that the form shows, in the form's order."""
    found = []
    for part, _ in SECTIONS:
        section = type(getattr(draft.recipe, part))
        found += [FieldOf(f"{part}.{name}", section, about) for name, about in settings(section).items()]
    return [item for item in found if item.name not in ELSEWHERE]


class FieldRow(QWidget):
    """One setting: what it is called, its control, what is wrong with it, and the way back to its default.

    Signals:
        edited(str, object): dotted name and the value entered.
    """

    edited = Signal(str, object)

    def __init__(self, item: FieldOf, editor: Editor) -> None:
        super().__init__()
        self.item, self.editor = item, editor
        if (self._has_long_unit or self._slides) and isinstance(editor.control, QSpinBox):
            editor.control.setSuffix("")
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(10)
        grid.setVerticalSpacing(2)
        grid.setColumnStretch(1, 1)
        grid.addLayout(self._names(), 0, 0)
        grid.addWidget(editor, 0, 1)
        self.back = tool("↺", self._reset)
        self.back.setFixedWidth(28)
        keep = self.back.sizePolicy()
        keep.setRetainSizeWhenHidden(True)
        self.back.setSizePolicy(keep)
        if self._slides:  # its place is the field's; a slider's way back is the advice
            self.back.setParent(self)
            self.back.hide()
        else:
            grid.addWidget(self.back, 0, 2)
        self._trouble, self._effect = label("", "bad", wrap=True), label("", "small")
        grid.addWidget(self._trouble, 1, 1, 1, 2)
        grid.addWidget(self._effect, 2, 1, 1, 2)
        self._trouble.hide()
        self._effect.hide()
        self._explain()
        editor.edited.connect(lambda value: self.edited.emit(self.item.name, value))

    def _names(self) -> QVBoxLayout:
        about = self.item.about
        name = label(about.label, wrap=True)
        name.setFixedWidth(LABELS)
        name.setBuddy(self.editor)
        names = QVBoxLayout()
        names.setSpacing(0)
        names.addWidget(name)
        if self._has_long_unit or (self._slides and about.unit):
            names.addWidget(label(about.unit, "small", wrap=True))
        elif self._has_term:
            names.addWidget(label(f"({about.term})", "small"))
        return names

    @property
    def controls(self) -> list[QWidget]:
        """What can have the focus, in reading order."""
        return [*self.editor.controls, *([] if self._slides else [self.back])]

    @property
    def _slides(self) -> bool:
        return isinstance(self.editor, SliderEditor)

    @property
    def _has_term(self) -> bool:
        about = self.item.about
        return bool(about.term) and about.term.lower() != about.label.en.lower()

    @property
    def _has_long_unit(self) -> bool:
        return len(tr(self.item.about.unit)) > LONGEST_UNIT

    def _explain(self) -> None:
        about = self.item.about
        default = _shown(self.item.default, about)
        lines = [tr(about.help), tr(say("Default: {value}", "默认：{value}", value=default))]
        if self._has_long_unit and self._has_term:
            lines.insert(0, f"({about.term})")
        if about.source:
            lines.append(tr(say("Source: {source}", "来源：{source}", source=about.source)))
        self.setToolTip("\n".join(lines))
        for control in self.editor.controls:
            control.setAccessibleName(tr(about.label))
            control.setAccessibleDescription(tr(about.help))
        words = tr(say("Back to {value}", "恢复为 {value}", value=default))
        self.back.setToolTip(words)
        self.back.setAccessibleName(f"{tr(about.label)}: {words}")

    def put(self, value: Any) -> None:
        """Show the draft's value; an error that was shown is over."""
        self.editor.put(value)
        self.back.setVisible(not self._slides and value != self.item.default)
        self.say_wrong("")

    def put_effect(self, effect: Effect, value: Any, *, in_full: bool) -> None:
        """Show what other values would bring; of choices ``in_full`` in view, else in their list alone."""
        if isinstance(self.editor, SliderEditor):
            self.editor.put_stops(effect.stops, value, effect.words)
            return
        if isinstance(self.editor, ChoiceEditor):
            self.editor.put_tips({stop.value: stop.words for stop in effect.stops})
        self._effect.setText(effect.words)
        self._effect.setVisible(in_full and bool(effect.words))

    def say_wrong(self, text: Text | str) -> None:
        """Show what is wrong with what was entered, or nothing."""
        self._trouble.setText(tr(text))
        self._trouble.setVisible(bool(text))
        set_property(self.editor.control, "wrong", "true" if text else "false")

    @property
    def trouble(self) -> str:
        """What is said to be wrong, empty when nothing is."""
        return self._trouble.text()

    def _reset(self) -> None:
        self.edited.emit(self.item.name, self.item.default)


class RecipeForm(QWidget):
    """The form. It renders the draft and writes to it; what the draft refuses is shown beside the field.

    Args:
        sliders: dotted names of numbers that have a slider; it has stops once `put_effects` was called.
        also: dotted names that are shown among the basic settings.

    Attributes:
        rows: dotted name → the row now shown.

    Signals:
        rebuilt: `rows` holds other widgets.
    """

    rebuilt = Signal()

    def __init__(self, draft: DraftRecipe, *, sliders: Collection[str] = (), also: Collection[str] = ()) -> None:
        super().__init__()
        self._draft = draft
        self._sliders, self._also = sliders, also
        self._effects: Mapping[str, Effect] = {}
        self._all = False
        self._kinds: tuple[type[Section], ...] = ()
        self.rows: dict[str, FieldRow] = {}
        self.search = QLineEdit()
        self.search.setPlaceholderText(tr(say("Search all settings…", "搜索所有设置…")))
        self.search.setAccessibleName(tr(say("Search all settings", "搜索所有设置")))
        self.search.textChanged.connect(self._filter)
        self._empty = tool("✕", self.search.clear)
        self._empty.setAccessibleName(tr(say("Clear the search", "清除搜索")))
        self._empty.setToolTip(self._empty.accessibleName())
        self._nothing = label("", "muted", wrap=True)
        self._searching = holder(column(row(self.search, self._empty, spacing=4), self._nothing, spacing=6))
        self._searching.hide()
        self._layout = QVBoxLayout()
        self._scroll = scrolled(QWidget())
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(self._searching)
        outer.addWidget(self._scroll, 1)
        draft.changed.connect(self._take)
        self._rebuild()

    @property
    def shows_all(self) -> bool:
        """Whether all settings are shown, not the basic ones only."""
        return self._all

    def show_all(self, every: bool) -> None:
        """Show all settings, or the basic ones only."""
        self._all = every
        self._searching.setVisible(every)
        self.search.clear()
        self._rebuild()
        if every:
            self.search.setFocus()

    def reveal(self, name: str) -> None:
        """Show one setting and put the cursor in it."""
        if name not in self.rows and not self._all:
            self.show_all(True)
        if name in self.rows:
            self._scroll.ensureWidgetVisible(self.rows[name])
            self.rows[name].editor.setFocus()

    def _rebuild(self) -> None:
        recipe = self._draft.recipe
        self._kinds = (type(recipe.method), type(recipe.objective))
        self._layout = QVBoxLayout()
        self._layout.setSpacing(2)
        self._layout.setContentsMargins(0, 0, 8, 0)
        self.rows = {}
        every = fields_of(self._draft)
        if not self._all:
            self._add_section(None, sorted((item for item in every if self._shows(item)), key=self._rank))
        for part, title in SECTIONS if self._all else ():
            self._add_section(title, [item for item in every if item.name.startswith(f"{part}.")])
        self._layout.addStretch(1)
        self._scroll.setWidget(holder(self._layout))
        self._take(set(self.rows))
        self.put_effects({name: effect for name, effect in self._effects.items() if name in self.rows})
        self._filter(self.search.text())
        self.rebuilt.emit()

    def _shows(self, item: FieldOf) -> bool:
        return item.about.basic or item.name in self._also

    def _rank(self, item: FieldOf) -> int:
        """Sliders first, in the order in which they were named."""
        names = list(self._sliders)
        return names.index(item.name) if item.name in names else len(names)

    def controls(self) -> list[QWidget]:
        """What can have the focus, in reading order."""
        return [widget for made in self.rows.values() for widget in made.controls]

    def put_effects(self, effects: Mapping[str, Effect]) -> None:
        """Show what other values of settings would bring."""
        self._effects = effects
        for name, effect in effects.items():
            if name in self.rows:
                self.rows[name].put_effect(effect, self._draft.value(name), in_full=self._all)

    def _add_section(self, title: Text | None, items: Sequence[FieldOf]) -> None:
        rows = [made for item in items if (made := self._row(item)) is not None]
        if not rows:
            return
        if title is not None:
            self._layout.addWidget(label(title, "card"))
        for made in rows:
            self._layout.addWidget(made)

    def _row(self, item: FieldOf) -> FieldRow | None:
        editor = editor_for(item.section, item.name.split(".")[1], item.about)
        if editor is None:
            return None
        made = FieldRow(item, SliderEditor(editor) if item.name in self._sliders else editor)
        made.edited.connect(self._enter)
        self.rows[item.name] = made
        return made

    def _enter(self, name: str, value: Any) -> None:
        try:
            self._draft.set({name: value})
        except UserError as error:
            self.rows[name].say_wrong(error.problem.message)

    def _take(self, names: set[str]) -> None:
        recipe = self._draft.recipe
        if (type(recipe.method), type(recipe.objective)) != self._kinds:
            self._rebuild()
            return
        for name in names & self.rows.keys():
            self.rows[name].put(self._draft.value(name))

    def _filter(self, words: str) -> None:
        found = [made for made in self.rows.values() if made.item.matches(words)]
        for made in self.rows.values():
            made.setVisible(made in found)
        self._empty.setVisible(bool(words))
        self._nothing.setVisible(not found)
        self._nothing.setText(tr(say("No setting is called “{words}”.", "没有名为“{words}”的设置。", words=words)))
        for i in range(self._layout.count()):
            item = self._layout.itemAt(i)
            widget = item.widget() if item is not None else None
            if isinstance(widget, QLabel):
                widget.setVisible(not words)


def _shown(value: Any, about: Setting) -> str:
    words = dict(about.choices).get(value) if isinstance(value, str) else None
    if words is not None:
        return tr(words)
    if isinstance(value, bool):
        return tr(say("on", "开启") if value else say("off", "关闭"))
    return f"{value} {tr(about.unit)}".strip() if value != "" else tr(say("empty", "空"))
