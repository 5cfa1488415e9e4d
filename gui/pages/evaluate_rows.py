"""The Evaluate page's rows: the best, the worst and the changed ones, both answers beside the right one."""

from __future__ import annotations

from PySide6.QtWidgets import QComboBox, QWidget

from engine.project.evaluation import EvaluatedRow, Evaluation
from engine.protocol.text import say
from gui.i18n.language import tr
from gui.pages.evaluate_words import answer_of, line_of, row_figures
from gui.widgets.basic import column, holder, label, row, set_role
from gui.widgets.row_list import RowList
from gui.widgets.scroll import Sheet, read_by_scrolling

WORST, BEST, CHANGED, WORSE = "worst", "best", "changed", "worse"
CHOICES = (
    (CHANGED, say("Answers that changed", "有变化的回答")),
    (WORST, say("Worst answers", "最差的回答")),
    (BEST, say("Gained most", "提升最多")),
    (WORSE, say("Worse than the base", "不如基础模型")),
)
SHOWN = 200
NO_SUCH_ROWS = say("No such rows.", "没有这样的行。")
NOT_ASKED = say("No row asks anything that could be answered.", "没有一行含有可以回答的提问。")
PARTS = {
    "question": say("Question", "提问"),
    "right": say("Right answer", "参考答案"),
    "base": say("Base answered", "基础模型的回答"),
    "tuned": say("Tuned answered", "微调模型的回答"),
}


class RowsPanel(QWidget):
    """A list of rows above the one that is chosen."""

    def __init__(self) -> None:
        super().__init__()
        self._evaluation: Evaluation | None = None
        self._rows: tuple[EvaluatedRow, ...] = ()
        self.which = QComboBox()
        self.which.setAccessibleName(tr(say("Which rows", "哪些行")))
        for name, text in CHOICES:
            self.which.addItem(tr(text), name)
        self.which.currentIndexChanged.connect(self._list_rows)
        self.list = RowList(say("Rows", "行"), self._show_row)
        self.detail = {name: label("", "", wrap=True, selectable=True) for name in (*PARTS, "where")}
        self._figures = {name: label("", "small") for name in ("base", "tuned")}
        self.nothing = label("", "muted", wrap=True)
        self._parts = self._items()
        self.read = read_by_scrolling(Sheet(column(self.nothing, *self._parts, None, margins=(0, 0, 8, 0))))
        self.read.setAccessibleName(tr(say("The row that is chosen", "所选的行")))
        made = column(row(self.which, None), self.list, self.read)
        made.setStretch(1, 4)
        made.setStretch(2, 5)
        self.setLayout(made)

    def _items(self) -> list[QWidget]:
        set_role(self.detail["where"], "small")
        items: list[QWidget] = []
        for name, text in PARTS.items():
            heading = row(label(text, "small"), self._figures.get(name), None, spacing=10)
            items.append(holder(column(heading, self.detail[name], spacing=1)))
        return [*items, self.detail["where"]]

    def put(self, found: Evaluation) -> None:
        """Show the rows of an evaluation."""
        self._evaluation = found
        self._list_rows()

    def _list_rows(self) -> None:
        found = self._evaluation
        if found is None:
            return
        which = self.which.currentData()
        worse = [item for item in found.rows if item.outcome == "worse"]
        chosen = {
            WORST: found.worst(SHOWN),
            BEST: found.best(SHOWN),
            WORSE: tuple(sorted(worse, key=lambda item: item.gain)[:SHOWN]),
        }
        self._rows = chosen.get(which, found.changed()[:SHOWN])
        self.list.put([line_of(item) for item in self._rows])
        if not self._rows:
            self._show_row(-1)

    def _show_row(self, number: int) -> None:
        item = self._rows[number] if 0 <= number < len(self._rows) else None
        texts = dict.fromkeys(self.detail, "")
        for part in self._parts:
            part.setVisible(item is not None)
        self.list.setVisible(item is not None)
        self.nothing.setVisible(item is None)
        if item is None:
            asked = self._evaluation is not None and self._evaluation.verdict.changed is not None
            self.nothing.setText(tr(NO_SUCH_ROWS if asked else NOT_ASKED))
        else:
            texts = {
                "question": item.prompt,
                "right": item.reference,
                "base": answer_of(item.base),
                "tuned": answer_of(item.tuned),
                "where": item.where,
            }
        for name, text in texts.items():
            self.detail[name].setText(text)
        self._figures["base"].setText(row_figures(item.base) if item is not None else "")
        self._figures["tuned"].setText(row_figures(item.tuned) if item is not None else "")
        self.read.verticalScrollBar().setValue(0)
