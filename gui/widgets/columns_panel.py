"""Which column means what: opened beside the rows, not over them, so that the effect is seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PySide6.QtWidgets import QComboBox, QGridLayout, QLabel

from engine.data.registry import SHAPES
from engine.protocol.text import Text, say
from gui.i18n.language import tr
from gui.widgets.basic import button, column, holder, label, row
from gui.widgets.card import Card
from gui.widgets.editors import quiet_combo
from gui.widgets.scroll import scrolled

ENCODINGS = ("utf-8", "utf-8-sig", "gb18030", "big5", "utf-16", "shift_jis", "euc-kr", "cp1252", "latin-1")
AUTO = "auto"
NOT_USED = ""


class ColumnsPanel(Card):
    """Shape, encoding, and one choice per role of the shape.

    Args:
        apply: called with shape, role → column, encoding.
        close: called when the user is done.
    """

    def __init__(self, apply: Callable[[str, dict[str, str], str], object], close: Callable[[], object]) -> None:
        super().__init__(say("Which column means what", "各列的含义"))
        self._apply = apply
        self._columns: list[str] = []
        self._mapping: dict[str, str] = {}
        self._found = ""
        self.shape, self.encoding = quiet_combo(), quiet_combo()
        self.roles: dict[str, QComboBox] = {}
        self._grid = QGridLayout()
        self._grid.setHorizontalSpacing(10)
        self._grid.setVerticalSpacing(8)
        shapes: list[tuple[str, Text]] = [(AUTO, say("found automatically", "自动识别"))]
        shapes += [(shape.name, shape.label) for shape in SHAPES.values()]
        _fill(self.shape, shapes, say("Shape of the rows", "数据格式"))
        encodings: list[tuple[str, Text | str]] = [(AUTO, say("found automatically", "自动识别"))]
        encodings += [(name, name) for name in ENCODINGS]
        _fill(self.encoding, encodings, say("Text encoding", "文本编码"))
        self.shape.activated.connect(self._show_roles)
        self._buttons = row(
            None,
            button(say("Close", "关闭"), close),
            button(say("Read again", "重新读取"), self._press, "primary", shortcut="Ctrl+Return"),
        )
        self.body.addWidget(scrolled(holder(column(self._grid, None, margins=(0, 0, 6, 0)))), 1)
        self.body.addLayout(self._buttons)

    def put(self, facts: dict[str, Any], shape: str, encoding: str) -> None:
        """Show how the files are read now; ``shape`` and ``encoding`` as the draft has them ("auto" or a name)."""
        self._columns = [str(name) for name in facts.get("columns", [])]
        self._mapping = dict(facts.get("mapping", {}))
        self._found = str(facts.get("shape", ""))
        self.shape.setCurrentIndex(max(0, self.shape.findData(shape)))
        self.encoding.setCurrentIndex(max(0, self.encoding.findData(encoding)))
        self._show_roles()

    def _show_roles(self) -> None:
        self._empty_grid()
        self._cell(0, say("Shape of the rows", "数据格式"), self.shape)
        self._cell(1, say("Text encoding", "文本编码"), self.encoding)
        chosen = self.shape.currentData()
        shape = SHAPES.get(self._found if chosen == AUTO else chosen)
        if shape is None:
            return
        for number, role in enumerate(shape.roles):
            box = quiet_combo()
            self.roles[role.name] = box
            choices: list[tuple[str, Text | str]] = [(NOT_USED, say("not used", "不使用"))]
            choices += [(name, name) for name in self._columns]
            _fill(box, choices, role.label)
            box.setCurrentIndex(max(0, box.findData(self._mapping.get(role.name, NOT_USED))))
            words = say("{label} (needed)", "{label}（必需）", label=role.label) if role.required else role.label
            self._cell(2 + number, words, box)

    def _cell(self, line: int, words: Text, box: QComboBox) -> None:
        name: QLabel = label(words, "facts")
        name.setBuddy(box)
        self._grid.addLayout(column(name, box, spacing=3), line, 0)
        box.show()

    def _empty_grid(self) -> None:
        for box in self.roles.values():
            box.deleteLater()
        self.roles = {}
        while (item := self._grid.takeAt(0)) is not None:
            inner = item.layout()
            while inner is not None and (part := inner.takeAt(0)) is not None:
                widget = part.widget()
                if isinstance(widget, QLabel):
                    widget.deleteLater()

    def _press(self) -> None:
        mapping = {name: box.currentData() for name, box in self.roles.items() if box.currentData() != NOT_USED}
        self._apply(self.shape.currentData(), mapping, self.encoding.currentData())


def _fill(box: QComboBox, choices: list[tuple[str, Text]] | list[tuple[str, Text | str]], name: Text) -> None:
    box.setAccessibleName(tr(name))
    for value, text in choices:
        box.addItem(tr(text), value)
