"""The Data page: what the model will learn from, exactly as it will see it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QMimeData, QPoint, Qt
from PySide6.QtGui import (
    QAction,
    QDragEnterEvent,
    QDragLeaveEvent,
    QDropEvent,
    QGuiApplication,
    QKeySequence,
    QShortcut,
)
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QMenu, QProgressBar, QPushButton, QSizePolicy, QWidget

from engine.protocol.text import Text, as_text, say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import count
from gui.operations import data as operations
from gui.operations import hub_data as hub_operations
from gui.operations import rows as row_operations
from gui.operations import split as split_operations
from gui.operations.data import shown_name
from gui.operations.operation import Operation
from gui.pages.page import Page
from gui.state.phase import Phase, Status
from gui.widgets.banner import progress_words, show_progress
from gui.widgets.basic import (
    ElidedLabel,
    add_shortcut,
    button,
    clear,
    column,
    holder,
    label,
    plain_tip,
    rename,
    row,
    tool,
)
from gui.widgets.card import Card
from gui.widgets.chip import ACCENT, PLAIN, WARN, Chip
from gui.widgets.drop_strip import DropStrip
from gui.widgets.footer import Footer

if TYPE_CHECKING:
    from engine.protocol.errors import Failure
    from gui.pages.data_files import FilesPanel
    from gui.pages.data_hub import HubView
    from gui.pages.data_score import ScorePanel
    from gui.pages.data_split import SplitPanel
    from gui.widgets.columns_panel import ColumnsPanel

NOTHING_YET = say("Bring the data your model should learn from", "导入希望模型学习的数据")
WHAT_KIND = say(
    "Questions and answers, conversations, preferences or plain text, as JSON, JSON Lines, CSV, Parquet, Arrow or "
    "text, also compressed. Drop files or a folder here, import some, or begin with the sample: orders that the "
    "starter model learns to write down.",
    "问答、对话、偏好或纯文本，格式可为 JSON、JSON Lines、CSV、Parquet、Arrow 或文本，也可压缩。"
    "可将文件或文件夹拖到此处、点击导入，或先用示例：让入门模型学习记录订单。",
)
READY = say("Ready: every row trains or says why it does not.", "就绪：每一行都会训练，或说明不训练的原因。")
FILES = say("Files…", "文件…")
FILES_TIP = say("Weights, prefixes and mixing of the files", "各文件的权重、前缀与混合方式")
SPLIT_TIP = say("Choose which rows are held out", "选择留出哪些行")
LATER = say("Possible when every row is read", "全部读取后可用")
FROM = say("Import from…", "从其他来源…")
STOPPED = say("Reading was stopped.", "已停止读取。")
READ_AGAIN = say("Nothing is lost: the files are as they were.", "没有损失：文件保持原样。")
BAR = 140
LONGEST_NAME = 26
MOST_PASTED = 2000


class DataPage(Page):
    """Rows, what is learned of them, and what is not used and why."""

    title = say("Data", "数据")
    subtitle = say("What your model will learn from, exactly as it will see it", "模型将学到的内容，与它看到的完全一致")

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self.setAcceptDrops(True)
        self._panel: ColumnsPanel | None = None
        self._other_panel: FilesPanel | SplitPanel | ScorePanel | None = None
        self._asked = False
        self._hub: HubView | None = None
        self._shown_version = self._decided = -1
        self._shown: dict[str, Any] = {}
        context.data.changed.connect(self.refresh)
        context.project.opened.connect(self.refresh)
        context.project.opened.connect(self._prepare)
        context.scoring.finished.connect(self._scored)
        paste = QShortcut(QKeySequence(QKeySequence.StandardKey.Paste), self, self._paste)
        paste.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)

    def _prepare(self) -> None:
        """Build what shows data while the user looks for some, so that their first rows come at once."""
        if self.is_built or self.context.data.status.phase is not Phase.EMPTY:
            return
        Operation(self.context).in_background(_import_parts).ended.connect(self.build_ahead)

    # --------------------------------------------------------------------------------------------------- four states
    def refresh(self) -> None:
        """Show what the data state says."""
        status = self.context.data.status
        if self.context.data.hub.is_open:
            self._show_hub()
        elif status.phase is Phase.EMPTY:
            self._show_empty()
        elif status.phase is Phase.WORKING and not self._can_stay():
            self.show_banner().working(status.doing, status.progress, self._cancel_reading)
        elif status.phase is Phase.WRONG and status.failure is not None:
            self.show_banner().wrong(status.failure, *self._ways_on(status.failure))
        else:
            self.show_body()
            self._fill()
            self._show_reading()

    def _show_hub(self) -> None:
        from gui.pages.data_hub import HubView

        if self._hub is None:
            self._hub = HubView(self.context)
            self._stack.addWidget(self._hub)
        if self._stack.currentWidget() is not self._hub:
            self._stack.setCurrentWidget(self._hub)
            self._hub.id.setFocus()
        self._hub.refresh()

    def _can_stay(self) -> bool:
        """Whether the rows of before may stay in view while they are read again: they are rows of the same files."""
        good = self.context.data.good(self.context.draft.path)
        same = good.get("data.files") == self.context.draft.recipe.data.files
        return bool(self.context.data.facts) and same

    def _show_empty(self) -> None:
        if self.context.data.is_stopped:
            again = button(say("Read again", "重新读取"), self._read_again, "primary", shortcut="Ctrl+R")
            self.show_banner().empty(STOPPED, READ_AGAIN, again, *self._back_button(""), self._import_button(""))
            return
        sample = button(say("Use the sample", "使用示例数据"), self._use_sample, shortcut="Ctrl+E")
        folder = button(say("Folder…", "文件夹…"), self._ask_for_folder, shortcut="Ctrl+Shift+D")
        hub = button(say("From the hub…", "从 hub 导入…"), self._look_at_hub, shortcut="Ctrl+H")
        self.show_banner().empty(NOTHING_YET, WHAT_KIND, self._import_button("primary"), sample, folder, hub)

    def _import_button(self, role: str) -> QPushButton:
        return button(say("Import data…", "导入数据…"), self._ask_for_files, role, shortcut="Ctrl+O")

    def _ways_on(self, failure: Failure) -> list[QPushButton]:
        """Without the file that is wrong, with what was there before, with other data, or with other columns."""
        found = self._leave_button(failure)
        found += self._back_button("" if found else "primary")
        found += self._random_button(failure, "" if found else "primary")
        if failure.code.startswith("data.hub_"):  # the network may come back, and terms can be accepted
            found.insert(0, button(say("Try again", "重试"), self._read_again, "primary", shortcut="Ctrl+R"))
        return [*found, self._import_button("" if found else "primary"), *self._reset_button()]

    def _leave_button(self, failure: Failure) -> list[QPushButton]:
        file = operations.file_at_fault(self.context, failure)
        if not file:
            return []
        words = say("Leave {name} out", "不使用 {name}", name=_shortened(shown_name(file)))
        leave = partial(operations.leave_out, self.context, file)
        return [button(words, leave, "primary", shortcut="Ctrl+Shift+X", tip=file)]

    def _random_button(self, failure: Failure, role: str) -> list[QPushButton]:
        """The way back where the recipe's split is what is wrong."""
        if failure.code != "data.split":
            return []
        words = say("Hold rows out at random", "随机留出")
        return [button(words, partial(split_operations.at_random, self.context), role, shortcut="Ctrl+Shift+J")]

    def _back_button(self, role: str) -> list[QPushButton]:
        """The way back to what was read well before, where there is such."""
        good = operations.last_good(self.context)
        if not good:
            return []
        files = good["data.files"]
        names = _shortened(shown_name(files[0])) + (f" + {len(files) - 1}" if len(files) > 1 else "")
        words = say("Go back to {name}", "返回 {name}", name=names)
        back = partial(operations.go_back, self.context)
        return [button(words, back, role, shortcut="Alt+Left", tip="\n".join(files))]

    def _reset_button(self) -> list[QPushButton]:
        """The way back where the user's own choice of columns or encoding is what is wrong."""
        data = self.context.draft.recipe.data
        own = any(file.shape or file.mapping or file.encoding for file in data.per_file.values())
        if data.shape == "auto" and not data.mapping and data.encoding == "auto" and not own:
            return []
        words = say("Find the columns automatically", "自动识别各列")
        return [button(words, partial(operations.find_columns, self.context), shortcut="Ctrl+Shift+K")]

    # ---------------------------------------------------------------------------------------------------------- body
    def build(self) -> QWidget:
        """Head, rows, one row, lengths, checks, footer."""
        from gui.pages.data_rows import RowsCard
        from gui.pages.data_side import SideCard

        self._rows = RowsCard(self.context)
        self._rows.scores_wanted.connect(self._open_scores)
        self._side = SideCard(self.context, self._rows.show_only)
        self._place = row(self._rows, self._side, spacing=14)
        self._place.setStretch(0, 1)
        self._strip = DropStrip(
            partial(operations.import_files, self.context), partial(operations.add_files, self.context)
        )
        self._top = self._head()
        body = column(self._top, self._strip, self._place, self._foot(), spacing=14)
        body.setStretch(2, 1)
        return holder(body)

    def _foot(self) -> Footer:
        self._next = button(say("Choose a model →", "选择模型 →"), self._go_on, "primary", shortcut="Ctrl+Right")
        self._more = button(say("Add a file…", "添加文件…"), self._ask_for_another, shortcut="Ctrl+Shift+O")
        self._from = button(FROM, self._show_places, shortcut="Ctrl+Shift+P")
        self._other = button(say("Other data…", "换用其他数据…"), self._ask_for_files, shortcut="Ctrl+O")
        self._cancel = button(say("Cancel", "取消"), self._cancel_work, shortcut="Esc")
        self._footer = Footer(self._cancel, self._other, self._from, self._more, self._next)
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        self._bar.setFixedWidth(BAR)
        self._footer.put_before_buttons(self._bar)
        self._places = [
            self._place_to_import(say("Folder…", "文件夹…"), "Ctrl+Shift+D", self._ask_for_folder),
            self._place_to_import(say("From the hub…", "从 hub 导入…"), "Ctrl+H", self._look_at_hub),
        ]
        return self._footer

    def _place_to_import(self, words: Text, keys: str, ask: Callable[[], object]) -> QAction:
        """Where data may come from besides files: a line of the menu, whose keys work without it."""
        made = QAction(tr(words), self._footer)
        made.setShortcut(QKeySequence(keys))
        made.setShortcutVisibleInContextMenu(True)
        made.triggered.connect(lambda: ask())
        self._footer.addAction(made)
        return made

    def _show_places(self) -> None:
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.addActions(self._places)
        menu.popup(self._from.mapToGlobal(self._from.rect().topLeft()) - QPoint(0, menu.sizeHint().height()))

    def _head(self) -> Card:
        self._file = label("", "strong")
        self._chips = QHBoxLayout()
        self._chips.setSpacing(5)
        self._counts = label("", "strong")
        self._mapping = ElidedLabel("", "muted")
        self._aside = label("", "muted")
        change = button(say("Change columns…", "更改各列…"), self._toggle_panel, "link", shortcut="Ctrl+K")
        self._files = tool(FILES, partial(self._toggle_panel, "files"))
        add_shortcut(self._files, "Ctrl+Shift+L", tr(FILES_TIP))
        split = partial(self._toggle_panel, "split")
        self._split = button(say("Held-out rows…", "留出的行…"), split, "link", shortcut="Ctrl+Shift+H", tip=SPLIT_TIP)
        first = row(self._file, self._files, self._chips, None, self._counts)
        second = row(self._mapping, change, self._split, None, self._aside, spacing=10)
        card = Card("", "", first, second, spacing=7)
        card.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        return card

    def _fill(self) -> None:
        facts = self.context.data.facts
        if self._shown_version != self.context.data.version:
            self._shown_version, self._shown = self.context.data.version, facts
            self._decided = self.context.data.decided
            self._fill_head(facts)
            self._rows.fill(facts)
            self._side.fill(facts)
            self._show_doubt()
        elif facts is not self._shown or self._decided != self.context.data.decided:
            self._shown, self._decided = facts, self.context.data.decided
            self._fill_head(facts)
            self._rows.know_more(facts)
            self._side.fill(facts)
        else:
            self._side.show_work()
        if self._other_panel is not None:
            self._other_panel.fill(facts)

    def _show_doubt(self) -> None:
        """Where it is not clear what columns mean, the panel opens by itself; it is filled anew where it is open."""
        if self._panel is not None:
            self._panel.put(self._files_of(self.context.data.facts))
        elif self.context.data.doubtful:
            self._toggle_panel()
            return
        if self._panel is not None and self._asked and not self.context.data.doubtful:
            self._toggle_panel()
        self._asked = bool(self.context.data.doubtful)

    @staticmethod
    def _files_of(facts: dict[str, Any]) -> list[dict[str, Any]]:
        return list(facts.get("files") or [facts])

    def _show_reading(self) -> None:
        """What goes on is told at the foot of the page, with its progress; what is in view can be used meanwhile."""
        data = self.context.data
        is_reading = data.status.phase is Phase.WORKING
        errand = data.under_way
        status = data.status if is_reading else errand.status if errand is not None else None
        self._bar.setVisible(status is not None)
        self._cancel.setVisible(status is not None)
        for widget in (self._other, self._more):
            widget.setVisible(not is_reading)
        self._from.setVisible(status is None)  # where there is least room
        self._next.setEnabled(not data.doubtful)
        self._split.setEnabled(data.is_scanned)
        self._split.setToolTip(tr(SPLIT_TIP if data.is_scanned else LATER))
        if status is not None:
            show_progress(self._bar, status.progress)
        self._footer.say(self._foot_words(status))
        if is_reading:
            self._counts.setText(tr(self._being_read()))

    def _foot_words(self, status: Status | None) -> str:
        if status is not None:
            return " ".join(filter(None, (tr(status.doing), progress_words(status.progress))))
        doubtful = self.context.data.doubtful
        if doubtful:
            names = ", ".join(str(file["name"]) for file in doubtful[:3])
            return tr(say("Confirm what the columns of {names} mean.", "请先确认 {names} 各列的含义。", names=names))
        return tr(READY)

    def _being_read(self) -> Text:
        if self.context.data.is_scanned:
            return say("being read again…", "正在重新读取…")
        return say("the first rows, while all are read…", "先显示开头几行，正在读取全部…")

    def _fill_head(self, facts: dict[str, Any]) -> None:
        from gui.pages.words import aside_words, mapping_words

        names = self.context.draft.recipe.data.files
        read = len([file for file in self._files_of(facts) if not file.get("general")])
        self._file.setText(_shortened(shown_name(names[0]) if names else str(facts.get("name", ""))))
        paths = "\n".join(str(file.get("path", "")) for file in self._files_of(facts)[:30])
        self._file.setToolTip(plain_tip(paths))
        several = say("and {n} more…", "等共 {m} 个文件…", n=len(names) - 1, m=len(names))
        rename(self._files, several if len(names) > 1 else FILES)
        clear(self._chips)
        for text, tone, tip in self._facts_in_chips(facts, read if read > max(1, len(names)) else 0):
            chip = Chip(text, tone)
            chip.setToolTip(plain_tip(tr(tip)))
            chip.setAccessibleDescription(tr(tip))
            self._chips.addWidget(chip)
        train, held = count(facts.get("train", 0)), count(facts.get("held_out", 0))
        self._counts.setText(tr(say("{n} rows train · {m} held out", "{n} 行训练 · {m} 行留出", n=train, m=held)))
        self._mapping.setText(mapping_words(facts.get("mapping", {}), str(facts.get("shape", ""))))
        self._aside.setText(tr(aside_words(facts.get("set_aside", {}), facts.get("reasons"))))
        self._aside.setVisible(self.context.data.is_scanned)

    def _facts_in_chips(self, facts: dict[str, Any], files: int) -> list[tuple[Text | str, str, Text | str]]:
        from gui.pages.words import encoding_label, format_label, shape_label

        chips: list[tuple[Text | str, str, Text | str]] = []
        if files:
            chips.append((say("{n} files", "{n} 个文件", n=count(files)), PLAIN, ""))
        chips.append((format_label(str(facts.get("format", ""))), PLAIN, ""))
        if facts.get("encoding") and facts["encoding"] != "binary":
            chips.append((encoding_label(str(facts["encoding"])), PLAIN, ""))
        chips.append((shape_label(str(facts.get("shape", ""))), ACCENT, ""))
        return [*chips, *self._certainty(facts)]

    def _certainty(self, facts: dict[str, Any]) -> list[tuple[Text, str, Text | str]]:
        """How sure it is what the columns mean; nothing where it is."""
        doubtful = self.context.data.doubtful
        if doubtful:
            why = as_text(doubtful[0].get("why", ""))
            return [(say("please confirm the columns", "请确认各列"), WARN, why)]
        likely = [file for file in self._files_of(facts) if file.get("certainty") == "likely"]
        if not likely:
            return []
        return [(say("likely", "很可能"), PLAIN, as_text(likely[0].get("why", "")))]

    # -------------------------------------------------------------------------------------------------------- panels
    def _toggle_panel(self, name: str = "columns") -> None:
        """Open a panel in the place of the side, or close it; there is one at a time."""
        other = self._other_panel
        is_open = self._panel is not None if name == "columns" else other is not None and other.name == name
        self._close_panel()
        if not is_open:
            self._open_panel(name)

    def _close_panel(self) -> None:
        for panel in (self._panel, self._other_panel):
            if panel is not None:
                panel.hide()
                panel.deleteLater()
        self._panel = self._other_panel = None
        split_operations.forget(self.context)
        self._side.show()

    def _open_panel(self, name: str) -> None:
        self._side.hide()
        if name == "columns":
            self._open_columns()
            return
        made = self._other_panel = self._made_panel(name)
        made.fill(self.context.data.facts)
        self._place.addWidget(made)
        made.first.setFocus()

    def _made_panel(self, name: str) -> FilesPanel | SplitPanel | ScorePanel:
        from gui.pages.data_files import FilesPanel
        from gui.pages.data_score import ScorePanel
        from gui.pages.data_split import SplitPanel

        close = partial(self._toggle_panel, name)
        if name == "files":
            return FilesPanel(self.context, close)
        kind = SplitPanel if name == "split" else ScorePanel
        return kind(self.context, close, self._rows.show_only)

    def _open_scores(self) -> None:
        if self._other_panel is None or self._other_panel.name != "score":
            self._toggle_panel("score")

    def _scored(self) -> None:
        from gui.operations.score import read  # here and not above: the first frame needs no job

        read(self.context)

    def _open_columns(self) -> None:
        from gui.widgets.columns_panel import ColumnsPanel

        how_read = partial(operations.how_file_is_read, self.context)
        self._panel = ColumnsPanel(self._choose_columns, how_read, self._toggle_panel)
        self._panel.put(self._files_of(self.context.data.facts))
        self._panel.setFixedWidth(self._side.width())
        self._asked = bool(self.context.data.doubtful)
        self._place.addWidget(self._panel)
        (self._panel.right if self._asked else self._panel.shape).setFocus()

    # ------------------------------------------------------------------------------------------------------- actions
    def _look_at_hub(self) -> None:
        hub_operations.look(self.context)

    def _cancel_reading(self) -> None:
        operations.cancel_reading(self.context)

    def _cancel_work(self) -> None:
        if self.context.data.status.phase is Phase.WORKING:
            operations.cancel_reading(self.context)
        else:
            row_operations.stop_errand(self.context)

    def _read_again(self) -> None:
        operations.open_data(self.context)

    def _choose_columns(self, file: str, shape: str, mapping: dict[str, str], encoding: str) -> None:
        operations.choose_columns(self.context, shape, mapping, encoding, file=file)

    def _go_on(self) -> None:
        self.context.wizard.go("model")

    def _use_sample(self) -> None:
        operations.import_files(self.context, [operations.sample_file()])

    def _ask_for_another(self) -> None:
        self._ask_for_files(add=True)

    def _ask_for_files(self, *, add: bool = False) -> None:
        kinds = " ".join(f"*{ending}" for ending in operations.ENDINGS)
        words = tr(say("Data", "数据")) + f" ({kinds})"
        names, _ = QFileDialog.getOpenFileNames(self, tr(say("Choose data files", "选择数据文件")), "", words)
        if names:
            take: Callable[..., object] = operations.add_files if add else operations.import_files
            take(self.context, [Path(name) for name in names])

    def _ask_for_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, tr(say("Choose a folder of data files", "选择数据文件夹")))
        if chosen:
            self._take([Path(chosen)])

    def _take(self, paths: list[Path]) -> None:
        """Import files and folders; where there are data, ask whether they come instead or besides."""
        if self.is_ready and self.context.data.facts:
            self._strip.offer(paths)
        else:
            operations.import_files(self.context, paths)

    # ------------------------------------------------------------------------------------------------------------ Qt
    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Take files and folders that can be data, and addresses of data sets on the hub."""
        if _dropped(event.mimeData()) or _hub_address(event.mimeData()):
            self._invite(True)
            event.setDropAction(Qt.DropAction.CopyAction)
            event.accept()

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        """Nothing was dropped."""
        self._invite(False)
        super().dragLeaveEvent(event)

    def dropEvent(self, event: QDropEvent) -> None:
        """Import what was dropped."""
        self._invite(False)
        self._receive(event.mimeData())
        event.accept()

    def _paste(self) -> None:
        """Import files that were copied, or look up an address of the hub. Fields for text paste for themselves."""
        self._receive(QGuiApplication.clipboard().mimeData())

    def _receive(self, mime: QMimeData) -> None:
        paths, address = _dropped(mime), _hub_address(mime)
        if paths:
            self._take(paths)
        elif address:
            hub_operations.look(self.context, address)

    def _invite(self, inviting: bool) -> None:
        """Show that something can be dropped here."""
        self.banner.invite(inviting)
        if self.is_built:
            self._top.set_tone("drop" if inviting else "")


def _import_parts() -> None:
    """In the background: what the page's body is made of, and what plans as soon as there are data."""
    parts = ("gui.pages.data_rows", "gui.pages.data_side", "gui.widgets.columns_panel")
    plans = ("engine.machine.advise", "engine.machine.plan", "engine.machine.forecast", "engine.machine.versions")
    for name in (*parts, *plans):
        importlib.import_module(name)


def _shortened(name: str) -> str:
    """A file's name that fits on a button."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME // 2]}…{name[-LONGEST_NAME // 2 :]}"


def _dropped(mime: QMimeData) -> list[Path]:
    urls = mime.urls() if mime.hasUrls() else []
    paths = [Path(url.toLocalFile()) for url in urls if url.isLocalFile()]
    return [path for path in paths if operations.can_be_data(path)]


def _hub_address(mime: QMimeData) -> str:
    """The first address of a data set of the hub, "" where there is none."""
    from engine.data.hub_names import found_in

    texts = [url.toString() for url in mime.urls()] if mime.hasUrls() else []
    texts += mime.text().split() if mime.hasText() and len(mime.text()) < MOST_PASTED else []
    return next((text for text in texts if found_in(text) is not None), "")
