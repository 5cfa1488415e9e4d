"""Which column means what: opened beside the rows, not over them, so that the effect is seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QComboBox, QGridLayout, QLabel

from engine.data.declare import Role, Shape
from engine.data.registry import SHAPES
from engine.protocol.text import Text, as_text, say
from gui.i18n.language import tr
from gui.widgets.basic import button, column, holder, label, plain_tip, row, set_role
from gui.widgets.card import Card
from gui.widgets.editors import quiet_combo
from gui.widgets.scroll import scrolled

ENCODINGS = ("utf-8", "utf-8-sig", "gb18030", "big5", "utf-16", "shift_jis", "euc-kr", "cp1252", "latin-1")
AUTO = "auto"
NOT_USED = ""
ASK = "ask"
TIP = Qt.ItemDataRole.ToolTipRole
CONFIRM = say("Please confirm, or choose other columns.", "请确认，或选择其他列。")
TAKES = say("Take the columns as they are proposed", "按建议采用各列")
Apply = Callable[[str, str, dict[str, str], str], object]
HowRead = Callable[[str], tuple[str, str]]


class ColumnsPanel(Card):
    """Shape, encoding, and one choice per role of the shape; of each file where there are several.

    Args:
        apply: called with the file ("" where there is one only), shape, role → column, encoding.
        how_read: file → shape and encoding that were chosen for it ("auto" or a name).
        close: called when the user is done.
    """

    def __init__(self, apply: Apply, how_read: HowRead, close: Callable[[], object]) -> None:
        super().__init__(say("Which column means what", "各列的含义"))
        self._apply, self._how_read = apply, how_read
        self._files: list[dict[str, Any]] = []
        self._columns: list[str] = []
        self._mapping: dict[str, str] = {}
        self._offers: dict[str, list[str]] = {}
        self._found = ""
        self.file, self.shape, self.encoding = quiet_combo(), quiet_combo(), quiet_combo()
        self.file.setAccessibleName(tr(say("File", "文件")))
        self.roles: dict[str, QComboBox] = {}
        self._grid = QGridLayout()
        self._grid.setHorizontalSpacing(10)
        self._grid.setVerticalSpacing(8)
        self._fill_choices()
        self.why = label("", "warn", wrap=True)
        self.right = button(
            say("That is right", "正确，就这样"), self._confirm, "primary", shortcut="Ctrl+Shift+Y", tip=TAKES
        )
        again = say("Read again", "重新读取")
        self._again = button(again, self._press, "primary", shortcut="Ctrl+Shift+Return")
        self._close = button(say("Close", "关闭"), close, shortcut="Ctrl+Shift+K")
        scroll = scrolled(holder(column(self._grid, None, margins=(0, 0, 6, 0))))
        for item in (self.file, self.why, scroll):
            self.body.addWidget(item)
        self.body.addLayout(row(None, self._close, self._again, self.right))

    def _fill_choices(self) -> None:
        shapes: list[tuple[str, Text | str]] = [(AUTO, say("found automatically", "自动识别"))]
        shapes += [(shape.name, shape.label) for shape in SHAPES.values()]
        _fill(self.shape, shapes, say("Shape of the rows", "数据格式"))
        encodings: list[tuple[str, Text | str]] = [(AUTO, say("found automatically", "自动识别"))]
        encodings += [(name, name) for name in ENCODINGS]
        _fill(self.encoding, encodings, say("Text encoding", "文本编码"))
        self.shape.activated.connect(self._shape_chosen)
        self.file.activated.connect(self._show_file)

    def put(self, files: Sequence[dict[str, Any]]) -> None:
        """Show how the files are read now; the one that must be confirmed is shown first, else the one shown before."""
        before = self.file.currentData()
        self._files = list(files)
        self.file.clear()
        for file in self._files:
            mark = " ?" if file.get("certainty") == ASK else ""
            self.file.addItem(f"{file['name']}{mark}", str(file.get("path", "")))
            self.file.setItemData(self.file.count() - 1, plain_tip(str(file.get("path", ""))), TIP)
        self.file.setVisible(len(self._files) > 1)
        asked = [str(file.get("path", "")) for file in self._files if file.get("certainty") == ASK]
        chosen = asked[0] if asked and before not in asked else before
        self.file.setCurrentIndex(max(0, self.file.findData(chosen)))
        self._show_file()

    @property
    def _shown(self) -> dict[str, Any]:
        at = self.file.currentIndex()
        return self._files[at] if 0 <= at < len(self._files) else {}

    def _show_file(self) -> None:
        facts = self._shown
        self._columns = [str(name) for name in facts.get("columns", [])]
        self._mapping = dict(facts.get("mapping", {}))
        self._offers = dict(facts.get("offers", {}))
        self._found = str(facts.get("shape", ""))
        shape, encoding = self._how_read(str(facts.get("path", "")))
        self._ask(facts.get("certainty") == ASK)
        self.shape.setCurrentIndex(max(0, self.shape.findData(shape)))
        self.encoding.setCurrentIndex(max(0, self.encoding.findData(encoding)))
        self._show_roles()

    def _ask(self, asks: bool) -> None:
        """Whether the proposal must be confirmed: it can be taken as it stands."""
        why = tr(as_text(self._shown.get("why", "")))
        self.why.setText(f"{tr(CONFIRM)} {why}".strip() if asks else why)
        set_role(self.why, "warn" if asks else "facts")
        self.why.setVisible(bool(self.why.text()))
        self.right.setVisible(asks)
        self._close.setVisible(not asks)
        set_role(self._again, "" if asks else "primary")

    def _shape_chosen(self) -> None:
        """Another shape may name columns as its own roles do."""
        chosen = SHAPES.get(self.shape.currentData())
        if chosen is not None and chosen.name != self._found:
            known = {name.lower(): name for name in self._columns}
            usual = {role.name: [known[c] for c in role.columns if c in known] for role in chosen.roles}
            self._mapping = {name: found[0] for name, found in usual.items() if found}
        else:
            self._mapping = dict(self._shown.get("mapping", {}))
        self._show_roles()

    def _show_roles(self) -> None:
        self._empty_grid()
        self._cell(0, say("Shape of the rows", "数据格式"), self.shape)
        self._cell(1, say("Text encoding", "文本编码"), self.encoding)
        chosen = self.shape.currentData()
        shape = SHAPES.get(self._found if chosen == AUTO else chosen)
        if shape is None:
            return
        for number, role in enumerate(role for role in shape.roles if self._is_asked(role)):
            box = quiet_combo()
            self.roles[role.name] = box
            choices: list[tuple[str, Text | str]] = [(NOT_USED, say("not used", "不使用"))]
            choices += [(name, name) for name in self._offered(role, shape) if name]
            _fill(box, choices, role.label)
            box.setCurrentIndex(max(0, box.findData(self._mapping.get(role.name, NOT_USED))))
            words = say("{label} (needed)", "{label}（必需）", label=role.label) if role.required else role.label
            self._cell(2 + number, words, box)

    def _is_asked(self, role: Role) -> bool:
        """Whether a role can be chosen: keys and words of turns only where the file's turns use their own."""
        return role.holds == "column" or bool(self._offers.get(role.name)) or role.name in self._mapping

    def _offered(self, role: Role, shape: Shape) -> dict[str, None]:
        """What a role may be, what was chosen for others of its kind among it."""
        alike = {other.name for other in shape.roles if other.holds == role.holds}
        offers = self._columns if role.holds == "column" else self._offers.get(role.name, [])
        return dict.fromkeys([*offers, *(to for name, to in self._mapping.items() if name in alike)])

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

    @property
    def _file_meant(self) -> str:
        """The file that a choice is about, "" where there is one only."""
        return str(self._shown.get("path", "")) if len(self._files) > 1 else ""

    def _press(self) -> None:
        self._apply(self._file_meant, self.shape.currentData(), self._chosen(), self.encoding.currentData())

    def _confirm(self) -> None:
        """Take the proposal as it stands, or as it was changed."""
        shape = self._found if self.shape.currentData() == AUTO else self.shape.currentData()
        self._apply(self._file_meant, shape, self._chosen(), self.encoding.currentData())

    def _chosen(self) -> dict[str, str]:
        """Role → column; "" for a role that was found and is not wanted, so that it is not found again."""
        found = {name: str(box.currentData()) for name, box in self.roles.items()}
        was = dict(self._shown.get("mapping", {}))
        return {name: to for name, to in found.items() if to != NOT_USED or name in was}


def _fill(box: QComboBox, choices: list[tuple[str, Text | str]], name: Text) -> None:
    box.setAccessibleName(tr(name))
    for value, text in choices:
        box.addItem(tr(text), value)
