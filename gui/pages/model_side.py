"""The right of the Model page: the model that is looked at, what the hub says, downloads, and the hub's access."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from PySide6.QtWidgets import QLineEdit, QProgressBar, QPushButton, QVBoxLayout, QWidget

from engine.machine.fits import WORDS, Fit
from engine.machine.known_models import LICENCES, licence_label
from engine.protocol.errors import Failure
from engine.protocol.text import Text, as_text, say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import NONE, count, parameters, size
from gui.operations import hub_access
from gui.operations import models as operations
from gui.state.models import ModelState
from gui.state.notices import details_of
from gui.state.phase import Phase
from gui.widgets.banner import progress_words, show_progress
from gui.widgets.basic import button, clear, column, copy, holder, label, row, rule
from gui.widgets.card import Card
from gui.widgets.facts import Fact, Facts
from gui.widgets.scroll import scrolled

SIDE = 312
ROLES = {"fits": "good", "tight": "warn", "no": "bad"}
WHERE: dict[str, Text] = {
    "starter": say("built in", "内置"),
    "cache": say("hub cache", "hub 缓存"),
    "folder": say("folder", "文件夹"),
}
METHOD_NAMES: dict[str, Text] = {
    "qlora": say("QLoRA", "QLoRA"),
    "lora": say("LoRA", "LoRA"),
    "full": say("Full", "全参数"),
}
TERMS = say(
    "1. Accept its terms on its page. 2. Give a token of that account under “Hub access…”.",
    "1. 在其页面上接受条款。2. 在“Hub 访问…”中提供该账号的令牌。",
)
MIRROR_WARNING = say("Your token goes to the mirror, too.", "你的令牌也会发送到镜像。")
TOKEN_STATES: dict[str, Text] = {
    "": say("Looking for a token…", "正在查找令牌…"),
    "none": say("No token is kept. Models that nobody guards need none.", "没有保存令牌。无需授权的模型不需要令牌。"),
    "kept": say("A token is kept in this system's keyring.", "令牌已保存在系统密钥环中。"),
    "variable": say("HF_TOKEN is set, and goes before a kept token.", "已设置 HF_TOKEN，它优先于保存的令牌。"),
}


class ModelSide(Card):
    """Renders what `ModelState` says of one model. `refresh` rebuilds only what has become different."""

    def __init__(self, context: AppContext) -> None:
        super().__init__(" ", "")
        self._context = context
        self._work: WorkBox | None = None
        self._access: AccessBox | None = None
        self._shown: object = None
        self._top, self._place, self._foot = QVBoxLayout(), QVBoxLayout(), QVBoxLayout()
        for layout in (self._top, self._place, self._foot):
            layout.setSpacing(10)
        self.setFixedWidth(SIDE)
        inside = holder(column(self._top, self._place, None, margins=(0, 0, 8, 0), spacing=12))
        self.body.addWidget(scrolled(inside), 1)
        self.body.addLayout(self._foot)  # what there is to do stays in view in a low window

    def refresh(self) -> None:
        """Show what the state says now."""
        self._show_work()
        if self._context.models.access.open:
            self._show_access()
            return
        self._access = None
        what, key, show = self._wanted()
        if (what, key) != self._shown:
            self._shown = (what, key)
            self._clear()
            show()

    def _clear(self) -> None:
        clear(self._place)
        clear(self._foot)

    def _wanted(self) -> tuple[str, Any, Callable[[], None]]:
        """What is to be shown, what of it may change, and how it is shown."""
        models = self._context.models
        busy, fits = models.hub_asking is not None, models.fits_for
        if models.hub_for and models.hub_for == models.looked_at:
            if models.hub_status.phase is Phase.WRONG:
                return "hub wrong", (models.hub_status.failure, dict(models.hub)), self._hub_wrong
            if models.hub:
                return "hub", (dict(models.hub), busy, models.is_downloading), self._hub_side
        away = self._away()
        if away:
            return "away", (models.looked_at, away.get("here_bytes"), busy, fits), partial(self._away_side, away)
        if busy and models.looked_at:
            return "asking", models.looked_at, self._asking_side
        if models.chosen_status.phase is Phase.WRONG:
            return "wrong", models.chosen_status.failure, self._wrong_side
        if models.chosen:
            return "chosen", (dict(models.chosen), fits), partial(self._chosen_side, models.chosen)
        return "nothing", models.chosen_status.doing, lambda: self.title.setText(tr(models.chosen_status.doing))

    def _away(self) -> dict[str, Any]:
        """The listed model that is looked at and not on this machine; empty when there is none."""
        wanted = self._context.models.looked_at
        rows = operations.listed(self._context, wanted, whole=True) if wanted else []
        return next((each for each in rows if each["source"] == wanted), {})

    def _asking_side(self) -> None:
        self.title.setText(self._context.models.looked_at.rpartition("/")[2])

    def _show_work(self) -> None:
        """What is asked of the hub stays in view, whatever else is looked at."""
        models = self._context.models
        if models.hub_asking is None:
            if self._work is not None:
                self._work = None
                clear(self._top)
            return
        if self._work is None or self._work.operation is not models.hub_asking:
            clear(self._top)
            self._work = WorkBox(models.hub_asking, partial(operations.cancel_hub, self._context))
            self._top.addWidget(self._work)
        self._work.put(models)  # the Cancel button stays the one it was: it may have the focus, or be pressed now

    def _show_access(self) -> None:
        if self._access is None:
            self._shown = "access"
            self._clear()
            self.title.setText(tr(say("Hub access", "Hub 访问")))
            self._access = AccessBox(self._context)
            self._place.addWidget(self._access)
        self._access.put()

    # --------------------------------------------------------------------------------------- on this machine, or not
    def _chosen_side(self, model: dict[str, Any]) -> None:
        self.title.setText(model_name(model))
        self._facts(model_facts(model))
        self._fits(model)
        self._words(operations.good_for(self._described(model)), advice_words(model))

    def _described(self, model: dict[str, Any]) -> dict[str, Any]:
        """The chosen model with what the catalogue adds."""
        known = operations.listed(self._context, str(model.get("source", "")), whole=True)
        return next((each for each in known if each["source"] == model.get("source")), model)

    def _away_side(self, model: dict[str, Any]) -> None:
        self.title.setText(operations.short_name(model))
        self._facts(away_facts(model))
        self._fits(model)
        licence = LICENCES.get(str(model.get("licence", "")).lower())
        self._words(operations.good_for(model), licence.about if licence is not None else None)
        begun = bool(model.get("here_bytes"))
        words = say("Go on with the download…", "继续下载…") if begun else say("Download…", "下载…")
        source = str(model["source"])
        get = button(words, lambda: operations.look_up(self._context, source), "primary", shortcut="Ctrl+D")
        get.setEnabled(self._context.models.hub_asking is None)
        self._foot.addLayout(row(get, None))

    def _facts(self, facts: list[Fact]) -> None:
        shown = Facts()
        shown.put(facts)
        self._place.addWidget(shown)

    def _fits(self, model: dict[str, Any]) -> None:
        """What it takes to train it here, by method."""
        facts = fit_facts(operations.fits_of(self._context, model))
        if facts:
            self._place.addWidget(rule())
            self._facts(facts)

    def _words(self, *sentences: Text | None) -> None:
        shown = [text for text in sentences if text]
        if shown:
            self._place.addWidget(rule())
        for text in shown:
            self._place.addWidget(label(text, "muted", wrap=True))

    def _wrong_side(self) -> None:
        failure = self._context.models.chosen_status.failure
        assert failure is not None
        self.title.setText(tr(say("Cannot be trained", "无法训练")))
        self._failure(failure)

    def _failure(self, failure: Failure, *buttons: QPushButton) -> None:
        """The sentence, everything that was found, what to do, and the details to copy."""
        self._place.addWidget(label(failure.message, "bad", wrap=True))
        for problem in failure.problems:
            self._place.addWidget(label(f"• {tr(problem.message)} {tr(problem.hint)}".strip(), "", wrap=True))
        if failure.hint:
            self._place.addWidget(label(failure.hint, "muted", wrap=True, selectable=True))
        details = details_of(failure)
        own = button(say("Copy details", "复制详情"), lambda: copy(details), shortcut="Ctrl+Shift+C")
        self._place.addLayout(row(*buttons, own, None))

    # ----------------------------------------------------------------------------------------------------------- hub
    def _hub_wrong(self) -> None:
        models = self._context.models
        failure = models.hub_status.failure
        assert failure is not None
        self.title.setText(models.hub_for.rpartition("/")[2])
        self._failure(failure, self._leave())
        if failure.code in ("hub.gated", "hub.token_refused", "hub.not_found"):
            self._place.addLayout(row(*self._gate_buttons(models.hub_for), None))

    def _hub_side(self) -> None:
        models = self._context.models
        hub = models.hub
        self.title.setText(str(hub.get("id", "")).rpartition("/")[2])
        self._facts(hub_facts(hub, is_coming=models.is_downloading))
        if models.hub_asking is not None:
            return
        if hub.get("gated") and not hub.get("has_token"):
            self._place.addWidget(label(TERMS, "muted", wrap=True))
            self._foot.addLayout(row(*self._gate_buttons(str(hub["id"])), None))
            self._foot.addLayout(row(self._leave(), None))
            return
        self._offer_download(hub)

    def _gate_buttons(self, hub_id: str) -> list[QPushButton]:
        """The ways through a gate: the model's page, and a token."""
        page = button(say("Open its page", "打开页面"), lambda: hub_access.open_page(hub_id), shortcut="Alt+P")
        give = button(
            say("Give a token…", "提供令牌…"), lambda: hub_access.open_access(self._context), shortcut="Alt+T"
        )
        return [page, give]

    def _offer_download(self, hub: dict[str, Any]) -> None:
        missing = _missing(hub)
        free = hub.get("free_bytes")
        room = free is None or int(free) > missing
        if not room:
            short = say(
                "{n} more are needed on this disk. HF_HOME moves the cache to another.",
                "此磁盘还差 {n}。可用 HF_HOME 把缓存移到其他磁盘。",
                n=size(missing - int(free or 0)),
            )
            self._place.addWidget(label(short, "bad", wrap=True))
        begun = 0 < missing < int(hub.get("bytes") or 0)
        words = say("Go on downloading", "继续下载") if begun else say("Download", "下载")
        name = str(hub["id"])
        get = button(words, lambda: operations.download(self._context, name), "primary", shortcut="Ctrl+D")
        get.setEnabled(room)
        self._foot.addLayout(row(get, self._leave(), None))

    def _leave(self) -> QPushButton:
        return button(say("Back", "返回"), lambda: operations.leave_hub(self._context), shortcut="Alt+Left")


