"""The Model page: which model to start from, what it is, and whether it can be trained."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from PySide6.QtWidgets import QFileDialog, QLineEdit, QProgressBar, QPushButton, QVBoxLayout, QWidget

from engine.methods.registry import METHODS
from engine.protocol.errors import Failure
from engine.protocol.text import Text, as_text, say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import NONE, count, length, parameters, size
from gui.operations import models as operations
from gui.pages.page import Page
from gui.state.models import ModelState
from gui.state.notices import details_of
from gui.state.phase import Phase
from gui.widgets.banner import progress_words, show_progress
from gui.widgets.basic import button, clear, column, copy, holder, label, row, rule
from gui.widgets.card import Card
from gui.widgets.chip import BAD, GOOD, PLAIN, WARN, Chip, chip_width
from gui.widgets.facts import Fact, Facts
from gui.widgets.footer import Footer
from gui.widgets.scroll import scrolled
from gui.widgets.table import Column, Table

SIDE = 312
CELL_MARGIN = 8
HAS_PROBLEM = say("has a problem", "有问题")
WHERE: dict[str, Text] = {
    "starter": say("built in", "内置"),
    "cache": say("hub cache", "hub 缓存"),
    "folder": say("folder", "文件夹"),
}
SEARCH = say(
    "Search by name, or paste a hub id such as Qwen/Qwen2.5-0.5B-Instruct",
    "按名称搜索，或粘贴 hub 标识，如 Qwen/Qwen2.5-0.5B-Instruct",
)
PROMISE = say(
    "Nothing is downloaded before you say so. Weights stay in the hub's cache, shared with your other tools.",
    "未经你同意不会下载任何内容。权重存于 hub 缓存，与其他工具共用。",
)


MORE = say(
    "Models that other tools fetched from the hub appear here by themselves. For another one, paste its hub id above, "
    "or open a folder with config.json, tokenizer.json and safetensors.",
    "其他工具从 hub 下载的模型会自动出现在这里。要使用别的模型，请在上方粘贴 hub 标识，"
    "或打开含 config.json、tokenizer.json 与 safetensors 的文件夹。",
)


class ModelPage(Page):
    """Renders `ModelState`: the list on the left, the chosen model or what the hub says on the right."""

    title = say("Model", "模型")
    subtitle = say("Which model to start from", "从哪个模型开始")

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self._work: WorkBox | None = None
        self._listed: list[dict[str, Any]] = []
        context.models.changed.connect(self.refresh)
        context.draft.changed.connect(self.refresh)
        context.plan.changed.connect(self._fits_changed)

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
        """Search line, list, details, footer."""
        middle = row(self._list_card(), self._side_card(), spacing=14)
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
        self.search.setClearButtonEnabled(True)
        self.search.textChanged.connect(self._fill)
        self.search.returnPressed.connect(self._look_up)
        self._ask = button(say("Ask the hub", "查询 hub"), self._look_up, shortcut="Ctrl+Return")
        folder = button(say("Open a folder…", "打开文件夹…"), self._open_folder, shortcut="Ctrl+O")
        line = row(self.search, self._ask, folder)
        line.setStretch(0, 1)
        return Card("", "", line)

    def _list_card(self) -> Card:
        wide = verdict_width()
        columns = (
            Column(say("Model", "模型"), model_name, tip=lambda m: str(m.get("path", ""))),
            Column(say("Size", "规模"), lambda m: _number(m, "parameters", parameters), 64, right=True),
            Column(say("Licence", "许可"), lambda m: str(m.get("licence") or NONE), 96, muted=True, spare=True),
            Column(say("Context", "上下文"), lambda m: _number(m, "context", length), 70, right=True, spare=True),
            Column(
                say("4-bit", "4 位"), partial(self._fit_words, "qlora"), wide, tone=partial(self._fit_tone, "qlora")
            ),
            Column(
                say("16-bit", "16 位"), partial(self._fit_words, "lora"), wide, tone=partial(self._fit_tone, "lora")
            ),
            Column(say("On disk", "磁盘"), lambda m: _number(m, "bytes", size), 76, right=True, tip=_problem),
        )
        self.table = Table(columns, say("Models on this machine", "本机的模型"))
        self.table.chosen.connect(self._choose)
        more = label(MORE, "muted", wrap=True)
        card = Card(say("Models on this machine", "本机的模型"), " ", self.table, more)
        card.body.setStretch(0, 1)
        self._count = card.note
        return card

    def _fit_words(self, method: str, model: dict[str, Any]) -> str:
        if model.get("problem"):
            return tr(HAS_PROBLEM) if method == "qlora" else ""
        verdict = operations.fit(self.context, model, method)
        return tr(fit_words(method)[verdict]) if verdict else ""

    def _fit_tone(self, method: str, model: dict[str, Any]) -> str:
        if model.get("problem"):
            return BAD
        return {"fits": GOOD, "tight": WARN, "no": PLAIN}.get(operations.fit(self.context, model, method), PLAIN)

    def _side_card(self) -> Card:
        self._side = QVBoxLayout()
        self._side.setSpacing(10)
        card = Card(" ", "")
        self._name = card.title
        card.setFixedWidth(SIDE)
        card.body.addWidget(scrolled(holder(column(self._side, None, margins=(0, 0, 8, 0)))), 1)
        return card

    def _fits_changed(self) -> None:
        if self.is_built:
            self.table.viewport().update()

    # ---------------------------------------------------------------------------------------------------------- fill
    def _fill(self) -> None:
        sought = self.search.text().strip().lower()
        listed = [
            m for m in self.context.models.models if sought in f"{m.get('name', '')} {m.get('source', '')}".lower()
        ]
        if listed != self._listed:
            self._listed = listed
            self.table.paged.put_all(listed)
        words = (
            say("1 model", "1 个模型") if len(listed) == 1 else say("{n} models", "{n} 个模型", n=count(len(listed)))
        )
        self._count.setText(tr(words))
        self._ask.setEnabled(bool(sought) and not self.context.models.is_downloading)
        self._mark_chosen()
        self._fill_side()
        self._next.setEnabled(bool(self.context.models.chosen))

    def _mark_chosen(self) -> None:
        source = self.context.draft.recipe.model.source
        at = next((i for i, m in enumerate(self._listed) if m.get("source") == source), -1)
        self.table.selectionModel().blockSignals(True)
        if at >= 0:
            self.table.selectRow(at)
        else:
            self.table.clearSelection()
        self.table.selectionModel().blockSignals(False)
        self.table.viewport().update()

    def _fill_side(self) -> None:
        models = self.context.models
        if self._work is not None and models.hub_asking is not None and self._work.operation is models.hub_asking:
            self._work.put(models)  # the Cancel button stays the one it was: it may have the focus, or be pressed now
            return
        self._work = None
        clear(self._side)
        if models.hub_status.phase is not Phase.EMPTY:
            self._hub_side()
        elif models.chosen_status.phase is Phase.WRONG:
            self._wrong_side()
        elif models.chosen:
            self._chosen_side(models.chosen)
        else:
            self._name.setText(tr(models.chosen_status.doing))

    def _chosen_side(self, model: dict[str, Any]) -> None:
        self._name.setText(model_name(model))
        facts = Facts()
        facts.put(model_facts(model))
        self._side.addWidget(facts)
        self._side.addWidget(rule())
        self._side.addWidget(label(advice_words(model), "muted", wrap=True))

    def _wrong_side(self) -> None:
        failure = self.context.models.chosen_status.failure
        assert failure is not None
        self._name.setText(tr(say("Cannot be trained", "无法训练")))
        self._failure(failure)

    def _failure(self, failure: Failure, *buttons: QPushButton) -> None:
        """The sentence, everything that was found, what to do, and the details to copy."""
        self._side.addWidget(label(failure.message, "bad", wrap=True))
        for problem in failure.problems:
            self._side.addWidget(label(f"• {tr(problem.message)} {tr(problem.hint)}".strip(), "", wrap=True))
        if failure.hint:
            self._side.addWidget(label(failure.hint, "muted", wrap=True))
        details = details_of(failure)
        own = button(say("Copy details", "复制详情"), lambda: copy(details), shortcut="Ctrl+Shift+C")
        self._side.addLayout(row(*buttons, own, None))

    # ----------------------------------------------------------------------------------------------------------- hub
    def _hub_side(self) -> None:
        status, hub = self.context.models.hub_status, self.context.models.hub
        self._name.setText(str(hub.get("id", "")) or tr(say("Hub", "Hub")))
        if hub:
            facts = Facts()
            facts.put(hub_facts(hub))
            self._side.addWidget(facts)
        if status.phase is Phase.WORKING:
            self._working_side()
        elif status.failure is not None:
            self._failure(status.failure, self._leave())
        else:
            self._offer_download(hub)

    def _working_side(self) -> None:
        self._work = WorkBox(self.context.models.hub_asking, partial(operations.cancel_hub, self.context))
        self._work.put(self.context.models)
        self._side.addWidget(self._work)

    def _offer_download(self, hub: dict[str, Any]) -> None:
        room = int(hub.get("free_bytes") or 0) > int(hub.get("bytes") or 0)
        tone, words = (GOOD, say("enough room", "空间足够")) if room else (BAD, say("not enough room", "空间不足"))
        self._side.addLayout(row(Chip(words, tone), None))
        get = button(
            say("Download", "下载"),
            lambda: operations.download(self.context, str(hub["id"])),
            "primary",
            shortcut="Ctrl+D",
        )
        get.setEnabled(room)
        self._side.addLayout(row(get, self._leave(), None))

    def _leave(self) -> QPushButton:
        return button(say("Back", "返回"), lambda: operations.leave_hub(self.context), shortcut="Alt+Left")

    # ------------------------------------------------------------------------------------------------------- actions
    def _choose(self, number: int) -> None:
        model = self._listed[number] if number < len(self._listed) else {}
        if model and model.get("source") != self.context.draft.recipe.model.source:
            operations.choose_model(self.context, str(model["source"]))

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


class WorkBox(QWidget):
    """What is asked of the hub, how far it is, and the way to stop it.

    Args:
        operation: what it shows.
        cancel: called by its button.
    """

    def __init__(self, operation: object, cancel: Callable[[], object]) -> None:
        super().__init__()
        self.operation = operation
        self._doing, self._far = label("", "muted", wrap=True), label("", "facts")
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        self._cancel = button(say("Cancel", "取消"), cancel, "small", shortcut="Esc")
        self.setLayout(column(self._doing, self._bar, self._far, row(self._cancel, None), spacing=10))

    def put(self, models: ModelState) -> None:
        """Show how far it is."""
        self._doing.setText(tr(models.hub_status.doing))
        show_progress(self._bar, models.hub_status.progress)
        self._far.setText(progress_words(models.hub_status.progress))
        self._cancel.setEnabled(not models.is_ending)


def fit_words(method: str) -> dict[str, Text]:
    """The verdicts of `gui.operations.models.fit` in words."""
    name = METHODS[method].label.en.split(",")[0]
    return {
        "fits": say("{m} fits", "{m} 放得下", m=name),
        "tight": say("{m} tight", "{m} 勉强", m=name),
        "no": say("too big", "放不下"),
    }


def verdict_width() -> int:
    """Pixels that every verdict has room in, in the language that is spoken now."""
    words = [*fit_words("qlora").values(), *fit_words("lora").values(), HAS_PROBLEM]
    return max(chip_width(tr(text)) for text in words) + 2 * CELL_MARGIN


def model_name(model: dict[str, Any]) -> str:
    """What people call a model."""
    starter = say("Lorimer starter", "Lorimer 入门模型")
    return tr(starter) if model.get("where") == "starter" else str(model.get("name", ""))


def _number(model: dict[str, Any], name: str, write: Callable[[float], str]) -> str:
    value = model.get(name)
    return write(float(value)) if value else NONE


def _problem(model: dict[str, Any]) -> str:
    problem = model.get("problem")
    return tr(as_text(problem)) if problem else ""


def model_facts(model: dict[str, Any]) -> list[Fact]:
    """What the details say of a model."""
    shape = say("{n} layers, width {w}", "{n} 层，宽 {w}", n=model.get("layers", NONE), w=count(model.get("hidden", 0)))
    files = (
        say("{n} files", "{n} 个文件", n=model.get("files"))
        if int(model.get("files") or 1) > 1
        else say("1 file", "1 个文件")
    )
    weights = f"{tr(files)}, safetensors, {size(float(model.get('bytes') or 0))}"
    own = (
        say("its own", "自带")
        if model.get("template") or model.get("has_template")
        else say("none: one is chosen", "无：自动选择")
    )
    facts: list[Fact] = [
        (say("Where", "位置"), WHERE.get(str(model.get("where")), as_text(NONE))),
        (say("Family", "系列"), str(model.get("family_label") or model.get("family") or NONE)),
        (say("Shape", "结构"), shape),
        (say("Weights", "权重"), weights),
        (
            say("Numbers", "数值"),
            f"{parameters(float(model.get('parameters') or 0))} · {model.get('dtype', '')}".strip(" ·"),
        ),
        (say("Context", "上下文"), tr(say("{n} tokens", "{n} 词元", n=count(float(model.get("context") or 0))))),
        (say("Chat template", "对话模板"), own),
        (say("Licence", "许可"), str(model.get("licence") or NONE)),
        (say("Files", "文件"), say("complete, checked", "完整，已检查"), "good"),
    ]
    return facts


def hub_facts(hub: dict[str, Any]) -> list[Fact]:
    """What the hub says of a model."""
    gated = (
        say("yes: accept its terms on the hub first", "是：请先在 hub 上接受条款")
        if hub.get("gated")
        else say("no", "否")
    )
    return [
        (say("Download", "下载"), size(float(hub.get("bytes") or 0))),
        (say("Free on this disk", "磁盘可用"), size(float(hub.get("free_bytes") or 0))),
        (say("Licence", "许可"), str(hub.get("licence") or NONE)),
        (say("Gated", "需要授权"), gated),
    ]


def advice_words(model: dict[str, Any]) -> Text:
    """A sentence on what this kind of model is good for."""
    if model.get("template") or model.get("has_template"):
        return say(
            "Already answers chat. For a new domain with few rows start here; for a new style of text start from "
            "a base model.",
            "已会对话。数据较少的新领域适合从这里开始；要学新的文风则从基础模型开始。",
        )
    return say(
        "A base model: it continues text and has no chat template, so Lorimer chooses one and says which on the Data "
        "page.",
        "基础模型：只会续写文本，没有对话模板；Lorimer 会选择一个，并在“数据”页说明。",
    )
