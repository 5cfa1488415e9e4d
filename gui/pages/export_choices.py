"""The left of the Export page: what can be taken away, and of a GGUF which types, with size and faithfulness."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QCheckBox, QFileDialog, QGridLayout, QLabel, QWidget

from engine.export.targets import QUANTISATIONS, RECOMMENDED
from engine.protocol.text import NOTHING, Text, say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import size
from gui.operations.export import use_converter
from gui.pages.export_words import about, faithfulness
from gui.state.takeaway import GGUF, OFFERED, Offer
from gui.widgets.basic import button, column, holder, label, plain_tip
from gui.widgets.card import Card
from gui.widgets.chip import BAD, GOOD, WARN, Chip
from gui.widgets.choice_card import ChoiceList
from gui.widgets.scroll import scrolled

HEADS = (say("Type", "类型"), say("Size", "大小"), say("Last check", "上次核对"))


class Choices(Card):
    """The cards of what can be made, and the table of types below that of a GGUF.

    Attributes:
        targets: the cards.
        types: the table.
    """

    def __init__(self, context: AppContext) -> None:
        super().__init__(say("What do you want to take away?", "想要导出什么？"))
        self._context = context
        self.targets = ChoiceList(list(OFFERED))
        self.targets.group.buttonClicked.connect(lambda card: context.takeaway.set(chosen=card.name))
        self.types = TypeTable(context)
        self._by = label("", "muted", wrap=True)
        words = say("Use llama.cpp's converter…", "使用 llama.cpp 的转换器…")
        tip = say(
            "Point to a folder of llama.cpp's sources. The converter in it is a program and is run with your rights.",
            "请指向 llama.cpp 源代码文件夹。其中的转换器是一个程序，会以你的权限运行。",
        )
        self._converter = button(words, self._point, "small", shortcut="Ctrl+L", tip=tip)
        parts = column(self.targets, self._converter, self._by, self.types, None, spacing=10, margins=(0, 0, 8, 0))
        self.body.addWidget(scrolled(holder(parts)))

    def fill(self) -> None:
        """Show what was found."""
        takeaway = self._context.takeaway
        for name, offer in takeaway.found.targets.items():
            self._put(name, offer)
        self.targets.choose(takeaway.chosen)
        gguf = takeaway.found.targets.get(GGUF)
        refused = gguf is not None and bool(gguf.refusal)
        self._converter.setVisible(refused)
        self._by.setVisible(bool(takeaway.found.converter) and takeaway.chosen == GGUF)
        folder = takeaway.found.converter
        self._by.setText(
            tr(say("Made by llama.cpp's converter in {folder}", "由 {folder} 中的 llama.cpp 转换器生成", folder=folder))
        )
        self.types.setVisible(takeaway.chosen == GGUF and not refused)
        self.types.fill()

    def _put(self, name: str, offer: Offer) -> None:
        card = self.targets.cards[name]
        refused = say("not for this model", "不适用于此模型") if offer.refusal else NOTHING
        costs = about(offer.bytes) if name != GGUF else about(self._context.takeaway.needed_by_types())
        card.put(offer.label, offer.refusal or offer.summary, costs, refused, WARN)
        card.setEnabled(not offer.refusal)

    def _point(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, tr(say("llama.cpp's sources", "llama.cpp 源代码")))
        if chosen:
            use_converter(self._context, Path(chosen))


class TypeTable(QWidget):
    """Size against faithfulness: a box, the size, and what the last check of that type found, for each type.

    Attributes:
        boxes: the boxes by type.
    """

    def __init__(self, context: AppContext) -> None:
        super().__init__()
        self._context = context
        self._grid = QGridLayout()
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(12)
        self._grid.setVerticalSpacing(5)
        self._grid.setColumnStretch(0, 1)
        for place, head in enumerate(HEADS):
            side = Qt.AlignmentFlag.AlignLeft if place == 0 else Qt.AlignmentFlag.AlignRight
            self._grid.addWidget(label(head, "facts"), 0, place, side)
        self.boxes: dict[str, QCheckBox] = {}
        self._sizes: dict[str, QLabel] = {}
        self._chips: dict[str, Chip] = {}
        for line, name in enumerate(QUANTISATIONS, 1):
            self._add(line, name)
        words = say(
            "{name} is the usual choice. Several can be made in one go.",
            "通常选择 {name}。可一次生成多种。",
            name=RECOMMENDED,
        )
        heading = label(say("Size against faithfulness", "体积与保真度"), "card")
        self.setLayout(column(heading, self._grid, label(words, "muted", wrap=True)))

    def _add(self, line: int, name: str) -> None:
        box = QCheckBox(name)
        box.setToolTip(plain_tip(tr(QUANTISATIONS[name].summary)))
        box.setAccessibleDescription(tr(QUANTISATIONS[name].summary))
        box.clicked.connect(lambda wanted: self._context.takeaway.tick(name, wanted))
        self.boxes[name] = box
        weight, found = label("", "facts"), Chip()
        self._sizes[name], self._chips[name] = weight, found
        self._grid.addWidget(box, line, 0)
        for place, widget in ((1, weight), (2, found)):
            self._grid.addWidget(widget, line, place, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)

    def fill(self) -> None:
        """Show what was found of each type."""
        takeaway = self._context.takeaway
        for name, offer in takeaway.found.types.items():
            self.boxes[name].setChecked(name in takeaway.types)
            self._sizes[name].setText(size(offer.bytes) if offer.bytes else "")
            passed = offer.checked.passed if offer.checked is not None else None
            words: Text | str = faithfulness(offer.checked)
            self._chips[name].put(words, GOOD if passed else WARN if passed is None else BAD)
            self._chips[name].setVisible(bool(words))