class WorkBox(QWidget):
    """What is asked of the hub, how far it is, and the way to stop it.

    Args:
        operation: what it shows.
        cancel: called by its button.
    """

    def __init__(self, operation: object, cancel: Callable[[], object]) -> None:
        super().__init__()
        self.operation = operation
        self._doing, self._far = label("", "strong", wrap=True), label("", "facts", wrap=True)
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        self._cancel = button(say("Cancel", "取消"), cancel, "small", shortcut="Esc")
        line = row(self._far, self._cancel)
        line.setStretch(0, 1)
        self.setLayout(column(self._doing, self._bar, line, rule(), spacing=9))

    def put(self, models: ModelState) -> None:
        """Show how far it is."""
        self._doing.setText(tr(models.hub_status.doing))
        show_progress(self._bar, models.hub_status.progress)
        self._far.setText(progress_words(models.hub_status.progress))
        self._cancel.setEnabled(not models.is_ending)


class AccessBox(QWidget):
    """How the hub is reached: a token for models that are guarded, and a mirror. A token is never shown again."""

    def __init__(self, context: AppContext) -> None:
        super().__init__()
        self._context = context
        self._state, self._told = label("", "muted", wrap=True), label("", "bad", wrap=True, selectable=True)
        self.token, self.mirror = QLineEdit(), QLineEdit()
        self.token.setEchoMode(QLineEdit.EchoMode.Password)
        self.token.setPlaceholderText("hf_…")
        self.token.setAccessibleName(tr(say("Token of the hub", "hub 令牌")))
        self.token.returnPressed.connect(self._keep)
        self.mirror.setPlaceholderText("https://hf-mirror.com")
        self.mirror.setAccessibleName(tr(say("Address of a mirror", "镜像地址")))
        self.mirror.setText(context.settings.values.mirror)
        self.mirror.returnPressed.connect(self._use)
        self.setLayout(column(*self._token_part(), rule(), *self._mirror_part(), self._told, self._back(), spacing=9))

    def _token_part(self) -> list[Any]:
        keep = button(say("Keep", "保存"), self._keep, shortcut="Alt+K")
        self._forget = button(
            say("Forget it", "删除令牌"), lambda: hub_access.forget_token(self._context), shortcut="Alt+F"
        )
        make = button(
            say("Make one on the hub", "在 hub 上新建"),
            lambda: hub_access.open_page("settings/tokens"),
            "link",
            shortcut="Alt+M",
        )
        line = row(self.token, keep)
        line.setStretch(0, 1)
        return [label(say("Token", "令牌"), "strong"), self._state, line, row(self._forget, make, None)]

    def _mirror_part(self) -> list[Any]:
        use = button(say("Use", "使用"), self._use, shortcut="Alt+U")
        line = row(self.mirror, use)
        line.setStretch(0, 1)
        self._where = label("", "muted", wrap=True)
        return [label(say("Mirror", "镜像"), "strong"), line, self._where]

    def _back(self) -> Any:
        leave = button(say("Back", "返回"), lambda: hub_access.close_access(self._context), shortcut="Alt+Left")
        return row(leave, None)

    def put(self) -> None:
        """Show what is known now; what is being typed stays."""
        access = self._context.models.access
        words = access.doing or TOKEN_STATES[access.token]
        if access.user and not access.doing:
            words = say(
                "A token of {name} is kept in this system's keyring.",
                "系统密钥环中保存了 {name} 的令牌。",
                name=access.user,
            )
        self._state.setText(tr(words))
        self._forget.setVisible(access.token == "kept")
        mirror = self._context.settings.values.mirror
        usual = say("Empty: the hub itself, or HF_ENDPOINT.", "留空：使用 hub 本身，或 HF_ENDPOINT。")
        self._where.setText(tr(MIRROR_WARNING if mirror else usual))
        failure = access.status.failure
        self._told.setText(f"{tr(failure.message)} {tr(failure.hint)}" if failure is not None else "")
        self._told.setVisible(failure is not None)

    def _keep(self) -> None:
        text = self.token.text()
        self.token.clear()
        if text.strip():
            hub_access.keep_token(self._context, text)

    def _use(self) -> None:
        hub_access.use_mirror(self._context, self.mirror.text())
        self.mirror.setText(self._context.settings.values.mirror)


