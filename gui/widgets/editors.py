"""One small control per kind of value, all with the same two doors: `put` shows a value, `edited` tells the user's."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from PySide6.QtCore import QLocale, Qt, Signal
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QLineEdit, QSpinBox, QWidget

from engine.protocol.text import Text, say
from engine.recipe.fields import Section, Setting, bounds
from gui.i18n.language import tr
from gui.i18n.numbers import short
from gui.widgets.basic import ElidedLabel, column, row
from gui.widgets.stop_slider import Stop, StopSlider

_MOST = 2**31 - 1
WIDTH = 150
FIELD = 84
"""Pixels of the field beside a slider."""


class Editor(QWidget):
    """What all controls share.

    Signals:
        edited(object): the user entered another value; whether it is right is not known yet.
    """

    edited = Signal(object)

    def __init__(self, control: QWidget) -> None:
        super().__init__()
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(control)
        # A long unit or choice must not make the form wider than its place.
        control.setMinimumWidth(60)
        self.control = control
        self.setFocusProxy(control)

    @property
    def controls(self) -> list[QWidget]:
        """What can have the focus, in reading order."""
        return [self.control]

    def put(self, value: Any) -> None:
        """Show a value; nothing is told."""


class _Spin(QSpinBox):
    """A spin box that a wheel meant for the page does not change."""

    def __init__(self) -> None:
        super().__init__()
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setKeyboardTracking(False)
        self.setGroupSeparatorShown(True)
        self.setLocale(QLocale(QLocale.Language.English))

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Leave the wheel to the page unless the box has the focus."""
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()


