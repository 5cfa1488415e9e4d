"""What can be done with an export: Ollama, LM Studio, the local server, the hub."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtWidgets import QCheckBox, QFileDialog, QLineEdit, QPushButton, QWidget

from engine.export.hub_upload import checked_repo
from engine.export.lmstudio import PUBLISHER
from engine.export.ollama import modelfile_of, proposed_name
from engine.export.serve import Serving
from engine.project.project import slug
from engine.protocol.errors import UserError
from engine.protocol.text import NOTHING, Text, say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import count, size
from gui.operations import hub_access
from gui.operations.export import (
    hand_to_lm_studio,
    hand_to_ollama,
    look_into_parcel,
    start_server,
    stop_server,
    upload,
)
from gui.state.takeaway import GGUF, Taken
from gui.widgets.basic import ElidedLabel, button, column, copy, holder, label, rename, row
from gui.widgets.card import Card

NAME_WIDTH = 92
TOKENS: dict[str, Text] = {
    "kept": say("Your token is in the system's keyring.", "令牌在系统密钥环中。"),
    "variable": say("Your token comes from HF_TOKEN.", "令牌来自 HF_TOKEN。"),
    "none": say("No token yet: give one under Model, “Hub access…”.", "尚无令牌：请在“模型”页的“Hub 访问…”中提供。"),
}


class Uses(Card):
    """One line for each use of the export that is looked at."""

    def __init__(self, context: AppContext) -> None:
        super().__init__(say("Use it", "使用"))
        self._context = context
        self._refused = label("", "muted", wrap=True)
        self.body.addWidget(self._refused)
        self.ollama = OllamaLine(context)
        self.lm_studio = LmStudioLine(context)
        self.server = ServerLine(context)
        self.hub = HubLine(context)
        self._gguf = (self.ollama, self.lm_studio, self.server)
        for line in (*self._gguf, self.hub):
            self.body.addWidget(line)

    def fill(self, item: Taken) -> None:
        """Show what can be done with an export; nothing where it is not what was trained."""
        wrong = item.parity.passed is False
        words = say(
            "It differs from what you trained, so it is not handed on. Export it again.",
            "它与训练结果不一致，因此不会交给其他程序。请重新导出。",
        )
        self._refused.setText(tr(words))
        self._refused.setVisible(wrong)
        usable = item.is_there and not wrong
        for line in self._gguf:
            line.setVisible(usable and item.export.kind == GGUF)
            line.fill(item)
        self.hub.setVisible(usable and item.export.kind in (GGUF, "adapter", "merged", "gguf-adapter"))
        self.hub.fill(item)
        self.setVisible(item.is_there)


class Line(QWidget):
    """A use: its name, what stands there now, and buttons."""

    def __init__(self, context: AppContext, name: Text, role: str = "mono") -> None:
        super().__init__()
        self.context = context
        self._item: Taken | None = None
        heading = label(name, "strong")
        heading.setFixedWidth(NAME_WIDTH)
        self.words = ElidedLabel("", role, middle=role == "mono")
        self._line = row(heading, self.words)
        self._line.setStretch(1, 1)
        self.layout_below = column(self._line, spacing=6)
        self.setLayout(self.layout_below)
        self.setAccessibleName(tr(name))

    def put_buttons(self, *buttons: QPushButton) -> None:
        """Buttons at the right end."""
        for each in buttons:
            self._line.addWidget(each)

    def fill(self, item: Taken) -> None:
        """Show an export."""
        self._item = item

    @property
    def title(self) -> str:
        """Of the run."""
        return str(self.context.runs.facts.get("title") or "model")

    @property
    def is_busy(self) -> bool:
        """Whether a job on the run's exports works."""
        return self.context.runs.export.is_running