# ------------------------------------------------------------------------------------------------------------ words
def model_name(model: dict[str, Any]) -> str:
    """What people call a model."""
    starter = say("Lorimer starter", "Lorimer 入门模型")
    return tr(starter) if model.get("where") == "starter" else operations.short_name(model)


def licence_words(model: dict[str, Any]) -> str:
    """A licence, and whether its owner wants to be asked first."""
    name = licence_label(str(model.get("licence") or "")) or NONE
    return tr(say("{name} · gated", "{name} · 需授权", name=name)) if model.get("gated") else name


def model_facts(model: dict[str, Any]) -> list[Fact]:
    """What the details say of a model of this machine."""
    files = (
        say("{n} files", "{n} 个文件", n=model.get("files"))
        if int(model.get("files") or 1) > 1
        else say("1 file", "1 个文件")
    )
    weights = f"{tr(files)}, safetensors, {size(float(model.get('bytes') or 0))}"
    numbers = f"{parameters(float(model.get('parameters') or 0))} · {model.get('dtype', '')}".strip(" ·")
    facts: list[Fact] = [
        (say("Where", "位置"), WHERE.get(str(model.get("where")), as_text(NONE))),
        (say("Family", "系列"), str(model.get("family_label") or model.get("family") or NONE)),
        (say("Shape", "结构"), _shape(model)),
        (say("Weights", "权重"), weights),
        (say("Numbers", "数值"), numbers),
        (say("Context", "上下文"), _context(model)),
        (say("Chat template", "对话模板"), _template(model.get("template") or model.get("has_template"))),
        (say("Licence", "许可"), licence_words(model)),
        (say("Files", "文件"), say("complete, checked", "完整，已检查"), "good"),
    ]
    return facts


