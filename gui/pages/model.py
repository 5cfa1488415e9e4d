"""The Model page: which model to start from, what it is, and whether it can be trained."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from PySide6.QtGui import QKeySequence, QShortcut
from PySide6.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QLineEdit, QPushButton, QWidget

from engine.machine.fits import WORDS, asked_methods
from engine.protocol.text import Text, as_text, say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import NONE, count, gib, length, parameters, percent, size
from gui.operations import hub_access
from gui.operations import models as operations
from gui.pages.model_side import METHOD_NAMES, ModelSide, licence_words, model_name
from gui.pages.page import Page
from gui.state.models import ModelFilter
from gui.state.phase import Phase
from gui.widgets.basic import add_shortcut, button, column, holder, label, row, tool
from gui.widgets.card import Card
from gui.widgets.chip import BAD, GOOD, PLAIN, WARN, chip_width
from gui.widgets.editors import quiet_combo
from gui.widgets.footer import Footer
from gui.widgets.table import Column, Table

CELL_MARGIN = 8
HAS_PROBLEM = say("problem", "有问题")
TONES = {"fits": GOOD, "tight": WARN, "no": PLAIN}
SEARCH = say(
    "Search, or paste a hub id such as Qwen/Qwen3-4B",
    "搜索，或粘贴 hub 标识，如 Qwen/Qwen3-4B",
)
PROMISE = say(
    "Nothing is downloaded before you say so. Weights stay in the hub's cache, shared with your other tools.",
    "未经你同意不会下载任何内容。权重存于 hub 缓存，与其他工具共用。",
)
NONE_LEFT = say(
    "No model is as the filter and the search ask. Enter asks the hub for the id above.",
    "没有符合筛选与搜索条件的模型。按回车可向 hub 查询上面的标识。",
)
CHOICES: dict[str, tuple[Text, dict[str, Text]]] = {
    "show": (
        say("Which models", "哪些模型"),
        {
            "all": say("All models", "全部模型"),
            "fits": say("Fits here", "适合本机"),
            "here": say("On this machine", "本机已有"),
            "away": say("To download", "可下载"),
        },
    ),
    "licence": (
        say("Licence", "许可"),
        {
            "any": say("Any licence", "任意许可"),
            "free": say("Any use allowed", "可任意使用"),
            "own": say("Terms of its own", "自有条款"),
        },
    ),
    "size": (
        say("Size", "规模"),
        {
            "any": say("Any size", "任意规模"),
            "small": say("Up to 2 B", "2 B 以下"),
            "medium": say("2 to 10 B", "2 到 10 B"),
            "large": say("Over 10 B", "10 B 以上"),
        },
    ),
    "family": (say("Family", "系列"), {"any": say("Any family", "任意系列")}),
    "order": (
        say("Order", "排序"),
        {
            "here": say("This machine first", "本机优先"),
            "small": say("Smallest first", "从小到大"),
            "large": say("Largest first", "从大到小"),
            "name": say("By name", "按名称"),
            "context": say("Longest context", "上下文最长"),
        },
    ),
}


class ModelPage(Page):
    """Renders `ModelState`: the list on the left, the model that is looked at on the right."""

    title = say("Model", "模型")
    subtitle = say("Which model to start from", "从哪个模型开始")

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self._listed: list[dict[str, Any]] = []
        self._in_view = ""
        for signal in (context.models.changed, context.draft.changed, context.plan.changed):
            signal.connect(self._heard)

    def _heard(self) -> None:
        """What fits is computed for every model there is, so not while another page is looked at (a slider moves)."""
        if self.isVisible():
            self.refresh()

    # --------------------------------------------------------------------------------------------------- four states
    def refresh(self) -> None:
        """Show what the model state says."""
        models = self.context.models
        if models.status.phase is Phase.WRONG and models.status.failure is not None and not models.models:
            self.show_banner().wrong(models.status.failure, self._again_button())
        elif models.status.phase in (Phase.WORKING, Phase.EMPTY) and not models.models:
            cancel = partial(operations.cancel_listing, self.context) if models.listing is not None else None
            self.show_banner().working(say("Looking for models on this machine…", "正在查找本机的模型…"), None, cancel)
        else:
            self.show_body()
            self._fill()

    def _again_button(self) -> QPushButton:
        look = partial(operations.list_models, self.context)
        return button(say("Look again", "重新查找"), look, "primary", shortcut="Ctrl+R")

    # ---------------------------------------------------------------------------------------------------------- body
    def build(self) -> QWidget:
        """Search line and filters, list, details, footer."""
        self.side = ModelSide(self.context)
        middle = row(self._list_card(), self.side, spacing=14)
        middle.setStretch(0, 1)
        self._next = button(say("See the plan →", "查看计划 →"), self._go_on, "primary", shortcut="Ctrl+Right")
        footer = Footer(self._next)
        footer.say(PROMISE)
        body = column(self._search_card(), middle, footer, spacing=14)
        body.setStretch(1, 1)
        return holder(body)

    def _search_card(self) -> Card:
        self.search = QLineEdit()
        self.search.setPlaceholderText(tr(SEARCH))
        self.search.setAccessibleName(tr(say("Model name or hub id", "模型名称或 hub 标识")))
        self.search.setToolTip("Ctrl+F")
        self.search.setClearButtonEnabled(True)
        self.search.textChanged.connect(self._fill)
        self.search.returnPressed.connect(self._look_up)
        QShortcut(QKeySequence("Ctrl+F"), self.search, self.search.setFocus)
        self._ask = button(say("Ask the hub", "查询 hub"), self._look_up, shortcut="Ctrl+Return")
        folder = button(say("Open a folder…", "打开文件夹…"), self._open_folder, shortcut="Ctrl+O")
        access = button(
            say("Hub access…", "Hub 访问…"), lambda: hub_access.open_access(self.context), shortcut="Ctrl+Shift+H"
        )
        line = row(self.search, self._ask, folder, access)
        line.setStretch(0, 1)
        return Card("", "", line, self._filters())

    def _filters(self) -> QHBoxLayout:
        self.filters = {name: self._filter(name, *about) for name, about in CHOICES.items()}
        again = tool(say("Look again", "重新查找"), partial(operations.list_models, self.context))
        add_shortcut(
            again,
            "Ctrl+R",
            tr(
                say("Find models that came since, and read models.toml again", "查找新增的模型，并重新读取 models.toml")
            ),
        )
        return row(*self.filters.values(), None, again)

    def _filter(self, name: str, title: Text, choices: dict[str, Text]) -> QComboBox:
        made = quiet_combo()
        made.setAccessibleName(tr(title))
        made.setToolTip(tr(title))
        for value, words in choices.items():
            made.addItem(tr(words), value)
        made.setCurrentIndex(max(0, made.findData(getattr(self.context.models.filter, name))))
        made.currentIndexChanged.connect(lambda: self.context.models.list_only(**{name: str(made.currentData())}))
        return made

    def _list_card(self) -> Card:
        wide = verdict_width()
        columns = (
            Column(say("Model", "模型"), model_name, tip=lambda m: str(m.get("path") or m.get("source", ""))),
            Column(say("Size", "规模"), lambda m: _number(m, "parameters", parameters), 60, right=True),
            Column(say("Licence", "许可"), licence_words, 122, muted=True, spare=True),
            Column(say("Context", "上下文"), lambda m: _number(m, "context", length), 64, right=True, spare=True),
            *(self._fit_column(name, wide) for name in asked_methods()),
            Column(say("Download", "下载"), download_words, 78, right=True, tip=_problem),
        )
        self.table = Table(columns, say("Models", "模型"))
        self.table.chosen.connect(self._choose)
        everything = button(say("List all models", "列出全部模型"), self._list_all, "small", shortcut="Alt+A")
        self._none = holder(row(label(NONE_LEFT, "muted", wrap=True), everything))
        card = Card(say("Models", "模型"), " ", self._none, self.table)
        card.body.setStretch(1, 1)
        self._note = card.note
        return card

    def _fit_column(self, method: str, wide: int) -> Column:
        def words(model: dict[str, Any]) -> str:
            if model.get("problem"):
                return tr(HAS_PROBLEM) if method == asked_methods()[0] else ""
            fit = operations.fits_of(self.context, model).get(method)
            return tr(WORDS[fit.verdict]) if fit is not None else ""

        def tone(model: dict[str, Any]) -> str:
            fit = operations.fits_of(self.context, model).get(method)
            return BAD if model.get("problem") else TONES[fit.verdict] if fit is not None else PLAIN

        def tip(model: dict[str, Any]) -> str:
            fit = operations.fits_of(self.context, model).get(method)
            return _problem(model) if fit is None else f"{gib(fit.needed_gib)} / {gib(fit.usable_gib)}"

        return Column(METHOD_NAMES[method], words, wide, tone=tone, tip=tip)

    # ---------------------------------------------------------------------------------------------------------- fill
    def _fill(self) -> None:
        self._fill_families()
        sought = self.search.text().strip()
        listed = operations.listed(self.context, sought)
        if listed != self._listed:
            self._listed = listed
            self.table.paged.put_all(listed)
        self._none.setVisible(not listed)
        self._note.setText(tr(self._asked_words(len(listed))))
        self._ask.setEnabled(bool(sought) and not self.context.models.is_downloading)
        self._mark_chosen()
        self.side.refresh()
        self._next.setEnabled(bool(self.context.models.chosen))

    def _fill_families(self) -> None:
        box, found = self.filters["family"], operations.families(self.context)
        if [box.itemData(i) for i in range(1, box.count())] == found:
            return
        box.blockSignals(True)
        while box.count() > 1:
            box.removeItem(1)
        for name in found:
            box.addItem(name, name)
        box.setCurrentIndex(max(0, box.findData(self.context.models.filter.family)))
        box.blockSignals(False)

    def _asked_words(self, number: int) -> Text:
        """How many are listed, and for what they are judged."""
        many = say("1 model", "1 个模型") if number == 1 else say("{n} models", "{n} 个模型", n=count(number))
        where = self.context.plan.room
        if where is None:
            return many
        longest, is_known = operations.asked_length(self.context)
        rows = (
            say("your longest row of {n} tokens", "你最长一行的 {n} 词元", n=count(longest))
            if is_known
            else say("rows of {n} tokens", "每行 {n} 词元", n=count(longest))
        )
        return say(
            "{many} · {free} usable, {rows}",
            "{many} · 可用 {free}，{rows}",
            many=many,
            free=gib(where.usable_gib),
            rows=rows,
        )

    def _mark_chosen(self) -> None:
        models = self.context.models
        source = models.looked_at or self.context.draft.recipe.model.source
        at = next((i for i, m in enumerate(self._listed) if m.get("source") == source), -1)
        self.table.selectionModel().blockSignals(True)
        if at >= 0:
            self.table.selectRow(at)
            if source != self._in_view:
                self.table.scrollTo(self.table.paged.index(at, 0))
        else:
            self.table.clearSelection()
        self._in_view = source
        self.table.selectionModel().blockSignals(False)
        self.table.viewport().update()

    # ------------------------------------------------------------------------------------------------------- actions
    def _choose(self, number: int) -> None:
        model = self._listed[number] if number < len(self._listed) else {}
        if not model:
            return
        if model.get("where") in ("catalogue", "begun"):
            operations.look_at(self.context, str(model["source"]))
        else:
            operations.choose_model(self.context, str(model["source"]))

    def _list_all(self) -> None:
        self.search.clear()
        for name, box in self.filters.items():
            box.setCurrentIndex(max(0, box.findData(getattr(ModelFilter(), name))))

    def _look_up(self) -> None:
        words = self.search.text().strip()
        if words:
            operations.look_up(self.context, words)

    def _open_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, tr(say("Choose a model's folder", "选择模型文件夹")))
        if chosen:
            operations.open_folder(self.context, Path(chosen))

    def _go_on(self) -> None:
        self.context.wizard.go("plan")


def verdict_width() -> int:
    """Pixels that every verdict has room in, in the language that is spoken now."""
    return max(chip_width(tr(text)) for text in (*WORDS.values(), HAS_PROBLEM)) + 2 * CELL_MARGIN


def download_words(model: dict[str, Any]) -> str:
    """What there is to download: nothing, the rest, or all of it."""
    where, whole = model.get("where"), float(model.get("bytes") or 0)
    if where == "starter":
        return tr(say("built in", "内置"))
    if where == "begun":
        come = float(model.get("here_bytes") or 0)
        return tr(say("{n} here", "已有 {n}", n=percent(min(1.0, come / whole))) if whole else say("begun", "未完成"))
    return size(whole) if where == "catalogue" else tr(say("on disk", "已在本机"))


def _number(model: dict[str, Any], name: str, write: Callable[[float], str]) -> str:
    value = model.get(name)
    return write(float(value)) if value else NONE


def _problem(model: dict[str, Any]) -> str:
    problem = model.get("problem")
    return tr(as_text(problem)) if problem else ""
