"""The sidebar: name, project, the wizard's steps, language and theme, the machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from PySide6.QtCore import QPoint, Qt, Signal
from PySide6.QtGui import QActionGroup, QKeySequence
from PySide6.QtWidgets import QButtonGroup, QMenu, QToolButton, QVBoxLayout, QWidget

from engine.protocol.text import Text, say
from gui.i18n.language import LANGUAGES, tr
from gui.state.settings import AppSettings
from gui.state.wizard import Wizard
from gui.widgets.basic import column, label, menu_title, row, rule, tool
from gui.widgets.step_button import StepButton

WIDTH = 212
_THEMES = {"auto": say("As the system", "跟随系统"), "light": say("Light", "浅色"), "dark": say("Dark", "深色")}


class Sidebar(QWidget):
    """Renders the wizard's steps; says which one was pressed.

    Args:
        steps: name, words, and the sign of a page beside the wizard (below a line); empty for a step of it.

    Signals:
        pressed(str): the user wants to look at this step.
    """

    pressed = Signal(str)

    def __init__(
        self,
        steps: list[tuple[str, Text, str]],
        wizard: Wizard,
        settings: AppSettings,
        project: QWidget,
        machine: QWidget,
    ) -> None:
        super().__init__()
        self.setObjectName("sidebar")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setFixedWidth(WIDTH)
        self._wizard, self._settings = wizard, settings
        self._group = QButtonGroup(self)
        self.steps: dict[str, StepButton] = {}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(12, 18, 13, 12)
        layout.setSpacing(2)
        self._head(layout)
        layout.addWidget(project)
        layout.addSpacing(10)
        for number, (name, text, sign) in enumerate(steps, start=1):
            if sign and not steps[number - 2][2]:
                layout.addLayout(column(7, rule(), 7, margins=(4, 0, 4, 0), spacing=0))
            layout.addWidget(self._step(number, name, text, sign))
        layout.addStretch(1)
        layout.addLayout(row(self._preferences(), None))
        layout.addSpacing(4)
        layout.addWidget(machine)
        wizard.changed.connect(self.refresh)
        wizard.moved.connect(self.refresh)
        self.refresh()

    def _head(self, layout: QVBoxLayout) -> None:
        name = label("Lorimer", "heading")
        name.setContentsMargins(8, 0, 0, 0)
        words = label(say("fine-tune models on this machine", "在本机微调语言模型"), "small", wrap=True)
        words.setContentsMargins(8, 0, 0, 8)
        layout.addWidget(name)
        layout.addWidget(words)

    def _step(self, number: int, name: str, text: Text, sign: str) -> StepButton:
        button = StepButton(number, text, sign)
        button.setShortcut(QKeySequence(f"Ctrl+{number}"))
        button.clicked.connect(lambda: self.pressed.emit(name))
        self._group.addButton(button)
        self.steps[name] = button
        return button

    def refresh(self) -> None:
        """Show where each step stands."""
        for name, button in self.steps.items():
            button.put(self._wizard.step(name))
            button.setChecked(name == self._wizard.current)
        for button in self.steps.values():
            # Tab goes to the current step, arrow keys from there to the others.
            button.setFocusPolicy(Qt.FocusPolicy.StrongFocus if button.isChecked() else Qt.FocusPolicy.ClickFocus)

    def _preferences(self) -> QToolButton:
        made = tool(say("Language and theme", "语言与主题"))
        made.setShortcut(QKeySequence("Ctrl+,"))
        made.setToolTip(f"{made.text()} ({made.shortcut().toString()})")
        made.clicked.connect(lambda: self._show_menu(made))
        return made

    def _show_menu(self, button: QToolButton) -> None:
        menu = self.preferences_menu()
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.popup(button.mapToGlobal(QPoint(0, -menu.sizeHint().height())))

    def preferences_menu(self) -> QMenu:
        """Language and theme, the present choice ticked."""
        menu = QMenu(self)
        menu_title(menu, say("Language", "语言"))
        languages: dict[str, Text | str] = {"auto": _THEMES["auto"], **LANGUAGES}
        self._choices(menu, languages, self._settings.values.language, self._settings.set_language)
        menu_title(menu, say("Theme", "主题"))
        self._choices(menu, _THEMES, self._settings.values.theme, self._settings.set_theme)
        return menu

    def _choices(
        self, menu: QMenu, choices: Mapping[str, Text | str], chosen: str, choose: Callable[[str], None]
    ) -> None:
        group = QActionGroup(menu)
        for value, text in choices.items():
            action = menu.addAction(tr(text), partial(choose, value))
            action.setCheckable(True)
            action.setChecked(value == chosen)
            group.addAction(action)