def away_facts(model: dict[str, Any]) -> list[Fact]:
    """What is known of a model before it is downloaded."""
    come = int(model.get("here_bytes") or 0)
    facts: list[Fact] = [(say("Hub id", "hub 标识"), str(model["source"]))]
    if model.get("known") is not None:
        facts += [
            (say("Family", "系列"), str(model["family_label"])),
            (say("Shape", "结构"), _shape(model)),
            (say("Size", "规模"), parameters(float(model["parameters"]))),
            (say("Weights, 16-bit", "16 位权重"), size(float(model["bytes"]))),
            (say("Context", "上下文"), _context(model)),
            (say("Chat template", "对话模板"), _template(model.get("template"))),
            (say("Licence", "许可"), licence_words(model)),
        ]
    if come:
        facts.append((say("On this machine", "本机已有"), size(come), "warn"))
    return facts


def _shape(model: dict[str, Any]) -> Text:
    return say(
        "{n} layers, width {w}", "{n} 层，宽 {w}", n=model.get("layers", NONE), w=count(model.get("hidden") or 0)
    )


def _context(model: dict[str, Any]) -> Text:
    return say("{n} tokens", "{n} 词元", n=count(float(model.get("context") or 0)))


def _template(own: Any) -> Text:
    if own is None:
        return say("not known", "未知")
    return say("its own", "自带") if own else say("none: one is chosen", "无：自动选择")