class _Combo(QComboBox):
    """A combo box that a wheel meant for the page does not change."""

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Leave the wheel to the page unless the box has the focus."""
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()


def quiet_combo() -> QComboBox:
    """A combo box that a wheel meant for the page does not change."""
    made = _Combo()
    made.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    return made


class IntegerEditor(Editor):
    """Whole numbers between bounds, with their unit."""

    def __init__(self, section: type[Section], name: str, about: Setting) -> None:
        self._spin = _Spin()
        # WORKAROUND: a style sheet's padding does not reach the line edit inside a spin box.
        self._spin.lineEdit().setTextMargins(7, 0, 0, 0)
        super().__init__(self._spin)
        low, high = bounds(section, name)
        self._spin.setRange(
            int(low if low is not None else -_MOST), int(min(_MOST, high if high is not None else _MOST))
        )
        self._spin.setSuffix(f" {tr(about.unit)}" if about.unit else "")
        self._spin.setStepType(
            QSpinBox.StepType.AdaptiveDecimalStepType if (high or _MOST) > 5000 else QSpinBox.StepType.DefaultStepType
        )
        self._spin.valueChanged.connect(self._tell)

    def put(self, value: Any) -> None:
        """Show a value."""
        self._spin.blockSignals(True)
        self._spin.setValue(int(value))
        self._spin.blockSignals(False)

    def _tell(self, value: int) -> None:
        self.edited.emit(value)


class NumberEditor(Editor):
    """Numbers of any size, written as people write them: 2e-4, 0.05, 3."""

    def __init__(self) -> None:
        self._line = QLineEdit()
        super().__init__(self._line)
        self._shown = ""
        self._line.editingFinished.connect(self._finish)

    def put(self, value: Any) -> None:
        """Show a value."""
        self._shown = short(float(value)) if float(short(float(value))) == float(value) else repr(float(value))
        self._line.setText(self._shown)

    def _finish(self) -> None:
        text = self._line.text().strip().replace(",", ".")
        if text != self._shown:
            self._shown = text
            self.edited.emit(self._told(_number(text)))

    def _told(self, value: float | str) -> float | str:
        """What is told of an entered number, or of a text that is none, which the validation then names."""
        return value


class PercentEditor(NumberEditor):
    """A share of 0 to 1, written as per cent."""

    def put(self, value: Any) -> None:
        """Show a value."""
        super().put(round(100 * float(value), 4))

    def _told(self, value: float | str) -> float | str:
        return value / 100 if isinstance(value, float) else value


class TextEditor(Editor):
    """A line of text."""

    def __init__(self) -> None:
        self._line = QLineEdit()
        super().__init__(self._line)
        self._shown = ""
        self._line.editingFinished.connect(self._finish)

    def put(self, value: Any) -> None:
        """Show a value."""
        self._shown = str(value)
        self._line.setText(self._shown)

    def _finish(self) -> None:
        if self._line.text() != self._shown:
            self._shown = self._line.text()
            self.edited.emit(self._shown)


class ChoiceEditor(Editor):
    """One of few values."""

    def __init__(self, choices: list[tuple[Any, Text | str]]) -> None:
        self._combo = quiet_combo()
        super().__init__(self._combo)
        for value, text in choices:
            self._combo.addItem(tr(text), value)
        self._combo.activated.connect(self._tell)

    def put_tips(self, tips: Mapping[Any, str]) -> None:
        """Say beside each value in the list what it would bring."""
        for at in range(self._combo.count()):
            self._combo.setItemData(at, tips.get(self._combo.itemData(at), ""), Qt.ItemDataRole.ToolTipRole)

    def put_choices(self, choices: list[tuple[Any, Text | str]]) -> None:
        """Offer other values, where they are others: an open list stays open."""
        if [self._combo.itemData(i) for i in range(self._combo.count())] == [value for value, _ in choices]:
            return
        self._combo.clear()
        for value, text in choices:
            self._combo.addItem(tr(text), value)

    def put(self, value: Any) -> None:
        """Show a value; one that is not among the choices is added as it stands."""
        at = self._combo.findData(value)
        if at < 0:
            self._combo.addItem(str(value), value)
            at = self._combo.count() - 1
        self._combo.setCurrentIndex(at)

    def _tell(self, at: int) -> None:
        self.edited.emit(self._combo.itemData(at))


class SwitchEditor(Editor):
    """Yes or no."""

    def __init__(self) -> None:
        self._box = QCheckBox(tr(say("on", "开启")))
        super().__init__(self._box)
        self._box.clicked.connect(self._tell)

    def put(self, value: Any) -> None:
        """Show a value."""
        self._box.setChecked(bool(value))

    def _tell(self, on: bool) -> None:
        self.edited.emit(on)


class SliderEditor(Editor):
    """A number on a slider of stops, with a field for any other one, and below it what another stop would bring.

    Args:
        field: the number's own editor.
    """

    def __init__(self, field: Editor) -> None:
        super().__init__(field.control)
        self._field = field
        self.slider = StopSlider()
        self.effect = ElidedLabel("", "small")
        field.control.setFixedWidth(FIELD)
        layout = self.layout()
        assert isinstance(layout, QHBoxLayout)
        layout.addLayout(row(column(self.slider, self.effect, spacing=0), field.control))
        field.edited.connect(self.edited)
        self.slider.chosen.connect(self.edited)

    @property
    def controls(self) -> list[QWidget]:
        """The slider, then the field."""
        return [self.slider, self.control]

    def put(self, value: Any) -> None:
        """Show a value."""
        self._field.put(value)
        if self.slider.stops and any(stop.value == value for stop in self.slider.stops):
            self.slider.put(self.slider.stops, value)

    def put_stops(self, stops: Sequence[Stop], value: Any, effect: str) -> None:
        """Offer these stops, and say what the next one would bring."""
        self.slider.put(stops, value)
        self.slider.setEnabled(len(stops) > 1)
        self.effect.setText(effect)


def editor_for(section: type[Section], name: str, about: Setting) -> Editor | None:
    """The control for a field of a recipe's section; None for kinds that pages edit in their own way, as files."""
    kind = section.model_fields[name].annotation
    if typing.get_origin(kind) is Literal:
        words = dict(about.choices)
        return ChoiceEditor([(value, words.get(value, str(value))) for value in typing.get_args(kind)])
    if kind is bool:
        return SwitchEditor()
    if kind is int:
        return IntegerEditor(section, name, about)
    if kind is float:
        return NumberEditor()
    return TextEditor() if kind is str else None


def _number(text: str) -> float | str:
    """The number, or the text as it stands, which the validation then names."""
    try:
        return float(text)
    except ValueError:
        return text