class OllamaLine(Line):
    """A Modelfile beside the file, and Ollama's own command."""

    def __init__(self, context: AppContext) -> None:
        super().__init__(context, say("Ollama", "Ollama"))
        self._copy = button(say("Copy", "复制"), lambda: copy(self.words.text()), "small", shortcut="Ctrl+1")
        self._create = button(say("Create now", "立即创建"), lambda: self._hand(True), "small", shortcut="Ctrl+2")
        words = say("Write the Modelfile", "写出 Modelfile")
        self._write = button(words, lambda: self._hand(False), "small", shortcut="Ctrl+3")
        self.put_buttons(self._copy, self._write, self._create)

    def fill(self, item: Taken) -> None:
        super().fill(item)
        self.words.setText(f"ollama create {proposed_name(self.title)} -f {modelfile_of(item.path).name}")
        there = self.context.takeaway.found.ollama is not None
        self._create.setVisible(there)
        self._write.setVisible(not there)
        for each in (self._create, self._write):
            each.setEnabled(not self.is_busy)

    def _hand(self, create: bool) -> None:
        if self._item is not None:
            hand_to_ollama(self.context, self._item, create=create)


class LmStudioLine(Line):
    """The place in LM Studio's models folder."""

    def __init__(self, context: AppContext) -> None:
        super().__init__(context, say("LM Studio", "LM Studio"))
        self._put = button(say("Put it there", "放到那里"), self._hand, "small", shortcut="Ctrl+4")
        words = say("Its models folder…", "其模型文件夹…")
        self._choose = button(words, self._ask, "small", shortcut="Ctrl+5")
        self.put_buttons(self._choose, self._put)

    def fill(self, item: Taken) -> None:
        super().fill(item)
        models = self.context.takeaway.found.lm_studio
        place = f"{PUBLISHER}/{slug(self.title)}/"
        self.words.setText(str(models / place) if models is not None else tr(_NOT_FOUND))
        self._put.setVisible(models is not None)
        for each in (self._put, self._choose):
            each.setEnabled(not self.is_busy)

    def _hand(self) -> None:
        models = self.context.takeaway.found.lm_studio
        if self._item is not None and models is not None:
            hand_to_lm_studio(self.context, self._item, models)

    def _ask(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, tr(say("LM Studio's models folder", "LM Studio 的模型文件夹")))
        if chosen and self._item is not None:
            hand_to_lm_studio(self.context, self._item, Path(chosen))


_NOT_FOUND = say("not found on this machine", "本机未找到")


class ServerLine(Line):
    """The local server: its address and key to copy, examples, start and stop."""

    def __init__(self, context: AppContext) -> None:
        super().__init__(context, say("Local server", "本地服务器"))
        self._address = button(say("Copy address", "复制地址"), self._copy_address, "small", shortcut="Ctrl+6")
        self._key = button(say("Copy key", "复制密钥"), self._copy_key, "small", shortcut="Ctrl+7")
        self._switch = button(say("Start", "启动"), self._turn, "small", shortcut="Ctrl+8")
        self.put_buttons(self._switch)
        self._stays = QCheckBox(tr(say("goes on when the window is closed", "关闭窗口后继续运行")))
        self._stays.clicked.connect(lambda wanted: context.takeaway.set(stays=wanted))
        self._choice = holder(row(NAME_WIDTH + 8, self._stays, None))
        curl = button("curl", lambda: self._example("curl"), "small", shortcut="Ctrl+9")
        python = button("Python", lambda: self._example("python"), "small", shortcut="Ctrl+0")
        words = label(say("Examples to copy:", "示例："), "muted")
        line = row(NAME_WIDTH + 8, self._address, self._key, 8, words, curl, python, None)
        self._examples = holder(line)
        self.layout_below.addWidget(self._choice)
        self.layout_below.addWidget(self._examples)

    @property
    def serving(self) -> Serving | None:
        """The server that runs on the export."""
        return self.context.takeaway.serving_of(self._item) if self._item is not None else None

    def fill(self, item: Taken) -> None:
        super().fill(item)
        serving, is_starting = self.serving, self.context.serving.is_running and self.serving is None
        resting = say("loading…", "加载中…") if is_starting else say("not running", "未运行")
        self.words.setText(serving.address if serving is not None else tr(resting))
        rename(self._switch, say("Stop", "停止") if serving is not None else say("Start", "启动"))
        self._switch.setEnabled(not is_starting)
        self._key.setVisible(serving is not None and bool(serving.key))
        self._examples.setVisible(serving is not None)
        self._choice.setVisible(serving is None)
        self._stays.setChecked(self.context.takeaway.stays)

    def _turn(self) -> None:
        if self.serving is not None:
            stop_server(self.context, self.serving)
        elif self._item is not None:
            start_server(self.context, self._item)

    def _copy_address(self) -> None:
        if self.serving is not None:
            copy(self.serving.address)

    def _copy_key(self) -> None:
        if self.serving is not None:
            copy(self.serving.key)

    def _example(self, name: str) -> None:
        if self.serving is not None:
            copy(self.serving.curl if name == "curl" else self.serving.python)