def fit_facts(fits: dict[str, Fit]) -> list[Fact]:
    """What each method takes here: "from 5.1 of 21.4 GiB, fits"."""
    return [(METHOD_NAMES[name], _fit_words(fit), ROLES[fit.verdict]) for name, fit in fits.items()]


def _fit_words(fit: Fit) -> Text:
    if fit.verdict == "no":
        return say("from {need:.1f} GiB, too big", "{need:.1f} GiB 起，放不下", need=fit.needed_gib)
    return say(
        "from {need:.1f} of {free:.1f} GiB, {verdict}",
        "{free:.1f} GiB 中 {need:.1f} GiB 起，{verdict}",
        need=fit.needed_gib,
        free=fit.usable_gib,
        verdict=WORDS[fit.verdict],
    )


def hub_facts(hub: dict[str, Any], *, is_coming: bool = False) -> list[Fact]:
    """What the hub says of a model; how much is missing is left to the progress while it comes."""
    gated = (
        say("yes, with your token", "是，将使用你的令牌")
        if hub.get("gated") and hub.get("has_token")
        else say("yes: its owner wants to be asked", "是：需先获得所有者许可")
        if hub.get("gated")
        else say("no", "否")
    )
    whole, missing = int(hub.get("bytes") or 0), _missing(hub)
    free = hub.get("free_bytes")
    room: Fact = (say("Free on this disk", "磁盘可用"), NONE if free is None else size(float(free)))
    if free is not None:
        enough = int(free) > missing
        room = (*room[:2], "good" if enough else "bad")
    facts: list[Fact] = [(say("Hub id", "hub 标识"), str(hub.get("id", ""))), (say("Size", "大小"), size(whole))]
    if 0 < missing < whole and not is_coming:
        facts.append((say("Still to download", "尚需下载"), size(missing)))
    return [
        *facts,
        room,
        (say("Licence", "许可"), licence_label(str(hub.get("licence") or "")) or NONE),
        (say("Gated", "需要授权"), gated),
    ]


def _missing(hub: dict[str, Any]) -> int:
    missing = hub.get("missing_bytes")
    return int(hub.get("bytes") or 0) if missing is None else int(missing)


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
