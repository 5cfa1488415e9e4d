"""The Runs page's details: what a person says of the chosen run, its figures, and what can be done with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QFocusEvent
from PySide6.QtWidgets import (
    QGridLayout,
    QLineEdit,
    QMenu,
    QMessageBox,
    QPlainTextEdit,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from engine.project.kept import in_a_row
from engine.project.remarks import LONGEST_TITLE
from engine.protocol.text import NOTHING, Text, say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import count, size
from gui.operations import runs as operations
from gui.operations.project import remove_run, select_run
from gui.operations.queue import enqueue
from gui.pages.runs_words import facts_of, frees, status_of, titled
from gui.state.runs_list import MOST_COMPARED
from gui.widgets.basic import add_shortcut, button, column, holder, label, menu_title, row
from gui.widgets.card import Card
from gui.widgets.chip import Chip
from gui.widgets.facts import Facts
from gui.widgets.project_card import GOES_WITH_IT
from gui.widgets.scroll import Sheet, scrolled

if TYPE_CHECKING:
    from engine.project.kept import Kept
    from engine.project.run_folder import RunFolder
    from engine.project.runs import RunRow

NOTE_HEIGHT = 62


class NoteField(QPlainTextEdit):
    """Several lines of text, kept when one looks elsewhere.

    Signals:
        left: the field has lost the focus.
    """

    left = Signal()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """What was typed is kept."""
        super().focusOutEvent(event)
        self.left.emit()


class Details(Card):
    """Renders the chosen runs: one in full, of several their number."""

    def __init__(self, context: AppContext) -> None:
        super().__init__()
        self._context = context
        self._row: RunRow | None = None
        self._build_fields()
        self._build_actions()
        self._facts = Facts(spacing=5)
        remarks = column(self._field(say("Title", "标题"), self._title), self._field(say("Tags", "标签"), self._tags))
        remarks.addLayout(self._field(say("Note", "备注"), self._note))
        self._verdict, self._says = Chip(), label("", "muted", wrap=True)
        head = row(self._state, self._verdict, None, spacing=6)
        inner = column(head, remarks, self._facts, self._says, None, spacing=12, margins=(0, 0, 8, 0))
        self._one = scrolled(Sheet(inner))
        pairs = self._in_pairs(self._use, self._go_on, self._wait, self._folder, self._bundle, self._remove)
        self._buttons = holder(column(self._open, pairs, spacing=6))
        self._several = label("", "strong", wrap=True)
        self._list = label("", "muted", wrap=True)
        self._doing = label("", "muted", wrap=True)
        for item in (self._several, self._list, self._one, self._doing, self._buttons, self._compare):
            self.body.addWidget(item)
        self.body.setStretch(2, 1)
        self.body.addStretch(0)

    def _build_fields(self) -> None:
        self._state = Chip()
        self._title, self._tags, self._note = QLineEdit(), QLineEdit(), NoteField()
        self._title.setMaxLength(LONGEST_TITLE)
        self._title.setAccessibleName(tr(say("Title", "标题")))
        self._tags.setAccessibleName(tr(say("Tags", "标签")))
        self._tags.setPlaceholderText(tr(say("with commas between", "用逗号分隔")))
        self._note.setAccessibleName(tr(say("Note", "备注")))
        self._note.setPlaceholderText(tr(say("What was tried, and what came of it", "试了什么，结果如何")))
        self._note.setTabChangesFocus(True)
        self._note.setFixedHeight(NOTE_HEIGHT)
        self._title.editingFinished.connect(self.save)
        self._tags.editingFinished.connect(self.save)
        self._note.left.connect(self.save)

    @staticmethod
    def _in_pairs(*buttons: QPushButton) -> QWidget:
        """Buttons in two columns of one width."""
        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(6)
        for number, item in enumerate(buttons):
            item.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            grid.addWidget(item, *divmod(number, 2))
        for at in (0, 1):
            grid.setColumnStretch(at, 1)
        return holder(grid)

    @staticmethod
    def _field(name: Text, field: QLineEdit | NoteField) -> QVBoxLayout:
        return column(label(name, "small"), field, spacing=3)

    def _build_actions(self) -> None:
        small = "small"
        self._open = button(say("Open", "打开"), self._do(select_run), "primary", shortcut="Ctrl+Return")
        self._compare = button(
            say("Compare", "对比"), lambda: operations.compare(self._context), "primary", shortcut="Ctrl+E"
        )
        for item in (self._open, self._compare):
            item.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._use = button(
            say("Use its recipe", "采用其配方"), self._do(operations.use_recipe), small, shortcut="Ctrl+U"
        )
        self._go_on = self._menu_button(say("Continue from", "从检查点继续"), self.steps_menu, "Ctrl+J")
        self._wait = button(say("Add to the queue", "加入队列"), self._do(enqueue), small, shortcut="Ctrl+Shift+Q")
        self._folder = button(
            say("Open folder", "打开文件夹"), self._do(operations.open_folder_of), small, shortcut="Ctrl+O"
        )
        self._bundle = button(
            say("Save a report…", "保存诊断包…"), self._do(operations.save_bundle), small, shortcut="Ctrl+Shift+B"
        )
        self._remove = self._menu_button(say("Remove", "移除"), self.remove_menu, "Ctrl+Shift+X")

    def controls(self) -> list[QWidget]:
        """What can have the focus, in reading order."""
        buttons = [self._open, self._use, self._go_on, self._wait, self._folder, self._bundle, self._remove]
        return [self._title, self._tags, self._note, *buttons, self._compare]

    def _do(self, action: Callable[[AppContext, RunFolder], object]) -> Callable[[], None]:
        """What a button does with the run that is shown."""

        def act() -> None:
            if self._row is not None:
                action(self._context, self._row.folder)

        return act

    def _menu_button(self, words: Text, menu: Callable[[], QMenu], shortcut: str) -> QPushButton:
        made = button(f"{tr(words)} ▾", lambda: self._show(menu, made), "small")
        made.setAccessibleName(tr(words))
        add_shortcut(made, shortcut)
        return made

    def _show(self, build: Callable[[], QMenu], below: QPushButton) -> None:
        menu = build()
        menu.aboutToHide.connect(menu.deleteLater)
        menu.popup(below.mapToGlobal(below.rect().bottomLeft()))

    # ---------------------------------------------------------------------------------------------------------- filling
    def fill(self) -> None:
        """Show what is chosen now; what is being typed stays."""
        listed = self._context.project.listed
        rows = listed.chosen_rows
        one = rows[0] if len(rows) == 1 else None
        if self._row is not None and (one is None or one.folder != self._row.folder):
            self.save()
        self._fill_several(rows)
        self._doing.setText(tr(listed.doing))
        self._doing.setVisible(bool(listed.doing))
        for item in (self._one, self._buttons):
            item.setVisible(one is not None)
        if one is not None:
            self._fill_one(one)
        self._row = one

    def _fill_several(self, rows: list[RunRow]) -> None:
        several = len(rows) != 1
        words = say("{n} runs are chosen.", "已选择 {n} 次训练。", n=count(len(rows)))
        hint: Text = NOTHING
        if len(rows) > MOST_COMPARED:
            hint = say("At most {n} are compared at once.", "最多同时对比 {n} 次。", n=MOST_COMPARED)
        if not rows:
            words, hint = say("No run is chosen.", "未选择训练。"), NOTHING
        titles = "\n".join(f"• {titled(item)}" for item in rows[:12])
        self._several.setText(tr(words))
        self._list.setText("\n\n".join(part for part in (titles, tr(hint)) if part))
        for item in (self._several, self._list):
            item.setVisible(several)
        self._compare.setVisible(2 <= len(rows) <= MOST_COMPARED)
        self._compare.setEnabled(not self._context.project.listed.doing)

    def _fill_one(self, one: RunRow) -> None:
        listed = self._context.project.listed
        self._state.put(*status_of(one))
        self._facts.put(facts_of(one, listed.sizes.get(one.folder.path)))
        reading = listed.readings.get(one.folder.path)
        self._verdict.setVisible(reading is not None)
        self._says.setVisible(reading is not None)
        if reading is not None:
            self._verdict.put(say("curve: {word}", "曲线：{word}", word=reading.word), reading.tone)
            self._says.setText("\n".join(tr(text) for text in (reading.sentence, *reading.advice)))
        values = {self._title: one.title, self._tags: ", ".join(one.tags)}
        fresh = self._row is None or self._row.folder != one.folder
        for field, text in values.items():
            if (fresh or not field.hasFocus()) and field.text() != text:
                field.setText(text)
                field.setCursorPosition(0)
        if (fresh or not self._note.hasFocus()) and self._note.toPlainText() != one.note:
            self._note.setPlainText(one.note)
        kept = listed.kept.get(one.folder.path, [])
        self._go_on.setEnabled(bool(kept) and not listed.doing)
        self._wait.setEnabled(not one.is_under_way and not any(_waits(item, one) for item in listed.queue))
        self._remove.setEnabled(not one.is_under_way)

    def save(self) -> None:
        """Keep what was typed, where it is something else."""
        row = self._row
        if row is None:
            return
        tags = tuple(part.strip() for part in self._tags.text().replace("，", ",").split(",") if part.strip())
        title, note = self._title.text().strip(), self._note.toPlainText().rstrip()
        changes: dict[str, object] = {}
        if tags != row.tags:
            changes["tags"] = tags
        if title and title != row.title:
            changes["title"] = title
        if note != row.note:
            changes["note"] = note
        if changes:
            self._row = None  # filling anew must not save once more
            operations.describe(self._context, row, **changes)
            self.fill()

    # ----------------------------------------------------------------------------------------------------------- menus
    def steps_menu(self) -> QMenu:
        """The checkpoints that one can go on from, the newest first."""
        menu = QMenu(self)
        row = self._row
        if row is None:
            return menu
        menu_title(
            menu, say("A new run goes on from there; this one stays as it is", "将新建训练从此处继续，本次训练保持不变")
        )
        for item in reversed(self._kept(row)):
            best = say(" · best", " · 最佳") if item.step == row.figures.best_step else NOTHING
            words = say(
                "Step {n} · {size}{best}",
                "第 {n} 步 · {size}{best}",
                n=count(item.step),
                size=size(item.bytes),
                best=best,
            )
            menu.addAction(tr(words), partial(operations.go_on_from, self._context, row.folder, item.step))
        return menu

    def remove_menu(self) -> QMenu:
        """What can be removed, each with what it frees."""
        menu = QMenu(self)
        row = self._row
        if row is None:
            return menu
        listed = self._context.project.listed
        newest = self._kept(row)[-1:]
        keeps = {item.step for item in newest} | {item.best_step for item in newest}
        spare = [item for item in self._kept(row) if item.step not in keeps]
        freed = frees(sum(item.bytes for item in spare))
        words = say("{n} older checkpoints: {frees}", "{n} 个旧检查点：{frees}", n=count(len(spare)), frees=freed)
        menu.addAction(tr(words), partial(self.ask_to_remove, row, spare)).setEnabled(bool(spare))
        taken = listed.sizes.get(row.folder.path)
        whole = say("The whole run: {frees}", "整个训练：{frees}", frees=frees(taken.total if taken else 0))
        menu.addAction(tr(whole), partial(self.ask_to_remove, row, None))
        return menu

    def _kept(self, row: RunRow) -> list[Kept]:
        return self._context.project.listed.kept.get(row.folder.path, [])

    def ask_to_remove(self, row: RunRow, spare: list[Kept] | None) -> None:
        """Ask before something goes to the trash; the usual answer keeps it."""
        box = QMessageBox(self)
        box.setTextFormat(Qt.TextFormat.PlainText)
        box.setIcon(QMessageBox.Icon.Question)
        box.setTextFormat(Qt.TextFormat.PlainText)  # a title may look like HTML
        box.setText(tr(say("Move “{title}” to the trash?", "将“{title}”移到回收站？", title=row.named)))
        box.setInformativeText(tr(GOES_WITH_IT))
        if spare is not None:
            steps = in_a_row(item.step for item in spare)
            box.setText(
                tr(say("Move the checkpoints {steps} to the trash?", "将检查点 {steps} 移到回收站？", steps=steps))
            )
            box.setInformativeText(tr(say("The newest and the best stay.", "最新和最佳的检查点会保留。")))
        move = box.addButton(tr(say("Move to the trash", "移到回收站")), QMessageBox.ButtonRole.DestructiveRole)
        keep = box.addButton(tr(say("Keep it", "保留")), QMessageBox.ButtonRole.RejectRole)
        box.setDefaultButton(keep)
        box.setEscapeButton(keep)
        move.clicked.connect(partial(self._remove_it, row, spare))
        box.finished.connect(box.deleteLater)
        box.open()

    def _remove_it(self, row: RunRow, spare: list[Kept] | None) -> None:
        if spare is None:
            self._row = None
            remove_run(self._context, row.folder)
        else:
            operations.remove_checkpoints(self._context, row.folder, spare)


def _waits(entry: object, row: RunRow) -> bool:
    """Whether an entry of the queue is this run, and not over."""
    return getattr(entry, "run", "") == str(row.folder.path) and not getattr(entry, "is_over", True)