class HubLine(Line):
    """A form for an upload, opened by its button."""

    def __init__(self, context: AppContext) -> None:
        super().__init__(context, say("The hub", "Hub"), "muted")
        self._asked_for: Path | None = None
        self._open = button(say("Upload…", "上传…"), self._unfold, "small", shortcut="Ctrl+U")
        self.put_buttons(self._open)
        self.repo = QLineEdit()
        self.repo.setPlaceholderText(tr(say("owner/name", "所有者/名称")))
        self.repo.setAccessibleName(tr(say("Repository on the hub", "hub 上的仓库")))
        self.repo.textEdited.connect(self._typed)
        self.repo.returnPressed.connect(self._send)
        self.public = QCheckBox(tr(say("everybody may see it", "所有人可见")))
        self.public.clicked.connect(lambda wanted: context.takeaway.set(public=wanted))
        self._send_button = button(say("Upload", "上传"), self._send, "small", shortcut="Ctrl+Shift+U")
        self._state, self._files = label("", "muted", wrap=True), ElidedLabel("", "muted")
        line = row(NAME_WIDTH + 8, self.repo, self.public, self._send_button)
        line.setStretch(1, 1)
        files, state = row(NAME_WIDTH + 8, self._files), row(NAME_WIDTH + 8, self._state)
        self._form = holder(column(line, files, state, spacing=4))
        self._form.hide()
        self.layout_below.addWidget(self._form)
        context.models.changed.connect(self._tell)

    def fill(self, item: Taken) -> None:
        super().fill(item)
        words = say("private, with a card; nothing is sent before you say so", "私有，附模型卡；确认前不会发送任何内容")
        self.words.setText(tr(words))
        if self.repo.text() != self.context.takeaway.repo:
            self.repo.setText(self.context.takeaway.repo)
        self.public.setChecked(self.context.takeaway.public)
        self._tell_files(item)
        self._tell()

    def _tell_files(self, item: Taken) -> None:
        """Which files are sent, one by one in the tip; they are looked for when the form is open."""
        known = self.context.takeaway.parcel
        if known is None or known[0] != item.path:
            self._files.setText("")
            if not self._form.isHidden() and self._asked_for != item.path:
                self._asked_for = item.path
                look_into_parcel(self.context, item)
            return
        self._asked_for = None
        names, total = [file.name for file in known[1]], sum(file.size for file in known[1])
        words = say(
            "Sends {n} files, {size}: {names}",
            "发送 {n} 个文件，{size}：{names}",
            n=count(len(names)),
            size=size(total),
            names=", ".join(names),
        )
        self._files.setText(tr(words))

    def _unfold(self) -> None:
        """Show the form, and find out whether there is a token: the keyring may ask its owner, so not before."""
        self._form.setVisible(self._form.isHidden())
        if not self._form.isHidden():
            hub_access.look_for_token(self.context)
            self.repo.setFocus()
            if self._item is not None:
                self._tell_files(self._item)

    def _typed(self, text: str) -> None:
        self.context.takeaway.repo = text.strip()
        self._tell()

    def _tell(self) -> None:
        """What keeps an upload from being sent, or whose token it takes."""
        wrong, token = self._what_is_wrong(), self.context.models.access.token
        self._state.setText(tr(wrong or TOKENS.get(token, NOTHING)))
        named = bool(self.context.takeaway.repo) and not wrong
        self._send_button.setEnabled(
            named and token in ("kept", "variable") and bool(self._files.text()) and not self.is_busy
        )

    def _what_is_wrong(self) -> Text:
        if not self.context.takeaway.repo:
            return NOTHING if self.context.models.access.token == "none" else _NAME_IT
        try:
            checked_repo(self.context.takeaway.repo)
        except UserError as error:
            return error.problem.hint
        return NOTHING

    def _send(self) -> None:
        if self._item is not None and self._send_button.isEnabled():
            upload(self.context, self._item)


_NAME_IT = say("Name a repository, such as you/clinic-replies.", "请填写仓库名，例如 you/clinic-replies。")
